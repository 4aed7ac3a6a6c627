"""Drain and stop, which end a worker, and reload, which replaces its agent."""

from typing import Literal

from queuectl.domain.worker import Instruction
from queuectl.worker.agent.context import Context
from queuectl.worker.protocol import Drain, Drop, Reload, Stop


class Shutdown:
    """Drains or stops the worker, and replaces its agent."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def begin(self, kind: Literal["drain", "stop"]) -> None:
        """Claim nothing more, and withdraw the claims that the holder has not started.

        The holder answers `dropped` for each claim that it had not started; the agent then gives that claim back. A
        claim that never ran must not count as an attempt (guarantee G8): without the withdrawal, a job that was
        claimed ahead would wait for the end of this worker's lease. Shown by
        `tests/e2e/test_guarantees.py::TestG8Counting::test_a_draining_worker_gives_back_jobs_claimed_ahead_uncounted`.
        """
        context = self._context
        stopping = kind == "stop" or context.phase == "stopping"
        context.phase = "stopping" if stopping else "draining"
        context.connection.queue(Drop(context.claims.waiting()))

    def obey(self, instruction: Instruction | None) -> None:
        """Follow an instruction for this worker. SystemExit for a reload: the holder starts the next agent.

        An instruction that was followed before is ignored: it stays in the registry, and every heartbeat reads it.
        """
        context = self._context
        if instruction == "reload" and context.phase == "running":
            context.log.note("reload", "a new agent takes over; commands run on")
            context.connection.send(Reload())
            raise SystemExit(0)
        drains = instruction == "drain" and context.phase == "running"
        stops = instruction == "stop" and context.phase != "stopping"
        if drains or stops:
            context.connection.queue(Stop() if stops else Drain())
            self.begin("stop" if stops else "drain")
