"""Where the database lives: private directories and files, and no network disk.

SQLite's write-ahead log needs shared memory and honest locks. Network file systems, and the bridges of
virtual machines, have neither: two hosts would each believe to be alone and destroy the file together.
"""

import os
from contextlib import suppress

from queuectl.errors import StoreUnavailable, StoreUnusable

MOUNTINFO = "/proc/self/mountinfo"
NETWORK = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs",
        "ncpfs", "davfs", "vboxsf", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph",
        "fuse.davfs2", "fuse.gcsfuse", "fuse.grpcfuse", "fuse.vmhgfs-fuse", "fuse.juicefs",
    )
)  # fmt: skip


def prepare(path: str, mountinfo: str = MOUNTINFO) -> None:
    """Make the directory and an empty file where they are missing, private from their first moment."""
    try:
        _make_directories(os.path.dirname(path))
        _refuse_network(os.path.dirname(path), mountinfo)
        _make_file(path)
    except OSError as error:
        raise _translated(path, error) from error
    if os.path.isdir(path):
        raise StoreUnusable(
            f"{path} is a directory, not a database", "name a file inside it, such as queue.db"
        )


def file_system(directory: str, mountinfo: str = MOUNTINFO) -> str | None:
    """The type of the file system a directory is on; None where the system does not tell."""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    where = os.path.realpath(directory)
    best, found = -1, None
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = _unescaped(mount.split(" ")[4])
        # Not shorter: of two mounts at one point the later lies on top.
        if len(point) >= best and (where == point or where.startswith(point.rstrip("/") + "/")):
            best, found = len(point), source.split(" ")[0]
    return found


def _make_directories(directory: str) -> None:
    missing = []
    while not os.path.exists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)


def _make_file(path: str) -> None:
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
    """Without this a power cut may take the file's name, and every acknowledged job with it."""
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_network(directory: str, mountinfo: str) -> None:
    kind = file_system(directory, mountinfo)
    if kind in NETWORK:
        raise StoreUnusable(
            f"{directory} is on a network file system ({kind}), on which SQLite loses data",
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
    return StoreUnusable(f"{path} cannot be created: {error.strerror}", "choose a place where you may write")
