"""Brings queue and archive to agree about what is past, in both directions, a piece at a time, while others go on.

They agree as a rule: every step between the two can be repeated. They may not after one of them was set back in time,
to a backup or to what another server had. What the archive has and the queue does not know is known again: nothing is
lost only because it was forgotten. What the queue knows and the archive has lost is forgotten.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from queuectl.clock import random_bytes
from queuectl.store.redis import caretaker, turns
from queuectl.store.redis.connect import Line, RedisSession
from queuectl.store.redis_archive import audit_steps
from queuectl.store.redis_archive.audit_steps import EVERYTHING, NOTHING, Run, Verdict

if TYPE_CHECKING:
    from queuectl.store.redis_archive.archive import Archive

AT_ONCE = 500
UNKNOWN, LOST = "archived jobs that the queue had forgotten", "jobs that the archive has lost"
MISCOUNTED = "wrong sums of the archive"


class Audit:
    """One look through both, or several. `moment` is the time for scripts; `ended`: to stop after the piece at hand."""

    def __init__(
        self, connections: RedisSession, past: "Archive", moment: Callable[[], str], ended: threading.Event
    ) -> None:
        self._connections, self._archive, self._moment, self._ended = connections, past, moment, ended

    def mend(self) -> Counter[str]:
        """Make them agree, and leave word of what was mended for `doctor`."""
        greatest = self._archive.max_number()
        self._connections.write(lambda line: audit_steps.raise_number(line, greatest))
        found, complete = self._look(mends=True)
        self._connections.write(lambda line: self._conclude(line, found, complete))
        return found

    def look(self) -> Counter[str]:
        """How much of each kind does not agree."""
        return self._look(mends=False)[0]

    def _conclude(self, line: Line, found: Counter[str], complete: bool) -> None:
        caretaker.note(line, found, self._moment())
        if complete:
            turns.done(line, "audit")

    def _look(self, *, mends: bool) -> tuple[Counter[str], bool]:
        """How much of each kind was found, and whether everything was looked at."""
        run, found = Run(random_bytes(8).hex(), mends), Counter[str]()
        complete = self._connections.read(lambda line: self._forget(line, run, found))
        complete = self._remember(run, found) and complete
        return +found, complete

    def _goes_on(self, line: Line, run: Run) -> bool:
        if run.mends:
            turns.keep(line, "audit")
        return not self._ended.is_set()

    def _forget(self, line: Line, run: Run, found: Counter[str]) -> bool:
        for known in audit_steps.known(line):
            there = self._archive.existing_ids(list(known))
            missing = {id: version for id, version in known.items() if id not in there}
            found[LOST] += audit_steps.forget_missing(line, run, missing)
            if not self._goes_on(line, run):
                return False
        return True

    def _remember(self, run: Run, found: Counter[str]) -> bool:
        reached = NOTHING
        while reached != EVERYTHING:
            upto = self._end_of_piece(int(reached))
            verdict = self._compare(run, reached, upto)
            if verdict is None or not self._connections.read(lambda line: self._goes_on(line, run)):
                return False  # another one has begun, or we are to end
            found[UNKNOWN] += verdict.unknown
            found[MISCOUNTED] += verdict.miscounted
            reached = upto
        return True

    def _end_of_piece(self, after: int) -> str:
        copies = self._archive.copies(after, limit=AT_ONCE)
        return f"{copies[-1].number:016}" if len(copies) == AT_ONCE else EVERYTHING

    def _compare(self, run: Run, reached: str, upto: str) -> Verdict | None:
        """What is read has been announced before: of what changes meanwhile it is known what it was."""
        if not self._connections.write(lambda line: audit_steps.begin(line, run, reached, upto)):
            return None
        copies = self._archive.copies(int(reached), int(upto))
        verdict = self._connections.write(lambda line: audit_steps.compare(line, run, reached, upto, copies))
        if verdict and verdict.deleted and run.mends:
            self._archive.delete({copy.number: copy.id for copy in copies if copy.number in verdict.deleted})
        return verdict
