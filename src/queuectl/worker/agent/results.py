"""The result recorder: keeps the results of attempts until they are stored, then acknowledges them to the holder.

The holder keeps every result until it is acknowledged. So after any failure of an agent, even a crash between the
commit and the acknowledgement, a later agent gets the result again, and finds it recorded already (guarantee G10).
Shown by `tests/e2e/test_guarantees.py` with crashes at `before_commit` and `after_commit`.
"""

import contextlib
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from queuectl import crashpoint
from queuectl.clock import boottime, random_number
from queuectl.domain import lifecycle
from queuectl.domain.event import between
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreError
from queuectl.service import attempts, maintenance
from queuectl.service.archive_outage import get_reachable
from queuectl.service.figures import Writer
from queuectl.store.protocol import AttemptRef, Store
from queuectl.worker.agent.claims import Claims
from queuectl.worker.agent.connection import Connection
from queuectl.worker.agent.duty import NEVER
from queuectl.worker.agent.log import Log
from queuectl.worker.agent.translate import Ended
from queuectl.worker.protocol import Ack

RETRY_AFTER = 5.0
"""Seconds between two tries to read a job that only the archive has, while the archive cannot be reached."""


class ResultRecorder:
    """Keeps results, and claims that never started, until the store has them.

    since     the arrival of the oldest waiting result (CLOCK_BOOTTIME)
    retry_at  the time of the next try to read jobs that only the archive has; NEVER while there are none
    unknown   how many results had no job in this store, so that they cannot be recorded
    """

    def __init__(self, store: Store, log: Log, figures: Writer) -> None:
        self._store, self._log, self._figures = store, log, figures
        self._ended: list[Ended] = []
        self._unstarted: dict[str, Job] = {}
        self._waiting_for_archive: set[str] = set()
        self._in_doubt: set[str] = set()
        self.since = 0.0
        self.retry_at = NEVER
        self.unknown = 0

    @property
    def waiting(self) -> int:
        """The number of results that can be recorded now."""
        return len(self._recordable())

    def is_busy(self, unwritten: Collection[str] = ()) -> bool:
        """Whether there is something to record, apart from the results of `unwritten`, which wait for their output."""
        if any(attempt_id not in self._waiting_for_archive for attempt_id in self._unstarted):
            return True
        return bool(self._recordable(unwritten))

    def _recordable(self, unwritten: Collection[str] = ()) -> Sequence[Ended]:
        deferred = self._waiting_for_archive
        if not deferred and not unwritten:
            return self._ended
        return [e for e in self._ended if e.attempt_id not in deferred and e.attempt_id not in unwritten]

    def refs(self) -> list[AttemptRef]:
        """The attempts whose results wait. Their leases are renewed: the fence refuses a result without a lease."""
        return [AttemptRef(ended.job_id, ended.attempt_id) for ended in list(self._ended)]

    def knows(self, attempt_id: str | None) -> bool:
        """Whether the recorder has this attempt."""
        return attempt_id in self._unstarted or any(ended.attempt_id == attempt_id for ended in self._ended)

    def add(self, ended: Ended) -> None:
        """Add the result of an attempt."""
        if not self.waiting:
            self.since = boottime()
        self._ended.append(ended)

    def give_back(self, attempt_id: str, job: Job) -> None:
        """Give back the claim of an attempt that never started. It is not counted (guarantee G8)."""
        self._unstarted[attempt_id] = job

    def record(
        self, connection: Connection | None, unwritten: Collection[str] = ()
    ) -> list[tuple[Ended, Job]]:
        """Record all waiting results and acknowledge them to the holder. Returns the recorded ends with their new
        jobs.

        `unwritten` are attempts whose output must be stored first. Raises StoreError or OutcomeUnknown; the recorder
        then still has all results, and a repetition is safe.
        """
        if boottime() >= self.retry_at:
            self._waiting_for_archive.clear()
            self.retry_at = NEVER
        self._return_unstarted()
        waiting = self._recordable(unwritten)
        if not waiting:
            return []
        crashpoint.reach("before_commit")
        recorded, done = self._save(waiting)
        crashpoint.reach("after_commit")
        self._ended = [ended for ended in self._ended if ended.attempt_id not in done]
        self._in_doubt -= done
        if connection is not None and done:
            connection.queue(Ack(sorted(done)))
        _unblock_children(self._store, [job for _, job in recorded])
        return recorded

    def _save(self, waiting: Sequence[Ended]) -> tuple[list[tuple[Ended, Job]], set[str]]:
        """Save the ended jobs. If another process has changed a job, read the job again and repeat the decision."""
        recorded: list[tuple[Ended, Job]] = []
        done: set[str] = set()
        open_ends = self._with_jobs(waiting)
        while open_ends := [ended for ended in open_ends if self._may_report(ended, done)]:
            now = self._store.now()
            after = [ended.applied(now=now, random_number=_jitter(ended)) for ended in open_ends]
            events = [between(ended.job, job) for ended, job in zip(open_ends, after, strict=True)]
            try:
                answers = self._store.save(after, events)
            except OutcomeUnknown:
                self._in_doubt.update(ended.attempt_id for ended in open_ends)
                raise
            for ended, answer in zip(open_ends, answers, strict=True):
                if answer.job is not None:
                    done.add(ended.attempt_id)
                    recorded.append((ended, answer.job))
                    self._figures.count(ended.job, answer.job, now)
                    _log_end(self._log, ended, answer.job)
            open_ends = self._read_jobs([ended for ended in open_ends if ended.attempt_id not in done])
        return recorded, done

    def _may_report(self, ended: Ended, done: set[str]) -> bool:
        """Whether this attempt still has the lease (guarantee G3: the fence). If not, nothing is recorded."""
        job = ended.job
        fenced = ended.report.outcome.kind == "fenced"
        if job is not None and not fenced and lifecycle.holds_lease(job, ended.attempt_id):
            return True
        if job is None:
            self.unknown += 1
        else:
            self._note_refusal(ended, job)
        done.add(ended.attempt_id)
        return False

    def _note_refusal(self, ended: Ended, job: Job) -> None:
        """Log a result that is not recorded now, if another attempt has taken over.

        The other reason is harmless: an earlier save has recorded the result already. It was not counted if a save of
        this recorder has lost its reply. Another agent has counted what it has recorded.
        """
        recorded = attempts.finished(job, ended.attempt_id)
        if recorded is None or lifecycle.is_given_up(recorded, ended.report.outcome):
            self._log.fenced(job)
        elif recorded is job.history[-1]:
            if ended.attempt_id in self._in_doubt:
                self._figures.count(None, job, self._store.now())
            _log_end(self._log, ended, job)

    def _with_jobs(self, waiting: Sequence[Ended]) -> list[Ended]:
        """Add the jobs of results whose claims were made by an earlier agent."""
        read = self._read_jobs([ended for ended in waiting if ended.job is None])
        return [ended for ended in waiting if ended.job is not None or ended in read]

    def _read_jobs(self, waiting: Sequence[Ended]) -> list[Ended]:
        """The results whose job could be read.

        A result waits only if its job is in an archive that cannot be reached.
        """
        fresh = get_reachable(self._store, [ended.job_id for ended in waiting]) if waiting else {}
        self._defer([ended.attempt_id for ended in waiting if ended.job_id not in fresh])
        read = [ended for ended in waiting if ended.job_id in fresh]
        for ended in read:
            ended.job = fresh[ended.job_id]
        return read

    def _defer(self, attempt_ids: Sequence[str]) -> None:
        if attempt_ids:
            self._waiting_for_archive.update(attempt_ids)
            self.retry_at = boottime() + RETRY_AFTER

    def _return_unstarted(self) -> None:
        while mine := self._returnable():
            now = self._store.now()
            after = [lifecycle.give_back(job, now=now) for job in mine.values()]
            answers = self._store.save(after, list(map(between, mine.values(), after)))
            stale = {
                a: mine[a].id for a, answer in zip(mine, answers, strict=True) if answer.status != "accepted"
            }
            fresh = get_reachable(self._store, list(stale.values())) if stale else {}
            self._defer([a for a, id in stale.items() if id not in fresh])
            for attempt_id, job in mine.items():
                again = fresh.get(job.id, job) if attempt_id in stale else None
                self._unstarted.pop(attempt_id)
                if again is not None:
                    self._unstarted[attempt_id] = again

    def _returnable(self) -> dict[str, Job]:
        """The claims to give back: jobs that never started, can be read, and seem to belong to this worker still."""
        if not self._unstarted:
            return {}
        self._unstarted = {a: job for a, job in self._unstarted.items() if lifecycle.holds_lease(job, a)}
        return {a: job for a, job in self._unstarted.items() if a not in self._waiting_for_archive}


