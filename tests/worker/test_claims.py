"""The attempts that a worker holds: waiting or running, in which slot, how fresh."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from factories import NOW, new_job, processing
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.worker import Slot
from queuectl.store.protocol import AttemptRef
from queuectl.worker.agent import claims as places_module
from queuectl.worker.agent.claims import Claims

STARTED = NOW.timestamp()


def claimed(id: str) -> Job:
    """A claimed job whose attempt has the job's id."""
    return processing(id, attempt_id=id)


@pytest.fixture
def places() -> Claims:
    """a waits in the holder, b runs in slot 1."""
    places = Claims()
    places.add(claimed("a"))
    places.add(claimed("b")).begin(1, 77, STARTED)
    return places


def test_all_are_found_by_attempt(places: Claims) -> None:
    assert len(places) == 2
    assert "a" in places
    assert "c" not in places
    assert {place.attempt_id for place in places} == {"a", "b"}
    assert places.get("c") is None
    assert places.held() == [AttemptRef("a", "a"), AttemptRef("b", "b")]


def test_what_is_over_is_gone_once(places: Claims) -> None:
    place = places.pop("a")
    assert place
    assert place.job.id == "a"
    assert places.pop("a") is None
    assert len(places) == 1


def test_they_may_end_while_they_are_looked_through(places: Claims) -> None:
    for place in places:
        places.pop(place.attempt_id)
    assert len(places) == 0


def test_a_job_that_nobody_claimed_is_not_held() -> None:
    with pytest.raises(AssertionError, match="only claimed"):
        Claims().add(new_job("a"))


def test_waiting_and_running_are_told_apart(places: Claims) -> None:
    assert places.waiting() == ["a"]
    assert places.running() == 1


def test_how_long_they_wait_is_counted_from_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(places_module, "boottime", lambda: now[0])
    places = Claims()
    places.add(claimed("a"))
    now[0] = 105.0
    places.add(claimed("b"))
    assert places.waiting(5.0) == ["a"]
    assert places.waiting(5.1) == []


def test_a_start_is_to_be_noted_after_a_while_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(places_module, "boottime", lambda: now[0])
    places = Claims()
    places.add(claimed("waits"))
    place = places.add(claimed("runs"))
    place.begin(0, 77, STARTED)
    assert places.unnoted(1.0) == []
    now[0] = 101.0
    assert places.unnoted(1.0) == [place]
    place.noted = True
    assert places.unnoted(1.0) == []


def test_slots_are_shown_free_or_with_job_and_time(places: Claims) -> None:
    assert places.slots(3) == (
        Slot(slot=0),
        Slot(slot=1, job="b", since=datetime.fromtimestamp(STARTED, UTC)),
        Slot(slot=2),
    )


def test_a_fresher_copy_keeps_the_start_that_only_the_worker_knows(places: Claims) -> None:
    place = places.get("b")
    assert place
    renewed = lifecycle.renew(claimed("b"), lease=timedelta(minutes=5), now=NOW)
    place.refresh(replace(renewed, version=9))
    lease = place.job.lease
    assert lease
    assert (place.job.version, lease.until) == (9, NOW + timedelta(minutes=5))
    assert (lease.slot, lease.pid, lease.started_at) == (1, 77, NOW)


def test_a_copy_of_another_attempt_is_not_taken(places: Claims) -> None:
    place = places.get("b")
    assert place
    before = place.job
    place.refresh(processing("b", attempt_id="other"))
    place.refresh(new_job("b"))
    assert place.job is before


def test_the_start_is_written_into_the_job_for_people_who_look(places: Claims) -> None:
    place = places.get("b")
    assert place
    noted = place.with_start(NOW)
    assert noted.lease
    assert (noted.lease.slot, noted.lease.pid, noted.started_at) == (1, 77, NOW)


def test_what_does_not_run_has_no_start_to_note(places: Claims) -> None:
    place = places.get("a")
    assert place
    with pytest.raises(AssertionError, match="only running"):
        place.with_start(NOW)


@pytest.mark.parametrize("slot", [0, 2])
def test_what_another_agent_started_is_taken_over_where_it_runs(slot: int) -> None:
    places = Claims()
    known = {"state": "running", "slot": slot, "pid": 77, "started_at": STARTED}
    place = places.adopt(claimed("a"), known)
    assert (place.slot, place.started) == (slot, NOW)
    assert places.slots(3)[slot].job == "a"


def test_what_another_agent_only_sent_still_waits() -> None:
    places = Claims()
    places.adopt(claimed("a"), {"state": "queued"})
    assert places.waiting() == ["a"]
