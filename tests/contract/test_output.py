"""`write_output` and `read_output`: writes are fenced by the attempt and idempotent by the number of the chunk."""

from datetime import timedelta

import pytest

from contract.grounds import SteppedClock, race
from factories import LEASE, NOW, new_job, report
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.output import STDERR, Chunk, Trim
from queuectl.domain.query import Filter
from queuectl.store.protocol import Store


@pytest.fixture
def job(store: Store) -> Job:
    store.add([new_job("a")])
    return store.claim("w1", (), 1, LEASE)[0]


def chunk(job: Job, n: int, data: bytes = b"x", attempt_id: str | None = None) -> Chunk:
    at = NOW + timedelta(microseconds=n)
    return Chunk(job.id, attempt_id or job.attempt_id or "", n, STDERR, at, (n - 1) * len(data), data)


def numbers(store: Store, job: Job, after: int = 0, limit: int = 256) -> list[int]:
    return [chunk.n for chunk in store.read_output(job.attempt_id or "", after, limit)]


@pytest.mark.doubles
def test_chunks_are_read_back_byte_for_byte_and_in_order(store: Store, job: Job) -> None:
    chunks = [chunk(job, n, bytes(range(256)) + b"\xff\x00") for n in (1, 2, 3)]
    assert store.write_output(chunks[1:]) == set()
    assert store.write_output(chunks[:1]) == set()
    assert store.read_output(job.attempt_id or "", 0) == chunks


def test_reading_continues_after_a_given_chunk(store: Store, job: Job) -> None:
    store.write_output([chunk(job, n) for n in range(1, 8)])
    assert numbers(store, job, 0, 3) == [1, 2, 3]
    assert numbers(store, job, 3, 3) == [4, 5, 6]
    assert numbers(store, job, 7) == []


def test_an_attempt_without_output_returns_no_chunk(store: Store) -> None:
    assert store.read_output("f" * 32, 0) == []


def test_a_repeated_chunk_is_stored_once(store: Store, job: Job) -> None:
    assert store.write_output([chunk(job, 1), chunk(job, 1)]) == set()
    assert store.write_output([chunk(job, 1), chunk(job, 2)]) == set()
    assert numbers(store, job) == [1, 2]


def test_only_the_attempt_with_the_lease_may_write(store: Store, job: Job) -> None:
    older = "0" * 32
    mine = chunk(job, 1)
    nobodys = Chunk("nobody", "1" * 32, 1, 0, NOW, 0, b"x")
    assert store.write_output([chunk(job, 1, attempt_id=older), mine, nobodys]) == {older, "1" * 32}
    assert store.read_output(older, 0) == []
    assert numbers(store, job) == [1]


def test_an_attempt_that_has_ended_may_not_write(store: Store, job: Job) -> None:
    store.write_output([chunk(job, 1)])
    store.save([lifecycle.finish(job, report(), now=NOW, random_number=0.5)])
    assert store.write_output([chunk(job, 2)]) == {job.attempt_id}
    assert numbers(store, job) == [1]


def test_the_chunks_named_by_a_trim_are_deleted(store: Store, job: Job) -> None:
    store.write_output([chunk(job, n) for n in range(1, 6)])
    trim = Trim(job.id, job.attempt_id or "", after=1, before=7)
    assert store.write_output([chunk(job, n) for n in (6, 7)], [trim]) == set()
    assert numbers(store, job) == [1, 7]


def test_a_trim_is_fenced_like_a_chunk(store: Store, job: Job) -> None:
    store.write_output([chunk(job, n) for n in (1, 2, 3)])
    store.save([lifecycle.finish(job, report(), now=NOW, random_number=0.5)])
    assert store.write_output([], [Trim(job.id, job.attempt_id or "", 1, 3)]) == {job.attempt_id}
    assert numbers(store, job) == [1, 2, 3]


def test_an_empty_write_refuses_no_attempt(store: Store) -> None:
    assert store.write_output([]) == set()


def test_output_is_deleted_with_its_job(store: Store, job: Job) -> None:
    store.add([new_job("b")])
    [other_job] = store.claim("w1", (), 1, LEASE)
    store.write_output([chunk(job, 1), chunk(other_job, 1)])
    store.save([lifecycle.finish(job, report(), now=NOW, random_number=0.5)])
    assert store.purge(Filter(), 10) == ["a"]
    assert numbers(store, job) == []
    assert numbers(store, other_job) == [1]


def test_concurrent_writes_of_the_same_chunks_store_them_once(store: Store, other: Store, job: Job) -> None:
    chunks = [chunk(job, n) for n in range(1, 21)]
    race(*[lambda h=h: h.write_output(chunks) for h in (store, other) * 3])
    assert numbers(store, job) == list(range(1, 21))


def test_a_writer_whose_attempt_is_lost_is_refused_from_then_on(
    store: Store, other: Store, job: Job, clock: SteppedClock
) -> None:
    def write() -> list[bool]:
        return [not store.write_output([chunk(job, n)]) for n in range(1, 40)]

    def lose() -> None:
        other.save([lifecycle.lose(job, report("lost"), now=clock.now())])

    accepted, _ = race(write, lose)
    assert accepted == sorted(accepted, reverse=True)
    assert numbers(store, job) == list(range(1, sum(accepted) + 1))
