"""`queuectl stats`: how many jobs ended, how long they waited and ran."""

from datetime import timedelta
from typing import TYPE_CHECKING

from queuectl.cli.cells import short
from queuectl.cli.render import table
from queuectl.domain.quantity import of_option
from queuectl.service.shapes.stats import stats as shape
from queuectl.service.stats import BY, Question, StatsRow
from queuectl.service.times import parse_since

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

COLUMNS = (
    "ended", "completed", "failed", "dead", "per minute", "wait p50", "wait p95", "run p50", "run p95", "run p99",
    "run max", "cpu", "exit codes",
)  # fmt: skip
LESS = (
    "run p99",
    "wait p50",
    "cpu",
    "exit codes",
    "run max",
    "completed",
    "per minute",
    "run p50",
    "wait p95",
)
"""Columns to omit if the terminal is too narrow, the least important first."""


def stats_options(parser: "Parser") -> None:
    """Add the arguments of `stats`: the time, and the groups."""
    parser.add_argument(
        "--since", metavar="D|T", help="from this time, or within this duration (default: 1h)"
    )
    parser.add_argument("--until", metavar="D|T", help="up to this time, or this duration ago (default: now)")
    parser.add_argument("--by", choices=BY, default=BY[0], help="what a row is (default: queue)")
    parser.add_argument("--queue", "-Q", metavar="Q", help="only this queue")
    parser.add_argument(
        "--label", metavar="L", help="only this label: the program of a job, unless it has another one"
    )
    parser.example("queuectl stats", "the last hour, by queue")
    parser.example("queuectl stats --since 1d --by hour --queue mail", "a day of one queue, hour by hour")
    parser.example("queuectl stats --by label", "which programs run, fail and take long")


def stats(session: "Session") -> int:
    """Print the statistics of a time."""
    args, queue = session.args, session.queue
    since, until = (
        None if text is None else of_option(name, lambda given: parse_since(given, queue.now()), text)
        for name, text in (("--since", args.since), ("--until", args.until))
    )
    found = queue.stats(Question(since=since, until=until, by=args.by, queue=args.queue, label=args.label))
    if session.json:
        session.emit(shape(found))
        return 0
    table(session, (args.by, *COLUMNS), [_cells(row) for row in found.rows], LESS)
    return 0


def _cells(row: StatsRow) -> list[str]:
    wait, run = row.wait, row.run
    times = [wait.p50, wait.p95, run.p50, run.p95, run.p99, run.max, row.cpu]
    return [
        row.key,
        *map(str, (row.ended, row.completed, row.failed, row.dead)),
        f"{row.per_minute:g}",
        *("-" if each is None else short(timedelta(seconds=each)) for each in times),
        " ".join(f"{code}:{count}" for code, count in row.exit_codes.items()),
    ]
