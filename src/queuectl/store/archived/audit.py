"""Brings queue and archive to agree about what is past, in both directions, a piece at a time, while others go on.

They agree as a rule: every step between the two can be repeated. They may not after one of them was set back in time,
to a backup or to what another server had. What the archive has and the queue does not know is known again: nothing is
lost only because it was forgotten. What the queue knows and the archive has lost is forgotten.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from queuectl.store.redis import auditing, caretaker, turns
from queuectl.store.redis.auditing import EVERYTHING, NOTHING, Verdict
from queuectl.store.redis.connections import Connections, Line

if TYPE_CHECKING:
    from queuectl.store.archived.past import Past

AT_ONCE = 500
UNKNOWN, LOST = "archived jobs that the queue had forgotten", "jobs that the archive has lost"
MISCOUNTED = "wrong sums of the archive"


class Audit:
    """One look through both, or several. `moment` is the time for scripts; `ended`: to stop after the piece at hand."""

    def __init__(
        self, connections: Connections, past: "Past", moment: Callable[[], str], ended: threading.Event
    ) -> None:
        self._connections, self._past, self._moment, self._ended = connections, past, moment, ended

    def mend(self) -> Counter[str]:
        """Make them agree, and leave word of what was mended for `doctor`."""
        greatest = self._past.greatest()
        self._connections.write(lambda line: auditing.number_after(line, greatest))
        mended = self.look(really=True)
        self._connections.write(lambda line: self._conclude(line, mended))
        return mended

    def _conclude(self, line: Line, mended: Counter[str]) -> None:
        caretaker.note(line, mended, self._moment())
        if not self._ended.is_set():
            turns.done(line, "audit")

    def look(self, *, really: bool = False) -> Counter[str]:
        """How much of each kind does not agree; afterwards it does, if it is to."""
        act = "1" if really else "0"
        found: Counter[str] = Counter()
        self._connections.write(lambda line: self._forget(line, act, found))
        self._remember(act, found)
        return +found

    def _go_on(self, line: Line, act: str) -> None:
        if act == "1":
            turns.keep(line, "audit")

    def _forget(self, line: Line, act: str, found: Counter[str]) -> None:
        for known in auditing.known(line):
            if self._ended.is_set():
                return
            there = self._past.which(list(known))
            missing = {id: version for id, version in known.items() if id not in there}
            found[LOST] += auditing.lost(line, act, missing)
            self._go_on(line, act)

    def _remember(self, act: str, found: Counter[str]) -> None:
        reached = NOTHING
        while reached != EVERYTHING and not self._ended.is_set():
            upto = self._end_of_piece(int(reached))
            verdict = self._compare(act, reached, upto)
            if verdict is None:
                return  # another one has begun: what it finds is as good
            found[UNKNOWN] += verdict.unknown
            found[MISCOUNTED] += verdict.miscounted
            reached = upto

    def _end_of_piece(self, after: int) -> str:
        copies = self._past.copies(after, limit=AT_ONCE)
        return f"{copies[-1].number:016}" if len(copies) == AT_ONCE else EVERYTHING

    def _compare(self, act: str, reached: str, upto: str) -> Verdict | None:
        """What is read has been announced before: of what changes meanwhile it is known what it was."""
        if not self._connections.write(lambda line: auditing.announce(line, reached, upto)):
            return None
        copies = self._past.copies(int(reached), int(upto))
        verdict = self._connections.write(lambda line: auditing.compare(line, act, reached, upto, copies))
        self._connections.write(lambda line: self._go_on(line, act))
        if verdict and verdict.deleted and act == "1":
            self._past.delete({copy.number: copy.id for copy in copies if copy.number in verdict.deleted})
        return verdict
