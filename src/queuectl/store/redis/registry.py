"""Reads and writes the registry of workers, their instructions, and the small shared tables."""

from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.store.driver import codec
from queuectl.store.protocol import Entry, Table
from queuectl.store.redis.connect import Line


def heartbeat(line: Line, worker: Worker) -> Instruction | None:
    """Enter a worker or renew its entry, with the time of the heartbeat. Returns its pending instruction."""
    known = line.call("HGET", line.key("workers"), worker.id)
    seen = pending_instruction(line, worker.id)
    left = still_instructed(seen, codec.worker(worker.id, known), worker) if known else None
    return _request(line.run("heartbeat", worker.id, codec.to_json(worker), seen or "", left or ""))


def pending_instruction(line: Line, worker_id: str) -> Instruction | None:
    """The pending instruction of a worker."""
    return _request(line.call("HGET", line.key("asked"), worker_id))


def instruct(line: Line, worker_id: str, instruction: Instruction) -> bool:
    """Store an instruction for a worker. Returns False if there is no such worker."""
    return bool(line.run("instruct", worker_id, instruction))


def workers(line: Line) -> list[Worker]:
    """All workers, in order of their start."""
    flat = line.call("HGETALL", line.key("workers"))
    pairs = zip(flat[::2], flat[1::2], strict=True)
    found = [codec.worker(id.decode(errors="replace"), text) for id, text in pairs]
    return sorted(found, key=lambda worker: (worker.started_at, worker.id))


def forget(line: Line, worker_id: str) -> None:
    """Remove a worker."""
    line.run("forget_worker", worker_id)


def read_table(line: Line, table: Table) -> dict[str, Entry]:
    """All entries of a table."""
    flat = line.call("HGETALL", line.key(f"shared:{table}"))
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {key.decode(errors="replace"): _entry(text) for key, text in pairs}


def compare_and_swap(line: Line, table: Table, key: str, value: str | None, version: int) -> bool:
    """Write or remove an entry if its version is this one. Returns whether it did."""
    return bool(line.run("compare_and_swap", table, key, version, *(() if value is None else (value,))))


def _request(text: bytes | None) -> Instruction | None:
    return text.decode() if text else None  # type: ignore[return-value]


def _entry(text: bytes) -> Entry:
    version, _, value = text.partition(b" ")
    return codec.entry(value, int(version) if version.isdigit() else 0)
