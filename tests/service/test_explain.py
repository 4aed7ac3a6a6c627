"""Why a job is in its state and what comes next: each state, cause and situation of the workers, in one table."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from contract.grounds import SteppedClock
from factories import NOW, in_state
from queuectl.config import Settings
from queuectl.domain import lifecycle
from queuectl.domain.arrival import arriving
from queuectl.domain.job import Job, Parent
from queuectl.domain.queue import QueueChange
from queuectl.domain.worker import Slot
from queuectl.service import commands, maintenance
from queuectl.service.explain import explain
from queuectl.store.memory import MemoryStore
from service.scenes import change, child, end, get, heartbeat, lose, put, take

LEASE_UNTIL = "2026-11-22T12:00:30.000000Z"
START = "no live worker serves queue default: queuectl worker start"


class Scene:
    """A store, its clock, and what a case does to them before job `a` is explained."""

    def __init__(self, store: MemoryStore, settings: Settings, clock: SteppedClock) -> None:
        self.store, self.settings, self.clock = store, settings, clock

    def put(self, id: str = "a", **fields: object) -> Job:
        return put(self.store, id, **fields)  # type: ignore[arg-type]

    def heartbeat(self, name: str = "w1", **fields: object) -> None:
        heartbeat(self.store, name, **fields)  # type: ignore[arg-type]

    def child(self, *parents: str | Parent, **fields: object) -> Job:
        return child(self.store, "a", *parents, **fields)

    def ends(self, id: str, exit_code: int = 0) -> None:
        take(self.store, id)
        end(self.store, id, exit_code)

    def looked(self) -> None:
        """Run the sweep of blocked jobs."""
        maintenance.sweep_blocked(self.store, None)


@pytest.fixture
def scene(store: MemoryStore, settings: Settings, clock: SteppedClock) -> Scene:
    return Scene(store, settings, clock)


Setting = Callable[[Scene], object]
Row = tuple[str, Setting, list[str], list[str]]


def several(*acts: Setting) -> Setting:
    """Apply several settings in order."""

    def all_of_them(scene: Scene) -> None:
        for act in acts:
            act(scene)

    return all_of_them


def stopped() -> Setting:
    """The worker reports that a process of the command is stopped."""
    return lambda scene: scene.heartbeat(slots=(Slot(slot=0, job="a", stopped=True),))


def noted(pid: int) -> Setting:
    """The start of the command is stored in the job."""
    return lambda scene: change(
        scene.store,
        lifecycle.note_start(get(scene.store, "a"), slot=0, pid=pid, started_at=NOW, now=NOW),
    )


def running(**fields: object) -> Setting:
    """Job `a` runs on worker w1, which lives."""
    return several(lambda s: s.heartbeat(), lambda s: s.put(state="processing", **fields))


def silent(seconds: float, **fields: object) -> Setting:
    """The job runs, and w1 has been silent since."""
    return several(running(**fields), lambda s: s.clock.step(seconds=seconds))


def cancelling(scene: Scene) -> None:
    commands.cancel(scene.store, ["a"], by="ada")


def by(name: str = "w2", **fields: object) -> Setting:
    """Another worker lives."""
    return lambda scene: scene.heartbeat(name, **fields)


def parent_dies(hold: bool = False) -> Setting:
    def act(scene: Scene) -> None:
        scene.put("p", max_retries=0)
        scene.child("p", after_failure="hold" if hold else "cancel")
        scene.ends("p", 1)

    return act


TABLE: list[Row] = [
    # pending
    (
        "ready",
        several(by(), Scene.put),
        ["it is ready and no worker has claimed it yet"],
        ["it is the next in queue default"],
    ),
    (
        "delayed",
        several(by(), lambda s: s.put(run_at=NOW + timedelta(minutes=90))),
        ["it was enqueued to start not before 2026-11-22T13:30:00.000000Z"],
        ["it is due at 2026-11-22T13:30:00.000000Z, in 1h30m"],
    ),
    (
        "no worker",
        Scene.put,
        ["it is ready and no worker has claimed it yet"],
        [START, "it is the next in queue default"],
    ),
    (
        "worker of another queue",
        several(by(queues=("mail",)), Scene.put),
        ["it is ready and no worker has claimed it yet"],
        [
            "no live worker serves queue default: queuectl worker start --queue default",
            "it is the next in queue default",
        ],
    ),
    (
        "worker that leaves",
        several(by(state="draining"), Scene.put),
        ["it is ready and no worker has claimed it yet"],
        ["worker w2 on h is draining and claims nothing more", START, "it is the next in queue default"],
    ),
    (
        "worker that rests",
        several(by(state="paused", note="no memory"), Scene.put),
        ["it is ready and no worker has claimed it yet"],
        ["worker w2 on h pauses and continues by itself; no memory", "it is the next in queue default"],
    ),
    (
        "lost worker",
        several(by(), lambda s: s.clock.step(minutes=5), Scene.put),
        ["it is ready and no worker has claimed it yet"],
        ["worker w2 on h is lost (last heartbeat 5m ago)", START, "it is the next in queue default"],
    ),
    (
        "paused queue",
        several(by(), Scene.put, lambda s: commands.change_queue(s.store, "default", QueueChange(paused=True))),
        ["it is ready and no worker has claimed it yet"],
        ["queue default is paused: queuectl queue resume default", "it is the next in queue default"],
    ),
    (
        "limit reached",
        several(
            by(count=9), lambda s: s.put("other", state="processing"), Scene.put,
            lambda s: commands.change_queue(s.store, "default", QueueChange(limit=1)),
        ),
        ["it is ready and no worker has claimed it yet"],
        [
            "queue default runs 1 at once, its limit: queuectl queue limit default none",
            "it is the next in queue default",
        ],
    ),
    (
        "below the limit",
        several(
            by(count=9), lambda s: s.put("other", state="processing"), Scene.put,
            lambda s: commands.change_queue(s.store, "default", QueueChange(limit=2)),
        ),
        ["it is ready and no worker has claimed it yet"],
        ["it is the next in queue default"],
    ),
    (
        "the only slot is busy",
        several(by("w1"), lambda s: s.put("other", state="processing"), Scene.put),
        ["it is ready and no worker has claimed it yet"],
        ["the only slot that serves queue default is busy", "it is the next in queue default"],
    ),
    (
        "all slots are busy",
        several(
            by("w1", count=2), by("mail", count=5, queues=("mail",)),
            lambda s: [s.put(id, state="processing") for id in ("x", "y")], Scene.put,
        ),
        ["it is ready and no worker has claimed it yet"],
        ["all 2 slots that serve queue default are busy", "it is the next in queue default"],
    ),
    (
        "others come before it",
        several(
            by(), lambda s: s.put("first"), lambda s: s.put("elsewhere", queue="mail"), Scene.put,
            lambda s: s.put("urgent", priority=10),
            lambda s: s.put("tomorrow", priority=1000, run_at=NOW + timedelta(days=1)),
        ),
        ["it is ready and no worker has claimed it yet"],
        ["2 jobs come before it in queue default"],
    ),
    (
        "lost before",
        several(by(), lambda s: s.put(state="processing"), lambda s: lose(s.store, "a")),
        ["it will run again; last: lost: gone"],
        ["it is the next in queue default"],
    ),
    # failed
    (
        "failed",
        several(by(), lambda s: s.put(state="failed")),
        ["attempt 1 failed: exit code 1"],
        ["it is due at 2026-11-22T12:00:02.000000Z, in 2s (retry 1 of 3)", "to run it at once: queuectl retry a"],
    ),
    (
        "failed, retried for ever, and nobody there",
        lambda s: s.put(state="failed", max_retries=-1),
        ["attempt 1 failed: exit code 1"],
        [
            "it is due at 2026-11-22T12:00:02.000000Z, in 2s (retry 1 of any number)",
            "to run it at once: queuectl retry a",
            START,
        ],
    ),
    (
        "failed and due again",
        several(lambda s: s.put(state="failed"), lambda s: s.clock.step(seconds=3), by()),
        ["attempt 1 failed: exit code 1"],
        ["it is the next in queue default"],
    ),
    # processing
    (
        "running",
        running(),
        [f"worker w1 on h runs attempt 1; its lease lasts until {LEASE_UNTIL}"],
        ["it ends by itself", "to end it: queuectl cancel a"],
    ),
    (
        "running with a time limit, on a worker that leaves",
        several(running(timeout=timedelta(minutes=5)), lambda s: s.heartbeat(state="draining")),
        [
            f"worker w1 on h runs attempt 1; its lease lasts until {LEASE_UNTIL}",
            "that worker exits when its jobs have ended",
        ],
        ["it ends by itself, or after 5m", "to end it: queuectl cancel a"],
    ),
    (
        "stopped by a signal",
        several(running(), stopped()),
        [f"worker w1 on h runs attempt 1; its lease lasts until {LEASE_UNTIL}"],
        ["it is stopped (SIGSTOP) and does not end by itself", "to end it: queuectl cancel a"],
    ),
    (
        "stopped by a signal, with its pid noted and a time limit",
        several(running(timeout=timedelta(minutes=5)), noted(4711), stopped()),
        [f"worker w1 on h runs attempt 1 in slot 0, pid 4711; its lease lasts until {LEASE_UNTIL}"],
        [
            "it is stopped (SIGSTOP) and does not end by itself, but after 5m; on host h: kill -s CONT -- -4711",
            "to end it: queuectl cancel a",
        ],
    ),
    (
        "to be cancelled",
        several(running(), cancelling),
        [
            f"worker w1 on h runs attempt 1; its lease lasts until {LEASE_UNTIL}",
            "ada asked to cancel it at 2026-11-22T12:00:00.000000Z",
        ],
        ["its worker ends it, with all its processes"],
    ),
    (
        "its worker is lost",
        silent(20),
        [
            f"worker w1 on h claimed it for attempt 1 and is lost (last heartbeat 20s ago); "
            f"its lease lasts until {LEASE_UNTIL}",
        ],
        [
            "if its worker reaches the store again within 10s, it continues there",
            "after that a live worker takes it back, and it runs again",
            "no worker lives: queuectl worker start",
            "if host h no longer exists: queuectl worker forget w1",
        ],
    ),
    (
        "its worker is lost and its lease over",
        silent(40),
        [
            f"worker w1 on h claimed it for attempt 1 and is lost (last heartbeat 40s ago); "
            f"its lease ended at {LEASE_UNTIL}, "
            "10s ago"
        ],
        [
            "a live worker takes it back, and it runs again",
            "no worker lives: queuectl worker start",
            "if host h no longer exists: queuectl worker forget w1",
        ],
    ),
    (
        "the same beside a live worker",
        several(silent(40), by(queues=("mail",))),
        [
            f"worker w1 on h claimed it for attempt 1 and is lost (last heartbeat 40s ago); "
            f"its lease ended at {LEASE_UNTIL}, "
            "10s ago"
        ],
        [
            "a live worker takes it back within seconds, and it runs again",
            "if host h no longer exists: queuectl worker forget w1",
        ],
    ),
    (
        "lost and to be cancelled",
        several(silent(40), cancelling, by()),
        [
            f"worker w1 on h claimed it for attempt 1 and is lost (last heartbeat 40s ago); "
            f"its lease ended at {LEASE_UNTIL}, "
            "10s ago",
            "ada asked to cancel it at 2026-11-22T12:00:40.000000Z",
        ],
        [
            "a live worker takes it back within seconds, and it is cancelled",
            "if host h no longer exists: queuectl worker forget w1",
        ],
    ),
    (
        "lost once too often",
        several(silent(40, max_losses=0), by()),
        [
            f"worker w1 on h claimed it for attempt 1 and is lost (last heartbeat 40s ago); "
            f"its lease ended at {LEASE_UNTIL}, "
            "10s ago"
        ],
        [
            "a live worker takes it back within seconds, and it is dead, because it may be lost 0 times at most",
            "if host h no longer exists: queuectl worker forget w1",
        ],
    ),
    (
        "its worker was forgotten",
        several(silent(40), lambda s: s.store.forget("w1")),
        [
            "a worker that has left the registry (w1) claimed it for attempt 1; "
            f"its lease ended at {LEASE_UNTIL}, 10s ago"
        ],
        ["a live worker takes it back, and it runs again", "no worker lives: queuectl worker start"],
    ),
    # blocked
    (
        "blocked by a held job",
        several(lambda s: s.put("p", state="held"), lambda s: s.child("p")),
        ["it waits for p to end well; that is held"],
        ["it starts when these have ended as wanted", "p is held: queuectl release p"],
    ),
    (
        "blocked by one that runs, at all",
        several(lambda s: s.put("p", state="processing"), lambda s: s.child(Parent("p", "any"))),
        ["it waits for p to end at all; that is processing"],
        ["it starts when these have ended as wanted", "when p ends: queuectl explain p"],
    ),
    (
        "blocked by one that is to fail",
        several(lambda s: s.put("p"), lambda s: s.child(Parent("p", "failed"))),
        ["it waits for p to end badly; that is pending"],
        ["it starts when these have ended as wanted", "when p ends: queuectl explain p"],
    ),
    (
        "of two parents one has ended",
        several(
            lambda s: s.put("p"), lambda s: s.put("q"), lambda s: s.child("p", "q"), lambda s: s.ends("p"),
            Scene.looked,
        ),
        ["it waits for q to end well; that is pending"],
        ["it starts when these have ended as wanted", "when q ends: queuectl explain q"],
    ),
    (
        "no longer possible, and no worker lives",
        parent_dies(),
        ["it waits for p to end well; that is dead (no longer possible)"],
        [
            "it becomes cancelled once a worker lives: queuectl worker start",
            "to run p again, and then this one: queuectl retry p",
        ],
    ),
    (
        "no longer possible, until a worker sweeps",
        several(parent_dies(hold=True), by()),
        ["it waits for p to end well; that is dead (no longer possible)"],
        ["it is held within seconds", "to run p again, and then this one: queuectl retry p"],
    ),
    # held
    (
        "held by a person",
        lambda s: s.put(state="held"),
        ["it is held until a person releases it"],
        ["to let it start: queuectl release a"],
    ),
    (
        "held while it is imported",
        lambda s: s.store.add([arriving(in_state("completed", "a"))]),
        ["an import has not finished it"],
        ["the same import, run again, finishes it", "to give it up: queuectl cancel a"],
    ),
    (
        "held by a person, behind a parent",
        several(lambda s: s.put("p"), lambda s: s.child("p"), lambda s: commands.hold(s.store, ["a"])),
        ["it is held until a person releases it"],
        ["to let it start: queuectl release a", "it then waits for p, which is pending"],
    ),
    (
        "held because its parent failed",
        several(parent_dies(hold=True), Scene.looked),
        ["it is held: parent p ended as dead"],
        [
            "to run p again, and then this one: queuectl retry p",
            "to run it without its parents: queuectl release --anyway a",
        ],
    ),
    # ended jobs
    (
        "completed",
        lambda s: s.put(state="completed"),
        ["attempt 1 ended with exit code 0"],
        ["nothing by itself", "to run it again: queuectl retry --force a"],
    ),
    (
        "dead",
        lambda s: s.put(state="dead"),
        ["its last attempt failed for good: exit code 1"],
        ["nothing by itself", "to see its output: queuectl logs a", "to run it again: queuectl retry a"],
    ),
    (
        "dead in a crash loop",
        several(lambda s: s.put(max_losses=0), lambda s: take(s.store, "a"), lambda s: lose(s.store, "a")),
        ["its last attempt failed for good: crash loop: lost once, last: gone"],
        ["nothing by itself", "to see its output: queuectl logs a", "to run it again: queuectl retry a"],
    ),
    (
        "dead, and its key is another's",
        several(lambda s: s.put(state="dead", unique_key="k"), lambda s: s.put("b", unique_key="k")),
        ["its last attempt failed for good: exit code 1"],
        [
            "nothing by itself",
            "to see its output: queuectl logs a",
            "its unique key 'k' is job b's: it can run again once that has ended",
        ],
    ),
    (
        "cancelled by a person",
        several(Scene.put, lambda s: commands.cancel(s.store, ["a"], by="ada", reason="wrong branch")),
        ["cancelled by ada: wrong branch"],
        ["nothing by itself", "to run it again: queuectl retry a"],
    ),
    (
        "cancelled because its parent failed",
        several(parent_dies(), Scene.looked),
        ["parent p ended as dead"],
        [
            "nothing by itself",
            "to run p again, and then this one: queuectl retry p",
            "to run it without its parents: queuectl retry --alone a",
        ],
    ),
    (
        "cancelled because its parent did not fail",
        several(
            lambda s: s.put("p"), lambda s: s.child(Parent("p", "failed")), lambda s: s.ends("p"), Scene.looked
        ),
        ["parent p ended as completed"],
        ["nothing by itself", "to run it without its parents: queuectl retry --alone a"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "why", "then"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_each_situation_is_explained(scene: Scene, setting: Setting, why: list[str], then: list[str]) -> None:
    setting(scene)
    found = explain(scene.store, scene.settings, get(scene.store, "a"))
    assert found.why == why
    assert found.next == then


def test_more_than_a_thousand_jobs_ahead_are_not_counted_exactly(scene: Scene) -> None:
    scene.heartbeat()
    for n in range(1001):
        scene.put(f"b{n}")
    found = explain(scene.store, scene.settings, scene.put())
    assert found.next == ["more than 1000 jobs come before it in queue default"]


def test_slot_and_process_are_named_once_they_are_stored(scene: Scene) -> None:
    running()(scene)
    job = get(scene.store, "a")
    change(scene.store, lifecycle.note_start(job, slot=3, pid=4711, started_at=NOW, now=NOW))
    [why] = explain(scene.store, scene.settings, get(scene.store, "a")).why
    assert why == f"worker w1 on h runs attempt 1 in slot 3, pid 4711; its lease lasts until {LEASE_UNTIL}"


def test_the_hint_retries_all_failed_parents_in_order(scene: Scene) -> None:
    """The test runs the suggested command: afterwards nothing prevents the job from running."""
    scene.put("p", state="processing", max_retries=0)
    child(scene.store, "t", "p")
    scene.child("t")
    end(scene.store, "p", exit_code=1)
    maintenance.unblock_children(scene.store, ["p"])
    hint = "to run p, t again, and then this one: queuectl retry p t"
    assert hint in explain(scene.store, scene.settings, get(scene.store, "a")).next
    commands.retry(scene.store, ["p", "t"])
    assert [get(scene.store, id).state for id in "pta"] == ["pending", "blocked", "blocked"]


def test_the_hint_for_a_dead_job_also_retries_its_failed_parent(scene: Scene) -> None:
    scene.put("p", max_retries=0)
    scene.child("p", max_retries=0)
    scene.ends("p")
    scene.looked()
    scene.ends("a", exit_code=1)
    commands.retry(scene.store, ["p"], force=True)
    scene.ends("p", exit_code=1)
    hint = "to run p again, and then this one: queuectl retry p a"
    assert hint in explain(scene.store, scene.settings, get(scene.store, "a")).next
    assert [each.state for each in commands.retry(scene.store, ["p", "a"])] == ["pending", "blocked"]


def test_a_job_with_a_generated_id_is_named_by_its_number(scene: Scene) -> None:
    made = "1a203ec0eac75bd6aaf9f973ee"
    job = scene.put(made, state="held")
    assert explain(scene.store, scene.settings, job).next == ["to let it start: queuectl release 1"]


def test_the_hint_names_a_lost_worker_without_ambiguity(scene: Scene) -> None:
    silent(40)(scene)
    scene.heartbeat("w1", id="other", host="beta")
    assert (
        "queuectl worker forget w1@h" in explain(scene.store, scene.settings, get(scene.store, "a")).next[-1]
    )


def hints() -> Iterator[str]:
    """Every hint of the table, as it would be pasted."""
    for row in TABLE:
        for sentence in row[3]:
            if ": queuectl " in sentence:
                yield sentence.partition(": ")[2]


def test_every_hint_ends_with_a_queuectl_command() -> None:
    assert len(list(hints())) > 30
    assert all(hint.startswith("queuectl ") for hint in hints())
