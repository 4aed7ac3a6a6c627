"""Numbered migrations: `migrations/0001.sql` brings schema 0 to 1, and so on, under an exclusive lock."""

import os
import time
from collections.abc import Callable

import apsw

from queuectl.errors import StoreGone, StoreUnusable

SCHEMA = 6
APPLICATION = 0x71756575
"""The application id of our databases: the letters `queu`."""

_RETRIES_END = 10.0
_LOOK = """
SELECT application_id, user_version, EXISTS (SELECT 1 FROM sqlite_schema)
FROM pragma_application_id, pragma_user_version
"""


def bring_up_to_date(connection: apsw.Connection, path: str) -> None:
    """Refuse the database of another program or a newer schema; create or migrate the schema; use a write-ahead log."""
    found = _found(connection, path)
    # The busy handler does not cover the switch of the journal, and two processes may open a new file at once.
    _patiently(lambda: _use_wal(connection, path))
    if found < SCHEMA:
        _patiently(lambda: _migrate(connection, path))


def version(connection: apsw.Connection) -> int:
    """The schema of the database."""
    return int(connection.pragma("user_version"))


def _found(connection: apsw.Connection, path: str) -> int:
    # One statement reads one state of the file: another process may create the schema at the same time.
    application, found, has_tables = connection.execute(_LOOK).get
    if application != APPLICATION and (application or found or has_tables):
        raise StoreGone(f"{path} is the database of another program", "name another file")
    if found > SCHEMA:
        raise StoreUnusable(
            f"{path} has schema {found}, and this program knows schemas up to {SCHEMA}",
            "a newer queuectl has used it: upgrade this one",
        )
    return int(found)


def _use_wal(connection: apsw.Connection, path: str) -> None:
    if connection.pragma("journal_mode") == "wal":
        return
    found = connection.pragma("journal_mode", "wal")
    if found != "wal":
        raise StoreUnusable(f"{path} cannot keep a write-ahead log: journal_mode={found}", "use a local disk")


def _migrate(connection: apsw.Connection, path: str) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        for number in range(_found(connection, path) + 1, SCHEMA + 1):
            script = os.path.join(os.path.dirname(__file__), "migrations", f"{number:04}.sql")
            with open(script, encoding="utf-8") as file:
                connection.execute(file.read())
        connection.pragma("application_id", APPLICATION)
        connection.pragma("user_version", SCHEMA)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _patiently(step: Callable[[], None]) -> None:
    deadline = time.monotonic() + _RETRIES_END
    while True:
        try:
            return step()
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
