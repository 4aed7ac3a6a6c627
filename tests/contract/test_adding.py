"""`add` inserts jobs with new ids and returns a status for each job."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from contract.grounds import SteppedClock, race
from factories import NOW, in_state, new_job, processing, report
from queuectl.domain import lifecycle
from queuectl.domain.job import STATES, Job, Parent, State
from queuectl.domain.query import Filter
from queuectl.store.protocol import Store


def statuses(store: Store, *jobs: Job) -> list[str]:
    return [added.status for added in store.add(jobs)]


@pytest.mark.doubles
def test_an_added_job_is_read_back_unchanged(store: Store) -> None:
    job = new_job(
        "a",
        command="écho 'x'\n",
        queue="mail",
        priority=7,
        cwd="/tmp",
        env={"A": "1"},
        umask=0o022,
        stdin=b"\x00\xff",
        timeout=timedelta(seconds=1.5),
        unique_key="key",
        batch="b",
        tags=("x", "y"),
        meta={"n": [1, None, 2.5]},
        after=(Parent("p", "any"),),
        max_retries=9,
        factor=timedelta(milliseconds=250),
        no_retry_codes=(2, 3),
        run_at=NOW + timedelta(microseconds=1),
    )
    [added] = store.add([job])
    assert added.status == "added"
    assert added.job == replace(job, number=added.job.number)
    assert store.get(["a"]) == {"a": added.job}


@pytest.mark.parametrize("state", STATES)
def test_a_job_in_any_state_can_be_added(store: Store, state: State) -> None:
    [added] = store.add([in_state(state, "a")])
    assert store.get(["a"])["a"] == added.job
    assert added.job.state == state


def test_attempts_lease_and_cancel_request_are_kept(store: Store) -> None:
    failed = lifecycle.finish(
        processing("a"), report(exit_code=3, host="h", pid=5), now=NOW, random_number=0.5
    )
    again = lifecycle.claim(failed, attempt_id="b" * 32, worker="w2", lease=timedelta(seconds=9), now=NOW)
    started = lifecycle.note_start(again, slot=1, pid=77, started_at=NOW, now=NOW)
    asked = lifecycle.cancel(started, by="me", reason="why", now=NOW)
    [added] = store.add([asked])
    assert store.get(["a"])["a"] == replace(asked, number=added.job.number)


def test_numbers_increase_in_the_order_of_the_batch(store: Store) -> None:
    numbers = [added.job.number for added in store.add([new_job() for _ in range(5)])]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 0


def test_a_number_is_never_reused(store: Store) -> None:
    [first] = store.add([in_state("completed")])
    assert store.purge(Filter(), 10) == [first.job.id]
    [second] = store.add([new_job()])
    assert second.job.number > first.job.number


def test_the_same_id_and_content_return_the_existing_job(store: Store) -> None:
    [first] = store.add([new_job("a", content="x", priority=1)])
    [second] = store.add([new_job("a", content="x", priority=2)])
    assert second.status == "existing"
    assert second.job == first.job


@pytest.mark.doubles
def test_the_same_id_with_other_content_is_a_conflict(store: Store) -> None:
    [first] = store.add([new_job("a", content="x")])
    [second] = store.add([new_job("a", content="y")])
    assert second.status == "conflict"
    assert second.job == first.job


def test_a_repeated_add_with_a_unique_key_returns_the_existing_job(store: Store) -> None:
    assert statuses(store, new_job("a", unique_key="k")) == ["added"]
    assert statuses(store, new_job("a", unique_key="k")) == ["existing"]


def test_a_unique_key_is_taken_until_its_job_has_ended(store: Store) -> None:
    [first] = store.add([new_job("a", unique_key="k")])
    [second] = store.add([new_job("b", unique_key="k")])
    assert (second.status, second.job) == ("duplicate", first.job)
    store.save([lifecycle.cancel(first.job, by="me", reason=None, now=NOW)])
    assert statuses(store, new_job("b", unique_key="k")) == ["added"]


def test_an_ended_job_does_not_occupy_its_unique_key(store: Store) -> None:
    assert (
        statuses(store, in_state("dead", "a", unique_key="k"), new_job("b", unique_key="k")) == ["added"] * 2
    )


def test_a_unique_key_is_unique_within_a_batch(store: Store) -> None:
    first, second = store.add([new_job("a", unique_key="k"), new_job("b", unique_key="k")])
    assert (first.status, second.status) == ("added", "duplicate")
    assert second.job == first.job


def test_a_batch_returns_one_status_per_job_in_its_order(store: Store) -> None:
    store.add([new_job("a", content="x"), new_job("k", unique_key="k")])
    batch = [new_job("new"), new_job("a", content="x"), new_job("a2"), new_job("k2", unique_key="k")]
    assert statuses(store, *batch) == ["added", "existing", "added", "duplicate"]
    assert set(store.get(["new", "a", "a2", "k", "k2"])) == {"new", "a", "a2", "k"}


def test_an_empty_batch_adds_no_job(store: Store) -> None:
    assert store.add([]) == []


def test_of_several_concurrent_adds_of_one_id_one_succeeds(store: Store, other: Store) -> None:
    def add(handle: Store) -> str:
        return handle.add([new_job("a", content="x")])[0].status

    answers = race(*[lambda h=handle: add(h) for handle in (store, other) * 4])
    assert sorted(answers) == ["added"] + ["existing"] * 7


def test_of_several_concurrent_adds_of_one_unique_key_one_succeeds(store: Store, other: Store) -> None:
    def add(handle: Store, name: str) -> str:
        return handle.add([new_job(name, unique_key="k")])[0].status

    answers = race(*[lambda h=h, n=f"j{n}": add(h, n) for n, h in enumerate((store, other) * 4)])
    assert sorted(answers) == ["added"] + ["duplicate"] * 7


def test_times_in_the_past_and_in_the_future_are_stored_unchanged(store: Store, clock: SteppedClock) -> None:
    past, future = NOW - timedelta(days=3650), NOW.replace(year=9000)
    store.add([new_job("a", now=past, run_at=past), new_job("b", run_at=future)])
    found = store.get(["a", "b"])
    assert (found["a"].run_at, found["b"].run_at) == (past, future)
