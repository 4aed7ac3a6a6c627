"""Parents and children over every store: which children are restored, which wait, and what is stored."""

from datetime import timedelta

import pytest

from contract.grounds import SteppedClock
from factories import LEASE, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Parent
from queuectl.domain.query import Filter, Page
from queuectl.service import commands, enqueueing, maintenance
from queuectl.store.protocol import Store


def add(store: Store, id: str, *parents: str, **fields: object) -> None:
    after = tuple(Parent(parent) for parent in parents)
    now = store.now()
    enqueueing.enqueue(store, [new_job(id, now=now, run_at=now, after=after, max_retries=0, **fields)])  # type: ignore[arg-type]


def get(store: Store, id: str) -> Job:
    return store.get([id])[id]


def run(store: Store, clock: SteppedClock, id: str, exit_code: int = 0) -> None:
    """Let a worker run the due job, and unblock its children."""
    clock.step(seconds=1)
    [job] = store.claim("w1", (), 1, LEASE)
    assert job.id == id
    now = store.now()
    ended = lifecycle.finish(job, report(exit_code=exit_code, now=now), now=now, random_number=0.5)
    assert statuses(store.save([ended])) == ["accepted"]
    maintenance.unblock_children(store, [id])


def states(store: Store, *ids: str) -> list[str]:
    return [get(store, id).state for id in ids]


def test_retrying_a_parent_restores_the_children_that_its_failure_cancelled(
    store: Store, clock: SteppedClock
) -> None:
    for id, parents in (("build", ()), ("test", ("build",)), ("deploy", ("test", "build"))):
        add(store, id, *parents)
    run(store, clock, "build", exit_code=1)
    assert states(store, "build", "test", "deploy") == ["dead", "cancelled", "cancelled"]
    assert [get(store, id).cause for id in ("build", "test", "deploy")] == [None, "parent", "parent"]
    commands.retry(store, ["build"])
    assert states(store, "build", "test", "deploy") == ["pending", "blocked", "blocked"]
    for id in ("build", "test", "deploy"):
        run(store, clock, id)
    assert states(store, "build", "test", "deploy") == ["completed"] * 3


@pytest.mark.doubles
def test_a_retried_child_waits_for_its_retried_parent(store: Store, clock: SteppedClock) -> None:
    add(store, "build")
    add(store, "deploy", "build")
    run(store, clock, "build")
    run(store, clock, "deploy", exit_code=1)
    commands.retry(store, ["deploy", "build"], force=True)
    assert states(store, "build", "deploy") == ["pending", "blocked"]
    run(store, clock, "build", exit_code=1)
    assert (get(store, "deploy").state, get(store, "deploy").cause) == ("cancelled", "parent")
    commands.retry(store, ["deploy"], alone=True)
    run(store, clock, "deploy")


def test_a_child_held_by_a_failure_runs_after_the_retry_of_its_parent(
    store: Store, clock: SteppedClock
) -> None:
    add(store, "build")
    add(store, "deploy", "build", after_failure="hold")
    run(store, clock, "build", exit_code=1)
    assert (get(store, "deploy").state, get(store, "deploy").cause) == ("held", "parent")
    commands.retry(store, ["build"])
    assert states(store, "build", "deploy") == ["pending", "held"]
    run(store, clock, "build")
    run(store, clock, "deploy")


def test_a_held_child_records_that_its_parent_ended_as_wanted(store: Store, clock: SteppedClock) -> None:
    add(store, "p")
    add(store, "c", "p", hold=True)
    run(store, clock, "p")
    assert get(store, "c").waiting_for == ()
    commands.delete(store, ["p"])
    [change] = commands.release(store, ["c"])
    assert (change.state, get(store, "c").state) == ("pending", "pending")


def test_a_purge_unblocks_the_children_before_it_deletes_the_parent(
    store: Store, clock: SteppedClock
) -> None:
    for id in ("p", "q"):
        add(store, id)
        add(store, f"{id}-child", id, hold=id == "p")
    for job in store.claim("w1", (), 2, LEASE):  # and their worker dies before it unblocks the children
        now = store.now()
        assert statuses(store.save([lifecycle.finish(job, report(now=now), now=now, random_number=0.5)])) == [
            "accepted"
        ]
    clock.step(seconds=1)
    assert commands.purge(store, Filter(states=frozenset(("completed",)))) == 2
    assert states(store, "p-child", "q-child") == ["held", "pending"]
    assert get(store, "p-child").waiting_for == ()


def test_cancelled_children_are_found_by_their_parent(store: Store, clock: SteppedClock) -> None:
    add(store, "p")
    add(store, "c", "p")
    clock.step(seconds=1)
    commands.cancel(store, ["p"], by="me")
    wanted = Filter(states=frozenset(("cancelled",)), waiting_for=("p",))
    assert [job.id for job in store.find(wanted, Page()).jobs] == ["c"]
    assert get(store, "c").finished_at - get(store, "c").created_at == timedelta(seconds=1)  # type: ignore[operator]
