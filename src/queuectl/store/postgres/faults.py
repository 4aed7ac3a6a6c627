"""Errors of PostgreSQL and of the way there, in this product's words. The cause is kept by who raises."""

import re

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
from queuectl.store.postgres.sql import identifier

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
        self._shown, self._schema = shown, identifier(schema)
        self._user = identifier(user or _default_user())

    def unreachable(self, error: psycopg.Error) -> QueuectlError:
        """No connection came about: nothing was sent."""
        text = str(error)
        for words, kind, hint in _REFUSALS:
            if words in text:
                database = _DATABASE.search(text)
                names = {"user": self._user, "database": identifier(database[1]) if database else ""}
                return kind(f"{self._shown}: {_reason(text)}", hint.format(**names))
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
                return ours(f"{self._shown}: {text}", hint.format(schema=self._schema))
        return StoreUnusable(f"{self._shown}: PostgreSQL says: {text}")

    def refused(self, error: psycopg.Error, owner: str, role: str, *, superuser: bool) -> QueuectlError:
        """A right is missing. `role` is who we are; `superuser`: whether the owner of the schema is one."""
        # A member of a superuser could become one: nobody is advised to grant that.
        grant = f", or let an administrator run: GRANT {identifier(owner)} TO {identifier(role)}"
        return StoreUnusable(
            f"{self._shown}: {_reason(str(error))}",
            f"connect as {identifier(owner)}, the owner of schema {self._schema}{'' if superuser else grant}",
        )


def _default_user() -> str:
    """Whom libpq takes where the URL names nobody."""
    found = {option.keyword: option.val for option in psycopg.pq.Conninfo.get_defaults()}
    return (found.get(b"user") or b"NAME").decode()


def _reason(text: str) -> str:
    """The sentence that matters: without the address before it and the advice after it."""
    lines = text.splitlines() or ["no reason"]
    first = next((line for line in lines if "FATAL:" in line), lines[0])
    said = first.rpartition("FATAL:")[2]
    before, _, after = said.rpartition(" failed: ")
    socket = before.rpartition("on socket ")[2] + ": " if "on socket " in before else ""
    for prefix in _PREFIXES:
        after = after.strip().removeprefix(prefix)
    return socket + after.strip()


_PREFIXES = ("connection is bad: ", "fe_sendauth: ", "ERROR:")
_Kind = type[StoreUnavailable] | type[StoreUnusable] | type[InvalidInput]
_NAME = "look at the name of the host"
_PASSWORD = "look at user and password; in the URL, special characters are written as %XX"  # noqa: S105  advice
_PLACE = "does PostgreSQL run there? look at host and port"
_WAY = "is that host up, and does its firewall let this one in? look at host and port"
_ROOM = "end idle clients, raise that limit, or put PgBouncer in between"

# The first that stands in the text counts: sentences before the words that other sentences have, too.
_REFUSALS: tuple[tuple[str, _Kind, str], ...] = (
    ("password authentication failed", StoreUnusable, _PASSWORD),
    ("no password supplied", StoreUnusable, _PASSWORD),
    ("authentication failed", StoreUnusable, _PASSWORD),
    ("Tenant or user not found", StoreUnusable, "look at the user (for a pooler: user.project) and the host"),
    ("no pg_hba.conf entry", StoreUnusable,
     "the server's pg_hba.conf has to let {user} in from this host; it may want sslmode=require in the URL"),
    ("too many ", StoreUnavailable, _ROOM),
    ("remaining connection slots", StoreUnavailable, _ROOM),
    ("max clients", StoreUnavailable, _ROOM),
    ("no more connections allowed", StoreUnavailable, _ROOM),
    ("is not permitted to log in", StoreUnusable, "let an administrator run: ALTER ROLE {user} LOGIN"),
    ("permission denied for database", StoreUnusable,
     "let its owner run: GRANT CONNECT ON DATABASE {database} TO {user}"),
    ("not currently accepting connections", StoreUnusable,
     "let an administrator run: ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
    ('role "', StoreUnusable,
     "look at the user, or let an administrator make it, for example: CREATE ROLE {user} LOGIN PASSWORD 'secret'"),
    ('database "', StoreUnusable,
     "look at the name of the database, or let an administrator run: CREATE DATABASE {database}"),
    ("root certificate file", StoreUnusable, "add sslrootcert=FILE to the URL, or sslrootcert=system"),
    ("SSL", StoreUnusable, "look at sslmode in the URL"),
    ("resolve host", StoreUnavailable, _NAME),
    ("Name or service not known", StoreUnavailable, _NAME),
    ("translate host name", StoreUnavailable, _NAME),
    ("No such file or directory", StoreUnavailable, "does PostgreSQL run here? name another host in the URL"),
    ("Connection refused", StoreUnavailable, _PLACE),
    ("timeout expired", StoreUnavailable, _WAY),
    ("timed out", StoreUnavailable, _WAY),
    ("No route to host", StoreUnavailable, _WAY),
    ("Network is unreachable", StoreUnavailable, "this host has no way there; an address with : in it needs IPv6"),
    ("is bad: ", InvalidInput, "look at what stands after the ? of the URL"),
    ("bad value for ", InvalidInput, "look at what stands after the ? of the URL"),
)  # fmt: skip

_DATABASE = re.compile(r'database "(.+?)"')

_ANSWERS: tuple[
    tuple[tuple[type[psycopg.Error], ...], type[QueuectlError], str], ...
] = (
    ((errors.ReadOnlySqlTransaction,), StoreUnusable, "connect to the primary, not to a read-only replica"),
    ((errors.InsufficientPrivilege,), StoreUnusable, "connect as the owner of schema {schema}"),
    ((errors.DiskFull,), StoreUnavailable, "free some space on the server and try again"),
    ((errors.QueryCanceled, errors.LockNotAvailable, *AGAIN), StoreUnavailable, "the server is busy; " + _LATER),
    ((errors.InvalidSchemaName, errors.UndefinedTable, errors.UndefinedFunction), StoreUnusable,
     "schema {schema} was removed or changed while it was open"),
    ((errors.UntranslatableCharacter, errors.CharacterNotInRepertoire), InvalidInput, "no text may hold a NUL"),
    ((errors.CheckViolation, errors.NotNullViolation, errors.NumericValueOutOfRange), Conflict,
     "this is a fault of queuectl; please report it"),
    ((errors.OperationalError,), StoreUnavailable, _LATER),
)  # fmt: skip
