"""The duty that runs after a notification of the store."""

from typing import Any

import pytest
from unstarted import AGENT, Unstarted

from queuectl.worker.agent.claim import ClaimJobs
from queuectl.worker.agent.heartbeat import Heartbeat
from queuectl.worker.agent.monitor import AttemptMonitor
from queuectl.worker.agent.wakeup import FollowWakeUps


@pytest.fixture
def notified(unstarted: Unstarted) -> Unstarted:
    """An agent that was quiet, and then the store has changed."""
    [job] = unstarted.claims("a")
    unstarted.starts(job)
    unstarted.round()
    assert not unstarted.is_due(FollowWakeUps)
    unstarted.parts.wakeups.changed = True
    return unstarted


def test_a_notification_makes_the_duty_due_once(notified: Unstarted) -> None:
    assert notified.is_due(FollowWakeUps)
    notified.run(FollowWakeUps)
    assert not notified.is_due(FollowWakeUps)


def test_a_notification_makes_the_monitor_and_a_claim_due(notified: Unstarted) -> None:
    assert not notified.is_due(ClaimJobs)
    notified.run(FollowWakeUps)
    assert notified.is_due(AttemptMonitor)
    assert notified.is_due(ClaimJobs)


def test_an_instruction_is_carried_out(notified: Unstarted) -> None:
    notified.run(Heartbeat)
    notified.store.instruct(AGENT, "drain")
    notified.run(FollowWakeUps)
    assert notified.context.phase == "draining"


def test_following_a_notification_writes_nothing(
    notified: Unstarted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write would notify the other workers; each of them would write and notify again, without end."""

    def written(*_: Any) -> Any:
        raise AssertionError("a write wakes the other workers")

    for verb in ("heartbeat", "save", "renew", "swap", "add", "instruct"):
        monkeypatch.setattr(notified.store, verb, written)
    notified.run(FollowWakeUps)
