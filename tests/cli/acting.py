"""The test acts as a worker: it claims jobs, stores output and ends attempts through the store contract."""

from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from factories import statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.outcome import Kind, Outcome, Report
from queuectl.domain.output import COMBINED, Chunk, Trim
from queuectl.domain.worker import Slot, Worker
from queuectl.store.protocol import Store

LEASE = timedelta(seconds=30)


class Actor:
    """Does to jobs what a worker does."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._offsets: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._given_back = 0

    def job(self, id: str) -> Job:
        """A job as stored now."""
        return self.store.get([id])[id]

    def take(self, id: str, worker: str = "w1") -> Job:
        """Claim exactly this job."""
        job, now = self.job(id), self.store.now()
        due = replace(job, run_at=min(job.run_at, now))
        attempt_id = f"{id}-{job.attempts + 1}" + "'" * self._given_back
        return self._save(lifecycle.claim(due, attempt_id=attempt_id, worker=worker, lease=LEASE, now=now))

    def gives_back(self, id: str) -> Job:
        """Give the claim back before its command started; the next attempt has the same number and another id."""
        self._given_back += 1
        return self._save(lifecycle.give_back(self.job(id), now=self.store.now()))

    def prints(self, id: str, *pieces: bytes, stream: int = COMBINED, skip: int = 0) -> None:
        """Let it print these pieces, a chunk each; `skip` bytes before them are not kept."""
        attempt = self.job(id).attempt_id or ""
        self._offsets[attempt] = self._offsets.get(attempt, 0) + skip
        for piece in pieces:
            n = self._numbers[attempt] = self._numbers.get(attempt, 0) + 1
            offset = self._offsets[attempt]
            refused = self.store.write_output(
                [Chunk(id, attempt, n, stream, self.store.now(), offset, piece)]
            )
            assert not refused
            self._offsets[attempt] = offset + len(piece)

    def forgets(self, id: str, after: int, before: int) -> None:
        """Forget the chunks between two numbers."""
        self.store.write_output([], [Trim(id, self.job(id).attempt_id or "", after, before)])

    def ends(
        self,
        id: str,
        kind: Kind = "exited",
        exit_code: int | None = 0,
        *,
        signal: int | None = None,
        error: str | None = None,
        tail: str = "",
    ) -> Job:
        """End the running attempt with this result."""
        job, now = self.job(id), self.store.now()
        code = exit_code if kind == "exited" else None
        report = Report(
            outcome=Outcome(kind=kind, exit_code=code, signal=signal, error=error),
            finished_at=now,
            started_at=now,
            host="atlas",
            pid=4711,
            user_cpu=0.01,
            system_cpu=0.02,
            max_rss=1 << 20,
            output_bytes=self._offsets.get(job.attempt_id or "", 0),
            output_tail=tail,
        )
        return self._save(lifecycle.finish(job, report, now=now, random_number=0.5))

    def runs(self, id: str, *output: bytes, exit_code: int = 0) -> Job:
        """Claim it, let it print, let it end."""
        self.take(id)
        self.prints(id, *output)
        return self.ends(id, exit_code=exit_code)

    def kills(self, id: str) -> Job:
        """Let it fail until it is dead."""
        while self.job(id).state != "dead":
            self.runs(id, exit_code=1)
        return self.job(id)

    def enters(self, name: str, count: int = 1, busy: tuple[str, ...] = (), **fields: Any) -> None:
        """A worker of this name enters the registry."""
        now = self.store.now()
        slots = [
            Slot(slot=n, job=busy[n], since=now) if n < len(busy) else Slot(slot=n) for n in range(count)
        ]
        worker = Worker(
            id=f"id-{name}",
            name=name,
            host="atlas",
            boot_id="b",
            holder_pid=1,
            agent_pid=2,
            version="0",
            count=count,
            started_at=now,
            slots=tuple(slots),
        )
        self.store.heartbeat(replace(worker, **fields))

    def _save(self, job: Job) -> Job:
        assert statuses(self.store.save([job])) == ["accepted"]
        return self.job(job.id)
