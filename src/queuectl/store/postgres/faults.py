"""The errors of PostgreSQL, of poolers and of the network, as rows for the translator."""

import re

import psycopg
from psycopg import errors

from queuectl.errors import Conflict, InvalidInput, QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.driver.faults import LATER, NETWORK, PASSWORD, REPORT, Row, Translator
from queuectl.store.postgres.sql import identifier

AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)
"""The server rolled the whole transaction back because of a concurrent one. An immediate retry may succeed."""

FAREWELL = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)
"""The server ends the session. A commit that was waiting for a standby may still become durable."""


class ConnectionLost(StoreUnavailable):
    """The connection broke during a read, which can be repeated over another connection."""


class Silence(Exception):
    """The server did not answer within the caller's patience."""


class PostgresTranslator(Translator):
    """Translates errors of psycopg for one store."""

    def __init__(self, shown: str, user: str, schema: str) -> None:
        self._schema = identifier(schema)
        super().__init__(
            shown,
            {
                "product": "PostgreSQL",
                "tls": "look at sslmode in the URL",
                "schema": self._schema,
                "user": identifier(user or _default_user()),
            },
        )

    def unreachable(self, error: Exception) -> QueuectlError:
        """The error if no connection was made, so that nothing was sent."""
        text, reason = self.text(error), self.reason(error)
        named = _DATABASE.search(text)
        database = identifier(named[1]) if named else ""
        return self.find(CONNECTING, error, text, reason, database=database) or super().unreachable(error)

    def lost(self, *, writing: bool, silent: bool = False) -> QueuectlError:
        """The error if the connection broke, or the server did not answer, after something was sent."""
        fault = super().lost(writing=writing)
        return fault if writing or silent else ConnectionLost(fault.message, fault.hint)

    def refused(self, error: psycopg.Error) -> QueuectlError:
        """The error if the server answered with an error and changed nothing."""
        reason = self.reason(error)
        known = self.find(ANSWERS, error, reason, reason)
        return known or StoreUnusable(f"{self.shown}: PostgreSQL says: {reason}")

    def forbidden(self, error: psycopg.Error, owner: str, role: str, *, superuser: bool) -> QueuectlError:
        """The error for a missing right. `role`: the current user. `superuser`: whether the schema's owner is one."""
        # The hint does not advise to grant a superuser role, because its members can become superuser.
        grant = f", or let an administrator run: GRANT {identifier(owner)} TO {identifier(role)}"
        return StoreUnusable(
            f"{self.shown}: {self.reason(error)}",
            f"connect as {identifier(owner)}, the owner of schema {self._schema}{'' if superuser else grant}",
        )

    def reason(self, error: Exception) -> str:
        """The relevant sentence, without the address before it and the advice after it."""
        lines = str(error).splitlines() or ["no reason"]
        first = next((line for line in lines if "FATAL:" in line), lines[0])
        before, _, after = first.rpartition("FATAL:")[2].rpartition(" failed: ")
        socket = before.rpartition("on socket ")[2] + ": " if "on socket " in before else ""
        for prefix in ("connection is bad: ", "fe_sendauth: ", "ERROR:"):
            after = after.strip().removeprefix(prefix)
        return socket + after.strip()


def _default_user() -> str:
    """The user that libpq uses if the URL names none."""
    found = {option.keyword: option.val for option in psycopg.pq.Conninfo.get_defaults()}
    return (found.get(b"user") or b"NAME").decode()


_DATABASE = re.compile(r'database "(.+?)"')

CONNECTING = (
    Row(("authentication failed", "no password supplied"), StoreUnusable, PASSWORD),
    Row(("Tenant or user not found",), StoreUnusable, "look at the user (for a pooler: user.project) and the host"),
    Row(("no pg_hba.conf entry",), StoreUnusable,
        "the server's pg_hba.conf must let {user} in from this host; it may require sslmode=require in the URL"),
    Row(("too many ", "remaining connection slots", "max clients", "no more connections allowed"), StoreUnavailable,
        "end idle clients, raise that limit, or put PgBouncer in between"),
    Row(("is not permitted to log in",), StoreUnusable, "let an administrator run: ALTER ROLE {user} LOGIN"),
    Row(("permission denied for database",), StoreUnusable,
        "let its owner run: GRANT CONNECT ON DATABASE {database} TO {user}"),
    Row(("not currently accepting connections",), StoreUnusable,
        "let an administrator run: ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
    Row(('role "',), StoreUnusable, "look at the user, or let an administrator create it, for example: "
        "CREATE ROLE {user} LOGIN PASSWORD 'secret'"),
    Row(('database "',), StoreUnusable,
        "look at the name of the database, or let an administrator run: CREATE DATABASE {database}"),
    Row(("root certificate file",), StoreUnusable, "add sslrootcert=FILE to the URL, or sslrootcert=system"),
    *NETWORK,
    Row(("is bad: ", "bad value for "), InvalidInput, "look at the options after the ? of the URL"),
)  # fmt: skip
"""Errors when a connection cannot be made."""

ANSWERS = (
    Row((errors.ReadOnlySqlTransaction,), StoreUnusable, "connect to the primary, not to a read-only replica"),
    Row((errors.InsufficientPrivilege,), StoreUnusable, "connect as the owner of schema {schema}"),
    Row((errors.DiskFull,), StoreUnavailable, "free some space on the server and try again"),
    Row((errors.QueryCanceled, errors.LockNotAvailable, *AGAIN), StoreUnavailable, f"the server is busy; {LATER}"),
    Row((errors.InvalidSchemaName, errors.UndefinedTable, errors.UndefinedFunction), StoreUnusable,
        "schema {schema} was removed or changed while it was open"),
    Row((errors.UntranslatableCharacter, errors.CharacterNotInRepertoire), InvalidInput,
        "remove the NUL character from the text"),
    Row((errors.CheckViolation, errors.NotNullViolation, errors.NumericValueOutOfRange), Conflict, REPORT),
    Row((errors.OperationalError,), StoreUnavailable, LATER),
)  # fmt: skip
"""Errors that the server returns for a statement."""
