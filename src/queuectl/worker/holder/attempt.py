"""One attempt in the holder: its data, and the `exited` message about it."""

import os
import re
import resource
import sys
from enum import StrEnum
from typing import Any

from queuectl.worker.holder.kill_ladder import KillLadder
from queuectl.worker.holder.output_buffer import OutputBuffer
from queuectl.worker.holder.timers import NEVER
from queuectl.worker.host import process_table
from queuectl.worker.protocol import Exited, KnownAttempt, Progress, Start, encode

LEASE_GRACE = 0.3
"""Seconds before the end of a lease at which TERM is sent, so that KILL follows before the end of the lease. After
that, another worker may start the job."""
ANNOUNCE_AFTER = 0.01
"""Seconds of a command's life before its start is reported and its pipes are watched."""

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_COUNTED_LATE = 1 << 20
"""Bytes by which the kernel's count of the memory of a process may be too low."""
_own_peak = [0]
"""The holder's peak memory in bytes when it was last read."""
# The id is limited because a record of fixed size and the name of a file contain it.
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)


class Phase(StrEnum):
    """The phase of an attempt, from the `Start` message to the acknowledgement. `phases.py` has the transitions.

    A StrEnum, because the hash of a plain Enum is a Python function: its lookups cost 4 µs per job.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DRAINING_PIPES = "draining_pipes"
    CHECKING_LEFTOVERS = "checking_leftovers"
    ENDING = "ending"
    FINISHED = "finished"


class Attempt:
    """One attempt, from the agent's `Start` to the acknowledgement of the result.

    `born`, `exited_at`, `deadline` and `next_at` are on the clock of `boottime`; `started_at` is epoch seconds.
    `next_at` is the time of the phase's next step, if no event happens before.
    """

    __slots__ = (
        "allow_detached", "born", "deadline", "ended_by", "exited_at", "grace", "id", "job_id", "ladder",
        "leftovers", "listening", "next_at", "output", "phase", "pid", "pipes", "progress", "result", "rusage",
        "script", "settle_until", "slot", "started_at", "status", "timeout",
    )  # fmt: skip

    def __init__(self, order: Start) -> None:
        if not _ID.fullmatch(order.attempt_id):
            raise ValueError(f"not an attempt id: {order.attempt_id!r}")
        self.id = order.attempt_id
        self.job_id = order.job_id
        self.phase = Phase.QUEUED
        self.slot: int | None = None
        self.pid = 0
        self.born = NEVER
        self.started_at = 0.0
        self.listening = False
        self.timeout = NEVER if order.timeout is None else float(order.timeout)
        self.deadline = NEVER if order.deadline is None else float(order.deadline)
        self.grace = float(order.grace)
        self.allow_detached = order.allow_detached
        self.next_at = NEVER
        self.exited_at = NEVER
        self.settle_until = NEVER
        self.output = OutputBuffer(self.id, self.job_id, order.output_limit, order.split)
        self.pipes: dict[int, int] = {}
        self.script: str | None = None
        self.ladder: KillLadder | None = None
        self.ended_by: str | None = None
        self.status: int | None = None
        self.rusage: resource.struct_rusage | None = None
        self.leftovers = 0
        self.progress: Progress | None = None
        self.result: bytes | None = None

    @property
    def exited(self) -> bool:
        """Whether the leader has ended and was reaped."""
        return self.status is not None

    def started(self, slot: int, pid: int, born: float, wall: float) -> None:
        """Record the start of the command."""
        self.phase, self.slot, self.pid, self.born, self.started_at = Phase.RUNNING, slot, pid, born, wall
        self.next_at = self.limit_at()

    def limit_at(self) -> float:
        """When the command exceeds its timeout or its lease, whichever is first."""
        return min(self.born + self.timeout, self.deadline - LEASE_GRACE)

    def exceeded(self, now: float) -> str | None:
        """The exceeded limit: "timeout" or "lease", or None."""
        if now < self.limit_at():
            return None
        return "timeout" if now >= self.born + self.timeout else "lease"

    def extend(self, deadline: float) -> None:
        """Set the deadline of the lease."""
        self.deadline = deadline
        if self.phase is Phase.RUNNING:
            self.next_at = self.limit_at()

    def due(self) -> float:
        """The time of the next step of a started attempt, if no event happens before."""
        announce_at = NEVER if self.listening else self.born + ANNOUNCE_AFTER
        return min(self.next_at, announce_at, self.output.due())

    def known(self) -> KnownAttempt:
        """The entry of this attempt in a `Welcome` message. There an attempt has one of three states."""
        state = self.phase if self.phase in (Phase.QUEUED, Phase.FINISHED) else Phase.RUNNING
        started = (self.pid or None, self.slot, self.started_at or None, self.born if self.pid else None)
        return KnownAttempt(self.id, self.job_id, state.value, *started)

    def size(self) -> int:
        """The memory in bytes for the result and the unacknowledged output."""
        return self.output.size() + len(self.result or b"")

    def make_result(self, now: float) -> None:
        """Make the `exited` message of a command that ran."""
        status = 9 if self.status is None else self.status  # None if the process does not end even after KILL
        code = os.waitstatus_to_exitcode(status)
        self._make_result(
            now if self.exited_at == NEVER else self.exited_at,
            kind="exited" if code >= 0 else "signalled",
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            core=os.WCOREDUMP(status),
            error=self._note(),
        )

    def refuse(self, error: str, slot: int, born: float, wall: float, now: float) -> None:
        """Make the `exited` message of a command that could not be started."""
        self.slot, self.born, self.started_at = slot, born, wall
        self._make_result(now, kind="spawn_error", error=error)

    def _make_result(self, ended_at: float, **ending: Any) -> None:
        usage = self.rusage
        message = Exited(
            self.id,
            self.job_id,
            **ending,
            ended_by=self.ended_by,
            pid=self.pid or None,
            slot=self.slot,
            started_at=self.started_at,
            # Computed from the start and the measured duration, because the wall clock may have been set meanwhile.
            finished_at=self.started_at + ended_at - self.born,
            born=self.born,
            user_cpu=usage and usage.ru_utime,
            system_cpu=usage and usage.ru_stime,
            max_rss=usage and _max_rss(usage),
            output_bytes=self.output.total,
            leftovers=self.leftovers,
            progress=self.progress and self.progress._asdict(),
        )
        self.result = encode(message, self.output.last)

    def _note(self) -> str | None:
        if self.ladder is None or not self.ladder.unkillable:
            return None
        pids = ", ".join(map(str, self.ladder.unkillable))
        return f"these processes do not end even on SIGKILL and were given up: {pids}"


def _max_rss(usage: resource.struct_rusage) -> int | None:
    """The peak memory of a command in bytes; None if it stayed below the holder's own.

    Until its exec a process has the memory of the process that spawned it, and Linux keeps the larger value.
    """
    peak = usage.ru_maxrss * _RSS_UNIT
    # Our own peak never falls. To read it takes 30 µs, so a small command is compared with the last reading.
    if peak > _own_peak[0] + _COUNTED_LATE:
        _own_peak[0] = process_table.peak_memory()
    return peak if peak > _own_peak[0] + _COUNTED_LATE else None
