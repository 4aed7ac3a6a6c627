"""The duties of an agent together: their order, when the loop sleeps, and that no duty keeps the loop from sleeping."""

from collections.abc import Sequence
from typing import Any

import pytest
from unstarted import Unstarted

from queuectl.domain import lifecycle
from queuectl.errors import StoreUnavailable
from queuectl.worker.agent.heartbeat import SOON
from queuectl.worker.agent.main import LONGEST_SLEEP, Agent
from queuectl.worker.agent.monitor import LOOK_EVERY
from queuectl.worker.agent.recording import GATHER_SECONDS
from service.scenes import put

ORDER = [
    "FollowWakeUps",
    "ShipOutput",
    "RecordResults",
    "FailureStreak",
    "AttemptMonitor",
    "Heartbeat",
    "Maintenance",
    "DueEntries",
    "ServeHooks",
    "ClaimJobs",
    "OutputFaultReport",
    "WriteFigures",
]


def test_duties_run_in_the_order_of_their_urgency(unstarted: Unstarted) -> None:
    assert [type(duty).__name__ for duty in unstarted.parts.duties] == ORDER


def idle(agent: Unstarted) -> None:
    """No job exists."""


def running(agent: Unstarted) -> None:
    """A command runs, and a job that was claimed with it waits in the holder."""
    first, _ = agent.claims("a", "b")
    agent.starts(first)


def full(agent: Unstarted) -> None:
    """All slots are taken, and more jobs are due."""
    for slot, job in enumerate(agent.claims("a", "b", "c")):
        agent.starts(job, slot)


def ended(agent: Unstarted) -> None:
    """A job has failed and will be retried."""
    [job] = agent.claims("a")
    agent.ends(job, exit_code=1, seconds=0.01)


def printed(agent: Unstarted) -> None:
    """A command has printed something."""
    [job] = agent.claims("a")
    agent.hears("output", b"x", attempt_id=job.attempt_id, job_id="a", n=1, stream=0, at=0.0, offset=0)


def refuses_output(agent: Unstarted) -> None:
    """A command has printed something and ended; the store refuses its output, and works otherwise."""

    def write_output(*_: Any) -> Any:
        raise StoreUnavailable("no space for output")

    printed(agent)
    agent.store.write_output = write_output  # type: ignore[method-assign]
    agent.ends(next(iter(agent.context.claims)).job)


def streak(agent: Unstarted) -> None:
    """Eight jobs have failed at once."""
    for n in range(8):
        for job in agent.claims(f"a{n}"):
            agent.ends(job, exit_code=1, seconds=0.01)
        agent.round()


def notified(agent: Unstarted) -> None:
    """The store has changed."""
    agent.parts.wakeups.changed = True


def dropped(agent: Unstarted) -> None:
    """The holder has given back a claim that it had not started, and another worker has it already."""
    [job] = agent.claims("a")
    now = agent.store.now()
    agent.store.save([lifecycle.give_back(job, now=now)])
    agent.hears("dropped", attempt_ids=[job.attempt_id])


def draining(agent: Unstarted) -> None:
    """The worker drains while a command runs."""
    running(agent)
    agent.hears("drain")


def host_fault(agent: Unstarted) -> None:
    """The holder cannot fork."""
    [job] = agent.claims("a")
    agent.hears("trouble", attempt_id=job.attempt_id, errno=11, error="no processes")


SITUATIONS = [
    idle, running, full, ended, printed, refuses_output, streak, notified, dropped, draining, host_fault
]  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_after_a_round_the_loop_can_sleep(unstarted: Unstarted, situation: Any) -> None:
    """A duty that stays due without any work makes the loop spin."""
    situation(unstarted)
    unstarted.round()
    unstarted.round()  # a full claim is followed by another one, which finds nothing
    assert unstarted.round() == []
    assert Agent(unstarted.parts)._seconds_to_wait() > 0


