"""Acts on many jobs: in steps, asked for before and summed up after, with progress, and a clean end at Ctrl+C."""

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from queuectl.cli.document import to_json
from queuectl.cli.output import OutputLost, as_json_for
from queuectl.clock import boottime
from queuectl.domain.ids import handle
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.service import shapes
from queuectl.service.changing import Change
from queuectl.service.operation import Operation

if TYPE_CHECKING:
    from queuectl.cli.session import Session

FEW = 20
"""Up to so many named jobs get a line each on a terminal; for more, and for a filter, the summary says enough."""
REFUSALS_SHOWN = 5
PATIENCE = 1.0
"""Seconds before progress is shown."""
INTERRUPTED = 130


class Act(Struct, frozen=True, kw_only=True):
    """What is done to jobs, and the words for what became of them.

    verb       for questions and progress: `cancel`
    steps      does it to some hundreds of jobs at a time and answers what became of them; is closed at the end
    count      how many jobs are meant
    line       what is told of one job, behind its name
    kind       what is counted in the summary; by default the line
    met        for a filter: the words for a job that would be refused because it had got there by itself
    shape      what the JSON document says of one job beside id, number, state and refusal
    """

    verb: str
    steps: Operation[Sequence[Change]]
    count: int
    line: Callable[[Change], str]
    by_filter: bool = False
    kind: Callable[[Change], str] | None = None
    met: Callable[[Change], str | None] = lambda change: None
    shape: Callable[[Change], dict[str, object]] = lambda change: {}


def act(session: "Session", what: Act) -> int:
    """Do it step by step and tell what became of each job; answers the exit code of the first refusal."""
    report, failed = _Report(session, what), None
    with interruptible() as interrupted, _progress(session, what.verb, what.count) as advance:
        try:
            with closing(what.steps):
                for changes in what.steps:
                    report.tell(changes)
                    advance(len(changes))
                    if interrupted():
                        break
        except QueuectlError as error:
            if not report.told:
                raise
            failed = error
    return report.end(is_interrupted=interrupted(), failed=failed)


def count_down(session: "Session", verb: str, done: str, count: int | None, steps: Iterable[int]) -> int:
    """The same for jobs that are deleted unseen: each step answers how many it was; `count` may be unknown."""
    total = 0
    with interruptible() as interrupted, _progress(session, verb, count) as advance:
        for deleted in steps:
            total += deleted
            session.did(f"{done} {total}")
            advance(deleted)
            if interrupted():
                break
    session.did(f"{done} {total}")
    if session.json:
        session.emit(shapes.document(**{done: total}, **({"interrupted": True} if interrupted() else {})))
    else:
        session.print(f"{done} {total}")
    if interrupted():
        session.err.write(f"queuectl: interrupted: the others are as they were; {_AGAIN}\n")
    return INTERRUPTED if interrupted() else 0


