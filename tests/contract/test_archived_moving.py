"""A job is moved between queue and archive while other processes change it: every verb sees exactly one job."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from contract.archived import Between, counted, ids, move_all
from contract.test_workers import worker
from factories import LEASE, in_state, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page
from queuectl.errors import StoreUnavailable
from queuectl.store.redis_archive import ArchivedStore, archiver, transfer
from queuectl.store.redis_archive import archive as archive_module


@pytest.fixture
def between(between_ground: Between, monkeypatch: pytest.MonkeyPatch) -> Between:
    """A queue and its archive, both empty. What one mover has begun, another takes over at once."""
    monkeypatch.setattr(transfer, "ABANDONED_MS", 0)
    return between_ground


@pytest.fixture
def store(between: Between) -> ArchivedStore:
    return between.fresh()


@pytest.fixture
def other(between: Between, store: ArchivedStore) -> ArchivedStore:
    return between.fresh()


def before(part: Any, verb: str, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something else happen just before the first call of a verb."""
    call, done = getattr(part, verb), []

    def later(*args: Any, **options: Any) -> Any:
        if not done:
            done.append(True)
            act()
        return call(*args, **options)

    monkeypatch.setattr(part, verb, later)


def retry(store: ArchivedStore, id: str) -> str:
    """Retry a job as the command does; returns the status of the store."""
    (job,) = store.get([id]).values()
    (said,) = store.save([lifecycle.retry(job, now=store.now(), force=True)])
    return said.status


def run_again(store: ArchivedStore, id: str) -> None:
    """Retry a job, and cancel it then, so that it ends with a newer version."""
    assert retry(store, id) == "accepted"
    (job,) = store.get([id]).values()
    assert statuses(store.save([lifecycle.cancel(job, by="test", reason=None, now=store.now())])) == [
        "accepted"
    ]


def is_one(between: Between, state: str, *wanted: str) -> None:
    """Each of these is there once, in that state, in the queue or in the archive, and nothing else is."""
    store = between.fresh()
    store.archiver.finish_all()
    move_all(store)
    assert ids(store) == sorted(wanted)
    assert counted(store) == ({state: len(wanted)} if wanted else {})
    assert sorted([*between.here(), *between.copies()]) == sorted(wanted)
    assert between.faults() == {}


@pytest.mark.parametrize("verb", ["put_output", "put"])
def test_a_job_deleted_before_it_is_copied_stays_deleted(
    between: Between, store: ArchivedStore, other: ArchivedStore, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])
    before(store._archive, verb, lambda: other.purge(Filter(), 9), monkeypatch)
    move_all(store)
    is_one(between, "completed")


def test_a_job_deleted_after_it_was_copied_stays_deleted(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])
    before(store.archiver, "_commit", lambda: other.purge(Filter(), 9), monkeypatch)
    move_all(store)
    is_one(between, "completed")


@pytest.mark.parametrize(("part", "verb"), [("archive", "put"), ("archiver", "_commit")])
def test_a_job_that_is_retried_while_it_is_moved_stays_in_the_queue(
    between: Between,
    store: ArchivedStore,
    other: ArchivedStore,
    part: str,
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.add([in_state("completed", "a")])
    where = store._archive if part == "archive" else store.archiver
    before(where, verb, lambda: retry(other, "a"), monkeypatch)
    move_all(store)
    is_one(between, "pending", "a")
    assert [job.id for job in store.claim("w1", (), 9, LEASE)] == ["a"]


def test_two_archivers_move_the_same_jobs_once(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", id) for id in "abc"])
    before(store._archive, "put", lambda: move_all(other), monkeypatch)
    move_all(store)
    is_one(between, "completed", "a", "b", "c")


def test_a_late_archiver_does_not_restore_a_deleted_job(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])

    def moved_and_deleted() -> None:
        move_all(other)
        assert other.purge(Filter(), 9) == ["a"]

    before(store._archive, "put", moved_and_deleted, monkeypatch)
    move_all(store)
    is_one(between, "completed")


def test_a_late_archiver_that_dies_does_not_restore_a_deleted_job(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])

    def moved_and_deleted() -> None:
        move_all(other)
        assert other.purge(Filter(), 9) == ["a"]

    before(store._archive, "put", moved_and_deleted, monkeypatch)
    monkeypatch.setattr(store.archiver, "_commit", lambda found: None)
    store.archiver.archive_batch()
    assert between.copies() == ["a"]
    assert ids(other) == []
    other.archiver._audit.repair()
    is_one(between, "completed")


