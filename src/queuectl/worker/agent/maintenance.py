"""What every worker does for all: recover the dead, release the blocked, delete the expired. Small steps, no leader."""

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from queuectl.clock import boottime
from queuectl.config import Settings
from queuectl.domain.job import Job
from queuectl.domain.quantity import format_duration
from queuectl.domain.query import Filter, Page
from queuectl.service import maintenance, unreadable
from queuectl.service.archive_outage import tolerate_archive_outage
from queuectl.store.protocol import Store
from queuectl.worker.agent.clock_watch import ClockWatch
from queuectl.worker.agent.log import Log
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.results import Ended, ResultRecorder
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.agent.translate import report_of
from queuectl.worker.host import process_table
from queuectl.worker.host.liveness import SUFFIX, Leftover, dead_workers, keeps_result, path_of, runs_here
from queuectl.worker.protocol import Fields, MalformedFrame
from queuectl.worker.wording import counted

NEIGHBOURS_EVERY = 1.0
LAPSED_EVERY = 2.0
BLOCKED_EVERY = 5.0
PURGE_EVERY = 30.0
FORGET_AFTER = timedelta(hours=1)
"""A worker that was silent for so long, and holds nothing any more, leaves the registry."""
KEPT_FOR = timedelta(hours=1)
"""After the end of its lease, a result that a worker of this host has is waited for so long: it may never come."""
LOGS_KEPT = timedelta(days=30)

HOLDER_DIED = "its worker was killed"


