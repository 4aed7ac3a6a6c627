"""Reads the settings, versions, sizes and faults of a server."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from queuectl.errors import StoreUnusable
from queuectl.store.postgres import schema
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import identifier
from queuectl.store.protocol import Description, Durability

OLDEST = 130000

DELAYED_FOR = timedelta(minutes=1)
"""How long a transaction that has written something may be open before `doctor` names it: events wait for it."""

_FACTS = """
SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
    current_setting('server_encoding'), pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
    current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', current_setting('synchronous_commit'),
    current_setting('synchronous_standby_names'), current_setting('transaction_isolation'), current_user"""

_COUNTS = """
SELECT (SELECT count(*) FROM {schema}.live) + coalesce((SELECT sum(n) FROM {schema}.tally), 0)::bigint,
    (SELECT count(*) FROM {schema}.worker)"""

_ACTIVITY = """
SELECT
    (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
     JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relkind = 'r'),
    (SELECT count(*) FROM pg_stat_replication),
    (SELECT string_agg(format('%%s of %%s', pid, usename), ', ') FROM pg_stat_activity
     WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '5 minutes'),
    (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()),
    pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"""

_WRITERS = """
SELECT string_agg(format('%%s of %%s in %%s', pid, usename, datname), ', ') FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - %s"""

_DAMAGE = """
SELECT 'jobs without a state', count(*) FROM {schema}.body
    WHERE NOT EXISTS (SELECT FROM {schema}.live WHERE live.number = body.number)
    AND NOT EXISTS (SELECT FROM {schema}.ended WHERE ended.number = body.number)
UNION ALL SELECT 'jobs that are both alive and ended', count(*) FROM {schema}.live JOIN {schema}.ended USING (number)
UNION ALL SELECT 'states without a job', count(*) FROM (
    SELECT number FROM {schema}.live UNION ALL SELECT number FROM {schema}.ended
    EXCEPT SELECT number FROM {schema}.body) AS lonely
UNION ALL SELECT 'counts that are wrong', count(*) FROM (
    SELECT queue, state, sum(n) AS n FROM {schema}.tally GROUP BY queue, state HAVING sum(n) <> 0) AS told
    FULL JOIN (SELECT queue, state, count(*) AS n FROM {schema}.ended GROUP BY queue, state) AS found
    USING (queue, state) WHERE told.n IS DISTINCT FROM found.n
