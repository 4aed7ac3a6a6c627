"""The slot file lists the attempts that a dead worker may have started; its lock shows that the worker is dead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from queuectl.worker.host import liveness, process_table
from queuectl.worker.host.liveness import dead_workers
from queuectl.worker.host.slot_file import (
    ALLOW_DETACHED,
    ENDED_CAPACITY,
    FREE,
    RUNNING,
    STARTING,
    Record,
    SlotFile,
)

WORKER = {"id": "w-1", "name": "ned", "host": "here"}
FIRST, SECOND = "1" * 32, "2" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return liveness.path_of(tmp_path, "w-1")


def test_a_record_is_written_before_the_spawn_and_completed_afterwards(path: Path) -> None:
    slots = SlotFile.create(path, WORKER, 2)
    slots.starting(1, FIRST, ALLOW_DETACHED, 100)
    assert slots.records() == [Record(STARTING, ALLOW_DETACHED, 0, 100, 0, FIRST)]
    slots.running(1, 4711, 101)
    assert slots.records() == [Record(RUNNING, ALLOW_DETACHED, 4711, 100, 101, FIRST)]
    slots.free(1)
    assert slots.records() == []


def test_an_ended_attempt_counts_as_started_until_it_is_forgotten(path: Path) -> None:
    slots = SlotFile.create(path, WORKER, 1)
    slots.starting(0, SECOND, 0, 1)
    slots.ended(FIRST)
    assert slots.attempts() == [SECOND, FIRST]
    slots.forget(FIRST)
    assert slots.attempts() == [SECOND]
    assert slots.results_left() == ENDED_CAPACITY


def test_another_mapping_sees_every_write(path: Path) -> None:
    writer = SlotFile.create(path, WORKER, 1)
    with path.open("r+b") as file:
        reader = SlotFile(file.fileno())
    writer.starting(0, FIRST, 0, 1)
    assert reader.attempts() == [FIRST]
    assert reader.header["name"] == "ned"
    assert reader.header["boot_id"] == process_table.boot_id()


def test_the_file_is_private_and_never_replaces_an_existing_file(path: Path, tmp_path: Path) -> None:
    SlotFile.create(path, WORKER, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        SlotFile.create(path, WORKER, 1)
    link = tmp_path / "link.slots"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        SlotFile.create(link, WORKER, 1)
    assert not (tmp_path / "elsewhere").exists()


def test_a_process_is_identified_by_pid_and_start_time() -> None:
    record = Record(RUNNING, 0, 500, 1000, 1002, FIRST)
    assert record.is_leader(process_table.Process(500, "S", 1, 500, 500, 1001))
    assert not record.is_leader(process_table.Process(500, "S", 1, 500, 500, 2000))
    assert not record.is_leader(process_table.Process(501, "S", 1, 500, 500, 1001))


def test_a_process_with_a_reused_pid_is_not_signalled() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        process = process_table.look(sleeper.pid)
        assert process is not None
        process_table.signal_process(process._replace(start=process.start - 1), 9)
        process_table.signal_process(process, 15)
        assert sleeper.wait(5) == -15


def test_a_locked_file_belongs_to_a_live_worker(path: Path, tmp_path: Path) -> None:
    SlotFile.create(path, WORKER, 1)
    held = liveness.lock(path)
    assert held is not None
    assert list(dead_workers(tmp_path)) == []
    os.close(held)
    (dead,) = dead_workers(tmp_path)
    assert (dead.worker_id, dead.name, dead.attempts) == ("w-1", "ned", [])
    assert list(dead_workers(tmp_path)) == [], "while it is being cleared up, it is nobody else's"
    dead.remove()
    dead.close()
    dead.close()
    assert list(tmp_path.glob("*")) == []


def test_a_file_removed_between_open_and_lock_is_not_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SlotFile.create(path, WORKER, 1)
    real = liveness.fcntl.flock

    def removed_meanwhile(file: int, operation: int) -> None:
        path.unlink()
        SlotFile.create(path, WORKER, 1)
        real(file, operation)

    monkeypatch.setattr(liveness.fcntl, "flock", removed_meanwhile)
    assert liveness.lock(path) is None


def test_an_incomplete_file_is_deleted(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"")
    assert list(dead_workers(tmp_path)) == []
    assert not path.exists()


@pytest.mark.parametrize("changed", [{"boot_id": "another"}, {"pid_namespace": 1}])
def test_no_process_is_killed_after_a_reboot_or_from_another_container(
    path: Path, tmp_path: Path, changed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(
        ["sleep", "60"], env={"QUEUECTL_ATTEMPT_ID": FIRST}, start_new_session=True
    ) as sleeper:
        slots = SlotFile.create(path, WORKER, 1)
        slots.starting(0, FIRST, 0, process_table.ticks() - 10)
        slots.running(0, sleeper.pid, process_table.ticks())
        (dead,) = dead_workers(tmp_path)
        with dead:
            dead._slots.header.update(changed)
            dead.boot_id = dead._slots.header["boot_id"]
            assert dead.kill() == []
            assert sleeper.poll() is None
        sleeper.kill()


def test_an_unrelated_process_with_a_reused_pid_is_not_killed(path: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        slots = SlotFile.create(path, WORKER, 1)
        slots.starting(0, FIRST, 0, process_table.ticks() - 100_000)
        slots.running(0, stranger.pid, process_table.ticks() - 99_000)
        (dead,) = dead_workers(tmp_path)
        with dead:
            assert dead.attempts == [FIRST]
            assert dead.kill() == []
        assert stranger.poll() is None
        stranger.kill()


def test_leftovers_are_found_by_start_time_session_and_variable(path: Path, tmp_path: Path) -> None:
    """A leader without the environment variable, its child in another group, and a distant process with the
    variable."""
    slots = SlotFile.create(path, WORKER, 2)
    before = process_table.ticks()
    leader = subprocess.Popen(
        ["bash", "-c", "set -m; sleep 60 & echo $!; wait"], env={"PATH": os.environ["PATH"]}, start_new_session=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    slots.starting(0, FIRST, 0, before)
    slots.running(0, leader.pid, process_table.ticks())
    slots.starting(1, SECOND, 0, before)  # the holder died before it could write the pid
    escapee = subprocess.Popen(["sleep", "60"], env={"QUEUECTL_ATTEMPT_ID": SECOND}, start_new_session=True)
    bystander = subprocess.Popen(
        ["sleep", "60"], env={"QUEUECTL_ATTEMPT_ID": "3" * 32}, start_new_session=True
    )
    (dead,) = dead_workers(tmp_path)
    with dead:
        assert dead.kill(within=5) == []
    assert (leader.wait(5), escapee.wait(5)) == (-9, -9)
    assert process_table.look(child) is None or process_table.look(child).state == "Z"  # type: ignore[union-attr]
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    leader.stdout.close()


def test_detached_processes_of_an_attempt_that_allows_them_stay(path: Path, tmp_path: Path) -> None:
    slots = SlotFile.create(path, WORKER, 1)
    slots.starting(0, FIRST, ALLOW_DETACHED, process_table.ticks())
    with subprocess.Popen(
        ["sleep", "60"], env={"QUEUECTL_ATTEMPT_ID": FIRST}, start_new_session=True
    ) as daemon:
        (dead,) = dead_workers(tmp_path)
        with dead:
            assert dead.kill(within=5) == []
        assert daemon.poll() is None
        daemon.kill()


def test_the_lock_is_released_when_its_process_ends(path: Path, tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from queuectl.worker.host import liveness; liveness.lock(Path(sys.argv[1])); print('locked', flush=True); input()"  # noqa: E501
    SlotFile.create(path, WORKER, 1)
    sources = Path(__file__).parents[2] / "src"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], env={"PYTHONPATH": str(sources)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        assert list(dead_workers(tmp_path)) == []
        process.kill()
        process.wait()
        (dead,) = dead_workers(tmp_path)
        dead.close()


def test_a_new_file_of_zeros_is_an_empty_table() -> None:
    assert FREE == 0


def test_an_attempt_ended_for_its_expired_lease_has_no_result(path: Path) -> None:
    slots = SlotFile.create(path, WORKER, 1)
    slots.ended(FIRST)
    slots.ended(SECOND, overdue=True)
    assert sorted(slots.attempts()) == sorted([FIRST, SECOND])
    assert [slots.has_result(attempt) for attempt in (FIRST, SECOND, "f" * 32)] == [True, False, False]
    slots.forget(FIRST)
    assert not slots.has_result(FIRST)
