"""Operations that are carried on behind, on each store: steps, counts, lost races, stops, deaths, and their end."""

from datetime import timedelta
from functools import partial

import pytest

from contract.grounds import Ground, race
from factories import new_job, report
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Parent
from queuectl.domain.operation import KEPT, OperationStatus, Request, Verb
from queuectl.domain.query import Filter
from queuectl.errors import Conflict, InvalidInput, NotFound
from queuectl.service import carrying, operations, paging
from queuectl.service.carrying import LEASE, carry
from queuectl.store.protocol import Store, Swap


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "BATCH", 10)


def add(store: Store, count: int, **fields: object) -> list[str]:
    jobs = [new_job(f"j{n:03}", now=store.now(), **fields) for n in range(count)]  # type: ignore[arg-type]
    assert all(each.status == "added" for each in store.add(jobs))
    return [job.id for job in jobs]


def kill(store: Store) -> None:
    """Let every due job run once and die."""
    while jobs := store.claim("w", (), 100, timedelta(minutes=10)):
        now = store.now()
        ended = [
            lifecycle.finish(job, report(now=now, exit_code=1), now=now, random_number=0.5) for job in jobs
        ]
        assert all(answer.status == "accepted" for answer in store.save(ended))


def operate(store: Store, verb: Verb, where: str, **given: object) -> OperationStatus:
    request = Request(verb=verb, where=where, **given)  # type: ignore[arg-type]
    return operations.operate(store, "op", request, by="ada")


def step(store: Store, id: str = "op") -> OperationStatus | None:
    [due] = [each for each in store.upcoming(10) if each.key == id and each.due <= store.now()]
    return carry(store, id, due.entry)


def finish(store: Store, id: str = "op") -> OperationStatus:
    while (status := operations.show(store, id)).is_running:
        step(store, id)
    return status


def counts(status: OperationStatus) -> tuple[int, int, int, int]:
    tally = status.tally
    return tally.matched, tally.changed, tally.unchanged, tally.refused_count


def states(store: Store) -> dict[str, int]:
    return dict(store.counts(Filter()).states())


@pytest.mark.doubles
def test_an_operation_is_done_in_steps(store: Store) -> None:
    add(store, 25)
    assert operate(store, "cancel", "state:pending", args={"reason": "over"}).state == "running"
    first = step(store)
    assert first is not None
    assert (counts(first), first.state) == ((10, 10, 0, 0), "running")
    assert states(store) == {"cancelled": 10, "pending": 15}
    done = finish(store)
    assert (counts(done), done.state, states(store)) == ((25, 25, 0, 0), "done", {"cancelled": 25})
    asked = store.get(["j020"])["j020"].cancel_requested
    assert asked is not None
    assert (asked.by, asked.reason) == ("ada", "over")


@pytest.mark.parametrize(
    ("verb", "args", "after"),
    [
        ("hold", {}, {"held": 12}),
        ("edit", {"priority": 7, "run_at": "now", "queue": "mail"}, {"pending": 12}),
        ("cancel", {}, {"cancelled": 12}),
    ],
)
def test_the_verbs(store: Store, verb: Verb, args: dict[str, object], after: dict[str, int]) -> None:
    add(store, 12)
    operate(store, verb, "queue:default", args=args)
    assert counts(finish(store)) == (12, 12, 0, 0)
    assert states(store) == after
    if verb == "edit":
        assert {(job.priority, job.queue) for job in store.get(["j000", "j011"]).values()} == {(7, "mail")}


def test_release_and_delete(store: Store) -> None:
    add(store, 12, hold=True)
    operate(store, "release", "state:held")
    assert counts(finish(store)) == (12, 12, 0, 0)
    operations.operate(store, "all", Request(verb="cancel", where="number:>0"), by="ada")
    finish(store, "all")
    operations.operate(store, "gone", Request(verb="delete", where="number:>0"), by="ada")
    assert counts(finish(store, "gone")) == (12, 12, 0, 0)
    assert states(store) == {}


def test_jobs_that_are_added_later_are_left_alone(store: Store) -> None:
    add(store, 12)
    operate(store, "hold", "number:>0")
    step(store)
    store.add([new_job("late", now=store.now())])
    assert counts(finish(store)) == (12, 12, 0, 0)
    assert store.get(["late"])["late"].state == "pending"


