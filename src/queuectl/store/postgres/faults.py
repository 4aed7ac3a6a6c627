"""Errors of PostgreSQL and of the way there, in this product's words. The cause is kept by who raises."""

import psycopg
from psycopg import errors

from queuectl.errors import (
    Conflict,
    InvalidInput,
    OutcomeUnknown,
    QueuectlError,
    StoreUnavailable,
    StoreUnusable,
)

AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)
"""The server undid the whole transaction because of another one: nothing was changed, the same may work at once."""

FAREWELL = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)
"""The server ends the session. A commit that waited for a standby may count all the same."""

_REPEAT = "repeating the same command is safe"
_LATER = "try again later"


class ConnectionLost(StoreUnavailable):
    """The connection broke under a question: it may be asked once more, over another one."""


class Silence(Exception):
    """The server did not answer within the patience of the caller."""


class Place:
    """Says what went wrong with one store."""

    def __init__(self, shown: str, user: str, schema: str) -> None:
        self._shown, self._user, self._schema = shown, user, schema

    def unreachable(self, error: psycopg.Error) -> QueuectlError:
        """No connection came about: nothing was sent."""
        text = str(error)
        for words, kind, hint in _REFUSALS:
            if words in text:
                return kind(f"{self._shown}: {_reason(text)}", hint.format(user=self._user))
        return StoreUnavailable(f"{self._shown} cannot be reached: {_reason(text)}", _LATER)

    def lost(self, *, writing: bool, silent: bool = False) -> QueuectlError:
        """The connection broke, or stayed silent, after something was sent."""
        if writing:
            return OutcomeUnknown(f"{self._shown} did not answer: whether it was done is not known", _REPEAT)
        kind = StoreUnavailable if silent else ConnectionLost
        return kind(f"{self._shown} does not answer", _LATER)

    def said(self, error: psycopg.Error) -> QueuectlError:
        """The server answered, and refused: nothing was changed."""
        text = _reason(str(error))
        for kinds, ours, hint in _ANSWERS:
            if isinstance(error, kinds):
                return ours(f"{self._shown}: {text}", hint.format(user=self._user, schema=self._schema))
        return StoreUnusable(f"{self._shown}: PostgreSQL says: {text}")


def _reason(text: str) -> str:
    """The sentence that matters: without the address before it and the advice after it."""
    first = next(
        (line for line in text.splitlines() if "FATAL:" in line),
        text.splitlines()[0] if text else "no reason",
    )
    return first.rpartition("FATAL:")[2].rpartition(" failed: ")[2].removeprefix("ERROR:").strip()


_Kind = type[StoreUnavailable] | type[StoreUnusable]
_NAME = "look at the name of the host"
_PASSWORD = "look at user and password; in the URL, special characters are written as %XX"  # noqa: S105  advice

_REFUSALS: tuple[tuple[str, _Kind, str], ...] = (
    ("password authentication failed", StoreUnusable, _PASSWORD),
    ("no password supplied", StoreUnusable, _PASSWORD),
    ("authentication failed", StoreUnusable, _PASSWORD),
    ('role "', StoreUnusable, "look at the user, or make it: createuser {user}"),
    ('database "', StoreUnusable, "look at the name of the database, or make it: createdb NAME"),
    ("no pg_hba.conf entry", StoreUnusable, "the server's pg_hba.conf has to let {user} in from this host"),
    ("SSL", StoreUnusable, "look at sslmode in the URL"),
    ("resolve host", StoreUnavailable, _NAME),
    ("Name or service not known", StoreUnavailable, _NAME),
    ("translate host name", StoreUnavailable, _NAME),
    ("Connection refused", StoreUnavailable, "does PostgreSQL run there? look at host and port"),
    ("too many clients", StoreUnavailable, "raise max_connections, or put PgBouncer in between"),
    ("remaining connection slots", StoreUnavailable, "raise max_connections, or put PgBouncer in between"),
)  # fmt: skip

_RIGHTS = "give {user} the rights of the owner of schema {schema}, or connect as that owner"

_ANSWERS: tuple[
    tuple[tuple[type[psycopg.Error], ...], type[QueuectlError], str], ...
] = (
    ((errors.ReadOnlySqlTransaction,), StoreUnusable, "connect to the primary, not to a read-only replica"),
    ((errors.InsufficientPrivilege,), StoreUnusable, _RIGHTS),
    ((errors.DiskFull,), StoreUnavailable, "free some space on the server and try again"),
    ((errors.QueryCanceled, errors.LockNotAvailable, *AGAIN), StoreUnavailable, "the server is busy; " + _LATER),
    ((errors.InvalidSchemaName, errors.UndefinedTable, errors.UndefinedFunction), StoreUnusable,
     "schema {schema} was removed or changed while it was open"),
    ((errors.UntranslatableCharacter, errors.CharacterNotInRepertoire), InvalidInput, "no text may hold a NUL"),
    ((errors.CheckViolation, errors.NotNullViolation, errors.NumericValueOutOfRange), Conflict,
     "this is a fault of queuectl; please report it"),
    ((errors.OperationalError,), StoreUnavailable, _LATER),
)  # fmt: skip
