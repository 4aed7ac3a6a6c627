"""Numbered migrations: `migrations/0001.sql` brings schema 0 to 1, and so on, each step under a lock.

A migration runs while older workers keep using their statements, so it only adds: a column with a default, a table, a
function with another name. A later migration removes what no supported version uses.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from queuectl.errors import StoreAbsent, StoreUnusable
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import FOLDER, fill, identifier

# `to_regclass` is not used: after a wait for the lock, its cache would still report a missing table.
_IS_THERE = """SELECT EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = %s AND relname = 'migration')"""
VERSION = "SELECT coalesce(max(version), 0) FROM {schema}.migration"
_HAS_SCHEMA = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)"
SCRIPTS = os.path.join(FOLDER, "migrations")


def known(scripts: str = SCRIPTS) -> int:
    """The schema of this program: the number of its newest migration."""
    return max(int(name[:4]) for name in os.listdir(scripts) if name.endswith(".sql"))


def version(line: Line) -> int:
    """The schema of the database, or 0 if there is none."""
    if not line.value(_IS_THERE, (line.schema,)):
        return 0
    return int(line.value(VERSION))


def bring_up_to_date(line: Line, shown: str, *, create: bool, scripts: str = SCRIPTS) -> None:
    """Refuse a newer schema, migrate an older one, create a missing one. Without `create` a missing one is an error."""
    newest = known(scripts)
    with _unless_foreign(line, shown, *_OTHER_COLUMNS):
        found = version(line)
    if not found and not create:
        raise StoreAbsent(
            f"{shown}: there is no queue in schema {line.schema}", "the queue existed before: check the URL"
        )
    _refuse_newer(found, newest, shown)
    if found < newest:
        with _unless_foreign(
            line, shown, errors.DuplicateTable, errors.DuplicateObject, errors.DuplicateFunction
        ):
            _migrate(line, shown, newest, scripts)


def refuse_other(found: int, shown: str) -> None:
    """Refuse a newer schema, and an older one, where no migration is possible."""
    newest = known()
    _refuse_newer(found, newest, shown)
    if found < newest:
        raise StoreUnusable(
            f"{shown} has schema {found}, and this program needs schema {newest}",
            "run queuectl status once as the owner of the schema: that upgrades it",
        )


def _refuse_newer(found: int, newest: int, shown: str) -> None:
    if found > newest:
        raise StoreUnusable(
            f"{shown} has schema {found}, and this program knows schemas up to {newest}",
            "a newer queuectl has used it: upgrade this one",
        )


_OTHER_COLUMNS = (
    errors.UndefinedColumn,
    errors.UndefinedFunction,
    errors.DatatypeMismatch,
    errors.WrongObjectType,
)


@contextmanager
def _unless_foreign(line: Line, shown: str, *signs: type[psycopg.Error]) -> Iterator[None]:
    """Refuse tables with our names that another program has created. Then nothing is changed."""
    try:
        yield
    except signs as error:
        raise StoreUnusable(
            f"{shown}: schema {line.schema} contains tables of another program",
            "name a schema for the queue alone in the URL: ?schema=NAME",
        ) from error


def _migrate(line: Line, shown: str, newest: int, scripts: str) -> None:
    try:
        with line.unhurried():
            line.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"queuectl {line.schema}",)
            )
            # A migration that waits for a long transaction would make every worker wait for the migration.
            line.execute("SET LOCAL lock_timeout = '3s'")
            for number in range(version(line) + 1, newest + 1):
                _apply(line, number, scripts)
    except errors.InsufficientPrivilege as error:
        raise StoreUnusable(f"{shown}: {str(error).splitlines()[0]}", _rights_needed(line)) from error


def _rights_needed(line: Line) -> str:
    """The hint with the command that the owner has to run for the current role, which a pooler may have changed."""
    schema, role = identifier(line.schema), identifier(line.value("SELECT current_user"))
    if version(line):
        return f"run queuectl status once as the owner of schema {schema}: that upgrades it"
    if line.value(_HAS_SCHEMA, (line.schema,)):
        return f"let the schema's owner run: GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"
    return f"let an owner of the database run: CREATE SCHEMA {schema} AUTHORIZATION {role}"


def _apply(line: Line, number: int, scripts: str) -> None:
    if number == 1 and not line.value(_HAS_SCHEMA, (line.schema,)):
        line.run("CREATE SCHEMA {schema}")
    with open(os.path.join(scripts, f"{number:04}.sql"), encoding="utf-8") as file:
        script = file.read().replace("{channel}", channel(line.schema))
    line.run(fill(script))
    line.run("INSERT INTO {schema}.migration (version) VALUES (%s)", (number,))


def channel(schema: str) -> str:
    """The channel of this queue's notifications."""
    return f"queuectl {schema}"