def confirm(session: "Session", verb: str, count: int) -> None:
    """Go on if a person, or --yes, agrees to the number. Raises InvalidInput otherwise."""
    if session.args.yes or count == 0:
        return
    jobs = "1 job" if count == 1 else f"{count} jobs"
    if not sys.stdin.isatty():
        raise InvalidInput(f"this would {verb} {jobs}", "add --yes to do it")
    session.err.write(f"{verb} {jobs}? [y/N] ")
    session.err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidInput(f"{verb}: not confirmed, nothing was changed")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl+C is noted, so that a step is never left in the middle; a second one ends the command at once."""
    noted = False

    def note(_number: int, _frame: object) -> None:
        nonlocal noted
        if noted:
            raise KeyboardInterrupt
        noted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, before)


_AGAIN = "the same command goes on"


class _Report:
    """What was done so far, and how it is told: a line a job, or on a terminal, of many, a summary.

    Whoever reads may go away, or the disk may fill up: the act goes on, and that is said at its end.
    """

    def __init__(self, session: "Session", what: Act) -> None:
        self._session, self._what = session, what
        self._counts: Counter[str] = Counter()
        self._unchanged = 0
        self._refused: list[QueuectlError] = []
        self._hidden = 0
        self._lost: OSError | OutputLost | None = None
        self.told = 0
        verbose = bool(session.args.verbose)
        self._sums_up = session.on_terminal and not session.json and (what.by_filter or what.count > FEW)
        self._shows_lines = not self._sums_up or verbose
        self._shows_all_refusals = verbose or not session.on_terminal

    def tell(self, changes: Sequence[Change]) -> None:
        """What became of these."""
        for change in changes:
            met = self._what.met(change) if change.refused and self._what.by_filter else None
            if change.refused and met is None:
                self._refuse(change.refused)
            else:
                line = met or self._what.line(change)
                self._counts[met or (self._what.kind or self._what.line)(change)] += 1
                self._unchanged += 1 if met or not change.changed else 0
                if self._shows_lines and not self._session.json:
                    self._write(f"{self._name(change)} {line}\n")
            if self._session.json:
                self._write(
                    (", " if self.told else '{"schema":1,"jobs":[') + self._json(self._shape(change, met))
                )
            self.told += 1
        self._session.did(self._summary())

    def end(self, *, is_interrupted: bool, failed: QueuectlError | None) -> int:
        """The summary, and the exit code."""
        if self._session.json:
            self._end_document(is_interrupted, failed)
        elif self._hidden:
            self._session.err.write(f"queuectl: and {self._hidden} more (--verbose shows them)\n")
        if is_interrupted or failed:
            why = "interrupted" if is_interrupted else "broken off"
            self._session.err.write(
                f"queuectl: {why}: {self._summary()}; the others are as they were, {_AGAIN}\n"
            )
        elif self._sums_up and self.told:
            self._session.say(self._summary())
        if self._lost:
            raise self._lost
        if failed and not self._session.json:
            raise failed
        refused = [failed, *self._refused] if failed else self._refused
        return INTERRUPTED if is_interrupted else refused[0].exit_code if refused else 0

    def _refuse(self, refusal: QueuectlError) -> None:
        self._counts["refused"] += 1
        if not self._refused:
            self._refused.append(refusal)
        if self._shows_all_refusals or self._counts["refused"] <= REFUSALS_SHOWN:
            hint = f" ({refusal.hint})" if refusal.hint else ""
            self._session.err.write(f"queuectl: {refusal.message}{hint}\n")
        else:
            self._hidden += 1

    def _end_document(self, is_interrupted: bool, failed: QueuectlError | None) -> None:
        rest: dict[str, object] = {}
        if self._what.by_filter:
            rest = self._totals()
        if is_interrupted:
            rest["interrupted"] = True
        if failed or self._refused:
            rest["error"] = shapes.error(failed or self._refused[0])["error"]
        tail = self._json(rest)[1:-1]
        begin = "" if self.told else '{"schema":1,"jobs":['
        self._write(f"{begin}]{', ' if tail else ''}{tail}}}\n")

    def _totals(self) -> dict[str, object]:
        refused = self._counts["refused"]
        changed = self.told - self._unchanged - refused
        return {
            "matched": self.told,
            "changed": changed,
            "unchanged": self._unchanged,
            "refused_count": refused,
        }

    def _summary(self) -> str:
        order = sorted(self._counts, key=lambda kind: (kind == "refused", kind.startswith("had "), kind))
        return ", ".join(f"{self._counts[kind]} {kind}" for kind in order) or "nothing was changed"

    def _name(self, change: Change) -> str:
        return handle(change.job) if change.job and self._session.on_terminal else change.id

    def _shape(self, change: Change, met: str | None) -> dict[str, object]:
        job = change.job
        return {
            "id": change.id,
            "number": job.number if job else None,
            "state": job.state if job else None,
            "refused": change.refused.message if change.refused and met is None else None,
            **self._what.shape(change),
        }

    def _json(self, value: dict[str, object]) -> str:
        return as_json_for(self._session.out.encoding, to_json(value))

    def _write(self, text: str) -> None:
        if self._lost is None:
            try:
                self._session.out.write(text)
            except (BrokenPipeError, OutputLost) as lost:
                self._lost = lost


@contextmanager
def _progress(session: "Session", verb: str, count: int | None) -> Iterator[Callable[[int], None]]:
    """One line on a terminal that is written again, once the act has taken a while."""
    done, begun, is_shown = 0, boottime(), False
    wanted = session.err.isatty() and not (session.json or session.args.quiet or session.args.verbose)

    def advance(by: int) -> None:
        nonlocal done, is_shown
        done += by
        if wanted and boottime() - begun > PATIENCE:
            is_shown = True
            of = f" of {max(count, done)}" if count is not None else ""
            session.err.write(f"\r\x1b[K{verb}: {done}{of}")
            session.err.flush()

    try:
        yield advance
    finally:
        if is_shown:
            session.err.write("\r\x1b[K")
            session.err.flush()
