"""Whether a holder of this host is alive: a holder locks its slot file, and the kernel frees the lock at its death.

Invariant: if a process gets the lock of a slot file, the holder is dead, and only this process cleans up after it. No
clock is involved: a holder that is stopped for hours still has its lock. With a clock, a suspended worker would count
as dead, and its jobs would run a second time while its commands live (guarantee G4).
Tests: `test_slot_file.py`, `test_a_stopped_worker_keeps_commands_that_run_on_this_host`.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from queuectl.worker.host import cleanup, process_table, progress_pipe, result_file, script_file
from queuectl.worker.host.slot_file import SlotFile, directory_identity
from queuectl.worker.protocol import Fields

SUFFIX = ".slots"
_CONTENDED = (errno.EACCES, errno.EAGAIN)


def path_of(directory: Path, worker_id: str) -> Path:
    """The path of a worker's slot file."""
    return directory / (worker_id + SUFFIX)


def lock(path: Path) -> int | None:
    """Lock a file until the returned descriptor is closed. Returns None if a living holder has the lock."""
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _still_linked(file, path):
            return file
    except OSError as error:
        if error.errno not in _CONTENDED:
            os.close(file)
            raise
    os.close(file)
    return None


def publish(unlocked: Path, path: Path) -> int:
    """Lock a new file and then rename it, so that a file with the final name is locked as long as its holder lives."""
    try:
        held = lock(unlocked)
        if held is None:
            raise FileExistsError(errno.EEXIST, "another worker has this id", str(path))
        os.link(unlocked, path)
        return held
    finally:
        unlocked.unlink(missing_ok=True)


def _is_held(file: int) -> bool:
    """Whether a living holder has the lock of this file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _CONTENDED:
            raise
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _still_linked(file: int, path: Path) -> bool:
    """Whether the path still refers to this open file. Another worker may have deleted the file meanwhile."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), named)


class DeadWorker:
    """A dead worker whose slot file this process has locked: its commands, and the steps of the cleanup.

    for dead in dead_workers(directory):
        with dead:
            dead.kill(within=5.0)
            recover(dead.worker_id, dead.attempts)
            dead.remove()
    """

    def __init__(self, path: Path, lock: int, slots: SlotFile) -> None:
        self._path, self._lock, self._slots = path, lock, slots
        self.worker_id: str = slots.header["id"]
        self.name: str = slots.header["name"]
        self.host: str = slots.header["host"]
        self.boot_id: str = slots.header["boot_id"]
        self.attempts: list[str] = slots.attempts()

    def is_over(self, *, one_host: bool) -> bool:
        """Whether this worker is certainly dead and all its processes can be found and ended.

        A free lock proves the death only in the directory in which the worker took the lock: a copy of the directory
        has other locks, and so has a network disk on each host. In another pid namespace the processes cannot be
        found. `one_host`: the store is a file of this host, so a restart of the host has ended all processes.
        """
        if self.boot_id != process_table.boot_id():
            return one_host
        known = self._slots.header.get("directory")
        ours = directory_identity(self._path.parent)
        if known is None:  # an older version wrote the file
            return self.may_have_processes
        same_directory = known.split(":")[:2] == ours.split(":")[:2]
        return same_directory and (self.may_have_processes or not self._slots.records())

    @property
    def may_have_processes(self) -> bool:
        """Whether its processes may still run and are visible. False after a reboot, or in another container."""
        same_namespace = bool(self._slots.header["pid_namespace"] == process_table.pid_namespace())
        return self.boot_id == process_table.boot_id() and same_namespace

    def kill(self, within: float = 5.0) -> list[int]:
        """End all processes of its commands. Returns the pids that are left after `within` seconds."""
        if not self.may_have_processes:
            return []
        return cleanup.kill(self._slots.records(), within=within)

    @property
    def has_results(self) -> bool:
        """Whether the worker has left results that it could not deliver."""
        return result_file.path_of(self._path.parent, self.worker_id).exists()

    def results(self) -> list[tuple[Fields, bytes]]:
        """The messages that the worker could not deliver. Raises MalformedFrame."""
        return result_file.read(result_file.path_of(self._path.parent, self.worker_id))

    def forget_results(self) -> None:
        """Delete the recorded results, so that they are not recorded and logged again in each round."""
        result_file.remove(result_file.path_of(self._path.parent, self.worker_id))

    def remove(self) -> None:
        """Delete the slot file, the result file, the pipe and the script files of the worker. Idempotent."""
        result_file.remove(result_file.path_of(self._path.parent, self.worker_id))
        for attempt_id in self.attempts:
            script_file.path_of(self._path.parent, attempt_id).unlink(missing_ok=True)
        progress_pipe.path_of(self._path.parent, self.worker_id).unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock. If the file was not removed, the next round finds it again."""
        if self._lock >= 0:
            self._slots.close()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "DeadWorker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def runs_here(directory: Path, worker_id: str, attempt_id: str) -> bool:
    """Whether an attempt of a worker of this host runs: its leader is in the slot file and in the process table.

    In another pid namespace the leader is not visible: such an attempt counts as running while its holder lives.
    """
    with _open(directory, worker_id) as (slots, is_held):
        if slots is None:
            return False
        records = [record for record in slots.records() if record.attempt_id == attempt_id]
        if slots.header["pid_namespace"] != process_table.pid_namespace():
            return is_held and bool(records)
        return any(
            (process := process_table.look(record.pid)) and record.is_leader(process) for record in records
        )


def keeps_result(directory: Path, worker_id: str, attempt_id: str) -> bool:
    """Whether an attempt of a worker of this host has ended and its result will be recorded.

    The living holder has the result, or a dead holder has left it in a file.
    """
    with _open(directory, worker_id) as (slots, is_held):
        if slots is not None and is_held and slots.has_result(attempt_id):
            return True
    return result_file.has_result(directory, worker_id, attempt_id)


@contextmanager
def _open(directory: Path, worker_id: str) -> Iterator[tuple[SlotFile | None, bool]]:
    """The slot file of a worker (None if it is missing or incomplete), and whether its holder lives."""
    try:
        file = os.open(path_of(directory, worker_id), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None, False
        return
    try:
        slots, is_held = SlotFile(file), _is_held(file)
    except (ValueError, KeyError):
        yield None, False
        return
    finally:
        os.close(file)
    try:
        yield slots, is_held
    finally:
        slots.close()


def dead_workers(directory: Path) -> Iterator[DeadWorker]:
    """The workers of this directory whose holder is dead. The caller must close each of them."""
    for path in sorted(directory.glob("*" + SUFFIX)):
        if dead := _open_dead(path):
            yield dead


def _open_dead(path: Path) -> DeadWorker | None:
    try:
        held = lock(path)
    except FileNotFoundError:
        return None
    if held is None:
        return None
    try:
        return DeadWorker(path, held, SlotFile(held))
    except (ValueError, KeyError):
        # The holder died before the file was complete, so it cannot have started a command.
        path.unlink(missing_ok=True)
        os.close(held)
        return None
