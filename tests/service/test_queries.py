"""Queries: which job and attempt a reference names, the status, and waiting for an end."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from contract.grounds import SteppedClock
from factories import NOW, in_state, new_job
from queuectl.config import Settings
from queuectl.domain import lifecycle
from queuectl.domain.ids import make_id
from queuectl.domain.job import STATES
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page
from queuectl.domain.queue import QueueChange
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import (
    attempts,
    commands,
    listing,
    references,
    slots,
    status,
    waiting,
    work,
    worker_status,
)
from queuectl.store.memory import MemoryStore
from service.conftest import Overtaken, settings_of
from service.scenes import change, child, end, get, heartbeat, lose, put, take


class TestResolve:
    def test_a_job_is_found_by_id_number_prefix_or_as_the_last(self, store: MemoryStore) -> None:
        put(store, "alpha")
        put(store, "beta")
        made = put(store, make_id(NOW, 7)).id
        assert references.resolve(store, ["beta", "1", made[:12], "@last"]) == ["beta", "alpha", made]

    def test_an_exact_id_wins_over_a_longer_one(self, store: MemoryStore) -> None:
        for id in ("job", "job2"):
            put(store, id)
        assert references.resolve(store, ["job"]) == ["job"]

    def test_a_number_names_an_id_only_if_no_job_has_this_number(self, store: MemoryStore) -> None:
        for id in ("a", "1", "7"):
            put(store, id)
        assert references.resolve(store, ["1", "2", "7"]) == ["a", "1", "7"]

    @pytest.mark.parametrize("gone", ["job-1", "job-", "7", "01"])
    def test_a_prefix_of_a_given_id_is_not_found_but_suggested(self, store: MemoryStore, gone: str) -> None:
        for id in ("job-17", "77x", "01-nightly"):
            put(store, id)
        with pytest.raises(NotFound) as caught:
            references.resolve(store, [gone])
        near = {"7": "77x", "01": "01-nightly"}.get(gone, "job-17")
        assert caught.value.hint == f"did you mean {near}?"

    def test_a_prefix_of_a_generated_id_wins_over_a_given_id(self, store: MemoryStore) -> None:
        made = put(store, make_id(NOW, 7)).id
        put(store, f"{made[:9]}-copy")
        assert references.resolve(store, [made[:9]]) == [made]

    def test_a_parent_that_ended_as_wanted_is_not_shown_as_waited_for(self, store: MemoryStore) -> None:
        for id in ("p", "q"):
            put(store, id, state="processing")
        child(store, "c", "p", "q", hold=True)
        end(store, "p")
        assert get(store, "c").waiting_for == ("p", "q")
        assert references.show(store, "c").waiting_for == ("q",)

    def test_reading_a_job_accepts_a_prefix_of_a_given_id(self, store: MemoryStore) -> None:
        put(store, "job-17")
        assert references.show(store, "job-1").id == "job-17"

    def test_a_number_wins_over_a_prefix(self, store: MemoryStore) -> None:
        put(store, "2x")
        put(store, "other")
        assert references.resolve(store, ["2"]) == ["other"]

    def test_a_prefix_of_several_ids_is_refused(self, store: MemoryStore) -> None:
        for n in (1, 2):
            put(store, make_id(NOW, n))
        put(store, "job-a")
        put(store, "job-b")
        for prefix, generous in ((make_id(NOW, 1)[:12], False), ("job-", True)):
            with pytest.raises(InvalidInput, match=f"'{prefix}' begins several ids"):
                references.resolve(store, [prefix], generous=generous)

    def test_parents_are_referenced_in_the_same_ways_as_jobs(self, store: MemoryStore) -> None:
        put(store, "build")
        made = put(store, make_id(NOW, 7)).id
        wishes = ["1", "@last:any", f"{made[:12]}:failed", "build:any", "of-the-same-file"]
        assert references.parents(store, wishes) == [
            "build", f"{made}:any", f"{made}:failed", "build:any", "of-the-same-file",
        ]  # fmt: skip
        for nobody in ("17", "@first", "17:any"):
            with pytest.raises(NotFound):
                references.parents(store, [nobody])

    @pytest.mark.parametrize("nothing", ["", "nobody", "17", "@first", "1" * 40, "-1"])
    def test_a_reference_to_no_job_is_not_found(self, store: MemoryStore, nothing: str) -> None:
        put(store, "a")
        with pytest.raises(NotFound):
            references.resolve(store, [nothing])

    def test_the_last_job_is_the_newest_job_not_the_last_changed_one(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        put(store, "old")
        put(store, "new")
        clock.step(hours=1)
        commands.hold(store, ["old"])
        assert references.resolve(store, ["@last"]) == ["new"]

    def test_the_last_job_does_not_exist_in_an_empty_store(self, store: MemoryStore) -> None:
        with pytest.raises(NotFound, match="no job yet"):
            references.resolve(store, ["@last"])


class TestAttemptOf:
    def test_a_job_that_has_not_run_has_no_attempt(self, store: MemoryStore) -> None:
        assert attempts.id_of(put(store, "a"), None) is None

    def test_the_newest_attempt_is_the_running_attempt(self, store: MemoryStore) -> None:
        put(store, "a", state="failed")
        job = take(store, "a")
        assert attempts.id_of(job, None) == "a-2"
        assert attempts.id_of(job, 1) == "a-1"
        assert attempts.id_of(job, 2) == "a-2"

    def test_the_newest_attempt_is_the_last_finished_one_if_none_runs(self, store: MemoryStore) -> None:
        assert attempts.id_of(put(store, "a", state="dead"), None) == "a-1"

    def test_the_error_for_an_unknown_attempt_lists_the_known_attempts(self, store: MemoryStore) -> None:
        put(store, "a", state="failed")
        with pytest.raises(NotFound, match="no attempt 3") as caught:
            attempts.id_of(take(store, "a"), 3)
        assert caught.value.hint == "attempts: 1, 2"

    def test_a_finished_attempt_is_found_by_its_id(self, store: MemoryStore) -> None:
        job = put(store, "a", state="failed")
        past = attempts.finished(job, "a-1")
        assert past
        assert past.exit_code == 1
        assert attempts.finished(job, "a-2") is None


def test_the_output_is_complete_for_any_number_of_chunks(store: MemoryStore) -> None:
    put(store, "a", state="processing")
    store.write_output([Chunk("a", "a-1", n, 0, NOW, n - 1, b"x") for n in range(1, 601)])
    assert [chunk.n for chunk in attempts.output(store, "a-1")] == list(range(1, 601))
    assert [chunk.n for chunk in attempts.output(store, "a-1", after=598)] == [599, 600]


class Ticking:
    """A monotonic clock that advances only by the waited time; the same object does the waiting."""

    def __init__(self, overtaken: Overtaken) -> None:
        self.now = 0.0
        overtaken.replace("subscribe", lambda _wanted: self)
        self.events: Iterator[Callable[[], object]] = iter(())
        self.waited: list[float] = []

    def wait(self, timeout: float) -> bool:
        self.waited.append(timeout)
        self.now += timeout
        next(self.events, lambda: None)()
        return False

    def close(self) -> None:
        pass

    def __call__(self) -> float:
        return self.now


class TestWaitFor:
    @pytest.fixture
    def ticking(self, overtaken: Overtaken) -> Ticking:
        return Ticking(overtaken)

    def wait(
        self,
        overtaken: Overtaken,
        ticking: Ticking,
        *ids: str,
        seconds: float | None = 10,
        any_one: bool = False,
    ) -> dict[str, str]:
        timeout = None if seconds is None else timedelta(seconds=seconds)
        found = waiting.wait_for(overtaken, ids, timeout=timeout, any_one=any_one, monotonic=ticking)
        return {id: job.state for id, job in found.items()}

    def test_waiting_for_an_ended_job_returns_at_once(
        self, store: MemoryStore, overtaken: Overtaken, ticking: Ticking
    ) -> None:
        put(store, "a", state="dead")
        assert self.wait(overtaken, ticking, "a") == {"a": "dead"}
        assert ticking.waited == []

    def test_waiting_returns_when_the_last_job_has_ended(
        self, store: MemoryStore, overtaken: Overtaken, ticking: Ticking
    ) -> None:
        put(store, "a", state="processing")
        put(store, "b", state="processing")
        ticking.events = iter((lambda: end(store, "a"), lambda: end(store, "b")))
        assert self.wait(overtaken, ticking, "a", "b") == {"a": "completed", "b": "completed"}
        assert len(ticking.waited) == 2

    def test_waiting_for_any_job_returns_at_the_first_end(
        self, store: MemoryStore, overtaken: Overtaken, ticking: Ticking
    ) -> None:
        put(store, "a", state="processing")
        put(store, "b", state="processing")
        ticking.events = iter((lambda: end(store, "b"),))
        assert self.wait(overtaken, ticking, "a", "b", any_one=True) == {"a": "processing", "b": "completed"}

    def test_a_job_that_is_named_twice_is_waited_for_once(
        self, store: MemoryStore, overtaken: Overtaken, ticking: Ticking
    ) -> None:
        put(store, "a", state="processing")
        ticking.events = iter((lambda: end(store, "a"),))
        assert self.wait(overtaken, ticking, "a", "a", any_one=True) == {"a": "completed"}

    def test_the_wait_ends_exactly_at_its_timeout(
        self, store: MemoryStore, overtaken: Overtaken, ticking: Ticking
    ) -> None:
        put(store, "a")
        assert self.wait(overtaken, ticking, "a", seconds=2.5) == {"a": "pending"}
        assert ticking.waited == [1.0, 1.0, 0.5]

    def test_a_timeout_of_zero_reads_the_jobs_once(
        self, store: MemoryStore, overtaken: Overtaken, ticking: Ticking
    ) -> None:
        put(store, "a")
        assert self.wait(overtaken, ticking, "a", seconds=0) == {"a": "pending"}
        assert ticking.waited == []

    def test_a_job_that_is_retried_after_its_failure_is_still_waited_for(
        self, store: MemoryStore, overtaken: Overtaken, ticking: Ticking
    ) -> None:
        put(store, "a", state="processing")

        def fail_and_run_again() -> None:
            end(store, "a", exit_code=1)
            take(store, "a")

        ticking.events = iter((fail_and_run_again, lambda: end(store, "a")))
        assert self.wait(overtaken, ticking, "a", seconds=None) == {"a": "completed"}

    def test_a_job_deleted_meanwhile_is_missing_in_the_result(
        self, store: MemoryStore, overtaken: Overtaken, ticking: Ticking
    ) -> None:
        put(store, "a", state="processing")

        def end_and_delete() -> None:
            end(store, "a")
            commands.delete(store, ["a"])

        ticking.events = iter((end_and_delete,))
        assert self.wait(overtaken, ticking, "a") == {}


class TestStatus:
    def test_every_state_is_counted_and_the_counts_add_up(
        self, store: MemoryStore, settings: Settings
    ) -> None:
        put(store, "p")
        for state in set(STATES) - {"pending", "blocked"}:
            put(store, state, state=state)
        child(store, "c", "p")
        found = status.status(store, settings)
        assert found.jobs == dict.fromkeys(STATES, 1)

    def test_queues_with_jobs_or_settings_are_listed_by_name(
        self, store: MemoryStore, settings: Settings
    ) -> None:
        put(store, "a", queue="web")
        commands.change_queue(store, "empty", QueueChange(paused=True))
        commands.change_queue(store, "web", QueueChange(limit=2))
        shown = [(q.name, q.paused, q.limit, q.jobs) for q in status.status(store, settings).queues]
        assert shown == [("empty", True, None, {}), ("web", False, 2, {"pending": 1})]

    def test_only_slots_of_live_workers_are_counted(
        self, store: MemoryStore, settings: Settings, clock: SteppedClock
    ) -> None:
        heartbeat(store, "silent", count=8, busy=("x",))
        put(store, "x", state="pending")
        take(store, "x", "silent")
        clock.step(minutes=1)
        heartbeat(store, "busy", count=2)
        put(store, "a")
        take(store, "a", "busy")
        heartbeat(store, "leaving", count=1, state="draining")
        found = status.status(store, settings)
        assert (found.live, found.processing, found.lost) == (3, 1, 1)
        states = {item.worker.id: item.state for item in found.workers}
        assert states == {"silent": "lost", "busy": "running", "leaving": "draining"}

    def test_slots_show_claimed_jobs_before_the_worker_reports_them(
        self, store: MemoryStore, settings: Settings
    ) -> None:
        heartbeat(store, "w1", count=2, busy=("ended", "b"))
        for id in ("a", "b", "c", "d", "e"):
            put(store, id, state="processing")
        found = status.status(store, settings)
        [worker] = found.workers
        assert [slot.job for slot in worker.slots] == ["a", "b"]
        assert [slot.command for slot in worker.slots] == ["true", "true"]
        assert (worker.ahead, found.ahead) == (3, 3)
        assert found.jobs["processing"] == found.processing + found.ahead + found.lost

    def test_the_slot_stored_in_the_job_is_shown(self, store: MemoryStore, settings: Settings) -> None:
        heartbeat(store, "w1", count=3)
        job = put(store, "a", state="processing")
        started = store.now() - timedelta(seconds=9)
        change(store, lifecycle.note_start(job, slot=2, pid=7, started_at=started, now=store.now()))
        slots = status.status(store, settings).workers[0].slots
        assert [slot.job for slot in slots] == [None, None, "a"]
        assert slots[2].since == started

    def test_a_job_that_ends_between_two_reads_is_read_again(
        self, store: MemoryStore, overtaken: Overtaken, settings: Settings
    ) -> None:
        heartbeat(store, "w1", count=2)
        put(store, "a", state="processing")
        put(store, "b", state="processing")
        overtaken.after("counts", lambda: end(store, "a"))
        found = status.status(overtaken, settings)  # type: ignore[arg-type]
        assert found.jobs["processing"] == found.processing == 1

    def test_a_lost_worker_has_no_jobs_after_they_are_recovered(
        self, store: MemoryStore, settings: Settings, clock: SteppedClock
    ) -> None:
        heartbeat(store, "w1", busy=("a",))
        put(store, "a", state="processing")
        clock.step(minutes=1)
        assert status.status(store, settings).workers[0].slots[0].job == "a"
        lose(store, "a")
        assert status.status(store, settings).workers[0].slots[0].job is None

    def test_retries_and_dead_jobs_of_the_last_hour_are_counted(
        self, store: MemoryStore, settings: Settings, clock: SteppedClock
    ) -> None:
        put(store, "old", state="failed")
        put(store, "long dead", state="dead")
        clock.step(hours=1)
        put(store, "f", state="failed")
        put(store, "d", state="dead")
        put(store, "d2", state="dead")
        assert status.status(store, settings).last_hour == status.LastHour(retries=1, deaths=2)

    def test_with_very_many_running_jobs_the_workers_report_is_shown(
        self, store: MemoryStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(slots, "PROCESSING_SEEN", 1)
        heartbeat(store, "w1", count=3, busy=("a", "b"))
        put(store, "a", state="processing")
        put(store, "b", state="processing")
        shown = status.status(store, settings).workers[0].slots
        assert [slot.job for slot in shown] == ["a", "b", None]

    @pytest.mark.parametrize(("beats", "state"), [(3.0, "running"), (3.1, "lost")])
    def test_a_worker_is_lost_after_three_missed_heartbeats(
        self, store: MemoryStore, clock: SteppedClock, beats: float, state: str
    ) -> None:
        heartbeat(store)
        clock.step(seconds=beats * 10)
        [found] = worker_status.workers(store, settings_of(heartbeat_interval="10s"))
        assert found.state == state

    def test_with_short_heartbeats_a_worker_is_lost_only_after_three_seconds(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        heartbeat(store)
        clock.step(seconds=3)
        assert worker_status.workers(store, settings_of(heartbeat_interval="100ms"))[0].state == "running"


class TestWorkIsLeft:
    @pytest.mark.parametrize(
        ("state", "left"),
        [("processing", True), ("failed", True), ("pending", False), ("held", False), ("dead", False)],
    )
    def test_running_and_retrying_jobs_are_work(self, store: MemoryStore, state: str, left: bool) -> None:
        put(store, "a", state=state)  # type: ignore[arg-type]
        assert work.is_left(store, []) is left

    def test_jobs_of_other_queues_are_not_work(self, store: MemoryStore) -> None:
        put(store, "a", state="failed", queue="web")
        assert not work.is_left(store, ["mail"])
        assert work.is_left(store, ["mail", "web"])

    def test_jobs_of_a_paused_queue_are_not_work(self, store: MemoryStore) -> None:
        put(store, "a", state="failed")
        commands.change_queue(store, "default", QueueChange(paused=True))
        assert not work.is_left(store, [])


class TestOthersSucceed:
    def test_no_success_exists_if_no_job_completed(self, store: MemoryStore) -> None:
        put(store, "a", state="dead")
        assert not work.others_succeed(store, "w2")

    def test_a_success_of_another_worker_is_found(self, store: MemoryStore) -> None:
        put(store, "a", state="completed")
        assert work.others_succeed(store, "w2")

    def test_the_workers_own_success_is_not_counted(self, store: MemoryStore) -> None:
        put(store, "a", state="completed")
        assert not work.others_succeed(store, "w1")

    def test_an_old_success_is_not_counted(self, store: MemoryStore, clock: SteppedClock) -> None:
        put(store, "a", state="completed")
        clock.step(minutes=2)
        assert not work.others_succeed(store, "w2")


def test_the_claims_of_a_worker_are_found_page_by_page(store: MemoryStore) -> None:
    for n in range(505):
        put(store, f"a{n}", state="processing")
    put(store, "theirs")
    take(store, "theirs", worker="w2")
    assert {job.id for job in worker_status.claimed_by(store, "w1")} == {f"a{n}" for n in range(505)}


def test_a_lost_attempt_is_in_the_history(store: MemoryStore) -> None:
    put(store, "a", state="processing")
    assert [past.outcome for past in lose(store, "a").history] == ["lost"]
    assert attempts.id_of(get(store, "a"), 1) == "a-1"


def test_a_page_of_jobs_has_a_cursor_to_the_next_page(store: MemoryStore) -> None:
    put(store, "a")
    put(store, "b")
    found = listing.jobs(store, Filter(), Page(limit=1))
    assert [job.id for job in found.jobs] == ["b"]
    assert found.next


@pytest.mark.parametrize(
    ("reference", "calls"),
    [
        ("nightly", {"get": 1}),
        ("1", {"find": 1}),
        ("@last", {"find": 1}),
        ("night", {"get": 1, "find": 1}),
    ],
)
def test_show_reads_a_job_once(
    store: MemoryStore, overtaken: Overtaken, reference: str, calls: dict[str, int]
) -> None:
    put(store, "nightly")
    assert references.show(overtaken, reference).id == "nightly"
    assert overtaken.calls == calls


def test_a_list_by_end_has_the_ended_jobs_first_and_the_other_jobs_last(store: MemoryStore) -> None:
    later = NOW + timedelta(seconds=1)
    store.add(
        [new_job("a"), in_state("dead", "b", now=NOW), in_state("completed", "c", now=later), new_job("d")]
    )
    for limit in (1, 2, 3, 4):
        found, after = list[str](), None
        while True:
            page = listing.jobs(store, Filter(), Page(limit=limit, sort="ended", after=after))
            found += [job.id for job in page.jobs]
            if (after := page.next) is None:
                break
        assert found == ["c", "b", "d", "a"]