class Maintenance:
    """The duties of one agent, each with its time."""

    def __init__(
        self,
        store: Store,
        holds: Callable[[str], bool],
        directory: str,
        journal: Log,
        clock: StoreTime,
        *,
        one_host: bool = False,
    ) -> None:
        self._store, self._time = store, clock
        self._holds = holds
        self._directory, self._one_host = Path(directory), one_host
        self._journal = journal
        self._in_doubt: set[str] = set()
        self._kept: set[str] = set()
        self._times = {"neighbours": 0.0, "lapsed": 0.0, "blocked": 0.0, "purge": boottime() + PURGE_EVERY}
        self._cursor: str | None = None
        self._watch = ClockWatch()
        self._trouble: str | None = None

    @property
    def due(self) -> float:
        """When the next duty is due (CLOCK_BOOTTIME)."""
        return min(self._times.values())

    @property
    def clock_jump(self) -> float | None:
        """By how many seconds the store's clock jumped in the last hour, if it did."""
        return self._watch.jump

    def run(self, settings: Settings, *, may_recover: bool) -> bool:
        """Do what is due; whether jobs became ready by it. `may_recover`: connected long enough to judge leases."""
        recovered: list[Job] = []
        if self._is_time("neighbours", NEIGHBOURS_EVERY):
            self._tell_trouble()
            recovered += self.recover_dead(within=1.0)
        if self._is_time("lapsed", LAPSED_EVERY) and may_recover:
            recovered += self._told(maintenance.recover_expired(self._store, self._is_known_better))
            self.tell_set_aside(expired=True)
        if self._is_time("blocked", BLOCKED_EVERY):
            self._ask_the_past(self._sweep_blocked)
        if self._is_time("purge", PURGE_EVERY):
            if self._may_purge():
                self._ask_the_past(lambda: maintenance.purge_expired(self._store, settings))
            maintenance.forget_lost(self._store, FORGET_AFTER)
            self._ask_the_past(lambda: unreadable.forget_repaired(self._store))
            self._delete_old_logs()
        return bool(recovered)

    def tell_set_aside(self, *, expired: bool = False) -> bool:
        """Say of each job that cannot be decoded that it is set aside: the first worker that meets it, once.

        Answers whether this worker has set any aside since it was asked last.
        """
        met = self._store.set_aside(expired=expired)
        for each in unreadable.record(self._store, met):
            error = unreadable.refusal(each)
            text = f"{error.message}; it is set aside ({error.hint})"
            self._journal.note("unreadable", text, job=each.id, number=each.number)
        return bool(met)

    def _tell_trouble(self) -> None:
        """Say what goes wrong behind a store that works, when it begins and when it is over."""
        before, self._trouble = self._trouble, self._store.background_fault()
        if self._trouble is not None and before is None:
            self._journal.note("archive", f"{self._trouble}; what has ended waits in the queue")
        if self._trouble is None and before is not None:
            self._journal.note("archive", "the archive is back")

    def _ask_the_past(self, chore: Callable[[], object]) -> None:
        """Do what the archive is needed for, unless it is known to be away: then it has time until it is back."""
        if self._store.background_fault() is None:
            with tolerate_archive_outage(self._store):
                chore()

    def _may_purge(self) -> bool:
        """Whether the clock has been as it should for an hour, as far as this worker and the others know."""
        if self._watch.look(self._store.now(), boottime()) and self._watch.jump is not None:
            jump = timedelta(seconds=abs(round(self._watch.jump)))
            way = "ahead" if self._watch.jump > 0 else "back"
            said = f"the store's clock jumped {format_duration(jump)} {way}; nothing is purged for an hour"
            self._journal.note("clock", said, seconds=self._watch.jump)
        return self.clock_jump is None and not any(w.clock_jump for w in self._store.workers())

    def _sweep_blocked(self) -> None:
        self._cursor = maintenance.sweep_blocked(self._store, self._cursor)

    def recover_dead(self, within: float) -> list[Job]:
        """Workers of this host whose holder is dead: end what they left, then take their claims back at once."""
        recovered: list[Job] = []
        for leftover in dead_workers(self._directory):
            with leftover:
                if leftover.worker_id not in self._kept:
                    recovered += self._recover(leftover, within)
        return self._told(recovered)

    def _is_known_better(self, job: Job) -> bool:
        """Renewal are for other hosts. What we hold we are about to renew; what lives on this host is not to run twice,
        though its holder be stopped or the wall clock have jumped.
        """
        lease = job.lease
        if lease is None or self._holds(lease.attempt_id):
            return True
        recent = self._store.now() - lease.until < KEPT_FOR
        if recent and keeps_result(self._directory, lease.worker, lease.attempt_id):
            return True  # to be recorded: lost would mean to run it again
        return runs_here(self._directory, lease.worker, lease.attempt_id)

    def bury(self, worker: str, within: float = 5.0) -> None:
        """Wait for this worker's lock to fall free, as it does while its holder dies, and recover it at once."""
        deadline, pause = boottime() + within, threading.Event()
        path = path_of(self._directory, worker)
        while path.exists() and boottime() < deadline:
            self.recover_dead(within=1.0)
            pause.wait(0.02)

    def _recover(self, leftover: Leftover, within: float) -> list[Job]:
        if not leftover.is_over(one_host=self._one_host):
            self._deliver(leftover)
            self._leave_to_leases(leftover)
            return []
        survivors = leftover.kill(within=within)
        self._deliver(leftover)
        if survivors:
            # Its claims stay until these are gone: nothing may run twice. The next round tries again.
            self._journal.note("leftover", f"cannot end processes {survivors} of worker {leftover.name}")
            return []
        started = frozenset(leftover.attempts)
        jobs = maintenance.recover_worker(self._store, leftover.worker_id, started, HOLDER_DIED)
        self._store.forget(leftover.worker_id)
        if leftover.worker_id in self._kept:
            return jobs
        leftover.remove()
        self._journal.note(
            "cleaned", f"worker {leftover.name} was dead; {counted(len(jobs), 'claim')} taken back"
        )
        return jobs

    def _leave_to_leases(self, leftover: Leftover) -> None:
        """It may live. Its file goes when the store knows neither a claim of it nor the worker itself any more."""
        held = Filter(states=frozenset(("processing",)), worker=leftover.worker_id)
        if not self._store.find(held, Page(limit=1)).jobs:
            if all(worker.id != leftover.worker_id for worker in self._store.workers()):
                leftover.remove()
        elif leftover.worker_id not in self._in_doubt:
            self._in_doubt.add(leftover.worker_id)
            self._journal.note(
                "in_doubt",
                f"worker {leftover.name} may live: its file is a copy, or it ran where its processes cannot be "
                "seen from here; its jobs are taken back when their leases end",
            )

    def _deliver(self, leftover: Leftover) -> None:
        """Record what it had no store for: before its claims are looked at, so that none of these counts as lost.

        Raises StoreError or OutcomeUnknown; then the next round does all of it again.
        """
        outputs, settler = (
            OutputShipper(self._store),
            ResultRecorder(self._store, leftover.host, self._journal),
        )
        same_boot = leftover.boot_id == process_table.boot_id()  # `born` counts from the boot
        for noted, payload in self._results_of(leftover):
            message = self._time.translate(noted if same_boot else {**noted, "born": None})
            if message["type"] == "output":
                outputs.add(message, payload)
            else:
                settler.add(Ended(message, report_of(message, payload, leftover.host), None))
        if not settler.waiting:
            return
        left = f"worker {leftover.name} left {counted(settler.waiting, 'result')} that it could not deliver"
        self._journal.note("handover", f"{left}; recording what nobody else has taken over")
        if not outputs.try_to_write(None) and outputs.fault is not None:  # never worth a result
            self._journal.note("output", f"what they printed last is not stored: {outputs.fault.message}")
        settler.settle(None)
        if settler.unknown:
            # Another database stands here than the one that the worker had. A later agent may have that one again.
            self._kept.add(leftover.worker_id)
            unknown = f"{counted(settler.unknown, 'result')} of worker {leftover.name}"
            self._journal.note("handover", f"{unknown}: kept, for this store has no such job")
        elif not settler.held():
            leftover.forget_results()

    def _results_of(self, leftover: Leftover) -> list[tuple[Fields, bytes]]:
        try:
            return leftover.results()
        except MalformedFrame as error:
            self._journal.note("handover", f"the results of worker {leftover.name} cannot be read: {error}")
            return []

    def _delete_old_logs(self) -> None:
        """The logs of detached workers that have long gone."""
        oldest = time.time() - LOGS_KEPT.total_seconds()
        for log in self._directory.glob("*.log"):
            with contextlib.suppress(FileNotFoundError):  # another worker was faster
                if log.stat().st_mtime < oldest and not log.with_suffix(SUFFIX).exists():
                    log.unlink()

    def _told(self, jobs: list[Job]) -> list[Job]:
        for job in jobs:
            self._journal.recovered(job)
        return jobs

    def _is_time(self, duty: str, every: float) -> bool:
        now = boottime()
        if now < self._times[duty]:
            return False
        self._times[duty] = now + every
        return True
