"""The errors of SQLite, as rows for the translator."""

import os
import sys

import apsw

from queuectl.errors import (
    Conflict,
    OutcomeUnknown,
    QueuectlError,
    StoreGone,
    StoreUnavailable,
    StoreUnusable,
)
from queuectl.store.driver.faults import REPEAT, REPORT, Row, Translator
from queuectl.store.sqlite.directory import free_bytes
from queuectl.trust import quoted

SHARED_MEMORY = 1 << 16
"""Bytes of shared memory that opening a database needs."""

ROWS = (
    Row((apsw.BusyError, apsw.LockedError), StoreUnavailable,
        "try again; if it stays so, look who holds it: fuser -v {file}",
        "{shown} has been locked by another program for too long"),
    Row((apsw.FullError,), StoreUnavailable, "free some space and try again",
        "the disk of {shown} is full: nothing was changed"),
    Row((apsw.CorruptError, apsw.FormatError), StoreUnusable,
        "stop all workers and put a backup in its place; to save the jobs that are still readable, run: "
        "{python} -m apsw {file} '.dump job spec' > jobs.sql", "{shown} is damaged: {reason}"),
    Row((apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError), StoreUnusable,
        "check its owner and mode: ls -l {file}", "{shown} cannot be opened for writing: {reason}"),
    Row((apsw.ConnectionClosedError, apsw.CursorClosedError), StoreUnavailable, "", "{shown} was closed already"),
    Row((apsw.ConstraintError,), Conflict, REPORT, "the database refuses an impossible job: {reason}"),
)  # fmt: skip


def translation(path: str, error: apsw.Error, *, committing: bool = False) -> QueuectlError:
    """Our error for an error of SQLite."""
    if isinstance(error, apsw.IOError):
        return _disk(path, error, committing)
    if isinstance(error, apsw.NotADBError):
        return StoreGone(f"{path} is not a database", "name another file, or move this one away")
    names = {"file": quoted(path), "python": quoted(sys.executable)}
    known = Translator(path, names).find(ROWS, error, str(error), str(error))
    return known or StoreUnusable(f"{path}: SQLite says: {error}")


def _disk(path: str, error: apsw.Error, committing: bool) -> QueuectlError:
    if not committing and not os.path.exists(path):
        return StoreGone(
            f"{path} was deleted or replaced while it was open",
            "put it back, or restart this program",
            was_open=True,
        )
    if committing:
        return OutcomeUnknown(
            f"the disk failed while saving to {path}: it is unknown whether the change was saved: {error}",
            REPEAT,
        )
    if _is_full(path):  # SQLite reports a full disk as an I/O error where it cannot extend the shared memory
        return translation(path, apsw.FullError())
    return StoreUnavailable(
        f"the disk of {path} fails: {error}: nothing was changed",
        "look at the kernel's log, for example: dmesg",
    )


def _is_full(path: str) -> bool:
    try:
        return free_bytes(path) < SHARED_MEMORY
    except OSError:
        return False
