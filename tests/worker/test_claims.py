"""The claims of a worker: waiting or running, with slot and the newest version of the job."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from factories import NOW, new_job, processing
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.worker import Slot
from queuectl.store.protocol import AttemptRef
from queuectl.worker.agent import claims as claims_module
from queuectl.worker.agent.claims import Claims
from queuectl.worker.protocol import KnownAttempt

STARTED = NOW.timestamp()


def claimed(id: str) -> Job:
    """A claimed job whose attempt has the job's id."""
    return processing(id, attempt_id=id)


@pytest.fixture
def claims() -> Claims:
    """a waits in the holder, b runs in slot 1."""
    claims = Claims()
    claims.add(claimed("a"))
    claims.add(claimed("b")).mark_started(1, 77, STARTED)
    return claims


def test_claims_are_found_by_attempt_id(claims: Claims) -> None:
    assert len(claims) == 2
    assert "a" in claims
    assert "c" not in claims
    assert {claim.attempt_id for claim in claims} == {"a", "b"}
    assert claims.get("c") is None
    assert claims.refs() == [AttemptRef("a", "a"), AttemptRef("b", "b")]


def test_a_claim_is_removed_once(claims: Claims) -> None:
    claim = claims.pop("a")
    assert claim
    assert claim.job.id == "a"
    assert claims.pop("a") is None
    assert len(claims) == 1


def test_claims_may_be_removed_during_an_iteration(claims: Claims) -> None:
    for claim in claims:
        claims.pop(claim.attempt_id)
    assert len(claims) == 0


def test_a_job_without_a_lease_cannot_be_added() -> None:
    with pytest.raises(AssertionError, match="only claimed"):
        Claims().add(new_job("a"))


def test_waiting_and_running_claims_are_listed_separately(claims: Claims) -> None:
    assert claims.waiting() == ["a"]
    assert [claim.attempt_id for claim in claims.running()] == ["b"]


def test_waiting_time_is_counted_from_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(claims_module, "boottime", lambda: now[0])
    claims = Claims()
    claims.add(claimed("a"))
    now[0] = 105.0
    claims.add(claimed("b"))
    assert claims.waiting(5.0) == ["a"]
    assert claims.waiting(5.1) == []


def test_a_start_is_unsaved_after_some_time_and_until_it_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(claims_module, "boottime", lambda: now[0])
    claims = Claims()
    claims.add(claimed("waits"))
    claim = claims.add(claimed("runs"))
    claim.mark_started(0, 77, STARTED)
    assert claims.unsaved_starts(1.0) == []
    now[0] = 101.0
    assert claims.unsaved_starts(1.0) == [claim]
    claim.start_saved = True
    assert claims.unsaved_starts(1.0) == []


def test_slots_are_shown_free_or_with_job_and_time(claims: Claims) -> None:
    assert claims.slots(3) == (
        Slot(slot=0),
        Slot(slot=1, job="b", since=datetime.fromtimestamp(STARTED, UTC)),
        Slot(slot=2),
    )


def test_a_newer_version_of_the_job_keeps_the_unsaved_start(claims: Claims) -> None:
    claim = claims.get("b")
    assert claim
    renewed = lifecycle.renew(claimed("b"), lease=timedelta(minutes=5), now=NOW)
    claim.refresh(replace(renewed, version=9))
    lease = claim.job.lease
    assert lease
    assert (claim.job.version, lease.until) == (9, NOW + timedelta(minutes=5))
    assert (lease.slot, lease.pid, lease.started_at) == (1, 77, NOW)


def test_a_version_of_another_attempt_is_ignored(claims: Claims) -> None:
    claim = claims.get("b")
    assert claim
    before = claim.job
    claim.refresh(processing("b", attempt_id="other"))
    claim.refresh(new_job("b"))
    assert claim.job is before


def test_slot_pid_and_start_time_are_added_to_the_job(claims: Claims) -> None:
    claim = claims.get("b")
    assert claim
    noted = claim.with_start(NOW)
    assert noted.lease
    assert (noted.lease.slot, noted.lease.pid, noted.started_at) == (1, 77, NOW)


def test_a_waiting_claim_has_no_start_to_save(claims: Claims) -> None:
    claim = claims.get("a")
    assert claim
    with pytest.raises(AssertionError, match="only running"):
        claim.with_start(NOW)


@pytest.mark.parametrize("slot", [0, 2])
def test_a_running_attempt_of_another_agent_is_adopted_with_its_slot(slot: int) -> None:
    claims = Claims()
    known = KnownAttempt("a", "a", "running", slot=slot, pid=77, started_at=STARTED)
    claim = claims.adopt(claimed("a"), known)
    assert (claim.slot, claim.started) == (slot, NOW)
    assert claims.slots(3)[slot].job == "a"


def test_a_queued_attempt_of_another_agent_is_adopted_as_waiting() -> None:
    claims = Claims()
    claims.adopt(claimed("a"), KnownAttempt("a", "a", "queued"))
    assert claims.waiting() == ["a"]


def test_the_newest_claim_of_each_queue_is_known_until_it_is_too_old() -> None:
    claims, later = Claims(), NOW + timedelta(seconds=9)
    for id, queue, at in (("a", "mail", NOW), ("b", "mail", later), ("c", "mail", NOW), ("d", "build", NOW)):
        job = claimed(id)
        assert job.lease
        claims.add(replace(job, queue=queue, lease=replace(job.lease, claimed_at=at)))
        claims.pop(id)  # a job that has ended was claimed nevertheless
    assert claims.claimed_since(NOW) == {"mail": later, "build": NOW}
    assert claims.claimed_since(later) == {"mail": later}
    assert claims.claimed_since(NOW) == {"mail": later}
