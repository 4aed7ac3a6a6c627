"""The heartbeat: what it writes into the registry, when, and which instructions the worker receives with it."""

from datetime import timedelta

import pytest
from unstarted import AGENT, Unstarted

from queuectl.domain.worker import Instruction, Worker
from queuectl.store.protocol import Swap
from queuectl.worker.agent.heartbeat import SOON, Heartbeat
from service.scenes import heartbeat


def entry(agent: Unstarted) -> Worker:
    """The worker as the registry shows it."""
    [worker] = [worker for worker in agent.store.workers() if worker.id == AGENT]
    return worker


@pytest.fixture
def beaten(unstarted: Unstarted) -> Unstarted:
    """A worker that has just written its entry."""
    unstarted.run(Heartbeat)
    return unstarted


class TestDue:
    def test_the_first_heartbeat_is_due_at_once(self, unstarted: Unstarted) -> None:
        assert unstarted.is_due(Heartbeat)

    def test_the_next_heartbeat_is_due_after_the_interval(self, beaten: Unstarted) -> None:
        interval = beaten.context.settings.heartbeat_interval.total_seconds()
        assert beaten.duty(Heartbeat).due(beaten.now) == beaten.now + interval

    def test_a_change_of_slots_makes_a_heartbeat_due_soon(self, beaten: Unstarted) -> None:
        [job] = beaten.claims("a")
        beaten.starts(job)
        assert beaten.duty(Heartbeat).due(beaten.now) == beaten.now + SOON

    def test_a_drain_makes_a_heartbeat_due_soon(self, beaten: Unstarted) -> None:
        beaten.hears("drain")
        assert beaten.duty(Heartbeat).due(beaten.now) == beaten.now + SOON

    def test_a_pause_makes_a_heartbeat_due_soon(self, beaten: Unstarted) -> None:
        [job] = beaten.claims("a")
        beaten.hears("trouble", attempt_id=job.attempt_id, error="no processes", errno=11)
        assert beaten.duty(Heartbeat).due(beaten.now) == beaten.now + SOON

    def test_a_requested_heartbeat_is_due_at_once(self, beaten: Unstarted) -> None:
        beaten.duty(Heartbeat).run_next()
        assert beaten.is_due(Heartbeat)


class TestEntry:
    def test_the_entry_shows_the_job_of_a_running_slot(self, beaten: Unstarted) -> None:
        [job] = beaten.claims("a")
        beaten.starts(job, 1)
        beaten.run(Heartbeat)
        assert [(slot.slot, slot.job) for slot in entry(beaten).slots] == [(0, None), (1, "a")]
        assert (entry(beaten).state, entry(beaten).note) == ("running", None)

    def test_the_entry_shows_the_newest_claim_of_each_queue(self, beaten: Unstarted) -> None:
        [job] = beaten.claims("a")
        assert job.lease
        beaten.run(Heartbeat)
        assert entry(beaten).claimed_at == {job.queue: job.lease.claimed_at}

    def test_the_entry_shows_a_pause_with_its_reason(self, beaten: Unstarted) -> None:
        [job] = beaten.claims("a")
        beaten.hears("trouble", attempt_id=job.attempt_id, error="no processes", errno=11)
        beaten.run(Heartbeat)
        assert (entry(beaten).state, entry(beaten).note) == ("paused", "cannot start commands: no processes")

    @pytest.mark.parametrize("kind", ["drain", "stop"])
    def test_the_entry_shows_a_draining_worker(self, beaten: Unstarted, kind: str) -> None:
        beaten.hears(kind)
        beaten.run(Heartbeat)
        assert entry(beaten).state == "draining"


@pytest.mark.parametrize("instruction", ["drain", "stop"])
def test_an_instruction_is_carried_out_once(beaten: Unstarted, instruction: Instruction) -> None:
    beaten.store.instruct(AGENT, instruction)
    beaten.run(Heartbeat)
    beaten.run(Heartbeat)
    assert len(beaten.connection.of(instruction)) == 1
    assert beaten.context.phase == ("draining" if instruction == "drain" else "stopping")


def test_a_reload_ends_the_agent(beaten: Unstarted) -> None:
    beaten.store.instruct(AGENT, "reload")
    with pytest.raises(SystemExit):
        beaten.run(Heartbeat)
    assert beaten.connection.of("reload")


def test_changed_settings_are_read(beaten: Unstarted) -> None:
    beaten.store.swap([Swap("settings", "lease", {"value": "2m"}, 0)])
    beaten.run(Heartbeat)
    assert beaten.context.settings.lease == timedelta(minutes=2)
    assert beaten.parts.renewal._again.is_set()


def test_unchanged_settings_do_not_cause_a_renewal(beaten: Unstarted) -> None:
    beaten.run(Heartbeat)
    assert not beaten.parts.renewal._again.is_set()


def test_a_name_that_a_live_worker_uses_is_changed(beaten: Unstarted) -> None:
    heartbeat(beaten.store, "one")
    beaten.duty(Heartbeat).keep_name()
    beaten.run(Heartbeat)
    assert entry(beaten).name == "one-atlas"
    assert [message["name"] for message in beaten.connection.of("name")] == ["one-atlas"]
