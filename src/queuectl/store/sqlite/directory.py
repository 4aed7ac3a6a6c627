"""Creates and checks the directory of the database: private directories and files, and no network file system.

SQLite's write-ahead log needs shared memory and reliable locks. Network file systems, and the shared folders of virtual
machines, have neither: two hosts would not detect the locks of each other, and would corrupt the file.
"""

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from queuectl import trust
from queuectl.errors import StoreGone, StoreUnavailable, StoreUnusable
from queuectl.store.sqlite import name_lock

MOUNTINFO = "/proc/self/mountinfo"
NETWORK = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs",
        "ncpfs", "davfs", "vboxsf", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph",
        "fuse.davfs2", "fuse.gcsfuse", "fuse.grpcfuse", "fuse.vmhgfs-fuse", "fuse.juicefs",
    )
)  # fmt: skip

PATIENCE = 10.0
"""Seconds to wait while another program creates the same database."""

_SMALLEST = 512
_COMPANIONS = ("-wal", "-shm", "-journal")
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def prepare(path: str, mountinfo: str = MOUNTINFO) -> None:
    """Create the directory and an empty file if they are missing, private from the start.

    Refuses anything but a regular file, and a file that another user may have put there, before anything opens it.
    """
    try:
        trust.make_directories(os.path.dirname(path))
        mounts = _mounts(mountinfo)
        _refuse_network(os.path.dirname(path), mounts)
        _make_file(path)
        with _as_store_errors(path):
            _refuse_strange(path)
            name_lock.refuse_second(path, {point for point, _ in mounts})
    except OSError as error:
        raise _translated(path, error) from error


def refuse_shared(path: str) -> None:
    """Refuse a database that another user may write to or replace: a worker runs the commands in it."""
    with _as_store_errors(path):
        found = os.stat(path)
        if not trust.trusted(found.st_uid):
            raise trust.Untrusted(
                f"{path} belongs to {trust.name_of(found.st_uid)}, who could have this worker run anything",
                "run the worker as that user, or keep the queue in a database of your own",
            )
        if found.st_mode & stat.S_IWOTH:
            raise trust.Untrusted(
                f"{path} may be written by everybody (owner {trust.name_of(found.st_uid)}, mode "
                f"{trust.mode_of(found)}), who could have this worker run anything",
                f"chmod 600 {trust.quoted(path)}",
            )
        trust.check_parents(path)


def is_there(path: str) -> bool:
    """Whether the database exists. An empty file is not a database yet."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode)


def file_system(directory: str, mountinfo: str = MOUNTINFO) -> str | None:
    """The type of the file system of a directory. None if the system does not report it."""
    return _file_system(directory, _mounts(mountinfo))


def _mounts(mountinfo: str) -> list[tuple[str, str]]:
    """The mount points and the types of their file systems."""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    parts = (line.partition(" - ") for line in lines)
    return [(_unescaped(mount.split(" ")[4]), source.split(" ")[0]) for mount, _, source in parts]


def _file_system(directory: str, mounts: list[tuple[str, str]]) -> str | None:
    where = os.path.realpath(directory)
    best, found = -1, None
    for point, kind in mounts:
        # `>=`, because a later mount at the same point hides the earlier one.
        if len(point) >= best and (where == point or where.startswith(point.rstrip("/") + "/")):
            best, found = len(point), kind
    return found


@contextmanager
def _as_store_errors(path: str) -> Iterator[None]:
    """Translate the refusals of `trust` and a missing file into errors of the store."""
    try:
        yield
    except trust.Untrusted as error:
        raise StoreUnusable(error.message, error.hint) from error
    except FileNotFoundError as error:
        raise StoreUnavailable(f"{path} is not there", "put the file back") from error


def _refuse_strange(path: str) -> None:
    """Refuse anything but a file, a file of another user in a shared directory, and logs of another user."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise StoreGone(f"{path} is {_kind(found)}, not a database", "name a file, such as queue.db")
    if 0 < found.st_size < _SMALLEST:  # SQLite would overwrite a file of one byte
        raise StoreGone(f"{path} is not a database", "name another file, or move this one away")
    directory = os.path.dirname(path)
    if not trust.trusted(found.st_uid) and os.stat(directory).st_mode & stat.S_IWOTH:
        raise trust.Untrusted(
            f"{path} belongs to {trust.name_of(found.st_uid)}, and everybody may write to {directory}",
            "keep the queue in a directory of your own",
        )
    for end in _COMPANIONS:
        with suppress(FileNotFoundError):
            _refuse_strange_companion(path + end, os.lstat(path + end), found)


def _refuse_strange_companion(path: str, found: os.stat_result, database: os.stat_result) -> None:
    """Refuse a log of another user, because SQLite applies it.

    A user who may write to the database may create its log.
    """
    shared = database.st_mode & stat.S_IWGRP and found.st_gid == database.st_gid
    if not stat.S_ISREG(found.st_mode):
        raise StoreUnusable(f"{path} is {_kind(found)}, but SQLite keeps its log there", f"rm {path}")
    if not (trust.trusted(found.st_uid) or found.st_uid == database.st_uid or shared):
        raise trust.Untrusted(
            f"{path} belongs to {trust.name_of(found.st_uid)}, and SQLite would take changes from it",
            "keep the queue in a directory of your own",
        )


def _kind(found: os.stat_result) -> str:
    return next((kind for is_one, kind in _KINDS if is_one(found.st_mode)), "no file")


def _make_file(path: str) -> None:
    """Create an empty database if there is none. Logs of a database that was moved away without them are renamed.

    SQLite would delete those logs with all changes that only they contain, or apply what another program still writes.
    """
    if os.path.lexists(path):
        return
    if not _logs_of(path):
        _make_empty(path)
        return
    with _lock_directory(
        os.path.dirname(path)
    ):  # checked again, because another program may have created the file and its logs meanwhile
        if not os.path.lexists(path):
            for log in _logs_of(path):
                os.rename(log, f"{log}.left-{int(time.time())}")
            _make_empty(path)


def _logs_of(path: str) -> list[str]:
    return [path + end for end in _COMPANIONS if os.path.lexists(path + end)]


@contextmanager
def _lock_directory(directory: str) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _is_locked(handle):
            if time.monotonic() >= deadline:
                raise StoreUnavailable(
                    f"another program keeps {directory} locked",
                    f"see which has it open: fuser -v {trust.quoted(directory)}; end it and try again",
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def _is_locked(handle: int) -> bool:
    """Lock the directory, unless another program has locked it."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_empty(path: str) -> None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
    _sync_directory(os.path.dirname(path))


def _sync_directory(directory: str) -> None:
    """Sync the directory. Otherwise a power cut may remove the file's name, and every acknowledged job with it."""
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_network(directory: str, mounts: list[tuple[str, str]]) -> None:
    kind = _file_system(directory, mounts)
    if kind in NETWORK:
        raise StoreUnusable(
            f"{directory} is on a network file system ({kind}), where SQLite loses data",
            "keep the database on a local disk; to share a queue between hosts, use postgresql://",
        )


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _translated(path: str, error: OSError) -> StoreUnavailable | StoreUnusable:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreUnavailable(f"the disk of {path} is full", "free some space and try again")
    return StoreUnusable(
        f"{path} cannot be created: {error.strerror}", "choose a directory that you may write to"
    )


def free_bytes(path: str) -> int:
    """The free bytes on the file system of the database, for this user."""
    found = os.statvfs(path)
    return found.f_frsize * (found.f_bfree if os.geteuid() == 0 else found.f_bavail)
