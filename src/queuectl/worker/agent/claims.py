"""The claims of a worker: jobs that it has claimed and that have not ended."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from msgspec.structs import replace

from queuectl.clock import boottime
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Lease
from queuectl.domain.worker import Slot
from queuectl.store.protocol import AttemptRef
from queuectl.worker.protocol import KnownAttempt


class Claim:
    """One claimed job, as this worker read or wrote it last, and its slot in the holder.

    slot         the slot in which the command runs; None while the claim waits in the holder
    since        the time of the claim or, once the command runs, of its start (CLOCK_BOOTTIME)
    start_saved  the stored job contains the start
    kill_sent    the reason in the `Kill` message that was sent to the holder
    stopped      the command is stopped (SIGSTOP)
    """

    __slots__ = ("attempt_id", "job", "kill_sent", "since", "slot", "start_saved", "started", "stopped")

    def __init__(self, attempt_id: str, job: Job) -> None:
        self.attempt_id = attempt_id
        self.job = job
        self.since = boottime()
        self.slot: int | None = None
        self.started: datetime | None = None
        self.start_saved = False
        self.stopped = False
        self.kill_sent: Literal["cancelled", "fenced"] | None = None

    def mark_started(self, slot: int, pid: int, at: float) -> None:
        """The command runs since `at` (epoch seconds of the store's clock)."""
        self.slot, self.since, self.started = slot, boottime(), datetime.fromtimestamp(at, UTC)
        lease = replace(self._lease(), slot=slot, pid=pid, started_at=self.started)
        self.job = replace(self.job, lease=lease)

    @property
    def pid(self) -> int | None:
        """The pid of the command's leader, or None if the command does not run."""
        return self._lease().pid

    def refresh(self, fresh: Job) -> None:
        """Take a fresher copy of the job. Keep the start, which the stored job may not contain yet."""
        known, lease = self._lease(), fresh.lease
        if lease is not None and lease.attempt_id == self.attempt_id:
            kept = replace(lease, slot=known.slot, pid=known.pid, started_at=known.started_at)
            self.job = replace(fresh, lease=kept)

    def with_start(self, now: datetime) -> Job:
        """The job with the start of its command in its lease."""
        pid = self._lease().pid
        assert pid is not None, "only running attempts have a start"
        assert self.slot is not None
        assert self.started is not None
        return lifecycle.note_start(self.job, slot=self.slot, pid=pid, started_at=self.started, now=now)

    def _lease(self) -> Lease:
        lease = self.job.lease
        assert lease is not None, "a claimed job has a lease"
        return lease


class Claims:
    """The claims of this worker, by attempt id."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self.unadopted: list[AttemptRef] = []
        """Attempts that the holder has from an earlier agent, until this agent has read their jobs."""
        self._claimed_at: dict[str, datetime] = {}
        """For each queue, the time of the newest claim of one of its jobs."""

    def __len__(self) -> int:
        return len(self._claims)

    def __contains__(self, attempt_id: object) -> bool:
        return attempt_id in self._claims

    def __iter__(self) -> Iterator[Claim]:
        return iter(list(self._claims.values()))

    def add(self, job: Job) -> Claim:
        """Add the claim of a job."""
        assert job.lease is not None, "only claimed jobs have a lease"
        claim = self._claims[job.lease.attempt_id] = Claim(job.lease.attempt_id, job)
        known = self._claimed_at.get(job.queue)
        if known is None or known < job.lease.claimed_at:  # an adopted claim may be older than the newest one
            self._claimed_at[job.queue] = job.lease.claimed_at
        return claim

    def claimed_since(self, moment: datetime) -> dict[str, datetime]:
        """For each queue, the time of the newest claim of one of its jobs. Older ones than `moment` are forgotten."""
        self._claimed_at = {queue: at for queue, at in self._claimed_at.items() if at >= moment}
        return self._claimed_at.copy()

    def adopt(self, job: Job, known: KnownAttempt) -> Claim:
        """Add a claim of an earlier agent that the holder has as `known`.

        The times of `known` are by the store's clock.
        """
        claim = self.add(job)
        if known.pid is not None and known.started_at is not None and known.state == "running":
            claim.mark_started(known.slot or 0, known.pid, known.started_at)
        return claim

    def get(self, attempt_id: str) -> Claim | None:
        """The claim of an attempt, or None."""
        return self._claims.get(attempt_id)

    def pop(self, attempt_id: str) -> Claim | None:
        """Remove and return a claim, because its attempt has ended or never started."""
        return self._claims.pop(attempt_id, None)

    def refs(self) -> list[AttemptRef]:
        """A copy of the list of attempts, because another thread calls this method."""
        claims = list(self._claims.values())
        return [*self.unadopted, *(AttemptRef(claim.job.id, claim.attempt_id) for claim in claims)]

    def running(self) -> list[Claim]:
        """The claims whose commands run."""
        return [claim for claim in self._claims.values() if claim.slot is not None]

    def waiting(self, longer_than: float = 0.0) -> list[str]:
        """The attempts that the holder has not started, claimed at least `longer_than` seconds ago."""
        now = boottime()
        waiting = (claim for claim in self._claims.values() if claim.slot is None)
        return [claim.attempt_id for claim in waiting if now - claim.since >= longer_than]

    def unsaved_starts(self, longer_than: float) -> list[Claim]:
        """The claims that have run for `longer_than` seconds or more, and whose start is not in the stored job yet."""
        now = boottime()
        unsaved = (claim for claim in self._claims.values() if claim.started and not claim.start_saved)
        return [claim for claim in unsaved if now - claim.since >= longer_than]

    def slots(self, count: int) -> tuple[Slot, ...]:
        """The slots of the worker, as the registry shows them."""
        busy = {claim.slot: claim for claim in self._claims.values() if claim.slot is not None}
        return tuple(_shown(n, busy[n]) if n in busy else Slot(slot=n) for n in range(count))


def _shown(number: int, claim: Claim) -> Slot:
    return Slot(slot=number, job=claim.job.id, since=claim.started, stopped=claim.stopped)
