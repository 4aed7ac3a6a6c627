"""The database file is deleted, moved or replaced under a running worker."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.harness import QUEUECTL, Place, WorkerProcess, alive
from facts import eventually

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])
ENDS = ("", "-wal", "-shm")


def database(place: Place) -> Path:
    return place.root / "data/queuectl/queue.db"


def forget_handle(place: Place) -> None:
    """The test's own handle is on the old file too."""
    if place._store is not None:
        place._store.close()
        place._store = None


@pytest.fixture
def worker(place: Place) -> WorkerProcess:
    place.quick()
    return place.start_worker("--name", "w")


def said(worker: WorkerProcess, words: str) -> bool:
    return words in worker.log.read_text()


@pytest.mark.parametrize("ends", [ENDS, ("",)], ids=["with its logs", "alone"])
def test_after_a_deletion_the_worker_serves_the_new_file(
    place: Place, worker: WorkerProcess, ends: tuple[str, ...]
) -> None:
    forget_handle(place)
    for end in ends:
        database(place).with_name(f"queue.db{end}").unlink()
    place.enqueue("--id", "new", "true")
    place.until("new", "completed", within=20)
    eventually(lambda: said(worker, "another file is there"))
    assert [w["name"] for w in place.json("status")["workers"]] == ["w"]


def test_a_moved_database_keeps_the_jobs_in_its_log(place: Place, worker: WorkerProcess) -> None:
    place.enqueue("--id", "old", "--delay", "1h", "true")
    forget_handle(place)
    moved = database(place).with_name("moved.db")
    database(place).rename(moved)
    place.enqueue("--id", "new", "true")
    place.until("new", "completed", within=20)
    [log] = database(place).parent.glob("queue.db-wal.left-*")
    log.rename(f"{moved}-wal")
    shown = place.json("--store", f"sqlite:///{moved}", "show", "old")
    assert shown["job"]["state"] == "pending"
    assert alive(worker.pid)


def test_a_result_is_stored_when_the_moved_file_is_back(place: Place, worker: WorkerProcess) -> None:
    place.enqueue("--id", "j", "while [ ! -e go ]; do sleep 0.05; done")
    place.until("j", "processing")
    forget_handle(place)
    away = place.root / "away"
    database(place).parent.rename(away)
    eventually(lambda: said(worker, "waiting for the file, to deliver the results of j"), within=20)
    (place.work / "go").touch()
    away.rename(database(place).parent)
    assert place.until("j", "completed", within=20).attempts == 1


@pytest.mark.waits
def test_without_results_and_without_the_file_the_worker_ends_with_an_error(
    place: Place, worker: WorkerProcess
) -> None:
    forget_handle(place)
    for end in ENDS:
        database(place).with_name(f"queue.db{end}").unlink()
    assert worker.wait(40) == 1
    assert said(worker, "leaving: ")
    assert said(worker, "nothing is left to deliver to it")
    assert not database(place).exists()
    assert not list(Path(f"{database(place)}-workers").glob("*.slots"))


@pytest.mark.waits
def test_a_file_that_is_not_a_queue_is_not_opened(place: Place, worker: WorkerProcess) -> None:
    forget_handle(place)
    for end in ENDS:
        database(place).with_name(f"queue.db{end}").unlink()
    database(place).write_text("notes\n" * 1000)
    assert worker.wait(40) == 1
    assert said(worker, "is not a database, and nothing is left to deliver to it")
    assert database(place).read_text() == "notes\n" * 1000


def test_a_waiting_command_reports_the_deleted_file(place: Place) -> None:
    place.enqueue("--id", "j", "--delay", "1h", "true")
    with subprocess.Popen(
        [*QUEUECTL, "wait", "j"], env=place.env, cwd=place.work, stderr=subprocess.PIPE, text=True
    ) as waiting:
        try:
            eventually(lambda: f"{database(place)}-wal" in open_files(waiting.pid), what="the command waits")
            for end in ENDS:
                database(place).with_name(f"queue.db{end}").unlink()
            _, error = waiting.communicate(timeout=20)
        finally:
            waiting.kill()
    assert (waiting.returncode, "was deleted or replaced" in error) == (5, True), error


def open_files(pid: int) -> set[str]:
    found = set[str]()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the process closed it just now
            found.add(os.readlink(link))
    return found
