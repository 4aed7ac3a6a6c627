"""Compares queue and archive in both directions, and repairs differences, piece by piece, while workers continue.

Both agree as long as neither is set back in time, because each step between them can be repeated. After a failover or
a restored backup one of them may have lost data that the other one has. Then a copy in the archive that Redis has lost
becomes an archived job again, so that the job is not lost. An archived job that the archive has lost is forgotten. An
audit runs once a day and after each change of the server's history.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from queuectl.clock import random_bytes
from queuectl.domain.job import TERMINAL
from queuectl.store.driver import codec
from queuectl.store.redis.connect import Line
from queuectl.store.redis_archive import lock
from queuectl.store.redis_archive.scripts import run
from queuectl.store.redis_archive.transfer import Copy, Transfer

if TYPE_CHECKING:
    from queuectl.store.redis_archive.archive import Archive

AT_ONCE = 500
FIRST, LAST = "0" * 16, "9" * 16
"""A number below all numbers of jobs, and a number above them."""
UNKNOWN, LOST = "archived jobs that the queue had forgotten", "jobs that the archive has lost"
UNSENT, MISCOUNTED = "ended jobs that nobody would archive", "wrong sums of the archive"


class Run(Struct, frozen=True):
    """One audit: a unique name, and whether it repairs the differences that it finds."""

    name: str
    repairs: bool

    @property
    def words(self) -> tuple[str, str]:
        """The arguments of scripts that identify this audit."""
        return self.name, str(int(self.repairs))


class Verdict(Struct, frozen=True):
    """The result for a piece: unknown copies, numbers of deleted jobs that have copies, and wrong sums."""

    unknown: int
    deleted: list[int]
    miscounted: int = 0


class Audit:
    """Compares queue and archive. If `stopped` is set, it ends after the current piece."""

    def __init__(self, queue: Transfer, archive: "Archive", stopped: threading.Event | None = None) -> None:
        self._queue, self._archive, self._stopped = queue, archive, stopped or threading.Event()

    def repair(self) -> Counter[str]:
        """Repair the differences, and record the repairs for `doctor`.

        Returns the number of differences of each kind.
        """
        self._queue.raise_number(self._archive.max_number())
        found, complete = self._compare(repairs=True)
        self._queue.session.write(record, found, self._queue.now())
        if complete:
            self._queue.session.write(lock.keep, lock.COMPLETE)
        return found

    def look(self) -> Counter[str]:
        """The number of differences of each kind. Changes nothing."""
        return self._compare(repairs=False)[0]

    def _compare(self, *, repairs: bool) -> tuple[Counter[str], bool]:
        """The number of differences of each kind, and whether everything was compared."""
        this, found = Run(random_bytes(8).hex(), repairs), Counter[str]()
        complete = all(
            step(this, found) for step in (self._enter_ended, self._forget_missing, self._learn_unknown)
        )
        return +found, complete

    def _goes_on(self, this: Run) -> bool:
        if this.repairs:
            self._queue.session.write(lock.keep, lock.RUNNING)
        return not self._stopped.is_set()

    def _enter_ended(self, this: Run, found: Counter[str]) -> bool:
        """Enter ended jobs that the stream lacks: it was deleted, or there was no archive when they ended."""
        for state in sorted(TERMINAL):
            after = FIRST
            while after:
                missing, after = self._queue.enter_ended(state, after, AT_ONCE, repairs=this.repairs)
                found[UNSENT] += missing
                if not self._goes_on(this):
                    return False
        return True

    def _forget_missing(self, this: Run, found: Counter[str]) -> bool:
        """Forget archived jobs that the archive does not have."""
        for known in self._queue.archived_ids():
            existing = self._archive.existing_ids(list(known))
            missing = {id: version for id, version in known.items() if id not in existing}
            found[LOST] += self._queue.forget_missing(missing, repairs=this.repairs)
            if not self._goes_on(this):
                return False
        return True

    def _learn_unknown(self, this: Run, found: Counter[str]) -> bool:
        """Enter the copies that Redis has lost as archived jobs, and compare the sums of the archive."""
        reached = FIRST
        while reached != LAST:
            upto = self._end_of_piece(int(reached))
            verdict = self._compare_piece(this, reached, upto)
            if verdict is None or not self._goes_on(this):
                return False  # another run has displaced this one, or this one must stop
            found[UNKNOWN] += verdict.unknown
            found[MISCOUNTED] += verdict.miscounted
            reached = upto
        return True

    def _end_of_piece(self, after: int) -> str:
        copies = self._archive.copies(after, limit=AT_ONCE)
        return f"{copies[-1].number:016}" if len(copies) == AT_ONCE else LAST

    def _compare_piece(self, this: Run, reached: str, upto: str) -> Verdict | None:
        """Compare one piece.

        It is announced before it is read, so that the queue records jobs that change meanwhile.
        """
        write = self._queue.session.write
        if not write(begin, this, reached, upto):
            return None
        copies = self._archive.copies(int(reached), int(upto))
        verdict = write(compare, this, reached, upto, copies)
        if verdict and verdict.deleted and this.repairs:
            self._archive.delete({copy.number: copy.id for copy in copies if copy.number in verdict.deleted})
        return verdict


def begin(line: Line, this: Run, reached: str, upto: str) -> bool:
    """Announce a piece. Returns False if another run has displaced this one."""
    return bool(run(line, "audit_begin", *this.words, reached, upto))


def compare(line: Line, this: Run, reached: str, upto: str, copies: Sequence[Copy]) -> Verdict | None:
    """Compare the announced piece. Returns None if another run has displaced this one."""
    words = [word for c in copies for word in (f"{c.number:016}", c.id, str(c.version), c.state, c.queue)]
    answer = run(line, "audit_compare", *this.words, reached, upto, *words)
    if answer is None:
        return None
    return Verdict(answer[0], [int(number) for number in answer[1]], *answer[2:])


def record(line: Line, found: Counter[str], now: str) -> None:
    """Record the repairs, if there were any."""
    if found:
        seconds, micros = line.call("TIME")
        at = int(now) if now else int(seconds) * 1_000_000 + int(micros)
        line.call("SET", line.key("mended"), codec.to_json({"at": at, **found}))


def last_repair(line: Line) -> tuple[datetime, dict[str, int]] | None:
    """The time of the last repair, and the number of repairs of each kind. None if there was no repair."""
    text = line.call("GET", line.key("mended"))
    if text is None:
        return None
    found = codec.value(text.decode())
    return codec.moment(found.pop("at")), found
