"""Each permitted transition has its event, and what is no transition has none."""

from collections.abc import Callable
from datetime import timedelta
from typing import get_args

import pytest
from msgspec.structs import replace

from domain.test_lifecycle import WAYS, asked_to_cancel, blocked, finish, interrupt, running, unblock
from factories import LEASE, NOW, in_state, new_job, report
from queuectl.domain import lifecycle
from queuectl.domain.event import Actor, Event, Kind, between, deleted
from queuectl.domain.job import Job, Parent, State

OF_A_NEW_JOB: dict[State, Kind] = {
    "pending": "job.enqueued",
    "blocked": "job.blocked",
    "held": "job.held",
}
OF_ARROWS: dict[tuple[str, State, State], Kind] = {
    ("unblock", "blocked", "pending"): "job.released",
    ("unblock", "blocked", "cancelled"): "job.cancelled",
    ("unblock", "blocked", "held"): "job.held",
    ("unblock", "held", "pending"): "job.released",
    ("revive", "cancelled", "blocked"): "job.blocked",
    ("hold", "pending", "held"): "job.held",
    ("hold", "failed", "held"): "job.held",
    ("hold", "blocked", "held"): "job.held",
    ("release", "held", "pending"): "job.released",
    ("release", "held", "blocked"): "job.released",
    ("edit", "pending", "pending"): "job.edited",
    ("edit", "failed", "failed"): "job.edited",
    ("edit", "blocked", "blocked"): "job.edited",
    ("edit", "held", "held"): "job.edited",
    ("claim", "pending", "processing"): "job.started",
    ("claim", "failed", "processing"): "job.started",
    ("finish", "processing", "completed"): "job.completed",
    ("finish", "processing", "failed"): "job.failed",
    ("finish", "processing", "dead"): "job.dead",
    ("finish", "processing", "cancelled"): "job.cancelled",
    ("give_back", "processing", "pending"): "job.given_back",
    ("give_back", "processing", "failed"): "job.given_back",
    ("give_back", "processing", "cancelled"): "job.cancelled",
    ("interrupt", "processing", "pending"): "job.lost",
    ("interrupt", "processing", "cancelled"): "job.cancelled",
    ("lose", "processing", "pending"): "job.lost",
    ("lose", "processing", "dead"): "job.dead",
    ("lose", "processing", "cancelled"): "job.cancelled",
    ("cancel", "pending", "cancelled"): "job.cancelled",
    ("cancel", "failed", "cancelled"): "job.cancelled",
    ("cancel", "blocked", "cancelled"): "job.cancelled",
    ("cancel", "held", "cancelled"): "job.cancelled",
    ("cancel", "processing", "processing"): "job.cancel_requested",
    ("retry", "dead", "pending"): "job.retried",
    ("retry", "cancelled", "pending"): "job.retried",
    ("retry", "failed", "pending"): "job.retried",
    ("retry", "dead", "blocked"): "job.retried",
    # A child whose parent failed looks alike when a person retries the child and when a person retries the parent.
    ("retry", "cancelled", "blocked"): "job.blocked",
    ("retry", "failed", "blocked"): "job.retried",
    ("force_retry", "completed", "pending"): "job.retried",
    ("force_retry", "completed", "blocked"): "job.retried",
}


def test_every_arrow_is_in_the_table() -> None:
    arrows = {(arrow.event, arrow.source, arrow.target) for arrow in lifecycle.ARROWS}
    assert arrows == OF_ARROWS.keys() | {("enqueue", None, state) for state in OF_A_NEW_JOB}
    used = {*OF_ARROWS.values(), *OF_A_NEW_JOB.values(), "job.deleted"}
    assert used == set(get_args(Kind))