def test_a_late_archiver_does_not_overwrite_a_newer_end(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])

    def moved_and_run_again() -> None:
        move_all(other)
        run_again(other, "a")
        move_all(other)

    before(store._archive, "put", moved_and_run_again, monkeypatch)
    move_all(store)
    is_one(between, "cancelled", "a")


def test_a_late_archiver_does_not_move_a_retried_job(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])

    def moved_and_retried() -> None:
        move_all(other)
        assert retry(other, "a") == "accepted"

    before(store._archive, "put", moved_and_retried, monkeypatch)
    move_all(store)
    is_one(between, "pending", "a")


def test_of_two_retries_of_an_archived_job_one_is_stale(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])
    move_all(store)
    (job,) = store.get(["a"]).values()
    again = lifecycle.retry(job, now=store.now(), force=True)
    before(store, "_restore", lambda: other.save([again]), monkeypatch)
    assert statuses(store.save([again])) == ["stale"]
    is_one(between, "pending", "a")


def test_a_retry_is_kept_although_the_job_ends_before_the_restore_ends(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])
    move_all(store)

    def welcomed_and_run() -> None:
        other.archiver.finish_all()
        (job,) = other.claim("w1", (), 9, LEASE)
        (job,) = other.get([job.id]).values()
        other.save([lifecycle.give_back(job, now=other.now())])
        (job,) = other.get([job.id]).values()
        other.save([lifecycle.cancel(job, by="test", reason=None, now=other.now())])
        move_all(other)
        run_again(other, "a")

    before(store.archiver, "finish_restores", welcomed_and_run, monkeypatch)
    assert retry(store, "a") == "accepted"
    is_one(between, "cancelled", "a")


def test_a_job_restored_during_a_read_is_found(
    store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])
    move_all(store)
    before(store._archive, "get", lambda: retry(other, "a"), monkeypatch)
    assert [job.state for job in store.get(["a"]).values()] == ["pending"]
    run_again_and_move(other)
    before(store._archive, "find", lambda: retry(other, "a"), monkeypatch)
    assert ids(store) == ["a"]


def run_again_and_move(store: ArchivedStore) -> None:
    (job,) = store.get(["a"]).values()
    store.save([lifecycle.cancel(job, by="test", reason=None, now=store.now())])
    move_all(store)


