"""The measurement of exports and imports: jobs a second out of a SQLite store, and into another store."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from msgspec.structs import replace

from bench.place import Kind, place
from bench.rows import Row, timed
from exported import segment
from factories import in_state
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk

MOVED = 20_000
BYTES = 100


def transfer(kind: Kind = "sqlite", goal: int = 5000) -> Row:
    """`queuectl export` to a file, then `queuectl import` of it into an empty store, each a process."""
    with place() as source, place(kind) as target:
        (source.root / "made.jsonl").write_bytes(segment(_jobs(), _output(), at=datetime.now(UTC)))
        source.run("import", str(source.root / "made.jsonl"))
        path = str(source.root / "queue.jsonl")
        out = MOVED / timed(lambda: source.run("export", path))
        into = MOVED / timed(lambda: target.run("import", path))
    slower = min(out, into)
    detail = (
        f"export {out:.0f}/s, import {into:.0f}/s of {MOVED} ended jobs with {BYTES} bytes of output each"
    )
    return Row("transfer", f"{slower:.0f} jobs/s", f"≥ {goal}/s", slower >= goal, detail)


def _jobs() -> Iterator[Job]:
    now = datetime.now(UTC)
    for n in range(1, MOVED + 1):
        job = in_state("completed", f"job-{n}", attempt_id=f"{n:032x}", now=now, command=f"echo {n}")
        yield replace(job, number=n, history=(replace(job.history[0], output_bytes=BYTES),))


def _output() -> Iterator[Chunk]:
    now = datetime.now(UTC)
    for n in range(1, MOVED + 1):
        yield Chunk(f"job-{n}", f"{n:032x}", 1, 0, now, 0, b"x" * BYTES)


TRANSFER: dict[str, Callable[[], Row]] = {
    "transfer": transfer,
    **{
        f"transfer-{kind}": partial(transfer, kind, 2000)
        for kind in ("postgres", "mongodb", "redis", "archived")
    },
}
