"""The file that lists the commands that a worker may have started, for the guard and for later workers.

The file has a header that never changes, a table of running commands (one record per slot), and a list of ended,
unacknowledged attempts. The holder writes it through shared memory, which costs no system call per job. The content
survives the death of all processes of the worker. It need not survive a reboot, because the commands do not either.

Invariant: a command that is not in the file was never started. A record is begun before the spawn and completed after
it. Otherwise a holder that is killed between spawn and record would leave a command that no process kills, and the
job would run a second time meanwhile. Test: `test_a_crash_between_spawn_and_record_leaves_no_process`.
"""

import json
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from queuectl.worker.host import process_table
from queuectl.worker.protocol import PROTOCOL

FREE, STARTING, RUNNING = 0, 1, 2
ALLOW_DETACHED = 1
ENDED_CAPACITY = 4096
"""Minimum number of results that may wait for an acknowledgement. When the list is full, no command is started."""

_HEADER = 4096
_LENGTHS = struct.Struct("=IIII")  # length of the JSON, slots, capacity for ended attempts, reserved
_RECORD = struct.Struct("=BBxxiQQ40s")  # state, flags, pid, born between these two ticks, attempt id
_PID, _BORN_BEFORE = struct.Struct("=i"), struct.Struct("=Q")
_PID_AT, _BORN_BEFORE_AT = 4, 16
_ID = 40
_OVERDUE = b"\1"
"""The last byte of an entry in the list of ended attempts, if the attempt is overdue. (An id of 40 bytes needs that
byte itself.)"""


class Record(NamedTuple):
    """One command that is starting or running. `pid` is 0 while the command is spawned."""

    state: int
    flags: int
    pid: int
    born_after: int
    born_before: int
    attempt_id: str

    def is_leader(self, process: process_table.Process) -> bool:
        """Whether this process is the command's leader, and not a later process with the same pid."""
        born_in_time = self.born_after - 1 <= process.start <= self.born_before + 1
        return process.pid == self.pid and born_in_time


def directory_identity(directory: Path) -> str:
    """The identity of a directory, and of the boot and the pid namespace in which it is used. A path is not enough."""
    found = os.stat(directory)
    return f"{found.st_dev}:{found.st_ino}:{process_table.here()}"


class SlotFile:
    """The mapped file. The holder is its only writer; the guard reads its own mapping of the same memory."""

    def __init__(self, file: int) -> None:
        self._map = mmap.mmap(file, 0, mmap.MAP_SHARED)
        length, self.count, self._ended_count, _ = _LENGTHS.unpack_from(self._map, 0)
        if not 0 < length <= _HEADER - _LENGTHS.size or len(self._map) < _size(self.count, self._ended_count):
            raise ValueError("not a whole slots file")
        self.header: dict[str, Any] = json.loads(self._map[_LENGTHS.size : _LENGTHS.size + length])
        self._ended = _HEADER + self.count * _RECORD.size
        self._free_entries = list(range(self._ended_count - 1, -1, -1))
        self._entry_of: dict[str, int] = {}

    @classmethod
    def create(cls, path: Path, worker: dict[str, Any], count: int) -> "SlotFile":
        """Create a new private file. Follows no link, and fails if the file exists."""
        header = worker | {
            "pid": os.getpid(),
            "start": process_table.ticks(),
            "boot_id": process_table.boot_id(),
            "pid_namespace": process_table.pid_namespace(),
            "directory": directory_identity(path.parent),
            "protocol": PROTOCOL,
        }
        text = json.dumps(header).encode()
        if len(text) > _HEADER - _LENGTHS.size:
            raise ValueError("the worker's name is too long")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Zeros are written instead of extending the file: a hole would kill the holder with SIGBUS if the disk is
            # full.
            ended = max(ENDED_CAPACITY, 2 * count)
            os.pwrite(file, bytes(_size(count, ended)), 0)
            os.pwrite(file, _LENGTHS.pack(len(text), count, ended, 0) + text, 0)
            return cls(file)
        finally:
            os.close(file)

    def starting(self, slot: int, attempt_id: str, flags: int, born_after: int) -> None:
        """Begin a record before the spawn. Its state is written last, so that an incomplete record does not count."""
        at = _HEADER + slot * _RECORD.size
        _RECORD.pack_into(self._map, at, FREE, flags, 0, born_after, 0, attempt_id.encode())
        self._map[at] = STARTING

    def running(self, slot: int, pid: int, born_before: int) -> None:
        """Complete the record with the identity of the leader."""
        at = _HEADER + slot * _RECORD.size
        _BORN_BEFORE.pack_into(self._map, at + _BORN_BEFORE_AT, born_before)
        _PID.pack_into(self._map, at + _PID_AT, pid)
        self._map[at] = RUNNING

    def free(self, slot: int) -> None:
        """Delete the record, because no process of the command is left or the command could not be started."""
        self._map[_HEADER + slot * _RECORD.size] = FREE

    def ended(self, attempt_id: str, *, overdue: bool = False) -> None:
        """List an attempt among those that have ended until `forget`: its result is not in the store yet.

        `overdue`: the holder ended the command with its lease, so another worker may claim the job.
        """
        entry = self._free_entries.pop()
        self._entry_of[attempt_id] = entry
        at = self._ended + entry * _ID
        mark = _OVERDUE if overdue else b"\0"
        self._map[at : at + _ID] = attempt_id.encode().ljust(_ID - 1, b"\0").ljust(_ID, mark)

    def forget(self, attempt_id: str) -> None:
        """Remove an attempt from the list, because its result is in the store."""
        entry = self._entry_of.pop(attempt_id)
        at = self._ended + entry * _ID
        self._map[at : at + _ID] = bytes(_ID)
        self._free_entries.append(entry)

    def results_left(self) -> int:
        """How many more attempts can end before the list of ended attempts is full."""
        return len(self._free_entries)

    def records(self) -> list[Record]:
        """The records of commands that are starting or running."""
        return [record for record in map(self._record, range(self.count)) if record.state != FREE]

    def attempts(self) -> list[str]:
        """Every attempt that may have been started and whose result may be missing in the store."""
        found = [record.attempt_id for record in self.records()]
        found += [_text(raw.removesuffix(_OVERDUE)) for raw in self._ended_ones()]
        return list(dict.fromkeys(attempt_id for attempt_id in found if attempt_id))

    def has_result(self, attempt_id: str) -> bool:
        """Whether an attempt has ended by itself and its result is not in the store yet."""
        return any(_text(raw) == attempt_id for raw in self._ended_ones())

    def _ended_ones(self) -> Iterator[bytes]:
        ends = range(self._ended, _size(self.count, self._ended_count), _ID)
        return (self._map[at : at + _ID] for at in ends)

    def close(self) -> None:
        """Unmap the memory. The file is not deleted."""
        self._map.close()

    def _record(self, slot: int) -> Record:
        state, flags, pid, after, before, attempt_id = _RECORD.unpack_from(
            self._map, _HEADER + slot * _RECORD.size
        )
        return Record(state, flags, pid, after, before, _text(attempt_id))


def _size(count: int, ended: int) -> int:
    return _HEADER + count * _RECORD.size + ended * _ID


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii", "replace")