UNION ALL SELECT 'chunks of output without a job', count(*) FROM {schema}.output
    WHERE NOT EXISTS (SELECT FROM {schema}.body WHERE number = output.job)"""


class Server(Struct, frozen=True):
    """The settings of a server that decide whether it is suitable for a queue."""

    number: int
    version: str
    encoding: str
    standby: bool
    read_only: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    standbys: str
    isolation: str
    role: str

    @property
    def durability(self) -> Durability:
        """The kind of failure that an acknowledged write survives."""
        if not self.fsync or not self.full_page_writes or self.synchronous_commit == "off":
            return "memory-safe"
        return "failover-safe" if self.standbys and self.synchronous_commit != "local" else "power-safe"


def server(line: Line) -> Server:
    """Read the settings of the server of this connection."""
    # A database without a known encoding (SQL_ASCII) returns bytes.
    facts: list[Any] = [
        fact.decode("ascii", "replace") if isinstance(fact, bytes) else fact for fact in line.rows(_FACTS)[0]
    ]
    return Server(*facts)


def refuse_unfit(found: Server, shown: str, *, fast: bool) -> None:
    """Refuse a server that is not suitable for a queue, or not as safe as requested (guarantee G1)."""
    if found.number < OLDEST:
        raise StoreUnusable(f"{shown} is PostgreSQL {found.version}", "version 13 or later is needed")
    if found.standby:
        raise StoreUnusable(f"{shown} is a read-only replica", "connect to the primary")
    if found.read_only:
        raise StoreUnusable(
            f"{shown} is read-only: default_transaction_read_only = on",
            "connect to the primary, or as a role and to a database for which it is off",
        )
    if found.isolation != "read committed":
        raise StoreUnusable(
            f"{shown} isolates transactions as {found.isolation}, which makes concurrent workers fail",
            f"run: ALTER ROLE {identifier(found.role)} SET default_transaction_isolation = 'read committed'",
        )
    if found.encoding != "UTF8":
        raise StoreUnusable(
            f"{shown} stores text as {found.encoding}, which cannot hold every command",
            "create another database, for example: CREATE DATABASE jobs ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0",
        )
    if found.durability == "memory-safe" and not fast:
        where = "the server, the database and the role" if "commit" in _unsafe(found) else "the server"
        raise StoreUnusable(
            f"{shown} would lose acknowledged jobs at a power failure: {_unsafe(found)}",
            f"turn it on for {where}, or accept it with --durability fast",
        )


class _Activity(NamedTuple):
    """The size of the schema, and what other sessions do in its database now.

    old       the processes with a transaction that is older than five minutes, as text; None if there is none
    prepared  the number of prepared transactions
    sees_all  the role may see the transactions of other roles
    """

    size: int
    replicas: int
    old: str | None
    prepared: int
    sees_all: bool


def describe(line: Line, shown: str, listening: str) -> Description:
    """The description without a scan: settings, versions and sizes."""
    found, version = server(line), schema.version(line)
    jobs, workers = line.rows(_COUNTS)[0] if version else (0, 0)
    activity = _Activity(*line.rows(_ACTIVITY, (line.schema,))[0])
    delaying = delaying_events(line, DELAYED_FOR)
    details = {
        **_settings(line, found),
        "replicas": activity.replicas,
        "pooler": _word(line.pooled),
        "wake_up": listening,
        "open_transactions": _open_transactions(found, activity),
        "bytes": activity.size,
        "jobs": jobs,
        "workers": workers,
    }
    return Description(
        url=shown,
        durability=found.durability,
        schema=version,
        details={name: str(value) for name, value in details.items()},
        faults=(*_faults(found, activity), *_delay(delaying)),
    )


def delaying_events(line: Line, longer_than: timedelta) -> str | None:
    """The processes, of any database of the server, whose open transaction has written something, as text; or None.

    No reader gets an event that was written after the begin of such a transaction.
    """
    found: str | None = line.value(_WRITERS, (longer_than,))
    return found


def _delay(delaying: str | None) -> Iterator[str]:
    if delaying:
        yield f"events wait for transactions that are open for over a minute: process {delaying}"


def _settings(line: Line, found: Server) -> dict[str, object]:
    return {
        "postgresql": found.version,
        "database": line.info.dbname,
        "db_schema": line.schema,
        "encoding": found.encoding,
        "fsync": _word(found.fsync),
        "full_page_writes": _word(found.full_page_writes),
        "synchronous_commit": found.synchronous_commit,
        "replica": _word(found.standby),
    }


def _open_transactions(found: Server, activity: _Activity) -> str:
    if activity.old:
        return activity.old
    if activity.sees_all:
        return "none for long"
    return f"unseen: GRANT pg_read_all_stats TO {identifier(found.role)}"


def _faults(found: Server, activity: _Activity) -> Iterator[str]:
    if found.durability == "memory-safe":
        yield f"an acknowledged job may be lost at a power failure of the server: {_unsafe(found)}"
    if activity.old:
        yield f"transactions open for over 5 minutes keep dead rows: process {activity.old}"
    if activity.prepared:
        yield f"{activity.prepared} prepared transactions keep dead rows: look at pg_prepared_xacts"


def with_damage(line: Line, found: Description) -> Description:
    """The description with the damage that a scan of all jobs finds."""
    with line.unhurried():
        wrong = [f"{count} {what}" for what, count in line.rows(_DAMAGE) if count]
    return replace(found, faults=(*found.faults, *wrong))


def _unsafe(found: Server) -> str:
    if not found.fsync:
        return "fsync = off"
    return "full_page_writes = off" if not found.full_page_writes else "synchronous_commit = off"


def _word(value: bool) -> str:
    return "on" if value else "off"
