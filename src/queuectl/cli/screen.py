"""Shows the whole system on one screen: counts, queues, workers, running jobs, and problems."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from queuectl.cli.cells import progress_in_words, short
from queuectl.cli.render import fields, lay_out, wrapped
from queuectl.domain.ids import is_made
from queuectl.domain.instant import format_age
from queuectl.domain.job import State
from queuectl.service.queue_status import QueueStatus
from queuectl.service.status import Attention, Status
from queuectl.service.worker_status import SlotStatus, WorkerStatus
from queuectl.terminal import cut, height_of, paint, safe

if TYPE_CHECKING:
    from queuectl.cli.session import Session

LEAST_SHOWN = 3
"""Minimum number of rows of each part, even if the terminal is too low."""
LABEL = 9
OPEN: tuple[State, ...] = ("pending", "processing", "failed", "blocked", "held")
QUEUES = ("queue", "is", *OPEN, "oldest")
WORKERS = ("name", "is", "busy", "up", "host")
RUNNING = ("number", "for", "progress", "command", "worker")
FOLDED = frozenset((*OPEN, "is", "oldest", "progress"))
"""Columns that are omitted if all their values are empty."""


def print_status(session: "Session", found: Status) -> None:
    """Print one screen on a terminal. Otherwise, and with -v, print a line for each count, queue, worker and slot."""
    if session.on_terminal and not session.args.verbose:
        session.out.writelines(line + "\n" for line in screen(session, found))
        return
    _print_lines(session, found)
    for thing in found.attention:
        # Without a terminal, `status` has already printed this warning on stderr.
        if session.on_terminal or thing.kind != "unused_variables":
            session.print(f"! {safe(thing.text)}{f' ({safe(thing.hint)})' if thing.hint else ''}")


def screen(session: "Session", found: Status) -> Iterator[str]:
    """The lines of the screen. Long parts are cut so that the screen fits."""
    things = found.attention
    height = max(height_of(session.out.fileno()) - 12 - 2 * len(things), 3 * LEAST_SHOWN)
    store = f"{'store':<{LABEL}}  {safe(found.url)} ({found.durability})"
    yield cut(store, session.width, session.ellipsis) if session.args.watch else store
    yield from _labelled(session, "jobs", _counts(found))
    if recent := _recent(found):
        yield from _labelled(session, "last hour", recent)
    yield from _labelled(session, "workers", _slots(found))
    if queues := [queue for queue in found.queues if _matters(queue)]:
        yield ""
        yield from _part(
            session, QUEUES, [_queue(queue, found.now) for queue in queues], height // 3, "queue list"
        )
    if found.workers:
        yield ""
        yield from _part(
            session, WORKERS, [_worker(item, found.now) for item in found.workers], height // 3, "worker list"
        )
    running = [(slot, item) for item in found.workers for slot in item.slots if slot.job]
    if running:
        yield ""
        running.sort(key=lambda pair: pair[0].since or found.now)
        rows = [_running(slot, item, found.now) for slot, item in running]
        yield from _part(session, RUNNING, rows, height // 3, "list --state processing", ("worker",))
    if things:
        yield ""
    for thing in things:
        yield from _attention(session, thing)


def _part(
    session: "Session",
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    most: int,
    whole: str,
    dispensable: Sequence[str] = ("host", "held", "blocked", "failed", "processing", "up", "oldest"),
) -> Iterator[str]:
    """The lines of a table with at most `most` rows and without empty columns."""
    telling = [at for at, name in enumerate(columns) if name not in FOLDED or any(row[at] for row in rows)]
    most = max(most, LEAST_SHOWN)
    shown = [[row[at] for at in telling] for row in rows[:most]]
    yield from lay_out(session, [columns[at] for at in telling], shown, dispensable)
    if len(rows) > most:
        yield f"and {len(rows) - most} more: queuectl {whole}"


def _labelled(session: "Session", label: str, text: str) -> Iterator[str]:
    for line in wrapped(safe(text), session.width - LABEL - 2):
        yield f"{label:<{LABEL}}  {line}"
        label = ""


def _counts(found: Status) -> str:
    parts = [f"{count} {state}" for state, count in found.jobs.items() if count]
    return ", ".join(parts) or "none"


def _recent(found: Status) -> str:
    recent = found.last_hour
    parts = [_count(recent.retries, "retry", "retries")] if recent.retries else []
    parts += [_count(recent.deaths, "death", "deaths")] if recent.deaths else []
    return ", ".join(parts)


def _slots(found: Status) -> str:
    living = sum(1 for item in found.workers if item.state != "lost")
    if not living:
        return "none is running"
    ahead = f", {found.ahead} claimed ahead" if found.ahead else ""
    return f"{living} running, {found.processing} of {_count(found.live, 'slot', 'slots')} busy{ahead}"


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _matters(queue: QueueStatus) -> bool:
    """Whether a queue is shown: it has jobs that have not ended, is paused, or has a limit."""
    open_jobs = sum(queue.jobs.get(state, 0) for state in OPEN)
    return bool(open_jobs or queue.paused or queue.limit)


def _queue(queue: QueueStatus, now: datetime) -> list[str]:
    rule = "paused" if queue.paused else f"limit {queue.limit}" if queue.limit else ""
    counts = [str(queue.jobs.get(state, 0) or "") for state in OPEN]
    oldest = f"waits {format_age(now - queue.oldest_due)}" if queue.oldest_due else ""
    return [queue.name, rule, *counts, oldest]


def _worker(item: WorkerStatus, now: datetime) -> list[str]:
    worker = item.worker
    busy = sum(1 for slot in item.slots if slot.job)
    return [
        worker.name,
        item.state,
        f"{busy}/{worker.count}",
        format_age(now - worker.started_at),
        worker.host,
    ]


def _running(slot: SlotStatus, item: WorkerStatus, now: datetime) -> list[str]:
    id = slot.job or ""
    name = id if slot.number is None or not is_made(id) else str(slot.number)
    since = short(now - slot.since) if slot.since else ""
    return [name, since, progress_in_words(slot.progress), slot.command or "", item.worker.name]


def _attention(session: "Session", thing: Attention) -> Iterator[str]:
    mark = paint("!", "bold", "red" if thing.fault else "yellow") if session.in_colour else "!"
    for line in wrapped(safe(thing.text), session.width - 2):
        yield f"{mark} {line}"
        mark = " "
    if thing.hint:
        yield f"  {safe(thing.hint)}"  # a hint is never cut, so that a person can paste it


def _print_lines(session: "Session", found: Status) -> None:
    session.print(f"store: {found.url} ({found.durability})")
    session.print("")
    total = sum(found.jobs.values())
    fields(session, [("jobs", str(total)), *((state, str(count)) for state, count in found.jobs.items())])
    session.print("")
    for queue in found.queues:
        session.print(f"queue {safe(queue.name)}: {_queue_words(queue)}")
    if found.queues:
        session.print("")
    session.print(
        f"slots: {found.live} live, {found.processing} processing, {found.live - found.processing} idle"
        + (f", {found.ahead} jobs claimed ahead" if found.ahead else "")
    )
    for item in found.workers:
        _print_worker(session, item, found.now)
    if not found.workers:
        session.say("no worker is running; start one with: queuectl worker start")


def _queue_words(queue: QueueStatus) -> str:
    waits = [f"{queue.jobs[s]} {s}" for s in ("pending", "processing", "failed") if queue.jobs.get(s)]
    rules = ["paused"] if queue.paused else []
    rules += [f"limit {queue.limit}"] if queue.limit else []
    return ", ".join([*rules, *waits]) or "nothing waits"


def _print_worker(session: "Session", item: WorkerStatus, now: datetime) -> None:
    worker = item.worker
    note = f" ({worker.note})" if worker.note else ""
    session.print(
        f"worker {safe(worker.name)} on {safe(worker.host)}: {item.state}{note}, pid {worker.holder_pid}, "
        f"uptime {format_age(now - worker.started_at)}"
    )
    for slot in item.slots:
        what = (
            f"{slot.job} for {format_age(now - slot.since)}"
            if slot.job and slot.since
            else slot.job or "idle"
        )
        done = progress_in_words(slot.progress)
        session.print(f"  slot {slot.slot}: {safe(what)}" + (f", {safe(done)}" if done else ""))
