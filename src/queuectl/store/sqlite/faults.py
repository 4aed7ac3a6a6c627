"""Errors of SQLite, in this product's words. One context manager; the cause is kept."""

import os
import sys
from types import TracebackType

import apsw

from queuectl.errors import (
    Conflict,
    OutcomeUnknown,
    QueuectlError,
    StoreGone,
    StoreUnavailable,
    StoreUnusable,
)
from queuectl.store.sqlite.directory import free_bytes
from queuectl.trust import quoted

SHARED_MEMORY = 1 << 16
"""Bytes without which a database cannot be opened."""

_CLOSED = (apsw.ConnectionClosedError, apsw.CursorClosedError)
_BROKEN = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_REFUSED = (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError)


class Translated:
    """Turn an error of SQLite that passes into one of ours. After `committing()` a result may be unknown."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._committing = False

    def committing(self) -> None:
        """From here on a failing disk leaves it open whether the transaction counts."""
        self._committing = True

    def __enter__(self) -> "Translated":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, apsw.Error):
            raise translation(self._path, error, committing=self._committing) from error


def translation(path: str, error: apsw.Error, *, committing: bool = False) -> QueuectlError:
    """What an error of SQLite means to the user."""
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreUnavailable(
            f"{path} has been locked by another program for too long",
            f"try again; if it stays so, look who holds it: fuser -v {quoted(path)}",
        )
    if isinstance(error, apsw.FullError):
        return _full(path)
    if isinstance(error, _BROKEN):
        return _broken(path, error)
    if isinstance(error, _REFUSED):
        return StoreUnusable(
            f"{path} cannot be opened for writing: {error}",
            f"look at its owner and mode: ls -l {quoted(path)}",
        )
    if isinstance(error, apsw.IOError):
        return _disk(path, error, committing)
    if isinstance(error, _CLOSED):
        return StoreUnavailable(f"{path} was closed already")
    if isinstance(error, apsw.ConstraintError):
        return Conflict(
            f"the database refuses an impossible job: {error}",
            "this is a fault of queuectl; please report it",
        )
    return StoreUnusable(f"{path}: SQLite says: {error}")


def _broken(path: str, error: apsw.Error) -> StoreUnusable:
    if isinstance(error, apsw.NotADBError):
        return StoreGone(f"{path} is not a database", "name another file, or move this one away")
    return StoreUnusable(
        f"{path} is damaged: {error}",
        "stop all workers and put a backup in its place; what can still be read of the jobs: "
        f"{quoted(sys.executable)} -m apsw {quoted(path)} '.dump job spec' > jobs.sql",
    )


def _disk(path: str, error: apsw.Error, committing: bool) -> QueuectlError:
    if not committing and not os.path.exists(path):
        return StoreGone(
            f"{path} was deleted or replaced while it was open",
            "put it back, or restart this program",
            was_open=True,
        )
    if committing:
        return OutcomeUnknown(
            f"the disk failed while saving to {path}: whether it was saved is not known: {error}",
            "repeating the same command is safe",
        )
    if _is_full(path):  # the memory that readers share has no room: SQLite calls that a failure of the disk
        return _full(path)
    return StoreUnavailable(
        f"the disk of {path} fails: {error}: nothing was changed",
        "look at the kernel's log, for example: dmesg",
    )


def _full(path: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the disk of {path} is full: nothing was changed", "free some space and try again"
    )


def _is_full(path: str) -> bool:
    try:
        return free_bytes(path) < SHARED_MEMORY
    except OSError:
        return False