def test_a_job_moved_during_a_read_is_found_once(
    store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", id) for id in "abcdefg"])
    before(store._archive, "find", lambda: move_all(other), monkeypatch)
    assert ids(store) == list("abcdefg")


def test_an_archived_job_that_is_enqueued_again_exists(store: ArchivedStore) -> None:
    store.add([new_job("a", content="one")])
    store.save([lifecycle.cancel(store.get(["a"])["a"], by="test", reason=None, now=store.now())])
    move_all(store)
    added = store.add([new_job("a", content="one"), new_job("b")])
    assert [each.status for each in added] == ["existing", "added"]
    assert added[0].job.state == "cancelled"
    assert [each.status for each in store.add([new_job("a", content="two")])] == ["conflict"]


def test_large_output_is_moved_in_pieces(
    between: Between, store: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiver, "BYTES_AT_ONCE", 100)
    pieces: list[int] = []
    keep = store._archive.put_output
    monkeypatch.setattr(
        store._archive, "put_output", lambda chunks: (pieces.append(len(chunks)), keep(chunks))[1]
    )
    store.add([new_job("a"), new_job("b")])
    attempts = []
    for job in store.claim("w1", (), 9, LEASE):
        assert job.lease is not None
        attempts.append(job.lease.attempt_id)
        chunks = [
            Chunk(job.id, attempts[-1], n, 0, store.now(), 10 * n, b"0123456789") for n in range(1, 600)
        ]
        store.write_output(chunks)
        store.save(
            [
                lifecycle.cancel(
                    lifecycle.give_back(job, now=store.now()), by="t", reason=None, now=store.now()
                )
            ]
        )
    move_all(store)
    assert len(pieces) > 4
    assert max(pieces) <= 256
    for attempt_id in attempts:
        read = [chunk.n for n in (0, 256, 512) for chunk in store.read_output(attempt_id, n)]
        assert read == list(range(1, 600))
    is_one(between, "cancelled", "a", "b")


@pytest.mark.parametrize("others", [["a", "b"], []])
def test_a_job_too_large_for_the_archive_stays_and_delays_no_other(
    between: Between, store: ArchivedStore, others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_BYTES", 10_000)
    store.add([in_state("completed", "large", command="x" * 20_000)])
    store.add([in_state("completed", id) for id in others])
    move_all(store)
    assert (between.copies(), between.here(), between.unmoved()) == (others, ["large"], 0)
    assert ids(store) == [*others, "large"]
    store.archiver._audit.repair()
    assert between.unmoved() == 0
    assert between.faults() == {}
    assert sorted(store.purge(Filter(), 9)) == [*others, "large"]


def test_a_foreign_entry_in_the_stream_is_ignored(between: Between, store: ArchivedStore) -> None:
    store.add([in_state("completed", "a")])
    between.server.call("XADD", between.key("stream"), "*", "what", "ever")
    store.add([in_state("completed", "b")])
    move_all(store)
    assert (between.copies(), between.unmoved()) == (["a", "b"], 0)


def test_a_deleted_stream_is_created_again(between: Between, store: ArchivedStore) -> None:
    store.add([in_state("completed", "a")])
    between.server.call("DEL", between.key("stream"))
    store.add([in_state("completed", "b")])
    store.archiver._audit.repair()
    move_all(store)
    is_one(between, "completed", "a", "b")


def test_a_retry_succeeds_although_the_archive_fails_meanwhile(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])
    move_all(store)
    other.archiver._reconcile()  # so that no process starts an audit

    def away(_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(store._archive, "delete_below", away)
    assert retry(store, "a") == "accepted"
    assert store.claim("w1", (), 1, LEASE) == []
    other.archiver._reconcile()
    assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["a"]


def test_a_deletion_succeeds_although_the_archive_fails_meanwhile(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([in_state("completed", "a")])
    move_all(store)

    def away(_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(store._archive, "delete", away)
    assert store.purge(Filter(), 1) == ["a"]
    assert ids(store) == []
    other.archiver._reconcile()
    is_one(between, "completed")


def test_a_late_result_of_an_archived_job_is_stale_without_an_archive_call(
    between: Between, store: ArchivedStore
) -> None:
    store.add([new_job("a")])
    (running,) = store.claim("w1", (), 1, LEASE)
    (job,) = store.get(["a"]).values()
    store.save([lifecycle.give_back(job, now=store.now())])
    (job,) = store.get(["a"]).values()
    store.save([lifecycle.cancel(job, by="test", reason=None, now=store.now())])
    move_all(store)
    with closing(between._store()) as fresh:
        late = lifecycle.finish(running, report(now=store.now()), now=store.now(), random_number=0.5)
        assert statuses(fresh.save([late])) == ["stale"]
        assert fresh._opened is None


def test_an_old_copy_of_a_live_job_is_neither_listed_nor_counted(
    between: Between, store: ArchivedStore
) -> None:
    store.add([in_state("completed", f"p{n}", tags=("red",)) for n in range(6)])
    move_all(store)
    stale = between.past.base["jobs"].find_one({"id": "p0"})
    assert stale is not None
    assert retry(store, "p0") == "accepted"
    between.past.base["jobs"].insert_one(stale)
    for limit in (1, 2, 4):
        for sort in ("created", "updated", "next"):
            found, after = list[str](), None
            while True:
                page = store.find(Filter(), Page(limit=limit, sort=sort, after=after))  # type: ignore[arg-type]
                found += [job.id for job in page.jobs]
                after = page.next
                if after is None:
                    break
            assert sorted(found) == [f"p{n}" for n in range(6)], (limit, sort)
    assert counted(store, Filter(tag="red")) == {"completed": 5, "pending": 1}


def test_reading_empty_output_of_a_running_job_does_not_call_the_archive(
    between: Between, store: ArchivedStore
) -> None:
    store.add([new_job("a")])
    (running,) = store.claim("w1", (), 1, LEASE)
    assert store.read_output(running.attempt_id or "", 0) == []
    assert store._opened is None


def test_a_worker_that_closes_its_store_archives_the_ended_jobs(
    between: Between, store: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        store.archiver, "_reconcile", store.archiver._stopped.wait
    )  # so that no job is moved before
    store.heartbeat(worker("w1"))
    store.add([in_state("completed", f"j{n}") for n in range(450)])
    store.close()
    assert (len(between.copies()), between.here(), between.unmoved()) == (450, [], 0)


def test_a_command_that_closes_its_store_archives_no_job(between: Between, store: ArchivedStore) -> None:
    store.add([in_state("completed", "a")])
    store.close()
    assert between.unmoved() == 1


def test_saving_a_retried_archived_job_returns_the_stored_job(store: ArchivedStore) -> None:
    store.add([in_state("completed", "a")])
    move_all(store)
    [answer] = store.save([lifecycle.retry(store.get(["a"])["a"], now=store.now(), force=True)])
    assert answer.job == store.get(["a"])["a"]
