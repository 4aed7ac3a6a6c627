"""Reads and writes the registry of workers, their instructions, and the small shared tables."""

from collections.abc import Sequence

from queuectl.domain.worker import Instruction, Worker, still_instructed
from queuectl.store.driver import codec
from queuectl.store.protocol import Entry, Table, Upcoming
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


def read_table(line: Line, table: Table, keys: Sequence[str] | None) -> dict[str, Entry]:
    """All entries of a table, or those with these keys."""
    if keys is not None:
        found = line.call("HMGET", line.key(f"shared:{table}"), *keys)
        return {key: _entry(text) for key, text in zip(keys, found, strict=True) if text is not None}
    flat = line.call("HGETALL", line.key(f"shared:{table}"))
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {key.decode(errors="replace"): _entry(text) for key, text in pairs}


def upcoming(line: Line, limit: int) -> list[Upcoming]:
    """The entries that need work, soonest first."""
    return [_upcoming(*row) for row in line.run("upcoming", limit)]


def _upcoming(name: bytes, text: bytes, due: bytes) -> Upcoming:
    table, _, key = name.decode(errors="replace").partition("/")
    return Upcoming(table, key, _entry(text), codec.nearest(int(float(due))))  # type: ignore[arg-type]


def _request(text: bytes | None) -> Instruction | None:
    return text.decode() if text else None  # type: ignore[return-value]


def _entry(text: bytes) -> Entry:
    version, _, value = text.partition(b" ")
    return codec.entry(value, int(version) if version.isdigit() else 0)
