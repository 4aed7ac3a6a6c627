"""Recording how attempts ended: in batches, fenced, repeated until the store has answered, then acknowledged.

A result is the holder's until `ack`: whatever happens here, even a crash between commit and ack, a later agent is told
again and finds the attempt already settled (guarantee G10).
"""

import contextlib
from collections.abc import Container, Sequence

from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.clock import boottime, random_number
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.outcome import Report
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.service import maintenance, queries
from queuectl.service.archive_outage import get_reachable
from queuectl.store.protocol import AttemptRef, Store
from queuectl.worker.agent import translate
from queuectl.worker.agent.connection import Connection
from queuectl.worker.agent.log import Log
from queuectl.worker.protocol import Fields

AGAIN = 5.0
"""Seconds until a job that only the archive knows of is asked for again, while the archive is away."""


class Ended:
    """One ended attempt on its way into the store: what the holder said, and the job as we last knew it."""

    __slots__ = ("attempt_id", "job", "job_id", "message", "report", "seconds")

    def __init__(self, message: Fields, report_: Report, job: Job | None) -> None:
        self.message = message
        self.report = report_
        self.job = job
        self.job_id: str = message["job_id"]
        self.attempt_id: str = message["attempt_id"]
        self.seconds = translate.run_time(message)


class ResultRecorder:
    """Holds what ended until it is recorded."""

    def __init__(self, store: Store, host: str, journal: Log) -> None:
        self._store = store
        self._host = host
        self._journal = journal
        self._ended: list[Ended] = []
        self._unstarted: dict[str, Job] = {}
        self._beyond: set[str] = set()
        self._again_at = 0.0
        self.since = 0.0
        self.unknown = 0
        """Results of jobs that the store does not have: nothing can be recorded of them."""

    @property
    def waiting(self) -> int:
        """How many results wait; `since` is when the first of them came (CLOCK_BOOTTIME)."""
        return len(self._within_reach())

    @property
    def busy(self) -> bool:
        """Whether something waits to be recorded that can be."""
        return bool(self.waiting or self._unstarted.keys() - self._beyond)

    def _within_reach(self) -> list[Ended]:
        return [ended for ended in self._ended if ended.attempt_id not in self._beyond]

    def held(self) -> list[AttemptRef]:
        """What is still to be recorded, and has to stay ours until then."""
        return [AttemptRef(ended.job_id, ended.attempt_id) for ended in list(self._ended)]

    def knows(self, attempt_id: str | None) -> bool:
        """Whether this attempt waits here."""
        return attempt_id in self._unstarted or any(ended.attempt_id == attempt_id for ended in self._ended)

    def add(self, ended: Ended) -> None:
        """An attempt ended."""
        if not self.waiting:
            self.since = boottime()
        self._ended.append(ended)

    def give_back(self, attempt_id: str, job: Job) -> None:
        """An attempt was claimed and never started."""
        self._unstarted[attempt_id] = job

    def settle(self, link: Connection | None, awaited: Container[str] = ()) -> list[tuple[Ended, Job]]:
        """Record all that waits; acknowledge to the holder what is recorded. Answers what was recorded as an end.

        Attempts that are `awaited` have printed something that is to be stored before them.

        Raises StoreError or OutcomeUnknown; then everything still waits here, and repeating is safe.
        """
        if boottime() >= self._again_at:
            self._beyond.clear()
        self._return_unstarted()
        waiting = [ended for ended in self._within_reach() if ended.attempt_id not in awaited]
        if not waiting:
            return []
        crashpoint.reach("before_commit")
        settled, done = self._record(waiting)
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
        open_ends = self._fill_in(waiting)
        while open_ends := [ended for ended in open_ends if self._still_open(ended, done)]:
            now = self._store.now()
            after = [
                translate.after(e.job, e.message, e.report, now=now, random_number=random_number())
                for e in open_ends
                if e.job
            ]
            answers = self._store.save(after)
            for ended, job, answer in zip(open_ends, after, answers, strict=True):
                if answer == "accepted":
                    done.add(ended.attempt_id)
                    settled.append((ended, job))
                    self._say(ended, job)
            open_ends = self._read_again([ended for ended in open_ends if ended.attempt_id not in done])
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
        if job is None:
            self.unknown += 1
        else:
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

    def _fill_in(self, waiting: Sequence[Ended]) -> list[Ended]:
        """Results that outlived the agent that started them come without the job."""
        read = self._read_again([ended for ended in waiting if ended.job is None])
        return [ended for ended in waiting if ended.job is not None or ended in read]

    def _read_again(self, waiting: Sequence[Ended]) -> list[Ended]:
        """Those whose job could be read. One that is past waits for the archive, and nobody waits for that one."""
        fresh = get_reachable(self._store, [ended.job_id for ended in waiting]) if waiting else {}
        self._put_off([ended.attempt_id for ended in waiting if ended.job_id not in fresh])
        read = [ended for ended in waiting if ended.job_id in fresh]
        for ended in read:
            ended.job = fresh[ended.job_id]
        return read

    def _put_off(self, attempts: Sequence[str]) -> None:
        if attempts:
            self._beyond.update(attempts)
            self._again_at = boottime() + AGAIN

    def _return_unstarted(self) -> None:
        while mine := self._returnable():
            now = self._store.now()
            answers = self._store.save([lifecycle.give_back(job, now=now) for job in mine.values()])
            stale = {a: mine[a].id for a, answer in zip(mine, answers, strict=True) if answer != "accepted"}
            fresh = get_reachable(self._store, list(stale.values())) if stale else {}
            self._put_off([a for a, id in stale.items() if id not in fresh])
            for attempt_id, job in mine.items():
                again = fresh.get(job.id, job) if attempt_id in stale else None
                self._unstarted.pop(attempt_id)
                if again is not None:
                    self._unstarted[attempt_id] = again

    def _returnable(self) -> dict[str, Job]:
        """What never started, is still ours as far as we know, and within reach."""
        self._unstarted = {a: job for a, job in self._unstarted.items() if lifecycle.holds_lease(job, a)}
        return {a: job for a, job in self._unstarted.items() if a not in self._beyond}

    def _release_children(self, after: list[Job]) -> None:
        """Only where jobs wait for jobs at all does an end cost a second look."""
        ended = [job.id for job in after if job.ended]
        # What ended is recorded. If the store fails only now, the sweep of blocked jobs finds the children.
        with contextlib.suppress(StoreError, OutcomeUnknown):
            if ended and self._store.counts(Filter(states=maintenance.CHILDREN)).total():
                maintenance.unblock_children(self._store, ended)

    def _say(self, ended: Ended, after: Job) -> None:
        """What the domain has recorded, which may be more than the kernel said: interrupted, say."""
        past = after.history[-1]
        outcome = replace(ended.report.outcome, kind=past.outcome, error=past.error)
        self._journal.finished(ended.job or after, after, outcome, ended.seconds)
