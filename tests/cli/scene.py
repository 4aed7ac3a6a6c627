"""One queue in a fixed state: `python -m cli.scene WORDS…` creates the queue and runs a command line on it.

The store's clock stands still, jobs and workers have fixed times and numbers, so that what a terminal shows can be
compared with a file to the letter.
"""

import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from factories import LEASE, new_job, report
from queuectl.cli.main import main
from queuectl.clock import Clock
from queuectl.domain import lifecycle
from queuectl.domain.ids import make_id
from queuectl.domain.job import Job
from queuectl.domain.outcome import Outcome
from queuectl.domain.output import COMBINED, Chunk
from queuectl.domain.worker import Slot, Worker
from queuectl.store.protocol import Description
from queuectl.store.sqlite import SqliteStore

MOMENT = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def ago(**span: float) -> datetime:
    """A time before the time at which the scene is read."""
    return MOMENT - timedelta(**span)


def made(number: int, **fields: object) -> Job:
    """A job with an id in the form of a generated id."""
    now = fields.pop("now", ago(minutes=10))
    assert isinstance(now, datetime)
    return new_job(str(fields.pop("id", make_id(now, number))), now=now, **fields)


def started(job: Job, at: datetime, worker: str, slot: int) -> Job:
    """Let the job run since this time."""
    claimed = lifecycle.claim(job, attempt_id=f"{slot:032x}", worker=worker, lease=LEASE, now=at)
    assert claimed.lease is not None
    until = MOMENT + timedelta(seconds=20)
    return replace(claimed, lease=replace(claimed.lease, slot=slot, pid=4711, started_at=at, until=until))


def ended(job: Job, at: datetime, took: float, code: int, output: str = "") -> Job:
    """Let the job end at this time, after this many seconds, with this exit code."""
    begun = at - timedelta(seconds=took)
    running = lifecycle.claim(job, attempt_id="a" * 32, worker="w1", lease=LEASE, now=begun)
    said = report(exit_code=code, now=at, started_at=begun, host="atlas", pid=4711, output_tail=output)
    said = replace(
        said, outcome=Outcome(kind="exited", exit_code=code), user_cpu=took / 2, output_bytes=len(output)
    )
    return lifecycle.finish(running, said, now=at, random_number=0.5)


def jobs() -> Iterator[Job]:
    """Jobs in every state."""
    yield ended(made(1, command="echo hello"), ago(minutes=9), 0.012, 0, "hello\n")
    yield ended(
        made(2, id="nightly", command="pg_dump --format custom jobs > /backup/jobs.dump", max_retries=0),
        ago(minutes=2), 63, 1, "pg_dump: error: connection to server failed\n",
    )  # fmt: skip
    yield ended(
        made(3, command="curl -sf https://example.org/data.json", max_retries=3), ago(seconds=1), 1.2, 22
    )
    yield started(made(4, now=ago(hours=2), command="make -j4 all"), ago(minutes=3, seconds=12), "w1", 0)
    yield started(
        made(5, now=ago(hours=3), queue="gpu", command="train --epochs 12 --data /srv/data/images"),
        ago(hours=2),
        "w1",
        1,
    )
    yield made(6, queue="gpu", command="train --epochs 24 --data /srv/data/images")
    yield made(7, command="echo 'naïve 日本語 text' | mail -s 'a long subject line' ada@example.org")
    yield made(8, command="make report", hold=True)
    yield made(9, command="make clean", run_at=MOMENT + timedelta(minutes=30))


def worker() -> Worker:
    """A worker with two busy slots."""
    return Worker(
        id="w1",
        name="atlas-77",
        host="atlas",
        boot_id="b",
        holder_pid=77,
        agent_pid=78,
        version="0.1.0",
        count=4,
        started_at=ago(hours=5),
        queues=("default",),
        slots=tuple(Slot(slot=n) for n in range(4)),
    )


def well() -> Iterator[Job]:
    """A scene without any report that needs a person."""
    yield ended(made(1, command="echo hello"), ago(minutes=9), 0.012, 0, "hello\n")
    yield made(2, command="make clean", run_at=MOMENT + timedelta(minutes=30))


def batch() -> Iterator[Job]:
    """A little of everything, and a batch that has ended."""
    yield from jobs()
    yield ended(made(10, command="make a", batch="night"), ago(minutes=4), 2, 0)
    yield ended(made(11, command="make b", batch="night", max_retries=0), ago(minutes=4), 2, 1)


PRINTED = (
    b"\x1b[1mbuild\x1b[0m of 3 parts\n",
    b"part 1:   5%\rpart 1:  50%\rpart 1: \x1b[32mdone\x1b[0m\r\n",
    b"\x1b[2J\x1b[Hcleared\x07, \x1b]0;a title\x07 and \xff no UTF-8\n",
    "a long line with wide characters: 日本語 ".encode() * 3 + b"\n",
    b"part 2: \x1b[33m17%",
)
"""What job 4 has printed: colours, lines that are rewritten, orders to the terminal, and an end that is still open."""


def scene() -> None:
    """Put it into the default store; `SCENE` names another one."""
    folder = os.path.join(os.environ["XDG_DATA_HOME"], "queuectl")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    store = SqliteStore(os.path.join(folder, "queue.db"))
    found = list({"well": well, "batch": batch}.get(os.environ.get("SCENE", ""), jobs)())
    store.add(found)
    store.heartbeat(worker())
    if os.environ.get("SCENE") == "logs":
        job, offset = found[3], 0
        for n, data in enumerate(PRINTED, 1):
            store.write_output([Chunk(job.id, job.attempt_id or "", n, COMBINED, MOMENT, offset, data)])
            offset += len(data)
    store.close()


def settle() -> None:
    """Replace all values that differ between hosts."""
    fixed = {
        "sqlite": "3.45.0", "file_system": "ext4", "file_bytes": "90112", "log_bytes": "0",
        "free_bytes": "239619014656", "may_grow_bytes": "239619014656",
    }  # fmt: skip
    describe = SqliteStore.describe

    def described(store: SqliteStore, *, thorough: bool = False) -> Description:
        said = describe(store, thorough=thorough)
        return replace(said, details={name: fixed.get(name, value) for name, value in said.details.items()})

    SqliteStore.describe = described  # type: ignore[method-assign]
    Clock.now = lambda _clock: MOMENT  # type: ignore[method-assign]
    platform.python_version, platform.system, platform.release = (
        lambda: "3.12.1", lambda: "Linux", lambda: "6.8.0",
    )  # fmt: skip


if __name__ == "__main__":
    settle()
    SqliteStore.now = lambda _store: MOMENT  # type: ignore[method-assign]
    if not os.path.exists(os.environ["XDG_DATA_HOME"]):
        scene()
    sys.exit(main(sys.argv[1:]))
