"""The phases of an attempt: the allowed transitions, and the time of the next check in each phase."""

from collections.abc import Iterator

import pytest

from queuectl.worker.holder import phases
from queuectl.worker.holder.attempt import LEASE_GRACE, Attempt, Phase
from queuectl.worker.holder.kill_ladder import KillLadder, Snapshot
from queuectl.worker.holder.leftovers import Found
from queuectl.worker.holder.phases import ARROWS, DRAIN_PIPES, LOOK_AGAIN, SETTLE, Phases
from queuectl.worker.holder.timers import NEVER
from queuectl.worker.protocol import Start

PID = 4_000_000
"""Greater than any pid."""


class Leftovers:
    """Answers what a test wants about the processes that an attempt has left."""

    ready_at = 0.0

    def __init__(self, *answers: bool | None) -> None:
        self._answers: Iterator[bool | None] = iter(answers)

    def left_by(self, _attempt: Attempt, _now: float) -> bool | None:
        return next(self._answers)

    def of(self, _attempt: Attempt, _snapshot: Snapshot, _now: float) -> Found:
        return Found(set(), undecided=False)


class Scene:
    """A started attempt that was born at 100.0."""

    def __init__(self, *answers: bool | None, **order: object) -> None:
        self.phases = Phases(Leftovers(*answers))  # type: ignore[arg-type]
        self.attempt = Attempt(Start("a1", "j1", 1, "default", 10.0, 1000, **order))  # type: ignore[arg-type]
        phases.enter(self.attempt, Phase.RUNNING)
        self.attempt.started(0, PID, 100.0, 1e9)

    def at(self, now: float) -> tuple[Phase, float]:
        self.phases.advance(self.attempt, now, Snapshot())
        return self.attempt.phase, self.attempt.next_at

    def exits(self, now: float, *, pipe_open: bool = False) -> None:
        self.attempt.status, self.attempt.exited_at = 0, now
        self.attempt.pipes = {7: 0} if pipe_open else {}


def test_a_command_runs_until_its_first_limit() -> None:
    scene = Scene(timeout=5.0, deadline=104.0)
    assert scene.at(100.0) == (Phase.RUNNING, 104.0 - LEASE_GRACE)
    scene.attempt.extend(120.0)
    assert scene.at(101.0) == (Phase.RUNNING, 105.0)


@pytest.mark.parametrize(
    ("order", "reason"), [({"timeout": 5.0}, "timeout"), ({"deadline": 105.0}, "lease"), ({}, None)]
)
def test_a_limit_that_is_exceeded_ends_the_command(order: dict[str, float], reason: str | None) -> None:
    scene = Scene(**order)
    phase, _ = scene.at(105.0)
    assert (phase is Phase.ENDING, scene.attempt.ended_by) == (reason is not None, reason)


def test_a_command_without_leftovers_finishes_at_once() -> None:
    scene = Scene(False)
    scene.exits(101.0)
    assert scene.at(101.0) == (Phase.FINISHED, NEVER)


def test_an_open_pipe_is_drained_for_a_second() -> None:
    scene = Scene(False)
    scene.exits(101.0, pipe_open=True)
    assert scene.at(101.0) == (Phase.DRAINING_PIPES, 101.0 + DRAIN_PIPES)
    assert scene.at(101.0 + DRAIN_PIPES) == (Phase.FINISHED, NEVER)


def test_leftovers_may_end_by_themselves() -> None:
    scene = Scene(None, True, False)
    scene.exits(101.0)
    assert scene.at(101.0) == (Phase.CHECKING_LEFTOVERS, 101.0 + LOOK_AGAIN)
    assert scene.at(102.0) == (Phase.CHECKING_LEFTOVERS, 102.0 + SETTLE)
    assert scene.at(102.01) == (Phase.FINISHED, NEVER)
    assert scene.attempt.ended_by is None


def test_leftovers_are_ended_and_the_outcome_stays_that_of_the_command() -> None:
    scene = Scene(True, True)
    scene.exits(101.0)
    assert scene.at(101.0) == (Phase.CHECKING_LEFTOVERS, 101.0 + SETTLE)
    assert scene.at(102.0)[0] is Phase.ENDING
    assert scene.attempt.ended_by is None


def test_with_allow_detached_leftovers_are_not_searched() -> None:
    scene = Scene(allow_detached=True)
    scene.exits(101.0)
    assert scene.at(101.0) == (Phase.FINISHED, NEVER)


def test_the_first_reason_to_end_a_command_counts() -> None:
    scene = Scene(timeout=5.0)
    for reason in ("cancelled", "interrupted"):
        phases.end(scene.attempt, reason, 101.0)
    assert (scene.attempt.phase, scene.attempt.ended_by) == (Phase.ENDING, "cancelled")


def test_a_command_that_has_exited_is_not_ended_by_a_reason() -> None:
    scene = Scene()
    scene.exits(101.0, pipe_open=True)
    scene.at(101.0)
    phases.end(scene.attempt, "cancelled", 101.1)
    assert (scene.attempt.phase, scene.attempt.ended_by) == (Phase.ENDING, None)


def test_a_finished_attempt_stays_finished() -> None:
    scene = Scene(False)
    scene.exits(101.0)
    scene.at(101.0)
    phases.end(scene.attempt, "cancelled", 102.0)
    assert scene.at(103.0) == (Phase.FINISHED, NEVER)


def test_the_kill_ladder_decides_the_time_of_the_next_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KillLadder, "step", lambda ladder, now, *_: setattr(ladder, "next_at", now + 0.25))
    scene = Scene()
    phases.end(scene.attempt, "cancelled", 101.0)
    assert scene.at(101.0) == (Phase.ENDING, 101.25)


@pytest.mark.parametrize("before", Phase)
@pytest.mark.parametrize("after", Phase)
def test_only_the_listed_phase_changes_are_allowed(before: Phase, after: Phase) -> None:
    attempt = Attempt(Start("a1", "j1", 1, "default", 10.0, 1000))
    attempt.phase = before
    if after in ARROWS[before]:
        phases.enter(attempt, after)
        assert attempt.phase is after
        return
    with pytest.raises(AssertionError):
        phases.enter(attempt, after)
