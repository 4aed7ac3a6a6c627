"""Workers and what is asked of them; the small shared tables."""

from datetime import datetime
from typing import Any

import apsw
from msgspec.structs import replace

from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.store.driver import codec
from queuectl.store.protocol import Entry, Table
from queuectl.store.sqlite.sql import statements

SQL = statements("registry")


def heartbeat(connection: apsw.Connection, worker: Worker, now: datetime) -> Instruction | None:
    """Enter a worker or renew its entry; answers what is asked of it."""
    known = connection.execute(SQL["worker_by_id"], (worker.id,)).fetchone()
    asked = still_instructed(known[1], codec.worker(worker.id, known[0]), worker) if known else None
    entry = codec.to_json(replace(worker, heartbeat=now))
    connection.execute(SQL["keep_worker"], (worker.id, codec.micros(worker.started_at), entry, asked))
    return asked


def pending_instruction(connection: apsw.Connection, worker_id: str) -> Instruction | None:
    """What is asked of a worker."""
    known = connection.execute(SQL["worker_by_id"], (worker_id,)).fetchone()
    return known[1] if known else None


def instruct(connection: apsw.Connection, worker_id: str, instruction: Instruction) -> bool:
    """Ask something of a worker, if there is such a one."""
    connection.execute(SQL["ask"], (instruction, worker_id))
    return connection.changes() > 0


def workers(connection: apsw.Connection) -> list[Worker]:
    """All, in order of their start."""
    return [codec.worker(id, text) for id, text in connection.execute(SQL["workers"])]


def forget(connection: apsw.Connection, worker_id: str) -> None:
    """Remove a worker."""
    connection.execute(SQL["forget"], (worker_id,))


def read_table(connection: apsw.Connection, table: Table) -> dict[str, Entry]:
    """All entries of a table."""
    rows = connection.execute(SQL["entries"], (table,))
    return {key: codec.entry(value, version) for key, value, version in rows}


def compare_and_swap(
    connection: apsw.Connection, table: Table, key: str, value: dict[str, Any] | None, version: int
) -> bool:
    """Compare-and-swap of one entry; version 0 is an absent one, None removes."""
    if value is None and version == 0:
        return not connection.execute(SQL["entry_exists"], (table, key)).get
    if value is None:
        connection.execute(SQL["delete_entry"], (table, key, version))
    elif version == 0:
        connection.execute(SQL["insert_entry"], (table, key, codec.to_json(value)))
    else:
        connection.execute(SQL["update_entry"], (codec.to_json(value), table, key, version))
    return connection.changes() > 0
