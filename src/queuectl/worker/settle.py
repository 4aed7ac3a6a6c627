"""Recording how attempts ended: in batches, fenced, repeated until the store has answered, then acknowledged.

A result is the holder's until `ack`: whatever happens here, even a crash between commit and ack, a later agent is told
again and finds the attempt already settled (guarantee G10).
"""

import contextlib
from collections.abc import Sequence

from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.clock import boottime, chance
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.outcome import Report
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.service import maintenance, queries
from queuectl.store.protocol import Held, Store
from queuectl.worker import report
from queuectl.worker.journal import Journal
from queuectl.worker.link import Link
from queuectl.worker.messages import Message


class Ended:
    """One ended attempt on its way into the store: what the holder said, and the job as we last knew it."""

    __slots__ = ("attempt_id", "job", "job_id", "message", "report", "seconds")

    def __init__(self, message: Message, report_: Report, job: Job | None) -> None:
        self.message = message
        self.report = report_
        self.job = job
        self.job_id: str = message["job_id"]
        self.attempt_id: str = message["attempt_id"]
        self.seconds = report.run_time(message)


class Settler:
    """Holds what ended until it is recorded."""

    def __init__(self, store: Store, host: str, journal: Journal) -> None:
        self._store = store
        self._host = host
        self._journal = journal
        self._ended: list[Ended] = []
        self._unstarted: dict[str, Job] = {}
        self.since = 0.0

    @property
    def waiting(self) -> int:
        """How many results wait; `since` is when the first of them came (CLOCK_BOOTTIME)."""
        return len(self._ended)

    @property
    def busy(self) -> bool:
        """Whether something waits to be recorded."""
        return bool(self._ended or self._unstarted)

    def held(self) -> list[Held]:
        """What is still to be recorded, and has to stay ours until then."""
        return [Held(ended.job_id, ended.attempt_id) for ended in list(self._ended)]

    def knows(self, attempt_id: str | None) -> bool:
        """Whether this attempt waits here."""
        return attempt_id in self._unstarted or any(ended.attempt_id == attempt_id for ended in self._ended)

    def add(self, ended: Ended) -> None:
        """An attempt ended."""
        if not self._ended:
            self.since = boottime()
        self._ended.append(ended)

    def give_back(self, attempt_id: str, job: Job) -> None:
        """An attempt was claimed and never started."""
        self._unstarted[attempt_id] = job

    def settle(self, link: Link | None) -> list[tuple[Ended, Job]]:
        """Record all that waits; acknowledge to the holder what is recorded. Answers what was recorded as an end.

        Raises StoreError or OutcomeUnknown; then everything still waits here, and repeating is safe.
        """
        self._return_unstarted()
        if not self._ended:
            return []
        crashpoint.reach("before_commit")
        settled, done = self._record(self._ended)
        crashpoint.reach("after_commit")
        self._ended = [ended for ended in self._ended if ended.attempt_id not in done]
        if link is not None and done:
            link.queue({"type": "ack", "attempt_ids": sorted(done)})
        self._release_children([after for _, after in settled])
        return settled

    def _record(self, waiting: list[Ended]) -> tuple[list[tuple[Ended, Job]], set[str]]:
        """Save; those that somebody changed meanwhile are read again and decided again."""
        settled: list[tuple[Ended, Job]] = []
        done: set[str] = set()
        open_ends = waiting
        self._fill_in(open_ends)
        while open_ends := [ended for ended in open_ends if self._still_open(ended, done)]:
            now = self._store.now()
            after = [
                report.after(e.job, e.message, e.report, now=now, chance=chance()) for e in open_ends if e.job
            ]
            answers = self._store.save(after)
            for ended, job, answer in zip(open_ends, after, answers, strict=True):
                if answer == "accepted":
                    done.add(ended.attempt_id)
                    settled.append((ended, job))
                    self._say(ended, job)
            open_ends = [ended for ended in open_ends if ended.attempt_id not in done]
            self._read_again(open_ends)
        return settled, done

    def _still_open(self, ended: Ended, done: set[str]) -> bool:
        """Whether this attempt may still report; if not, it is done with, one way or the other."""
        job = ended.job
        if (
            job is not None
            and ended.report.outcome.kind != "fenced"
            and lifecycle.holds_lease(job, ended.attempt_id)
        ):
            return True
        if job is not None:
            self._conclude(ended, job)
        done.add(ended.attempt_id)
        return False

    def _conclude(self, ended: Ended, job: Job) -> None:
        """Say what became of a result that cannot be recorded now: it is already, or another attempt has taken over."""
        past = queries.past_attempt(job, ended.attempt_id)
        if past is None or lifecycle.is_given_up(past, ended.report.outcome):
            self._journal.fenced(job)
        elif past is job.history[-1]:  # our own save, whose reply was lost
            self._say(ended, job)

    def _fill_in(self, waiting: Sequence[Ended]) -> None:
        """Results that outlived the agent that started them come without the job."""
        self._read_again([ended for ended in waiting if ended.job is None])

    def _read_again(self, waiting: Sequence[Ended]) -> None:
        if waiting:
            fresh = self._store.get([ended.job_id for ended in waiting])
            for ended in waiting:
                ended.job = fresh.get(ended.job_id)

    def _return_unstarted(self) -> None:
        while self._unstarted:
            now = self._store.now()
            mine = {a: job for a, job in self._unstarted.items() if lifecycle.holds_lease(job, a)}
            answers = (
                self._store.save([lifecycle.give_back(job, now=now) for job in mine.values()]) if mine else []
            )
            stale = [a for a, answer in zip(mine, answers, strict=True) if answer != "accepted"]
            fresh = self._store.get([mine[a].id for a in stale]) if stale else {}
            self._unstarted = {a: fresh[mine[a].id] for a in stale if mine[a].id in fresh}

    def _release_children(self, after: list[Job]) -> None:
        """Only where jobs wait for jobs at all does an end cost a second look."""
        ended = [job.id for job in after if job.ended]
        # What ended is recorded. If the store fails only now, the sweep of blocked jobs finds the children.
        with contextlib.suppress(StoreError, OutcomeUnknown):
            if ended and self._store.counts(Filter(states=frozenset(("blocked",)))).total():
                maintenance.unblock_children(self._store, ended)

    def _say(self, ended: Ended, after: Job) -> None:
        """What the domain has recorded, which may be more than the kernel said: interrupted, say."""
        past = after.history[-1]
        outcome = replace(ended.report.outcome, kind=past.outcome, error=past.error)
        self._journal.finished(ended.job or after, after, outcome, ended.seconds)
