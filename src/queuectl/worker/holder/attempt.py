"""One attempt as the holder sees it: ordered, running, finished; data, and what follows from it."""

import os
import re
import resource
import sys
from typing import Any

from queuectl.clock import boottime
from queuectl.worker.holder.kill_ladder import Ladder
from queuectl.worker.holder.output_buffer import Capture
from queuectl.worker.host import process_table
from queuectl.worker.protocol import Exited, KnownAttempt, Start, encode

QUEUED, RUNNING, FINISHED = "queued", "running", "finished"

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_COUNTED_LATE = 1 << 20
"""Bytes by which the kernel's count of a process's pages may be behind."""
_own_peak = [0]
"""The holder's peak memory in bytes when it was last read."""
_NEVER = float("inf")
LEASE_GRACE = 0.3
"""Seconds from TERM to KILL at the end of a lease: it is over by then, and somebody else may start the job."""
# It goes into a record of fixed size and into a file's name.
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)


class Attempt:
    """From the agent's order to the result that waits for its acknowledgement.

    `born`, `ended`, `timeout_at`, `lease_at` and `close_at` are on the clock of `boottime`; `started_at` is epoch
    seconds. `close_at` is when, after its leader's exit, the rest of its life is looked at
    again.
    """

    __slots__ = (
        "armed_at", "born", "capture", "close_at", "ended", "ended_by", "grace", "held", "id",
        "job_id", "ladder", "lease_at", "left_until", "leftovers", "listen_at", "order", "pid", "pipes", "result",
        "rusage", "script", "slot", "started_at", "state", "status", "stdin", "timeout", "timeout_at",
    )  # fmt: skip

    def __init__(self, order: Start, stdin: bytes) -> None:
        if not _ID.fullmatch(order.attempt_id):
            raise ValueError("an attempt id that is none")
        self.id: str = order.attempt_id
        self.job_id: str = order.job_id
        self.order = order
        self.stdin = stdin
        self.state = QUEUED
        self.slot: int | None = None
        self.pid = 0
        self.born = _NEVER
        self.started_at: float | None = None
        self.ended: float | None = None
        self.timeout_at = _NEVER
        self.timeout = _or_never(order.timeout)
        self.grace = float(order.grace)
        self.lease_at = _or_never(order.deadline)
        self.close_at = _NEVER
        self.listen_at = _NEVER
        self.left_until = _NEVER
        self.armed_at = _NEVER
        self.capture = Capture(self.id, self.job_id, order.output_limit, order.split)
        self.pipes: dict[int, int] = {}
        self.script: str | None = None
        self.ladder: Ladder | None = None
        self.ended_by: str | None = None
        self.status: int | None = None
        self.rusage: resource.struct_rusage | None = None
        self.leftovers = 0
        self.result: bytes | None = None
        self.held = 0

    @property
    def allow_detached(self) -> bool:
        """Whether its processes may outlive it."""
        return self.order.allow_detached

    def started(self, slot: int, pid: int, born: float, wall: float) -> None:
        """The command runs."""
        self.state, self.slot, self.pid, self.born, self.started_at = RUNNING, slot, pid, born, wall
        self.timeout_at = born + self.timeout
        self.stdin = b""

    def extend(self, deadline: float | None) -> None:
        """A new lease deadline."""
        self.lease_at = _or_never(deadline)

    def overdue(self, now: float) -> str | None:
        """Which limit has been passed, if any."""
        if now >= self.timeout_at:
            return "timeout"
        return "lease" if now >= self.lease_at - LEASE_GRACE else None

    def due(self) -> float:
        """When something has to be done about it, if nothing happens before."""
        if self.state != RUNNING:
            return _NEVER
        output = min(self.capture.due(), self.listen_at)
        if self.ladder is not None:
            return min(output, self.ladder.next_at)
        if self.status is None:
            return min(output, self.timeout_at, self.lease_at - LEASE_GRACE)
        return min(output, self.close_at)

    def summary(self) -> KnownAttempt:
        """An entry of the welcome's list."""
        born = self.born if self.pid else None
        return KnownAttempt(
            self.id, self.job_id, self.state, self.pid or None, self.slot, self.started_at, born
        )

    def report_end(self) -> None:
        """Make the `exited` message of a command that ran."""
        status = 9 if self.status is None else self.status  # None: it does not die even of KILL
        code = os.waitstatus_to_exitcode(status)
        self._report(
            kind="exited" if code >= 0 else "signalled",
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            core=os.WCOREDUMP(status),
            error=self._note(),
        )

    def report_spawn_error(self, error: str, slot: int, born: float, wall: float) -> None:
        """Make the `exited` message of a command that could not be started."""
        self.slot, self.born, self.started_at = slot, born, wall
        self._report(kind="spawn_error", error=error)

    def _report(self, **ending: Any) -> None:
        usage = self.rusage
        message = Exited(
            self.id,
            self.job_id,
            **ending,
            ended_by=self.ended_by,
            pid=self.pid or None,
            slot=self.slot,
            started_at=self.started_at,
            finished_at=self._finished_at(),
            born=self.born,
            user_cpu=usage and usage.ru_utime,
            system_cpu=usage and usage.ru_stime,
            max_rss=usage and _max_rss(usage),
            output_bytes=self.capture.total,
            leftovers=self.leftovers,
        )
        self.result = encode(message, self.capture.last)
        self.state = FINISHED
        self.held = self.capture.retained() + len(self.result)
        self.stdin = b""

    def _finished_at(self) -> float:
        """The start and the measured duration: the wall clock may have been set meanwhile."""
        assert self.started_at is not None
        return self.started_at + (boottime() if self.ended is None else self.ended) - self.born

    def _note(self) -> str | None:
        if self.ladder is None or not self.ladder.unkillable:
            return None
        pids = ", ".join(map(str, self.ladder.unkillable))
        return f"these processes do not end even on SIGKILL and were given up: {pids}"


def _max_rss(usage: resource.struct_rusage) -> int | None:
    """The peak memory of a command in bytes; None where it stayed below the holder's own.

    Until its exec a process counts with the memory of who spawned it, and Linux keeps the larger of the two.
    """
    peak = usage.ru_maxrss * _RSS_UNIT
    # Our own peak only rises. Reading it takes 30 µs, so a small command is judged by what was read before.
    if peak > _own_peak[0] + _COUNTED_LATE:
        _own_peak[0] = process_table.peak_memory()
    return peak if peak > _own_peak[0] + _COUNTED_LATE else None


def _or_never(value: float | None) -> float:
    return _NEVER if value is None else float(value)
