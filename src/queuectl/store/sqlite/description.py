"""Reads the settings, versions, sizes and faults of a database."""

import os

import apsw
from msgspec.structs import replace

from queuectl.store.protocol import Description, Durability
from queuectl.store.sqlite import schema
from queuectl.store.sqlite.connect import Database
from queuectl.store.sqlite.directory import file_system, free_bytes
from queuectl.trust import quoted

LEAST_FREE = 1 << 20
"""Free bytes below which `doctor` reports a fault. The log of a few commits needs this much."""
_BACKPORTS = ((3, 50, 7), (3, 44, 6))


def describe(connection: apsw.Connection, database: Database) -> Description:
    """Describe the database. Reads over the writing connection, because its settings decide the durability.

    Raises StoreGone if the file was deleted or moved away: the open connection does not notice that.
    """
    database.refuse_replaced()
    try:
        return _described(connection, database)
    except FileNotFoundError:  # it was deleted since
        raise database.gone() from None


def _described(connection: apsw.Connection, database: Database) -> Description:
    synchronous = connection.pragma("synchronous")
    durability: Durability = "power-safe" if synchronous >= 2 else "memory-safe"
    return Description(
        url=f"sqlite:///{database.path}",
        durability=durability,
        schema=schema.version(connection),
        details=_details(connection, database),
        faults=tuple(_faults(connection, database)),
    )


def _details(connection: apsw.Connection, database: Database) -> dict[str, str]:
    jobs = connection.execute("SELECT coalesce(sum(n), 0) FROM tally").get
    return {
        "sqlite": apsw.sqlite_lib_version(),
        "journal_mode": str(connection.pragma("journal_mode")),
        "synchronous": str(connection.pragma("synchronous")),
        "application_id": f"{connection.pragma('application_id'):#x}",
        "file_system": file_system(os.path.dirname(database.path), database.mountinfo) or "unknown",
        "file_bytes": str(os.path.getsize(database.path)),
        "log_bytes": str(os.path.getsize(database.log) if os.path.exists(database.log) else 0),
        "free_bytes": str(free_bytes(database.path)),
        "may_grow_bytes": str(may_grow_bytes(connection, database.path)),
        "jobs": str(jobs),
        "workers": str(connection.execute("SELECT count(*) FROM worker").get),
    }


def _faults(connection: apsw.Connection, database: Database) -> list[str]:
    faults = []
    if not has_safe_log(apsw.sqlite_lib_version()):
        faults.append(
            f"SQLite {apsw.sqlite_lib_version()} can lose commits when its log is reset: use 3.51.3 or later"
        )
    if connection.pragma("journal_mode") != "wal":
        faults.append("the write-ahead log is off")
    free = free_bytes(database.path)
    if free < LEAST_FREE:
        faults.append(f"only {free} bytes are free on the file system of {database.path}")
    mode = os.stat(database.path).st_mode & 0o777
    if mode & 0o077:
        faults.append(
            f"{database.path} can be opened by others (mode {mode:o}): chmod 600 {quoted(database.path)}"
        )
    return faults


def may_grow_bytes(connection: apsw.Connection, path: str) -> int:
    """The bytes by which the database may still grow: free space up to SQLite's limit, and unused pages."""
    page, most, used, unused = (
        int(connection.pragma(name))
        for name in ("page_size", "max_page_count", "page_count", "freelist_count")
    )
    return min(free_bytes(path), (most - used) * page) + unused * page


def with_damage(connection: apsw.Connection, found: Description) -> Description:
    """The description with the damage that a check of the whole file finds. It reads every page."""
    damage = connection.execute("PRAGMA quick_check(1)").get
    if damage == "ok":
        return found
    return replace(found, faults=(*found.faults, f"the database is damaged: {damage}"))


def has_safe_log(version: str) -> bool:
    """Whether a release of SQLite has the fix of the WAL-reset race (3.51.3, and two older release lines)."""
    number = tuple(int(part) for part in version.split("."))
    return number >= (3, 51, 3) or any(number[:2] == fixed[:2] and number >= fixed for fixed in _BACKPORTS)
