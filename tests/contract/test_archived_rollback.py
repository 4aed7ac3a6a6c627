"""A queue that was restored to an earlier state, from a backup or a replica, while its archive was not.

Nothing that the archive has is lost, no number and no version is given twice, and what ran in the time that Redis has
lost and is run again ends for good once more.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contract.archived import Between, counted, ids, move_all
from factories import LEASE, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.store.protocol import AttemptRef
from queuectl.store.redis_archive import ArchivedStore
from servers.mongo import GivenMongo, MongoServer
from servers.redis import RedisServer


class Backup:
    """All files of a server at one moment."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self._server, self._folder = server, folder
        server.stop()
        shutil.copytree(server.directory / "data", folder)
        server.start()

    def restore(self) -> None:
        """Set the server back, as if nothing had happened since."""
        data = self._server.directory / "data"
        self._server.kill()
        shutil.rmtree(data)
        shutil.copytree(self._folder, data)
        self._server.start()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis that may be stopped and set back."""
    with closing(RedisServer()) as server:
        server.start()
        yield server


@pytest.fixture
def between(server: RedisServer, mongo_server: MongoServer | GivenMongo) -> Iterator[Between]:
    with closing(Between(server, mongo_server)) as ground:
        yield ground


def end(store: ArchivedStore, job: Job, exit_code: int = 0) -> None:
    """Let the command of the job end."""
    ended = lifecycle.finish(
        job, report(exit_code=exit_code, now=store.now()), now=store.now(), random_number=0.5
    )
    assert statuses(store.save([ended])) == ["accepted"]


def work(store: ArchivedStore, *wanted: str, exit_code: int = 0) -> None:
    """Run what waits, and hand it over."""
    jobs = store.claim("w1", (), 99, LEASE)
    assert sorted(job.id for job in jobs) == sorted(wanted)
    for job in jobs:
        end(store, job, exit_code)
    store.archiver._reconcile()
    move_all(store)


def test_jobs_archived_after_the_backup_are_not_lost(
    between: Between, server: RedisServer, tmp_path: Path
) -> None:
    store = between.fresh()
    store.add([new_job("early")])
    work(store, "early")
    backup = Backup(server, tmp_path / "backup")
    store = between.fresh()
    store.add([new_job("late1"), new_job("late2")])
    work(store, "late1", "late2")
    backup.restore()
    store = between.fresh()
    store.archiver._reconcile()
    assert ids(store) == ["early", "late1", "late2"]
    assert counted(store) == {"completed": 3}
    (added,) = store.add([new_job("new")])
    assert added.job.number == 4
    work(store, "new")
    assert between.faults() == {}


def test_a_job_that_ran_after_the_backup_runs_again_with_a_newer_end(
    between: Between, server: RedisServer, tmp_path: Path
) -> None:
    store = between.fresh()
    store.add([new_job("a", max_retries=0)])
    backup = Backup(server, tmp_path / "backup")
    store = between.fresh()
    work(store, "a")
    backup.restore()
    store = between.fresh()
    store.archiver._reconcile()
    assert counted(store) == {"pending": 1}
    work(store, "a", exit_code=1)
    assert [(job.state, job.exit_code) for job in store.get(["a"]).values()] == [("dead", 1)]
    assert between.copies() == ["a"]
    assert between.faults() == {}


def test_the_result_of_a_lost_claim_is_refused(between: Between, server: RedisServer, tmp_path: Path) -> None:
    store = between.fresh()
    store.add([new_job("a")])
    backup = Backup(server, tmp_path / "backup")
    old = between.fresh()
    (lost,) = old.claim("w1", (), 1, LEASE)
    backup.restore()
    new = between.fresh()
    (again,) = new.claim("w2", (), 1, LEASE)
    assert again.version > lost.version
    assert old.renew("w1", [], LEASE) == []
    late = lifecycle.finish(lost, report(now=old.now()), now=old.now(), random_number=0.5)
    assert statuses(between.fresh().save([late])) == ["stale"]
    end(new, again)


def test_a_reused_number_costs_the_older_job_only_its_number(
    between: Between, server: RedisServer, tmp_path: Path
) -> None:
    store = between.fresh()
    store.add([new_job("first")])
    work(store, "first")
    backup = Backup(server, tmp_path / "backup")
    store = between.fresh()
    store.add([new_job("old")])
    work(store, "old")
    backup.restore()
    store = between.fresh()
    store.expired_leases(1)
    server.call("DEL", between.key("unsure"))  # otherwise the store would call the archive
    (added,) = store.add([new_job("new")])
    assert added.job.number == 2
    work(store, "new")
    numbers = {job.id: job.number for job in store.get(["first", "old", "new"]).values()}
    assert numbers["first"] == 1
    assert numbers["new"] == 2
    assert numbers["old"] > 2
    assert ids(store) == ["first", "new", "old"]
    store.purge(Filter(id_prefix="new"), 1)
    assert ids(store) == ["first", "old"]
    assert between.faults() == {}


def test_a_lost_job_that_is_enqueued_again_replaces_its_archived_copy(
    between: Between, server: RedisServer, tmp_path: Path
) -> None:
    store = between.fresh()
    store.add([new_job("first")])
    backup = Backup(server, tmp_path / "backup")
    store = between.fresh()
    store.add([new_job("a")])
    work(store, "first", "a")
    backup.restore()
    store = between.fresh()
    assert [added.status for added in store.add([new_job("a")])] == ["added"]
    work(store, "first", "a")
    assert ids(store) == ["a", "first"]
    assert between.copies() == ["a", "first"]
    assert between.faults() == {}


def test_no_number_is_reused_before_the_first_audit(
    between: Between, server: RedisServer, tmp_path: Path
) -> None:
    store = between.fresh()
    store.add([new_job("first")])
    backup = Backup(server, tmp_path / "backup")
    store = between.fresh()
    store.add([new_job("old")])
    work(store, "first", "old")
    backup.restore()
    (added,) = between.fresh().add([new_job("new")])
    assert added.job.number == 3


def test_without_the_archive_the_job_counter_is_raised_by_a_million(
    between: Between, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = between.fresh()
    store.add([new_job("first")])
    server.restart()
    store = between.fresh()
    monkeypatch.setattr(store, "_max_number", lambda: None)
    first, second = store.add([new_job("a"), new_job("b")])
    assert (first.job.number, second.job.number) == (1_000_002, 1_000_003)


def test_versions_increase_although_the_clock_of_the_next_server_is_behind(
    between: Between, server: RedisServer
) -> None:
    store = between.fresh()
    store.add([new_job("a")])
    ahead = 2**52
    server.call("SET", between.key("base"), str(ahead))
    (first,) = store.claim("w1", (), 1, LEASE)
    server.restart()
    store = between.fresh()
    (again,) = store.renew("w1", [AttemptRef("a", first.attempt_id or "")], LEASE)
    assert again.version >= ahead + 2**32 > first.version


def test_an_archiver_keeps_the_only_copy_after_a_change_of_history(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = between.fresh()
    store.add([new_job("a")])
    (running,) = store.claim("w1", (), 1, LEASE)
    end(store, running)

    def forget(found: object) -> None:
        keys = between.server.call("KEYS", f"{between.tag}:*")
        kept = (b":archive", b":schema", b":history")
        between.server.call("DEL", *[key for key in keys if not key.endswith(kept)])
        leave(found)

    leave = store.archiver._commit
    monkeypatch.setattr(store.archiver, "_commit", forget)
    store.archiver.archive_batch()
    assert between.copies() == ["a"]
    store = between.fresh()
    store.archiver._audit.repair()
    assert ids(store) == ["a"]
    assert between.faults() == {}