@pytest.mark.parametrize(
    ("event", "start", "go", "target"), WAYS, ids=lambda x: x if isinstance(x, str) else ""
)
def test_every_transition_has_its_event(
    event: str, start: Callable[[], Job], go: Callable[[Job], Job], target: State
) -> None:
    job = start()
    told = between(job, go(job))
    assert told is not None
    assert told.event == OF_ARROWS[event, job.state, target]
    assert (told.job, told.before, told.state) == (job.id, job.state, target)
    assert told.number == job.number
    assert (told.attempt is not None) == (job.state == "processing" or target == "processing")


@pytest.mark.parametrize("state", OF_A_NEW_JOB)
def test_a_new_job_has_an_event_without_a_state_before(state: State) -> None:
    told = between(None, in_state(state, "j", batch="b", queue="q"))
    assert told is not None
    assert told.event == OF_A_NEW_JOB[state]
    assert (told.before, told.queue, told.batch, told.attempt) == (None, "q", "b", None)
    assert told.cause == ("person" if state == "held" else None)


def test_the_event_of_an_end_names_the_attempt_that_ended() -> None:
    job = running()
    told = between(job, finish(3)(job))
    assert told is not None
    assert (told.attempt, told.attempt_id, told.worker) == (1, "a" * 32, "w1")
    assert (told.exit_code, told.signal) == (3, None)
    signalled = report("signalled", now=NOW)
    signalled = replace(signalled, outcome=replace(signalled.outcome, signal=9))
    told = between(job, lifecycle.finish(job, signalled, now=NOW, random_number=0.5))
    assert told is not None
    assert (told.exit_code, told.signal) == (None, 9)


def test_an_event_without_an_end_has_no_exit_code_of_an_earlier_attempt() -> None:
    failed = finish(3)(running())
    again = lifecycle.claim(failed, attempt_id="b" * 32, worker="w", lease=LEASE, now=NOW)
    for before, after in (
        (failed, again),
        (again, lifecycle.give_back(again, now=NOW)),
        (failed, lifecycle.retry(failed, now=NOW)),
        (failed, lifecycle.cancel(failed, by="me", reason=None, now=NOW)),
    ):
        told = between(before, after)
        assert told is not None
        assert told.exit_code is None


def test_a_claim_that_is_given_back_names_its_attempt() -> None:
    job = running()
    told = between(job, lifecycle.give_back(job, now=NOW))
    assert told is not None
    assert (told.attempt, told.attempt_id, told.exit_code) == (1, "a" * 32, None)


def test_a_request_to_cancel_has_its_cause() -> None:
    job = running()
    told = between(job, lifecycle.cancel(job, by="schedule s", reason=None, now=NOW, cause="overlap"))
    assert told is not None
    assert (told.event, told.cause, told.attempt) == ("job.cancel_requested", "overlap", 1)


def test_what_is_no_transition_has_no_event() -> None:
    job, later = running(), NOW + timedelta(seconds=9)
    asked = asked_to_cancel(job)
    two = in_state("blocked", after=(Parent("p"), Parent("q")))
    for before, after in (
        (job, job),
        (job, lifecycle.renew(job, lease=LEASE, now=later)),
        (asked, lifecycle.renew(asked, lease=LEASE, now=later)),
        (job, lifecycle.note_start(job, slot=1, pid=2, started_at=later, now=later)),
        (two, lifecycle.unblock(two, {"p": "completed", "q": "pending"}, now=later)),
        (new_job("n"), lifecycle.edit(new_job("n"), priority=None, run_at=None, queue=None, now=later)),
    ):
        assert between(before, after) is None


def test_a_job_that_is_lost_or_interrupted_runs_again() -> None:
    job = running()
    for after in (interrupt(job), lifecycle.lose(job, report("lost"), now=NOW)):
        told = between(job, after)
        assert told is not None
        assert told.event == "job.lost"


def test_a_deleted_job_keeps_its_last_state() -> None:
    job = unblock("dead")(blocked())
    assert deleted(job, Actor("me@host", "cli")) == Event(
        event="job.deleted",
        job=job.id,
        queue="default",
        state="cancelled",
        before="cancelled",
        by="me@host",
        via="cli",
    )
