"""The attempt monitor: cancel requests, lost leases, jobs stuck behind long jobs, and the stored start of an
attempt."""

from pathlib import Path

import pytest
from archive import Troubled
from msgspec.structs import replace
from unstarted import Unstarted

from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.store.memory import MemoryStore
from queuectl.worker.agent import monitor
from queuectl.worker.agent.monitor import LOOK_EVERY, QUEUED_TOO_LONG, SAVE_START_AFTER, AttemptMonitor
from queuectl.worker.agent.renewal import Renewed
from service.scenes import get


def request_cancel(store: MemoryStore, id: str) -> Job:
    """Request the cancel of a running job."""
    asked = lifecycle.cancel(get(store, id), by="me", reason=None, now=store.now())
    store.save([asked])
    return get(store, id)


def kills(agent: Unstarted) -> list[tuple[str, str]]:
    """The jobs that the holder was asked to kill, with reasons."""
    names = {claim.attempt_id: claim.job.id for claim in agent.context.claims}
    return [(names[message["attempt_id"]], message["reason"]) for message in agent.connection.of("kill")]


@pytest.fixture
def running(unstarted: Unstarted) -> Unstarted:
    """A command runs in slot 0."""
    [job] = unstarted.claims("a")
    unstarted.starts(job)
    return unstarted


class TestDue:
    def test_the_monitor_is_not_due_without_claims(self, unstarted: Unstarted) -> None:
        assert not unstarted.is_due(AttemptMonitor)

    def test_with_claims_the_monitor_runs_at_its_interval(self, running: Unstarted) -> None:
        running.run(AttemptMonitor)
        assert running.duty(AttemptMonitor).due(running.now) == running.now + LOOK_EVERY

    def test_the_monitor_is_due_at_once_when_a_job_may_have_changed(self, running: Unstarted) -> None:
        running.run(AttemptMonitor)
        running.parts.monitor.look_next()
        assert running.is_due(AttemptMonitor)


def test_a_cancel_request_kills_the_command_once(running: Unstarted) -> None:
    request_cancel(running.store, "a")
    running.run(AttemptMonitor)
    running.run(AttemptMonitor)
    assert kills(running) == [("a", "cancelled")]


def test_a_command_whose_lease_was_lost_is_fenced(running: Unstarted) -> None:
    [claim] = running.context.claims
    running.store.save([lifecycle.give_back(claim.job, now=running.store.now())])
    running.run(AttemptMonitor)
    assert kills(running) == [("a", "fenced")]


def test_a_cancel_request_found_by_a_renewal_kills_the_command(running: Unstarted) -> None:
    fresh = request_cancel(running.store, "a")
    running.parts.monitor.take(Renewed(running.context.claims.refs(), [fresh]))
    assert kills(running) == [("a", "cancelled")]


def test_a_claim_that_was_not_renewed_is_read_before_it_is_killed(running: Unstarted) -> None:
    running.run(AttemptMonitor)
    running.parts.monitor.take(Renewed(running.context.claims.refs(), []))
    assert kills(running) == []
    assert running.is_due(AttemptMonitor)


def test_a_job_stuck_behind_long_jobs_is_withdrawn(unstarted: Unstarted) -> None:
    for slot, job in enumerate(unstarted.claims("a", "b")):
        unstarted.starts(job, slot)
    waiting = unstarted.context.claims.add(
        replace(
            get(unstarted.store, "a"), id="c", lease=replace(get(unstarted.store, "a").lease, attempt_id="c")
        )
    )
    unstarted.run(AttemptMonitor)
    assert unstarted.connection.of("drop")[-1]["attempt_ids"] == []
    unstarted.now += QUEUED_TOO_LONG
    unstarted.run(AttemptMonitor)
    assert unstarted.connection.of("drop")[-1]["attempt_ids"] == [waiting.attempt_id]


def test_the_start_of_a_longer_command_is_saved_once(running: Unstarted) -> None:
    running.run(AttemptMonitor)
    assert get(running.store, "a").started_at is None
    running.now += SAVE_START_AFTER
    running.run(AttemptMonitor)
    saved = get(running.store, "a")
    assert saved.lease is not None
    assert (saved.lease.pid, saved.lease.slot) == (77, 0)
    running.run(AttemptMonitor)
    assert get(running.store, "a").version == saved.version


def test_a_stopped_command_is_shown_as_stopped(running: Unstarted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor.process_table, "stopped", lambda pids: pids)
    running.run(AttemptMonitor)
    assert [slot.stopped for slot in running.context.claims.slots(2)] == [True, False]


def test_jobs_in_an_unreachable_archive_do_not_hide_other_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Troubled()
    agent = Unstarted(tmp_path, monkeypatch, store)
    for slot, job in enumerate(agent.claims("late", "good")):
        agent.starts(job, slot)
    store.past, store.away = {"late"}, "the archive is away"
    request_cancel(store, "good")
    agent.run(AttemptMonitor)
    assert kills(agent) == [("good", "cancelled")]
