"""Reads and writes the registry of workers, their instructions, and the small shared tables."""

from collections.abc import Sequence
from typing import Any

from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.store.driver import codec
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import Entry, Table, Upcoming

SQL = statements("registry")


def heartbeat(line: Line, worker: Worker) -> Instruction | None:
    """Enter a worker or renew its entry, with the time of the heartbeat. Returns its pending instruction."""
    known = line.rows(SQL["worker_by_id"], (worker.id,))
    seen = known[0][1] if known else None
    left = still_instructed(seen, codec.worker(worker.id, known[0][0]), worker) if known else None
    entry = {
        "id": worker.id,
        "started_at": codec.micros(worker.started_at),
        "worker": codec.to_json(worker),
        "seen": seen,
        "left": left,
    }
    asked: Instruction | None = line.value(SQL["keep_worker"], entry)
    line.run(SQL["fold"])
    return asked


def pending_instruction(line: Line, worker_id: str) -> Instruction | None:
    """The pending instruction of a worker."""
    known = line.rows(SQL["worker_by_id"], (worker_id,))
    return known[0][1] if known else None


def instruct(line: Line, worker_id: str, instruction: Instruction) -> bool:
    """Store an instruction for a worker. Returns False if there is no such worker."""
    known = line.run(SQL["ask"], (instruction, worker_id)) > 0
    line.run(SQL["ring"], ("work",))
    return known


def workers(line: Line) -> list[Worker]:
    """All workers, in order of their start."""
    return [codec.worker(id, text) for id, text in line.rows(SQL["workers"])]


def forget(line: Line, worker_id: str) -> None:
    """Remove a worker."""
    line.run(SQL["forget"], (worker_id,))
    line.run(SQL["ring"], ("end",))


def read_table(line: Line, table: Table, keys: Sequence[str] | None) -> dict[str, Entry]:
    """All entries of a table, or those with these keys."""
    if keys is None:
        return _entries(line.rows(SQL["entries"], (table,)))
    return _entries(line.rows(SQL["some_entries"], (table, list(keys))))


def _entries(rows: list[tuple[Any, ...]]) -> dict[str, Entry]:
    return {key: codec.entry(value, version) for key, value, version in rows}


def upcoming(line: Line, limit: int) -> list[Upcoming]:
    """The entries that need work, soonest first."""
    return [codec.upcoming(*row) for row in line.rows(SQL["upcoming"], (limit,))]