@pytest.mark.parametrize("situation", [idle, running, full, ended, draining])
def test_the_loop_is_idle_while_it_sleeps(unstarted: Unstarted, situation: Any) -> None:
    """The loop runs only some rounds a second in each situation: it sleeps until a duty is due, and each duty has an
    interval."""
    situation(unstarted)
    rounds, end = 0, unstarted.now + 10
    while unstarted.now < end:
        Agent(unstarted.parts)._run_round()
        unstarted.now += Agent(unstarted.parts)._seconds_to_wait()
        rounds += 1
    assert rounds < 60


def waits_for(agent: Unstarted) -> float:
    """The seconds that the loop would sleep now."""
    return round(Agent(agent.parts)._seconds_to_wait(), 3)


def test_the_loop_sleeps_until_the_next_duty_is_due(unstarted: Unstarted) -> None:
    first, second = unstarted.claims("a", "b")
    unstarted.round()
    unstarted.starts(first, 0), unstarted.starts(second, 1)
    assert waits_for(unstarted) == LOOK_EVERY
    unstarted.now += LOOK_EVERY
    unstarted.round()
    assert waits_for(unstarted) == round(SOON - LOOK_EVERY, 3)


def test_results_of_very_short_jobs_are_gathered(unstarted: Unstarted) -> None:
    unstarted.parts.duties[2]._policy.record_run_time(0.002)  # type: ignore[attr-defined]
    jobs = unstarted.claims("a", "b")
    unstarted.round()
    unstarted.ends(jobs[0], seconds=0.002)
    unstarted.parts.claiming._policy.dirty = False
    assert waits_for(unstarted) == GATHER_SECONDS


def test_the_loop_never_sleeps_longer_than_an_hour(unstarted: Unstarted) -> None:
    unstarted.parts.duties = ()
    unstarted.parts.duties = (Never(),)
    assert waits_for(unstarted) == LONGEST_SLEEP


class Never:
    """A duty with nothing to do."""

    def due(self, _: float) -> float:
        return float("inf")

    def run(self, _: float) -> None:
        raise AssertionError("it is not due")


class TestOutage:
    """The store cannot be reached."""

    @pytest.fixture(autouse=True)
    def asked(self, unstarted: Unstarted, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The times of calls to the store, which cannot be reached before the time 1010."""
        asked, heartbeat = list[float](), unstarted.store.heartbeat

        def answer(worker: Any) -> Any:
            asked.append(unstarted.now)
            if unstarted.now < 1010:
                raise StoreUnavailable("the store is away")
            return heartbeat(worker)

        monkeypatch.setattr(unstarted.store, "heartbeat", answer)
        return asked

    def turns(self, agent: Unstarted, until: float) -> None:
        while agent.now < until:
            agent.now += Agent(agent.parts)._seconds_to_wait()
            Agent(agent.parts)._run_round()

    def test_each_pause_between_calls_is_longer_than_the_last(
        self, unstarted: Unstarted, asked: Sequence[float]
    ) -> None:
        Agent(unstarted.parts)._run_round()
        self.turns(unstarted, 1010)
        assert [round(time - 1000, 1) for time in asked] == [0.0, 0.2, 0.6, 1.4, 3.0, 6.2, 11.2]

    def test_the_end_of_an_outage_is_logged_and_sent_to_the_holder(self, unstarted: Unstarted) -> None:
        Agent(unstarted.parts)._run_round()
        assert unstarted.said() == ["store     the store is away; commands run on, results wait"]
        self.turns(unstarted, 1010)
        assert unstarted.said() == ["store     the store is back"]
        assert [message.get("away") for message in unstarted.connection.of("store")] == [
            "the store is away",
            None,
        ]

    def test_a_claim_whose_reply_was_lost_is_given_back(self, unstarted: Unstarted) -> None:
        put(unstarted.store, "a")
        Agent(unstarted.parts)._run_round()
        unstarted.store.claim("w1", [], 1, unstarted.context.settings.lease)
        self.turns(unstarted, 1010)
        unstarted.round()
        assert unstarted.store.get(["a"])["a"].attempts == 1
        assert [claim.job.id for claim in unstarted.context.claims] == ["a"]
