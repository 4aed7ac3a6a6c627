"""The private file of a command that is too long for one argument, or that names its interpreter (`#!`)."""

import contextlib
import errno
import os
from pathlib import Path


def write(folder: int, path: str, command: bytes) -> None:
    """Create a script in the checked directory `folder`. The command runs by `path`, so `path` must name this file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(os.path.basename(path), flags, 0o700, dir_fd=folder)
    with open(file, "wb") as script:
        script.write(command)
        script.flush()
        if not os.path.samestat(os.fstat(file), os.lstat(path)):
            raise OSError(errno.ESTALE, "the directory of the worker's files was exchanged")


def path_of(directory: Path, attempt_id: str) -> Path:
    """The path of the script of an attempt."""
    return directory / f"{attempt_id}.script"


def remove(path: str | None) -> None:
    """Delete a script, if there is one."""
    if path is not None:
        # The disk may have become read-only; the file is private and small, so it may stay.
        with contextlib.suppress(OSError):
            os.unlink(path)
