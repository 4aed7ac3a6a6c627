"""The columns of a list of jobs: short and with relative times for people, complete and in UTC for programs."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from queuectl.domain.ids import is_made
from queuectl.domain.instant import format_age, format_instant
from queuectl.domain.job import Job, Progress
from queuectl.domain.quantity import format_duration
from queuectl.errors import InvalidInput

if TYPE_CHECKING:
    from queuectl.cli.session import Session

COLUMNS = ("number", "id", "state", "queue", "priority", "attempts", "age", "command", "error")
"""The columns if the output is no terminal, unless --columns names others."""
FOR_EYES = ("number", "id", "state", "queue", "when", "took", "command", "error")
ALL_COLUMNS = (
    *COLUMNS,
    "when",
    "took",
    "run_at",
    "batch",
    "tags",
    "exit_code",
    "worker",
    "progress",
    "created_at",
    "updated_at",
    "finished_at",
)
WIDE = (
    "number",
    "id",
    "state",
    "queue",
    "priority",
    "attempts",
    "when",
    "took",
    "batch",
    "tags",
    "command",
    "error",
)
LESS = ("tags", "batch", "age", "queue", "priority", "attempts", "took", "when", "id", "error")
"""Columns to omit if the terminal is too narrow, the least important first."""


class Form(NamedTuple):
    """The format of values.

    eyes           for a person: short, with times relative to `now`
    full           times with date and time zone: local, or UTC with `utc`
    generated_ids  also show the ids that queuectl has generated
    """

    now: datetime
    eyes: bool = False
    full: bool = False
    utc: bool = False
    generated_ids: bool = True

    def instant(self, at: datetime | None) -> str:
        """A time in this format; empty for None."""
        if at is None:
            return ""
        if not self.eyes:
            return format_instant(at)
        if self.utc:
            return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self.full:
            return at.astimezone().isoformat(" ", "seconds")
        return relative(at, self.now)

    def both(self, at: datetime | None) -> str:
        """A time with its distance from now. The date is omitted if it is today."""
        if at is None or not self.eyes or self.utc or self.full:
            return self.instant(at)
        local, today = at.astimezone(), self.now.astimezone()
        other_day = "%d %b %H:%M" if local.year == today.year else "%F %H:%M"
        shape = "%H:%M:%S" if local.date() == today.date() else other_day
        return f"{local.strftime(shape)} ({relative(at, self.now)})"


def form_of(session: "Session", now: datetime) -> Form:
    """The format that the flags and the terminal decide."""
    args = session.args
    full = bool(args.verbose)
    return Form(
        now,
        eyes=session.on_terminal,
        full=full,
        utc=bool(getattr(args, "utc", False)),
        generated_ids=full or not session.on_terminal or bool(getattr(args, "wide", False)),
    )


def columns_of(text: str | None) -> tuple[str, ...] | None:
    """The columns in a comma-separated list; None for an empty list. Raises InvalidInput for an unknown column."""
    if not text:
        return None
    columns = tuple(word.strip() for word in text.split(","))
    for column in columns:
        if column not in ALL_COLUMNS:
            raise InvalidInput(f"there is no column {column!r}", f"one of {', '.join(ALL_COLUMNS)}")
    return columns


def less_of(named: tuple[str, ...] | None, form: Form) -> tuple[str, ...]:
    """The columns to omit on a narrow terminal. A column that --columns names is never omitted."""
    if named:
        return ()
    return (*(column for column in LESS if column != "when"), "when") if form.utc else LESS


def columns_for(session: "Session", jobs: list[Job], form: Form) -> tuple[str, ...]:
    """The columns that have a value for at least one of these jobs."""
    if not session.on_terminal:
        return COLUMNS
    if getattr(session.args, "wide", False):
        return WIDE
    empty = set()
    if len({job.queue for job in jobs}) < 2:
        empty.add("queue")
    if not form.generated_ids and all(is_made(job.id) for job in jobs):
        empty.add("id")
    if not any(job.last_error and job.state != "completed" for job in jobs):
        empty.add("error")
    return tuple(column for column in FOR_EYES if column not in empty)


def cell(job: Job, column: str, form: Form, *, named: bool = False) -> str:
    """The value of one column. `named`: --columns names this column, so also a generated id is shown."""
    if column == "id":
        return job.id if named or form.generated_ids or not is_made(job.id) else ""
    if column == "command":
        return job.spec.title()
    if column == "error":
        return _error(job, form)
    if column == "age":
        return format_age(form.now - job.created_at)
    if column == "when":
        return form.instant(when(job))
    if column == "took":
        return took(job, form.now)
    if column == "tags":
        return ",".join(job.spec.tags)
    if column == "batch":
        return job.spec.batch or ""
    if column == "progress":
        return progress_in_words(job.progress)
    if column == "worker":
        return job.lease.worker if job.lease else ""
    value = getattr(job, column)
    return "" if value is None else form.instant(value) if column.endswith("_at") else str(value)


def progress_in_words(progress: Progress | None) -> str:
    """The progress of a job, as `40% half of the pages`; empty for None."""
    if progress is None:
        return ""
    return f"{progress.percent}%" + (f" {progress.message}" if progress.message else "")


def _error(job: Job, form: Form) -> str:
    """The last error. For people it is empty for a completed job, whose failed attempts are in its history."""
    if form.eyes and job.state == "completed":
        return ""
    return job.last_error or ""


def when(job: Job) -> datetime:
    """The most relevant time in this state: the end, the start, the next run, or the enqueue."""
    if job.ended:
        return job.finished_at or job.updated_at
    if job.lease:
        return job.lease.started_at or job.lease.claimed_at
    return job.created_at if job.state in ("blocked", "held") else job.run_at


def took(job: Job, now: datetime) -> str:
    """The run time of the running attempt so far, or of the last attempt."""
    if job.lease:
        return short(now - (job.lease.started_at or job.lease.claimed_at))
    last = job.history[-1] if job.history else None
    if last is None or last.started_at is None:
        return ""
    return short(last.finished_at - last.started_at)


def relative(at: datetime, now: datetime) -> str:
    """The distance of a time from now, as `12s ago`, `in 3m` or `now`."""
    distance = now - at
    if abs(distance) < timedelta(seconds=1):
        return "now"
    return f"{format_age(distance)} ago" if distance > timedelta() else f"in {format_age(-distance)}"


def short(span: timedelta) -> str:
    """A duration with at most two units, as `12ms`, `3.2s`, `4m10s` or `2d3h`."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 10:
        return format_duration(timedelta(seconds=round(seconds, 3 if seconds < 1 else 1)))
    step = 1 if seconds < 3600 else 60 if seconds < 86400 else 3600
    return format_duration(timedelta(seconds=int(seconds // step) * step))
