"""Reports the results of a command that changes many jobs (cancel, retry, hold, …)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from queuectl.cli.document import to_json
from queuectl.cli.output import OutputLost, as_json_for
from queuectl.domain.ids import handle
from queuectl.domain.operation import Verb
from queuectl.errors import QueuectlError
from queuectl.interrupt import INTERRUPTED
from queuectl.service import shapes
from queuectl.service.changing import Change
from queuectl.service.operation import Operation

if TYPE_CHECKING:
    from queuectl.cli.session import Session

FEW = 20
"""On a terminal, up to this many named jobs are printed one by one; otherwise only a summary is printed."""
REFUSALS_SHOWN = 5
REFUSALS_KEPT = 20
"""Refused jobs in the JSON document, with the reasons."""
AGAIN = "repeat the command to continue"


class Act(Struct, frozen=True, kw_only=True):
    """A change of jobs, and the texts for its results.

    verb       for questions and progress: `cancel`
    args       its arguments, for an operation that is carried on behind
    line       the text for one job, after its name
    by_filter  a filter selected the jobs
    asks       asks before it changes several named jobs
    none       the message if no job matches the filter
    kind       the kind of result that the summary counts (default: the line)
    met        for a filter: the text for a job that is refused because it reached the state by itself
    shape      further fields of one job in the JSON document
    """

    verb: Verb
    args: Mapping[str, object] = {}
    line: Callable[[Change], str]
    by_filter: bool = False
    asks: bool = False
    none: str | None = None
    kind: Callable[[Change], str] | None = None
    met: Callable[[Change], str | None] = lambda change: None
    shape: Callable[[Change], dict[str, object]] = lambda change: {}


class Report:
    """Reports results: one line for each job, or on a terminal a summary of many jobs.

    If the output cannot be written any more (the reader has exited, the disk is full), the command still changes the
    jobs, and the error is raised at the end.
    """

    def __init__(
        self, session: "Session", what: Act, steps: Operation[Sequence[Change]], count: int | None
    ) -> None:
        self._session, self._what, self._steps = session, what, steps
        self._counts: Counter[str] = Counter()
        self._unchanged = 0
        self._refused = list[tuple[str, QueuectlError]]()
        self._hidden = 0
        self._lost: OSError | OutputLost | None = None
        self.reported = 0
        verbose = bool(session.args.verbose)
        self._sums_up = session.on_terminal and not session.json and (what.by_filter or (count or 0) > FEW)
        self._shows_lines = not self._sums_up or verbose
        self._shows_all_refusals = verbose or not session.on_terminal

    def tell(self, changes: Sequence[Change]) -> None:
        """Report the results of one step."""
        for change in changes:
            met = self._what.met(change) if change.refused and self._what.by_filter else None
            if change.refused and met is None:
                self._refuse(change.id, change.refused)
            else:
                line = met or self._what.line(change)
                self._counts[met or (self._what.kind or self._what.line)(change)] += 1
                self._unchanged += 1 if met or not change.changed else 0
                if self._shows_lines and not self._session.json:
                    self._write(f"{self._name(change)} {line}\n")
            if self._session.json:
                self._write(
                    (", " if self.reported else '{"schema":1,"jobs":[') + self._json(self._shape(change, met))
                )
            self.reported += 1
        self._session.did(self._summary())

    def end(self, *, is_interrupted: bool, failed: QueuectlError | None) -> int:
        """Print the summary; return the exit code.

        A refusal of a named job is an error. Of jobs that a filter selected, some may be refused, but not all.
        """
        if self._session.json:
            self._end_document(is_interrupted, failed)
        elif self._hidden:
            self._session.err.write(f"queuectl: and {self._hidden} more (--verbose shows them)\n")
        if is_interrupted or failed:
            why = "interrupted" if is_interrupted else "stopped by an error"
            reached = self._steps.reached
            resume = "" if reached is None else f", or add --resume {reached}"
            self._session.err.write(
                f"queuectl: {why}: {self._summary()}; the other jobs are unchanged, {AGAIN}{resume}\n"
            )
        elif self._what.by_filter and not self.reported:
            self._session.say(self._what.none or "queuectl: no job matches, nothing was changed")
        elif self._sums_up and self.reported:
            self._session.say(self._summary())
        if self._lost:
            raise self._lost
        if failed and not self._session.json:
            raise failed
        if is_interrupted:
            return INTERRUPTED
        if failed:
            return failed.exit_code
        counts = not self._what.by_filter or self._counts["refused"] == self.reported
        return self._refused[0][1].exit_code if self._refused and counts else 0

    def _refuse(self, id: str, refusal: QueuectlError) -> None:
        self._counts["refused"] += 1
        if len(self._refused) < REFUSALS_KEPT:
            self._refused.append((id, refusal))
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
            rest["error"] = shapes.error(failed or self._refused[0][1])["error"]
        tail = self._json(rest)[1:-1]
        begin = "" if self.reported else '{"schema":1,"jobs":['
        self._write(f"{begin}]{', ' if tail else ''}{tail}}}\n")

    def _totals(self) -> dict[str, object]:
        refused = self._counts["refused"]
        changed = self.reported - self._unchanged - refused
        return {
            "matched": self.reported,
            "changed": changed,
            "unchanged": self._unchanged,
            "refused": [{"id": id, "reason": refusal.message} for id, refusal in self._refused],
            "refused_count": refused,
            "resume": self._steps.reached,
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
