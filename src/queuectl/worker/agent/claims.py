"""The attempts that a worker holds: claimed, perhaps already running in the holder, not yet ended."""

from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec.structs import replace

from queuectl.clock import boottime
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Lease
from queuectl.domain.worker import Slot
from queuectl.store.protocol import AttemptRef
from queuectl.worker.protocol import Fields


class Claim:
    """One held attempt: the job as last known, and where the holder has it (`slot` is None while it waits there)."""

    __slots__ = ("attempt_id", "job", "noted", "since", "slot", "started", "stopped", "told")

    def __init__(self, attempt_id: str, job: Job) -> None:
        self.attempt_id = attempt_id
        self.job = job
        self.since = boottime()
        self.slot: int | None = None
        self.started: datetime | None = None
        self.noted = False
        self.stopped = False
        self.told: str | None = None

    def begin(self, slot: int, pid: int, at: float) -> None:
        """The command runs."""
        self.slot, self.since, self.started = slot, boottime(), datetime.fromtimestamp(at, UTC)
        self.job = replace(
            self.job, lease=replace(self._lease(), slot=slot, pid=pid, started_at=self.started)
        )

    @property
    def pid(self) -> int | None:
        """The command's leader, while it runs."""
        return self._lease().pid

    def refresh(self, fresh: Job) -> None:
        """A fresher copy of the job; the start that only we know of stays."""
        known, lease = self._lease(), fresh.lease
        if lease is not None and lease.attempt_id == self.attempt_id:
            kept = replace(lease, slot=known.slot, pid=known.pid, started_at=known.started_at)
            self.job = replace(fresh, lease=kept)

    def with_start(self, now: datetime) -> Job:
        """The job with the start written into it, for people who look."""
        pid = self._lease().pid
        assert pid is not None, "only running attempts are noted"
        assert self.slot is not None
        assert self.started is not None
        return lifecycle.note_start(self.job, slot=self.slot, pid=pid, started_at=self.started, now=now)

    def _lease(self) -> Lease:
        lease = self.job.lease
        assert lease is not None, "a held job has a lease"
        return lease


class Claims:
    """All held attempts, by attempt id."""

    def __init__(self) -> None:
        self._places: dict[str, Claim] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, attempt_id: object) -> bool:
        return attempt_id in self._places

    def __iter__(self) -> Iterator[Claim]:
        return iter(list(self._places.values()))

    def add(self, job: Job) -> Claim:
        """A claimed job."""
        assert job.lease is not None, "only claimed jobs are held"
        place = self._places[job.lease.attempt_id] = Claim(job.lease.attempt_id, job)
        return place

    def adopt(self, job: Job, known: Fields) -> Claim:
        """A job that the holder has from an agent before this one."""
        place = self.add(job)
        if known["state"] == "running":
            place.begin(known.get("slot") or 0, known["pid"], known["started_at"])
        return place

    def get(self, attempt_id: str) -> Claim | None:
        """The place of an attempt, if it is held."""
        return self._places.get(attempt_id)

    def pop(self, attempt_id: str) -> Claim | None:
        """The attempt is over."""
        return self._places.pop(attempt_id, None)

    def held(self) -> list[AttemptRef]:
        """A snapshot for the renewing thread; what ends meanwhile is missing in its answer, which is fine."""
        return [AttemptRef(place.job.id, place.attempt_id) for place in list(self._places.values())]

    def waiting(self, longer_than: float = 0.0) -> list[str]:
        """The attempts that the holder has not started, claimed at least so many seconds ago."""
        now = boottime()
        return [
            p.attempt_id for p in self._places.values() if p.slot is None and now - p.since >= longer_than
        ]

    def running(self) -> int:
        """How many run."""
        return sum(1 for place in self._places.values() if place.slot is not None)

    def unnoted(self, longer_than: float) -> list[Claim]:
        """Those that run at least so many seconds and whose start is not yet written into the job."""
        now = boottime()
        return [
            p for p in self._places.values() if p.started and not p.noted and now - p.since >= longer_than
        ]

    def slots(self, count: int) -> tuple[Slot, ...]:
        """The slots of the worker, as the registry shows them."""
        busy = {place.slot: place for place in self._places.values() if place.slot is not None}
        return tuple(_shown(n, busy[n]) if n in busy else Slot(slot=n) for n in range(count))


def _shown(number: int, place: Claim) -> Slot:
    return Slot(slot=number, job=place.job.id, since=place.started, stopped=place.stopped)
