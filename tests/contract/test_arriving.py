"""Jobs that an import adds: they keep their numbers and times, and get output although no attempt runs."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from contract.grounds import race
from factories import LEASE, NOW, new_job, statuses
from queuectl.domain.arrival import arriving
from queuectl.domain.job import Attempt
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Filter, Page
from queuectl.store.protocol import Store

A, B = "a" * 32, "b" * 32
DAY = timedelta(days=1)
PAST = Attempt(
    attempt=1, attempt_id=A, worker="w0", outcome="exited", claimed_at=NOW, finished_at=NOW, exit_code=3
)
DONE = replace(
    new_job("done", now=NOW - DAY),
    number=7,
    state="dead",
    version=12,
    attempts=2,
    failures=2,
    history=(PAST, replace(PAST, attempt=2, attempt_id=B)),
    last_error="exit code 3",
    exit_code=3,
    started_at=NOW,
    finished_at=NOW,
)


def chunk(attempt: str, n: int = 1, job: str = "done") -> Chunk:
    return Chunk(job, attempt, n, 0, NOW, 0, b"text")


@pytest.mark.doubles
def test_jobs_keep_numbers_that_are_higher_than_all_assigned_ones(store: Store) -> None:
    jobs = [replace(new_job(f"j{n}"), number=n) for n in (3, 4, 9)]
    assert [added.job.number for added in store.add(jobs)] == [3, 4, 9]
    assert store.last_number() == 9
    assert [added.job.number for added in store.add([new_job("next")])] == [10]
    late = [replace(new_job("low"), number=2), replace(new_job("high"), number=20), new_job("after")]
    assert [added.job.number for added in store.add(late)] == [11, 20, 21]
    assert [job.number for job in store.find(Filter(), Page()).jobs] == [21, 20, 11, 10, 9, 4, 3]


def test_a_repeated_add_finds_the_jobs(store: Store) -> None:
    jobs = [replace(new_job(f"j{n}"), number=n) for n in (5, 8)]
    store.add(jobs)
    again = store.add(jobs)
    assert [(added.status, added.job.number) for added in again] == [("existing", 5), ("existing", 8)]


def test_a_refused_job_among_jobs_with_numbers_in_a_row(store: Store) -> None:
    store.add([replace(new_job("there"), number=1)])
    numbers = {"a": 5, "there": 6, "b": 7, "low": 2, "c": 9, "far": 20, "next": 21}
    added = store.add([replace(new_job(id), number=n) for id, n in numbers.items()])
    assert statuses(added) == ["added", "existing", *["added"] * 5]
    assert [each.job.number for each in added] == [5, 1, 7, 8, 9, 20, 21]


def test_no_number_is_assigned_twice_while_others_enqueue(store: Store, other: Store) -> None:
    def bring() -> None:
        for n in range(1, 40, 2):
            store.add([replace(new_job(f"brought-{n}"), number=n * 5)])

    def enqueue() -> None:
        for n in range(60):
            other.add([new_job(f"plain-{n}")])

    race(bring, enqueue)
    numbers = [job.number for job in store.find(Filter(), Page(limit=1000)).jobs]
    assert len(numbers) == len(set(numbers)) == 80


@pytest.mark.doubles
def test_an_ended_job_arrives_with_its_history_and_output(store: Store) -> None:
    [added] = store.add([arriving(DONE)])
    assert store.claim("w1", (), 5, LEASE) == []
    assert store.write_output([chunk(A), chunk(B), chunk(B, 2)]) == set()
    assert store.write_output([chunk(A)], [Trim("done", B, 1, 3)]) == set()
    [saved] = store.save([replace(DONE, number=added.job.number, version=added.job.version)])
    assert saved.status == "accepted"
    found = store.get(["done"])["done"]
    assert found == replace(DONE, version=found.version)
    assert (found.number, found.created_at) == (7, NOW - DAY)
    assert [kept.attempt_id for kept in store.read_output(A, 0)] == [A]
    assert [kept.n for kept in store.read_output(B, 0)] == [1]
    assert store.counts(Filter()).states() == {"dead": 1}


def test_output_is_refused_once_the_job_has_arrived(store: Store) -> None:
    [added] = store.add([arriving(DONE)])
    store.save([replace(DONE, number=added.job.number, version=added.job.version)])
    assert store.write_output([chunk(A)]) == {A}
    assert store.read_output(A, 0) == []


def test_output_is_refused_for_a_job_that_a_person_holds(store: Store) -> None:
    store.add([new_job("j", hold=True)])
    assert store.write_output([chunk(A, job="j")]) == {A}
    assert store.write_output([chunk(A, job="absent")]) == {A}


def test_a_pending_job_arrives_and_is_claimed(store: Store) -> None:
    job = replace(new_job("j"), number=4, attempts=3, history=(PAST,))
    [added] = store.add([arriving(job)])
    assert statuses(store.save([replace(job, version=added.job.version)])) == ["accepted"]
    [claimed] = store.claim("w1", (), 5, LEASE)
    assert (claimed.number, claimed.attempts, claimed.history) == (4, 4, (PAST,))


@pytest.mark.doubles
def test_a_number_that_no_store_can_count_on_from_is_not_kept(store: Store) -> None:
    wrong = [2**53, 10**15 + 1, 2**63 - 1, -4]
    added = store.add([replace(new_job(f"j{n}"), number=n) for n in wrong])
    assert [each.job.number for each in added] == [1, 2, 3, 4]
    high = store.add([replace(new_job("high"), number=10**15), new_job("next")])
    assert [each.job.number for each in high] == [10**15, 10**15 + 1]
    assert sorted(store.get(["j-4", "high", "next"])) == ["high", "j-4", "next"]
