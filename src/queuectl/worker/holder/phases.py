"""The phases of an attempt: what each phase waits for, and which phase follows.

    queued ──► running ──► draining_pipes ──► checking_leftovers ──► finished
       │          │              │                    │                 ▲
       │          └──────────────┴───── ending ◄──────┘                 │
       └───────────────────────────────── │ ───────────────────────────►┘

`ending` is the kill ladder. An attempt enters it when it exceeds a limit, when the agent or a signal asks for it, or
when the command has exited and left processes behind. A queued attempt finishes at once if it cannot be started.

Each phase is a function. It returns the next phase and the time of its next step, and changes only the attempt.
The supervisor handles the beginning and the end of an attempt.
"""

from collections.abc import Callable

from queuectl.worker.holder.attempt import LEASE_GRACE, Attempt, Phase
from queuectl.worker.holder.kill_ladder import KillLadder, Snapshot
from queuectl.worker.holder.leftovers import Leftovers
from queuectl.worker.holder.timers import NEVER
from queuectl.worker.host import process_table

DRAIN_PIPES = 1.0
"""Seconds after the leader's exit during which another process may still write output."""
SETTLE = 0.05
"""Seconds for which leftovers may end by themselves, so that a process that is just exiting is not reported."""
LOOK_AGAIN = 0.001
"""Seconds until the next check of a leftover whose attempt is not known yet."""
LEFTOVER_GRACE = 1.0

ARROWS: dict[Phase, frozenset[Phase]] = {
    Phase.QUEUED: frozenset((Phase.RUNNING, Phase.FINISHED)),
    Phase.RUNNING: frozenset((Phase.DRAINING_PIPES, Phase.ENDING)),
    Phase.DRAINING_PIPES: frozenset((Phase.CHECKING_LEFTOVERS, Phase.ENDING)),
    Phase.CHECKING_LEFTOVERS: frozenset((Phase.ENDING, Phase.FINISHED)),
    Phase.ENDING: frozenset((Phase.FINISHED,)),
    Phase.FINISHED: frozenset(),
}
"""The phases that may follow each phase."""


Step = tuple[Phase, float]
"""The next phase of an attempt, and the time of its next step if no event happens before."""


class Phases:
    """The functions of the phases, and their access to processes and pipes."""

    def __init__(self, leftovers: Leftovers) -> None:
        self._leftovers = leftovers
        self._of: dict[Phase, Callable[[Attempt, float, Snapshot], Step]] = {
            Phase.RUNNING: self._running,
            Phase.DRAINING_PIPES: self._draining_pipes,
            Phase.CHECKING_LEFTOVERS: self._checking_leftovers,
            Phase.ENDING: self._ending,
        }

    def advance(self, attempt: Attempt, now: float, snapshot: Snapshot) -> None:
        """Run the functions of the phases until a phase has to wait."""
        while look := self._of.get(attempt.phase):
            phase, attempt.next_at = look(attempt, now, snapshot)
            if phase is attempt.phase:
                return
            enter(attempt, phase)

    def _running(self, attempt: Attempt, now: float, _snapshot: Snapshot) -> Step:
        if attempt.exited:
            return Phase.DRAINING_PIPES, now
        if reason := attempt.exceeded(now):
            return _begin_ending(attempt, reason, now)
        return Phase.RUNNING, attempt.limit_at()

    def _draining_pipes(self, attempt: Attempt, now: float, _snapshot: Snapshot) -> Step:
        """Wait at most `DRAIN_PIPES` seconds for other processes that have the pipe open after the leader's exit."""
        until = attempt.exited_at + DRAIN_PIPES
        if attempt.pipes and now < until:
            return Phase.DRAINING_PIPES, until
        return Phase.CHECKING_LEFTOVERS, now

    def _checking_leftovers(self, attempt: Attempt, now: float, _snapshot: Snapshot) -> Step:
        if attempt.allow_detached:
            return Phase.FINISHED, NEVER
        left = process_table.group_exists(attempt.pid) or self._leftovers.left_by(attempt, now)
        if left is None:
            return Phase.CHECKING_LEFTOVERS, max(self._leftovers.ready_at, now + LOOK_AGAIN)
        if not left:
            return Phase.FINISHED, NEVER
        attempt.settle_until = min(attempt.settle_until, now + SETTLE)
        if now < attempt.settle_until:
            return Phase.CHECKING_LEFTOVERS, attempt.settle_until
        attempt.ladder = KillLadder(attempt.pid, min(attempt.grace, LEFTOVER_GRACE), now)
        return Phase.ENDING, now

    def _ending(self, attempt: Attempt, now: float, snapshot: Snapshot) -> Step:
        ladder = attempt.ladder
        assert ladder is not None, "the ladder begins with the phase"
        if now >= ladder.next_at:
            found = self._leftovers.of(attempt, snapshot, now)
            ladder.step(now, snapshot, found.pids, not attempt.exited, found.undecided)
        if not ladder.done:
            return Phase.ENDING, ladder.next_at
        attempt.leftovers = len(ladder.seen)
        return Phase.FINISHED, NEVER


def enter(attempt: Attempt, phase: Phase) -> None:
    """Begin a phase."""
    assert phase in ARROWS[attempt.phase], f"{attempt.phase} is not followed by {phase}"
    attempt.phase = phase


def end(attempt: Attempt, reason: str, now: float) -> None:
    """Begin to end a started attempt. If the kill ladder has already begun, do nothing: the first reason counts."""
    if Phase.ENDING in ARROWS[attempt.phase]:
        phase, attempt.next_at = _begin_ending(attempt, reason, now)
        enter(attempt, phase)


def _begin_ending(attempt: Attempt, reason: str, now: float) -> Step:
    """Set up the kill ladder. A command that has exited by itself keeps its own outcome."""
    grace = min(attempt.grace, LEASE_GRACE) if reason in ("lease", "fenced") else attempt.grace
    attempt.ladder = KillLadder(attempt.pid, grace, now)
    if not attempt.exited:
        attempt.ended_by = reason
    return Phase.ENDING, now
