"""A duty: one task that an agent repeats, and the rule for when the task is due."""

from typing import Protocol

NEVER = float("inf")


class Duty(Protocol):
    """The interface between the agent's loop and a duty. All times are CLOCK_BOOTTIME (`queuectl.clock.boottime`).

    The loop sleeps until the smallest `due` of all duties and then runs those that are due, so `due` is the only place
    that decides when a duty runs. A duty that stays due after `run` although it has nothing to do makes the loop spin
    without a pause. Shown by `tests/worker/test_duties.py`, which runs every duty and then checks `due`.
    """

    def due(self, now: float, /) -> float:
        """When the duty must run next; NEVER while it has nothing to do. Has no side effects."""
        ...

    def run(self, now: float, /) -> None:
        """Run the task. Raises StoreError or OutcomeUnknown when the store fails; the round of the loop then ends."""
        ...
