"""Recovers the workers of this host whose holder is dead: kills their leftover processes, then recovers their claims.

The free lock of the slot file proves that a holder is dead, without a clock (`worker/host/liveness.py`). So its claims
are recovered at once, without waiting for their leases. The order keeps a job from running twice: first kill the
leftover processes, then record the results that the worker could not deliver, and only then recover its claims. If a
claim were recovered while its command lived, the job would run a second time at the same time. If a claim were
recovered before its result was recorded, a finished job would run again. Shown by
`tests/e2e/test_guarantees.py::test_the_next_start_cleans_up_after_kill_9_of_all_processes`.
"""

import threading
from pathlib import Path

from queuectl.clock import boottime
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page
from queuectl.service import maintenance
from queuectl.service.figures import Writer
from queuectl.store.protocol import Store
from queuectl.worker.agent.log import Log
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.agent.results import ResultRecorder
from queuectl.worker.agent.store_time import StoreTime
from queuectl.worker.agent.translate import Ended
from queuectl.worker.host import process_table
from queuectl.worker.host.liveness import DeadWorker, dead_workers, path_of
from queuectl.worker.protocol import Exited, MalformedFrame, Message, Output, from_fields
from queuectl.worker.wording import counted

HOLDER_DIED = "its worker was killed"


class DeadWorkers:
    """Finds dead workers by their slot files in the directory of this host.

    figures   counts the attempts that are recovered or recorded
    one_host  the store is used by workers of this host only, so every slot file belongs to a worker of this host
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        log: Log,
        clock: StoreTime,
        figures: Writer,
        *,
        one_host: bool,
    ) -> None:
        self._store, self._directory, self._log, self._clock = store, directory, log, clock
        self._figures, self._one_host = figures, one_host
        self._in_doubt: set[str] = set()
        self._kept: set[str] = set()

    def recover(self, within: float = 1.0) -> list[Job]:
        """Recover all dead workers, and wait up to `within` seconds for their processes. Returns the changed jobs."""
        recovered: list[Job] = []
        for dead in dead_workers(self._directory):
            with dead:
                if dead.worker_id not in self._kept:
                    recovered += self._recover(dead, within)
        for job in recovered:
            self._log.recovered(job)
            self._figures.count_recovered(job)
        return recovered

    def recover_dead_worker(self, worker: str, within: float = 5.0) -> None:
        """Wait until the death of this worker's holder frees the lock, and recover the worker at once."""
        deadline, pause = boottime() + within, threading.Event()
        path = path_of(self._directory, worker)
        while path.exists() and boottime() < deadline:
            self.recover()
            pause.wait(0.02)

    def _recover(self, dead: DeadWorker, within: float) -> list[Job]:
        if not dead.is_over(one_host=self._one_host):
            self._deliver(dead)
            self._leave_to_leases(dead)
            return []
        survivors = dead.kill(within=within)
        self._deliver(dead)
        if survivors:
            # The claims remain with the dead worker until these processes have ended. The next round tries again.
            self._log.note("leftover", f"cannot end processes {survivors} of worker {dead.name}")
            return []
        started = frozenset(dead.attempts)
        jobs = maintenance.recover_worker(self._store, dead.worker_id, started, HOLDER_DIED)
        self._store.forget(dead.worker_id)
        if dead.worker_id in self._kept:
            return jobs
        dead.remove()
        taken = f"{counted(len(jobs), 'claim')} taken back"
        self._log.note("cleaned", f"worker {dead.name} was dead; {taken}")
        return jobs

    def _leave_to_leases(self, dead: DeadWorker) -> None:
        """Leave the claims to their leases, because the worker may live.

        Remove its slot file if the store has neither the worker nor a claim of the worker.
        """
        held = Filter(states=frozenset(("processing",)), worker=dead.worker_id)
        if not self._store.find(held, Page(limit=1)).jobs:
            if all(worker.id != dead.worker_id for worker in self._store.workers()):
                dead.remove()
        elif dead.worker_id not in self._in_doubt:
            self._in_doubt.add(dead.worker_id)
            self._log.note(
                "in_doubt",
                f"worker {dead.name} may live: its file is a copy, or it ran where its processes cannot be "
                "seen from here; its jobs are taken back when their leases end",
            )

    def _deliver(self, dead: DeadWorker) -> None:
        """Record the results that the worker could not deliver.

        Raises StoreError or OutcomeUnknown; the next round then repeats all steps. The fence makes this safe.
        """
        outputs, recorder = OutputShipper(self._store), ResultRecorder(self._store, self._log, self._figures)
        same_boot = dead.boot_id == process_table.boot_id()  # `born` counts from the boot
        for said, payload in self._results_of(dead):
            if isinstance(said, Output):
                outputs.add(self._clock.convert_output(said), payload)
            elif isinstance(said, Exited):
                message = self._clock.convert_end(said if same_boot else said._replace(born=None))
                recorder.add(Ended(message, payload, dead.host, None))
        if not recorder.waiting:
            return
        left = f"worker {dead.name} left {counted(recorder.waiting, 'result')} that it could not deliver"
        self._log.note("handover", f"{left}; recording those not taken over by others")
        # Log only: the results are recorded even without their output.
        if not outputs.try_to_write(None) and outputs.fault is not None:
            self._log.note("output", f"their last output is not stored: {outputs.fault.message}")
        recorder.record(None)
        self._after_delivery(dead, recorder)

    def _after_delivery(self, dead: DeadWorker, recorder: ResultRecorder) -> None:
        """Remove the results, unless some belong to another database: a later agent may open that database again."""
        if recorder.unknown:
            self._kept.add(dead.worker_id)
            unknown = f"{counted(recorder.unknown, 'result')} of worker {dead.name}"
            self._log.note("handover", f"{unknown}: kept, because this store has no such job")
        elif not recorder.refs():
            dead.forget_results()

    def _results_of(self, dead: DeadWorker) -> list[tuple[Message | None, bytes]]:
        try:
            return [(from_fields(fields), payload) for fields, payload in dead.results()]
        except MalformedFrame as error:
            self._log.note("handover", f"the results of worker {dead.name} cannot be read: {error}")
            return []