def test_refused_jobs_are_counted_and_the_first_are_named(store: Store) -> None:
    add(store, 25)
    store.claim("w", (), 25, timedelta(minutes=1))
    operate(store, "hold", "number:>0")
    done = finish(store)
    assert counts(done) == (25, 0, 0, 25)
    assert [each.id for each in done.tally.refused] == [f"j{n:03}" for n in range(20)]
    assert "processing" in done.tally.refused[0].reason


def test_a_limit_takes_the_smallest_numbers(store: Store) -> None:
    add(store, 25)
    operate(store, "hold", "number:>0", limit=13)
    done = finish(store)
    assert counts(done) == (13, 13, 0, 0)
    assert [store.get([f"j{n:03}"])[f"j{n:03}"].state for n in (12, 13)] == ["held", "pending"]


def test_a_retry_takes_only_jobs_that_died_before_it_began(ground: Ground, store: Store) -> None:
    add(store, 25, max_retries=0)
    kill(store)
    ground.clock.step(seconds=1)
    operate(store, "retry", "state:dead")
    while operations.show(store, "op").is_running:
        step(store)
        ground.clock.step(seconds=1)
        kill(store)
    assert {job.attempts for job in store.get([f"j{n:03}" for n in range(25)]).values()} == {2}
    assert counts(operations.show(store, "op")) == (25, 25, 0, 0)


def test_a_filter_by_age_means_the_same_in_each_step(ground: Ground, store: Store) -> None:
    add(store, 12)
    ground.clock.step(seconds=90)
    store.add([new_job(f"k{n}", now=store.now()) for n in range(12)])
    operate(store, "hold", "since:1m")
    step(store)
    ground.clock.step(hours=1)
    assert counts(finish(store)) == (12, 12, 0, 0)


@pytest.mark.doubles
def test_a_repeated_request_is_the_same_operation(store: Store) -> None:
    add(store, 12)
    first = operate(store, "edit", "number:>0", args={"run_at": "2030-01-01T00:00:00Z"})
    step(store)
    again = operate(store, "edit", "number:>0", args={"run_at": "2030-01-01T01:00:00+01:00"})
    assert again.created_at == first.created_at
    assert counts(again) == (10, 10, 0, 0)
    with pytest.raises(Conflict, match="another content"):
        operate(store, "edit", "number:>0", args={"priority": 3})
    with pytest.raises(Conflict, match="another content"):
        operate(store, "hold", "number:>0")


def test_a_repeated_request_does_not_count_again(store: Store) -> None:
    add(store, 12)
    request = Request(verb="cancel", where="state:pending")
    with pytest.raises(Conflict, match="12 jobs match, not 11"):
        operations.operate(store, "op", request, by="ada", expect=11)
    with pytest.raises(NotFound):
        operations.show(store, "op")
    operations.operate(store, "op", request, by="ada", expect=12)
    step(store)
    assert operations.operate(store, "op", request, by="ada", expect=12).tally.changed == 10


