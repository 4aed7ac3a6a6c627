"""Reads and writes the registry of workers, their instructions, and the small shared tables."""

from collections.abc import Sequence

import apsw

from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.store.driver import codec
from queuectl.store.protocol import Entry, Table, Upcoming
from queuectl.store.sqlite.sql import statements

SQL = statements("registry")


def heartbeat(connection: apsw.Connection, worker: Worker) -> Instruction | None:
    """Enter a worker or renew its entry, with the time of the heartbeat. Returns its pending instruction."""
    known = connection.execute(SQL["worker_by_id"], (worker.id,)).fetchone()
    asked = still_instructed(known[1], codec.worker(worker.id, known[0]), worker) if known else None
    entry = (worker.id, codec.micros(worker.started_at), codec.to_json(worker), asked)
    connection.execute(SQL["keep_worker"], entry)
    return asked


def pending_instruction(connection: apsw.Connection, worker_id: str) -> Instruction | None:
    """The pending instruction of a worker."""
    known = connection.execute(SQL["worker_by_id"], (worker_id,)).fetchone()
    return known[1] if known else None


def instruct(connection: apsw.Connection, worker_id: str, instruction: Instruction) -> bool:
    """Store an instruction for a worker. Returns False if there is no such worker."""
    connection.execute(SQL["ask"], (instruction, worker_id))
    return connection.changes() > 0


def workers(connection: apsw.Connection) -> list[Worker]:
    """All workers, in order of their start."""
    return [codec.worker(id, text) for id, text in connection.execute(SQL["workers"])]


def forget(connection: apsw.Connection, worker_id: str) -> None:
    """Remove a worker."""
    connection.execute(SQL["forget"], (worker_id,))


def read_table(connection: apsw.Connection, table: Table, keys: Sequence[str] | None) -> dict[str, Entry]:
    """All entries of a table, or those with these keys."""
    if keys is None:
        rows = connection.execute(SQL["entries"], (table,))
    else:
        rows = connection.executemany(SQL["entry"], [(table, key) for key in keys])
    return {key: codec.entry(value, version) for key, value, version in rows}


def upcoming(connection: apsw.Connection, limit: int) -> list[Upcoming]:
    """The entries that need work, soonest first."""
    rows = connection.execute(SQL["upcoming"], (limit,))
    return [codec.upcoming(*row) for row in rows]
