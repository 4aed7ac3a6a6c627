"""An eye on what runs: has somebody asked for its end, is it still ours, does a claimed-ahead job stand in vain?"""

from msgspec.structs import replace

from queuectl.clock import boottime
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.service.archive_outage import get_reachable
from queuectl.store.protocol import Store
from queuectl.worker.agent.claims import Claim, Claims
from queuectl.worker.agent.connection import Connection
from queuectl.worker.agent.renewal import Renewed
from queuectl.worker.host import process_table

LOOK_SECONDS = 0.4
"""A request to cancel is felt within this time and one round of the agent's loop."""
QUEUED_TOO_LONG = 0.25
"""Seconds: a claimed-ahead job that still waits behind a long one is given back."""
STOPPED_EVERY, STOPPED_SHARE = 3.0, 100
"""Seconds between two looks for stopped commands, and by how much longer than a look that is at least."""
NOTE_AFTER = 0.7
"""Seconds: a command that runs longer has its pid and start written into the job, for people who look."""


class AttemptMonitor:
    """Looks at the held attempts now and then, and tells the holder what follows."""

    def __init__(self, store: Store, link: Connection, places: Claims, count: int) -> None:
        self._store, self._link, self._places, self._count = store, link, places, count
        self.due = self._stopped_due = 0.0

    def hasten(self) -> None:
        """Something may have changed: look at the next chance."""
        self.due = 0.0

    def look(self) -> None:
        """Look, if it is time."""
        if not len(self._places) or boottime() < self.due:
            return
        self.due = boottime() + LOOK_SECONDS
        running = [place for place in self._places if place.slot is not None]
        fresh = get_reachable(self._store, [place.job.id for place in running])
        for place in running:
            if place.job.id in fresh:  # else only the archive knows, and is away
                self._look_at(place, fresh[place.job.id])
        if self._places.running() >= self._count:
            stuck = self._places.waiting(longer_than=QUEUED_TOO_LONG)
            self._link.queue({"type": "drop", "attempt_ids": stuck})
        self._note_starts()
        self._look_for_stopped(running)

    def renewed(self, round_: Renewed) -> None:
        """The fresh copies of a renewal say the same."""
        fresh = {job.lease.attempt_id: job for job in round_.fresh if job.lease}
        for held in round_.asked:
            place = self._places.get(held.attempt_id)
            if place is not None and held.attempt_id in fresh:
                self._look_at(place, fresh[held.attempt_id])
            elif place is not None:
                self.hasten()  # perhaps no longer ours: look before anything is ended

    def _look_at(self, place: Claim, fresh: Job | None) -> None:
        if fresh is None or not lifecycle.holds_lease(fresh, place.attempt_id):
            self._end(place, "fenced")
        elif fresh.cancel_requested:
            self._end(place, "cancelled")
        if fresh is not None:
            place.refresh(fresh)

    def _end(self, place: Claim, reason: str) -> None:
        if place.told != reason:
            place.told = reason
            self._link.queue({"type": "kill", "attempt_id": place.attempt_id, "reason": reason})

    def _look_for_stopped(self, running: list[Claim]) -> None:
        """A command that somebody has stopped does not end by itself: for people who wonder."""
        before = boottime()
        if before < self._stopped_due:
            return
        stopped = process_table.stopped({place.pid for place in running if place.pid})
        for place in running:
            place.stopped = place.pid in stopped
        after = boottime()
        self._stopped_due = after + max(STOPPED_EVERY, STOPPED_SHARE * (after - before))

    def _note_starts(self) -> None:
        late, now = self._places.unnoted(longer_than=NOTE_AFTER), self._store.now()
        noted = [place.with_start(now) for place in late]
        for place, job, answer in zip(late, noted, self._store.save(noted) if noted else [], strict=True):
            if answer == "accepted":
                place.noted, place.job = True, replace(job, version=job.version + 1)