@pytest.mark.parametrize(
    ("verb", "where", "args"),
    [
        ("explode", "number:>0", {}),
        ("hold", "stat:dead", {}),
        ("hold", "", {}),
        ("hold", "number:>0", {"force": True}),
        ("cancel", "state:dead", {}),
        ("edit", "number:>0", {}),
        ("edit", "number:>0", {"priority": 5000}),
        ("edit", "number:>0", {"run_at": "soon"}),
        ("edit", "number:>0", {"queue": "a,b"}),
        ("retry", "number:>0", {"force": "yes"}),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_refused(
    store: Store, verb: Verb, where: str, args: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        operate(store, verb, where, args=args)
    assert operations.all_of(store) == []


@pytest.mark.doubles
def test_of_two_carriers_one_takes_the_step(ground: Ground, store: Store) -> None:
    add(store, 40)
    operate(store, "hold", "number:>0")
    stores = [ground.open() for _ in range(3)]
    while operations.show(store, "op").is_running:
        entry = store.read_table("operations", ["op"])["op"]
        before = operations.show(store, "op").tally.matched
        race(*(partial(carry, each, "op", entry) for each in stores))
        assert operations.show(store, "op").tally.matched - before in (0, 10)
    assert counts(operations.show(store, "op")) == (40, 40, 0, 0)


def test_a_step_of_a_dead_carrier_is_done_again_after_its_lease(
    ground: Ground, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, 25)
    operate(store, "hold", "number:>0")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(carrying, "_record", die)
        with pytest.raises(KeyboardInterrupt):
            step(store)
    assert states(store) == {"held": 10, "pending": 15}
    [waiting] = store.upcoming(1)
    assert waiting.due == store.now() + LEASE
    ground.clock.step(seconds=LEASE.total_seconds())
    assert counts(finish(store)) == (25, 15, 10, 0)
    assert {job.version for job in store.get(["j000"]).values()} == {2}


def test_a_late_carrier_does_not_undo_what_another_has_stored(ground: Ground, store: Store) -> None:
    add(store, 25)
    operate(store, "hold", "number:>0")
    status = operations.show(store, "op")
    taken = carrying._take(store, status, 1)
    assert taken is not None
    late = carrying._step(store, taken[0])
    ground.clock.step(seconds=LEASE.total_seconds())
    after = step(store)
    assert after == carrying._record(store, *taken, late)
    assert after == operations.show(store, "op")
    assert after.cursor == 10


@pytest.mark.doubles
def test_an_operation_that_is_stopped_takes_no_further_step(store: Store) -> None:
    add(store, 25)
    operate(store, "hold", "number:>0")
    step(store)
    stopped = operations.stop(store, "op")
    assert (stopped.state, counts(stopped)) == ("stopped", (10, 10, 0, 0))
    assert operations.stop(store, "op") == stopped
    assert [each.due for each in store.upcoming(5)] == [store.now() + KEPT]
    assert states(store) == {"held": 10, "pending": 15}


def test_the_running_step_of_a_stopped_operation_is_counted(store: Store) -> None:
    add(store, 25)
    operate(store, "hold", "number:>0")
    taken = carrying._take(store, operations.show(store, "op"), 1)
    assert taken is not None
    done = carrying._step(store, taken[0])
    stopped = operations.stop(store, "op", lambda _: carrying._record(store, *taken, done))
    assert (stopped.state, counts(stopped)) == ("stopped", (10, 10, 0, 0))
    assert operations.show(store, "op") == stopped


def test_a_stop_does_not_wait_for_ever_for_a_dead_carrier(store: Store) -> None:
    add(store, 12)
    operate(store, "hold", "number:>0")
    carrying._take(store, operations.show(store, "op"), 1)
    pauses = list[float]()
    assert operations.stop(store, "op", pauses.append).state == "stopped"
    assert sum(pauses) == pytest.approx(operations.LAST_STEP)


def test_an_ended_operation_is_kept_for_a_week(ground: Ground, store: Store) -> None:
    add(store, 2)
    operate(store, "hold", "number:>0")
    finish(store)
    ground.clock.step(seconds=KEPT.total_seconds() - 1)
    operations.forget_old(store)
    assert operations.show(store, "op").state == "done"
    ground.clock.step(seconds=1)
    step(store)
    with pytest.raises(NotFound):
        operations.show(store, "op")


def test_a_new_operation_deletes_old_ones(ground: Ground, store: Store) -> None:
    operate(store, "hold", "number:>0")
    finish(store)
    ground.clock.step(seconds=KEPT.total_seconds())
    operations.operate(store, "new", Request(verb="hold", where="number:>0"), by="ada")
    assert [each.id for each in operations.all_of(store)] == ["new"]


def test_an_entry_that_is_not_understood_is_left_alone(store: Store) -> None:
    store.swap([Swap("operations", "op", {"moon": 1}, 0, due=store.now())])
    assert step(store) is None
    assert operations.all_of(store) == []
    assert store.read_table("operations")["op"].value == {"moon": 1}


def waiting(store: Store, parent: Job, queue: str) -> None:
    store.add([new_job(f"after-{parent.id}", now=store.now(), queue=queue, after=(Parent(parent.id),))])


def test_no_job_of_another_queue_is_cancelled_with_a_selected_one(store: Store) -> None:
    ids = add(store, 3)
    jobs = store.get(ids)
    waiting(store, jobs["j000"], "other")
    waiting(store, jobs["j001"], "default")
    operate(store, "cancel", "queue:default state:pending", queues=("default",))
    done = finish(store)
    assert counts(done) == (3, 2, 0, 1)
    assert [each.id for each in done.tally.refused] == ["j000"]
    assert {id: job.state for id, job in store.get(["j000", "after-j000", "after-j001"]).items()} == {
        "j000": "pending", "after-j000": "blocked", "after-j001": "cancelled",
    }  # fmt: skip
