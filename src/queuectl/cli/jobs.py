"""The commands that read jobs: `status`, `show` and `list`."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, get_args

from queuectl.cli.cells import (
    ALL_COLUMNS,
    COLUMNS,
    Form,
    cell,
    columns_for,
    columns_of,
    form_of,
    less_of,
    progress_in_words,
)
from queuectl.cli.document import to_json
from queuectl.cli.references import JOB_HELP, JOBS_HELP, reference, single_references
from queuectl.cli.render import fields, lay_out, table
from queuectl.cli.screen import print_status, screen
from queuectl.cli.selecting import WHERE_HELP, wanted_of
from queuectl.domain.ids import is_made
from queuectl.domain.job import STATES, Attempt, Cause, Job
from queuectl.domain.quantity import format_duration
from queuectl.domain.query import Found, Page, Sort, Unreadable
from queuectl.errors import InvalidInput
from queuectl.service import shapes
from queuectl.service.attention import worker_in_words
from queuectl.terminal import safe

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.service.matching import Wanted

ATTEMPT_COLUMNS = (
    "attempt", "outcome", "code", "signal", "started", "duration", "cpu", "max rss", "output", "host", "error"
)  # fmt: skip
WATCHED = 200
LESS_OF_ATTEMPTS = ("host", "max rss", "cpu", "output", "signal", "error", "started")


def status_options(parser: "Parser") -> None:
    """Add the arguments of `status`: a job (optional), and --watch."""
    parser.add_argument("job", nargs="?", metavar="JOB", help=JOB_HELP)
    parser.add_argument("--where", metavar="FILTER", help="count the jobs that match, per state and queue")
    watch_option(parser)
    parser.example("queuectl status", "the state of the queue")
    parser.example("queuectl status --where 'since:1h tag:import'", "counts of the jobs that match")
    parser.example("queuectl status @last", "a summary of the newest job")
    parser.example("queuectl status --json", "for programs")


def status(session: "Session") -> int:
    """Print a summary of the whole system, or of one job."""
    if session.args.where is not None:
        return _print_counts(session)
    if session.args.job:
        return print_job(session, session.queue.show(reference(session.args.job)), short=True)
    if session.args.watch:
        from queuectl.cli.watch import watch

        return watch(session, lambda: screen(session, session.queue.status()))
    if session.json or not session.on_terminal:
        session.say_unused()  # on a terminal, `print_status` shows this warning
    found = session.queue.status()
    if session.json:
        session.emit(shapes.status(found))
    else:
        print_status(session, found)
    return 0


def _print_counts(session: "Session") -> int:
    """Print how many jobs match a filter, per state and queue."""
    if session.args.job or session.args.watch:
        raise InvalidInput("--where cannot be combined with a job or --watch")
    counts = session.queue.counts(wanted_of(session, names=()))
    if session.json:
        session.emit(shapes.counted(counts))
        return 0
    states = counts.states()
    shown = ", ".join(f"{states[state]} {state}" for state in STATES if states.get(state))
    total = counts.total()
    session.print(f"{total} job{'' if total == 1 else 's'}" + (f": {shown}" if shown else ""))
    return 0


def watch_option(parser: "Parser") -> None:
    """Add the option --watch, which redraws the screen regularly."""
    parser.flag("--watch", "-w", help="redraw every 2 s; q ends")


def show_options(parser: "Parser") -> None:
    """Add the arguments of `show`: the job."""
    parser.add_argument("job", nargs="+", metavar="JOB", help=JOBS_HELP)
    parser.example("queuectl show @last", "the newest job")
    parser.example("queuectl show 1 --json", "job number 1, for programs")


def show(session: "Session") -> int:
    """Print everything about a job, with its attempts."""
    found = [session.queue.show(name) for name in single_references(session)]
    if len(found) > 1 and session.json:
        session.emit(shapes.document(jobs=[shapes.job(job) for job in found]))
        return 0
    for at, job in enumerate(found):
        if at:
            session.print("")
        print_job(session, job)
    return 0


def list__options(parser: "Parser") -> None:
    """Add the arguments of `list`: the filter, the maximum number, the order and the format."""
    parser.add_argument("--state", metavar="S,…", help=f"only these states: {', '.join(STATES)}")
    parser.add_argument("--queue", "-Q", metavar="Q", help="only this queue")
    parser.add_argument("--tag", metavar="T", help="only with this tag")
    parser.add_argument("--batch", metavar="B", help="only of this batch")
    parser.add_argument("--since", metavar="D", help="only those enqueued within this time")
    parser.add_argument("--where", metavar="FILTER", help=WHERE_HELP)
    parser.add_argument("--limit", metavar="N", default="50", help="at most this many (default 50)")
    parser.flag("--all", help="no limit")
    parser.add_argument(
        "--sort",
        choices=get_args(Sort),
        default="created",
        help="newest, last changed, next to run, oldest, or last ended first",
    )
    parser.add_argument(
        "--after", metavar="CURSOR", help="continue after a page: the `next` of its JSON document"
    )
    parser.add_argument("--columns", metavar="C,…", help=f"of {', '.join(ALL_COLUMNS)}")
    parser.flag("--wide", help="all columns, without cutting")
    parser.flag("--utc", help="times in full and in UTC, not relative to now")
    parser.flag("--jsonl", help="one JSON job per line")
    watch_option(parser)
    parser.example("queuectl list", "the newest fifty")
    parser.example("queuectl list --state pending,failed --sort next", "what runs next")
    parser.example("queuectl list --since 1h --columns id,state,error", "the last hour, three columns")
    parser.example("queuectl list --where 'exit:1 cmd:~make -queue:mail'", "a filter with three terms")


def list_(session: "Session") -> int:
    """Print the jobs that match, one per line."""
    args = session.args
    columns = columns_of(args.columns)
    wanted = wanted_of(session)
    return print_jobs(session, wanted, limit_of(args), columns)


def print_jobs(
    session: "Session", wanted: "Wanted", limit: int | None, columns: tuple[str, ...] | None
) -> int:
    """Print the jobs that match page by page, so that a million jobs need only the memory of one page."""
    if session.args.watch:
        from queuectl.cli.watch import watch

        return watch(session, lambda: _newest(session, wanted, limit, columns))
    shown: list[Job] = []
    damaged: dict[int, Unreadable] = {}
    cursor: str | None = session.args.after
    looked_at: int | None = None
    for piece in _pages(session, wanted, limit):
        cursor, looked_at = piece.next, piece.looked_at
        damaged |= {each.number: each for each in piece.unreadable}
        if not _print_page(session, piece.jobs, columns):
            shown += piece.jobs
    end = Found(shown, cursor, list(damaged.values()), looked_at if cursor else None)
    _print_rest(session, end, columns)
    return 0


def _print_page(session: "Session", jobs: list[Job], columns: tuple[str, ...] | None) -> bool:
    """Print the jobs of one page, if the format allows printing page by page."""
    if session.args.jsonl:
        for job in jobs:
            session.emit(shapes.job(job))
    elif session.json or session.on_terminal:
        return False
    else:
        _print_rows(session, jobs, columns)
    return True


def _pages(session: "Session", wanted: "Wanted", limit: int | None) -> Iterator[Found]:
    """The pages of a list until `limit` jobs were listed. If `limit` is None, all pages."""
    cursor, left = session.args.after, limit
    while left != 0:
        page = Page(limit=min(left or 1000, 1000), after=cursor, sort=session.args.sort)
        piece = session.queue.list(wanted, page)
        yield piece
        cursor, left = piece.next, None if left is None else left - len(piece.jobs)
        if cursor is None or (piece.looked_at is not None and limit is not None):
            return


def _print_rest(session: "Session", end: Found, columns: tuple[str, ...] | None) -> None:
    """Print what follows the last page: the document or the table, the unreadable jobs, and how to list more jobs."""
    if session.args.jsonl:
        for each in end.unreadable:
            session.emit(shapes.line_of_unreadable(each))
        return
    if session.json:
        shown = [shapes.job(job) for job in end.jobs]
        session.emit(shapes.listed(shown, end.next, end.unreadable, end.looked_at))
        return
    if end.jobs:
        _print_rows(session, end.jobs, columns)
    if end.unreadable:
        _print_unreadable(session, end.unreadable, columns)
    if end.looked_at is not None:
        session.say(
            f"{end.looked_at} more jobs were looked at; to look further: --all, or --after {end.next}"
        )
    elif end.next is not None:
        session.say(f"there are more jobs: use --limit N, --all, or --after {end.next}")


def print_job(session: "Session", job: Job, *, short: bool = False) -> int:
    """Print one job: everything, or with `short` a summary."""
    if session.json:
        session.emit(shapes.shown(job))
        return 0
    form = form_of(session, session.queue.now())
    lines = _lines(job, short, form) + ([] if short else _running(session, job, form))
    fields(session, [(name, safe(value)) for name, value in lines])
    if not short and job.history:
        session.print("")
        _print_attempts(session, job, form)
    if job.output_tail and not short:
        session.print("")
        session.print("last output:")
        session.out.writelines(f"  {safe(line)}\n" for line in job.output_tail.splitlines())
    return 0


def _print_attempts(session: "Session", job: Job, form: Form) -> None:
    table(session, ATTEMPT_COLUMNS, [_attempt_row(each, form) for each in job.history], LESS_OF_ATTEMPTS)
    for each in job.history:
        if each.ended_processes:
            what = "1 process" if each.ended_processes == 1 else f"{each.ended_processes} processes"
            session.print(f"attempt {each.attempt} left {what} running: ended (--allow-detached keeps them)")


def limit_of(args: object) -> int | None:
    """The maximum number of jobs. Returns None for all jobs."""
    if getattr(args, "all", False):
        return None
    text = str(getattr(args, "limit", "50"))
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= 1_000_000:
        raise InvalidInput(f"--limit: {text!r} is not a count from 1 to 1000000", "--all shows all")
    return int(text)


def _newest(
    session: "Session", wanted: "Wanted", limit: int | None, named: tuple[str, ...] | None
) -> Iterator[str]:
    """The lines of the first page. A screen shows no more."""
    page = Page(limit=min(limit or WATCHED, WATCHED), sort=session.args.sort)
    jobs = session.queue.list(wanted, page).jobs
    yield from lay_out(session, *_rows(session, jobs, named))


def _print_rows(session: "Session", jobs: list[Job], named: tuple[str, ...] | None) -> None:
    table(session, *_rows(session, jobs, named))


def _rows(
    session: "Session", jobs: list[Job], named: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[list[str]], tuple[str, ...]]:
    form = form_of(session, session.queue.now())
    columns = named or columns_for(session, jobs, form)
    rows = [[cell(job, column, form, named=named is not None) for column in columns] for job in jobs]
    return columns, rows, less_of(named, form)


def _print_unreadable(session: "Session", damaged: list[Unreadable], named: tuple[str, ...] | None) -> None:
    """Print the number and the fault of each unreadable job, in the columns of the list."""
    columns = named or (("number", "id", "state", "error") if session.on_terminal else COLUMNS)
    known = [
        {"number": str(each.number), "id": each.id, "state": "unreadable", "error": each.reason}
        for each in damaged
    ]
    table(session, columns, [[words.get(column, "") for column in columns] for words in known], ())


def _lines(job: Job, short: bool, form: Form) -> list[tuple[str, str]]:
    spec = job.spec
    lines = [
        (
            "job",
            f"{job.number} (id {job.id})"
            if form.eyes and is_made(job.id)
            else f"{job.id} (number {job.number})",
        ),
        ("command", spec.title()),
        ("state", job.state + (f" ({_CAUSES[job.cause]})" if job.cause else "")),
        (
            "attempts",
            f"{job.attempts} (retries: {_budget(job)})" + (f", lost {job.losses}" if job.losses else ""),
        ),
        ("progress", _progress(job, form)),
        ("error", job.last_error or ""),
        ("exit code", "" if job.exit_code is None else str(job.exit_code)),
        ("queue", f"{job.queue}, priority {job.priority}"),
        ("run at", "" if form.eyes and job.ended else form.both(job.run_at)),
    ]
    if not short:
        lines += _more_lines(job, form)
    return [(name, value) for name, value in lines if value]


def _more_lines(job: Job, form: Form) -> list[tuple[str, str]]:
    spec = job.spec
    times = (("created", job.created_at), ("started", job.started_at), ("finished", job.finished_at))
    return [
        *((name, form.both(at)) for name, at in times),
        ("cwd", spec.cwd or ""),
        ("environment", " ".join(sorted(spec.env))),
        ("shell", spec.shell or ""),
        ("timeout", format_duration(spec.timeout) if spec.timeout else ""),
        ("unique key", spec.unique_key or ""),
        ("after", " ".join(f"{parent.job}:{parent.on}" for parent in spec.after)),
        ("waiting for", "" if job.ended else " ".join(job.waiting_for)),
        ("batch", spec.batch or ""),
        ("tags", " ".join(spec.tags)),
        ("label", spec.label or ""),
        ("meta", to_json(spec.meta) if spec.meta else ""),
        ("cancel", "" if job.ended else _cancel_request(job, form)),
    ]


def _progress(job: Job, form: Form) -> str:
    return f"{progress_in_words(job.progress)}, {form.both(job.progress.at)}" if job.progress else ""


def _cancel_request(job: Job, form: Form) -> str:
    request = job.cancel_requested
    if request is None:
        return ""
    return f"asked by {request.by} at {form.both(request.at)} {request.reason or ''}".strip()


def _running(session: "Session", job: Job, form: Form) -> list[tuple[str, str]]:
    """The name of the worker that runs the job, and its lease."""
    lease = job.lease
    if lease is None:
        return []
    known = {item.worker.id: worker_in_words(item) for item in session.queue.workers()}
    where = known.get(lease.worker, f"worker {lease.worker}") + (f", pid {lease.pid}" if lease.pid else "")
    return [("running", f"{where}, lease until {form.both(lease.until)}")]


_CAUSES: dict[Cause, str] = {
    "person": "by a person",
    "parent": "because of a parent",
    "skipped": "its parent did not fail",
    "max_fails": "its batch had too many failures",
    "overlap": "replaced by the next run of its schedule",
    "moved": "an import has not finished it",
}


def _budget(job: Job) -> str:
    limit = job.spec.retry.max_retries
    # The last failure counts as a used retry only when that retry runs.
    used = job.failures if job.state in ("processing", "completed") else max(job.failures - 1, 0)
    return f"{used} used, no limit" if limit < 0 else f"{min(used, limit)} of {limit} used"


def _attempt_row(attempt: Attempt, form: Form) -> list[str]:
    shape = shapes.attempt(attempt)
    cpu = None if shape["user_cpu"] is None else f"{shape['user_cpu'] + (shape['system_cpu'] or 0):.2f}s"
    rss = None if shape["max_rss"] is None else f"{shape['max_rss'] / 1024**2:.1f}MiB"
    return [
        "" if value is None else str(value)
        for value in (
            shape["attempt"],
            shape["outcome"],
            shape["exit_code"],
            shape["signal"],
            form.both(attempt.started_at) if form.eyes else shape["started_at"],
            _duration(attempt),
            cpu,
            rss,
            f"{shape['output_bytes']}B",
            shape["host"],
            shape["error"],
        )
    ]


def _duration(attempt: object) -> str:
    started, finished = getattr(attempt, "started_at", None), getattr(attempt, "finished_at", None)
    return format_duration(max(finished - started, timedelta(0))) if started and finished else ""
