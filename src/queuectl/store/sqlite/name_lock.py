"""A lock that lets a database file be open under one name only.

The invariant: all programs that have a database open on one host opened it by the same name. SQLite keeps its log
beside the name by which a database was opened. Under a second name (a hard link, or a file that is mounted without its
directory) there is another log, or none: each side misses what the other has written, and both corrupt the file.

Each process that has a database open holds a shared lock on one byte far beyond the end of the file. The name decides
which byte: the device and inode of the directory, and the last part of the path. The kernel keeps locks by file and not
by name, for all containers of a host. So a process that locks its byte and finds another locked byte has opened the
file by a second name, and refuses it. Shown by tests/contract/test_sqlite_names.py.
"""

import binascii
import errno
import os
import struct
import sys
import threading
from collections.abc import Iterable

from queuectl.errors import StoreUnusable

if sys.platform == "linux":  # on other systems hard links are refused, and no other check is possible
    import fcntl

_BEHIND = 1 << 60
_BYTES = 1 << 32
_FLOCK = struct.Struct("hhqqi4x")
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_TWO_LIBRARIES = "two SQLite libraries in one process undo each other's locks"
_HINT = "use the name by which it was created; let a container mount the directory, not the file"

# Closing any descriptor of a file drops all POSIX locks that this process has on it, including SQLite's. So each file
# is opened once for all handles of this process, and closed after the last of their connections.
_taken: dict[tuple[int, int], "NameLock"] = {}
_foreign: set[tuple[int, int]] = set()
"""Files that a program has used in this process through Python's `sqlite3`, which is another SQLite library."""
_taking = threading.Lock()


class NameLock:
    """The lock for the name under which this process has a database open. Free it after closing the last connection."""

    def __init__(self, path: str, file: int, key: tuple[int, int], byte: int) -> None:
        self.path, self.users = path, 1
        self._file, self._key, self._byte = file, key, byte

    def free(self) -> None:
        """Called when a handle has closed its connections. Releases the lock if it was the last handle."""
        with _taking:
            self.users -= 1
            if not self.users:
                del _taken[self._key]
                os.close(self._file)

    def is_same(self, byte: int) -> bool:
        """Whether another name has the same byte."""
        return self._byte == byte


def take(path: str) -> NameLock | None:
    """Lock the name of a database. Raises StoreUnusable if a program has it open by another name.

    None if the file cannot be read, or the system is not Linux.
    """
    if sys.platform != "linux":
        return None
    with _taking:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None  # the file has just existed; opening it reports the fault
        key, byte = (found.st_dev, found.st_ino), _byte_of(path)
        if key in _foreign:
            raise StoreUnusable(
                f"{path} was used through Python's sqlite3 in this process: {_TWO_LIBRARIES}",
                "use another process, or an apsw.Connection for `connection`",
            )
        known = _taken.get(key)
        if known is not None:
            if not known.is_same(byte):
                raise _second_name(path, f"this program has it open as {known.path}")
            known.users += 1
            return known
        return _lock(path, key, byte)


def refuse_ours(path: str) -> None:
    """Raise if this process has the file open through our library; else our library does not open it from now on.

    Raises too where `take` cannot lock, because then it is not known whether our library has the file open.
    """
    if sys.platform != "linux" or not os.access(path, os.R_OK, effective_ids=True):
        raise StoreUnusable(
            f"connection: Python's sqlite3 cannot be used for {path}, because queuectl cannot lock its name here: "
            f"{_TWO_LIBRARIES}",
            "use an apsw.Connection, which queuectl uses itself",
        )
    found = os.stat(path)
    key = found.st_dev, found.st_ino
    with _taking:
        if key in _taken:
            raise StoreUnusable(
                f"connection: this process has {path} open through queuectl too: {_TWO_LIBRARIES}",
                "use an apsw.Connection, or a Queue of another process",
            )
        _foreign.add(key)


def refuse_second(path: str, mount_points: Iterable[str]) -> None:
    """Refuse a name under which SQLite may not find the log of the database, even if no program has it open."""
    links = os.stat(path).st_nlink
    if links > 1:
        raise StoreUnusable(
            f"{path} has {links} names (hard links), and its log is beside only one of them",
            f"find the others and remove them: find / -xdev -samefile {path}",
        )
    if path in mount_points:
        raise StoreUnusable(
            f"{path} is mounted without its directory, which contains its log",
            "mount its directory instead",
        )


def _byte_of(path: str) -> int:
    directory, last = os.path.split(path)
    found = os.stat(directory)
    return _BEHIND + binascii.crc32(
        f"{found.st_dev}:{found.st_ino}:{last}".encode("utf-8", "surrogateescape")
    )


def _lock(path: str, key: tuple[int, int], byte: int) -> NameLock | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return None  # SQLite reports the fault
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
        if _is_locked(file, _BEHIND, byte) or _is_locked(file, byte + 1, _BEHIND + _BYTES):
            raise _second_name(path, "another program has it open by another name")
    except OSError as error:
        # Even on a system without such locks the descriptor stays open: closing it would drop SQLite's own locks.
        if error.errno not in _UNSUPPORTED:
            os.close(file)
            raise
    except StoreUnusable:
        os.close(file)
        raise
    name = _taken[key] = NameLock(path, file, key, byte)
    return name


def _is_locked(file: int, start: int, end: int) -> bool:
    """Whether another process has a lock on one of these bytes."""
    if start == end:
        return False
    answer = fcntl.fcntl(
        file, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, end - start, 0)
    )
    return bool(_FLOCK.unpack_from(answer)[0] != fcntl.F_UNLCK)


def _second_name(path: str, why: str) -> StoreUnusable:
    return StoreUnusable(f"{path} is a second name of a database: {why}, and its log is there", _HINT)