class OpenAttempts:
    """The attempts of this worker without a stored result: its claims, and results that wait to be recorded."""

    def __init__(self, claims: Claims, recorder: ResultRecorder) -> None:
        self._claims, self._recorder = claims, recorder

    def refs(self) -> list[AttemptRef]:
        """The attempts to renew, as a copy, because the renewing thread calls this method.

        An attempt that ends during the renewal is missing in its answer, which does no harm.
        """
        return [*self._claims.refs(), *self._recorder.refs()]

    def has(self, attempt_id: str) -> bool:
        """Whether this attempt is open."""
        return attempt_id in self._claims or self._recorder.knows(attempt_id)


def _jitter(ended: Ended) -> float:
    """The random number for the delay of a retry. A success needs none, which saves a system call per job."""
    return 0.0 if ended.report.outcome.succeeded else random_number()


def _log_end(log: Log, ended: Ended, after: Job) -> None:
    """Log the recorded outcome. It may differ from the kernel's report: for example `interrupted`."""
    recorded = after.history[-1]
    outcome = replace(ended.report.outcome, kind=recorded.outcome, error=recorded.error)
    log.finished(ended.job or after, after, outcome, ended.seconds)


def _unblock_children(store: Store, after: list[Job]) -> None:
    """Unblock the children of these jobs. If the store has no blocked jobs, this costs only the counts.

    The ends are already recorded, so a fault of the store is ignored: the sweep of blocked jobs finds the children.
    """
    ended = [job.id for job in after if job.ended]
    with contextlib.suppress(StoreError, OutcomeUnknown):
        if ended and store.counts(Filter(states=maintenance.CHILDREN)).total():
            maintenance.unblock_children(store, ended)
