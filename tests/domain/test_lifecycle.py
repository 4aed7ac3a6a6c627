"""The table of transitions: each transition works, every other one is refused, and an ended job stays ended."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from factories import LEASE, NOW, in_state, new_job, processing, report
from queuectl.domain import lifecycle
from queuectl.domain.job import HISTORY_KEPT, STATES, TERMINAL, Job, Parent, State
from queuectl.domain.outcome import Outcome, Report
from queuectl.errors import Conflict

LATER = NOW + timedelta(seconds=1)
PARENTS = (Parent("p"),)


def asked_to_cancel(job: Job) -> Job:
    return lifecycle.cancel(job, by="me", reason=None, now=NOW)


def running(**fields: object) -> Job:
    return processing(**fields)  # type: ignore[arg-type]


def blocked(**fields: object) -> Job:
    return new_job(after=PARENTS, **fields)  # type: ignore[arg-type]


def unblock(parent: State) -> Callable[[Job], Job]:
    return lambda job: lifecycle.unblock(job, {"p": parent}, now=LATER)


def finish(exit_code: int) -> Callable[[Job], Job]:
    return lambda job: lifecycle.finish(
        job, report(exit_code=exit_code, now=LATER), now=LATER, random_number=0.5
    )


def lose(job: Job) -> Job:
    return lifecycle.lose(job, report("lost", now=LATER), now=LATER)


def interrupt(job: Job) -> Job:
    return lifecycle.interrupt(job, report("signalled", now=LATER), now=LATER)


def give_back(job: Job) -> Job:
    return lifecycle.give_back(job, now=LATER)


def cancel(job: Job) -> Job:
    return lifecycle.cancel(job, by="me", reason=None, now=LATER)


def hold(job: Job) -> Job:
    return lifecycle.hold(job, now=LATER)


def release(job: Job) -> Job:
    return lifecycle.release(job, {"p": "processing"}, now=LATER)


def edit(job: Job) -> Job:
    return lifecycle.edit(job, priority=5, run_at=None, queue="x", now=LATER)


def claim(job: Job) -> Job:
    return lifecycle.claim(job, attempt_id="b" * 32, worker="w2", lease=LEASE, now=LATER)


def retry(job: Job) -> Job:
    return lifecycle.retry(job, {"p": "processing"}, now=LATER)


def force_retry(job: Job) -> Job:
    return lifecycle.retry(job, {"p": "processing"}, now=LATER, force=True)


def revive(job: Job) -> Job:
    return lifecycle.revive(job, {"p": "processing"}, now=LATER)


def ran(exit_code: int, **fields: object) -> Job:
    """A child that ran after its parent had completed."""
    return finish(exit_code)(claim(unblock("completed")(blocked(**fields))))


def in_vain(after_failure: str = "cancel") -> Job:
    """A child whose parent is dead."""
    return unblock("dead")(blocked(after_failure=after_failure))


def retried() -> Job:
    """A job that runs again after a failure."""
    return claim(in_state("failed"))


Way = tuple[str, Callable[[], Job], Callable[[Job], Job], State]
WAYS: list[Way] = [
    ("unblock", blocked, unblock("completed"), "pending"),
    ("unblock", blocked, unblock("dead"), "cancelled"),
    ("unblock", blocked, lambda job: lifecycle.unblock(job, {}, now=LATER), "cancelled"),
    ("unblock", lambda: blocked(after_failure="hold"), unblock("dead"), "held"),
    ("unblock", lambda: in_vain("hold"), unblock("completed"), "pending"),
    ("revive", in_vain, revive, "blocked"),
    ("hold", new_job, hold, "held"),
    ("hold", lambda: in_state("failed"), hold, "held"),
    ("hold", blocked, hold, "held"),
    ("release", lambda: new_job(hold=True), release, "pending"),
    ("release", lambda: new_job(hold=True, after=PARENTS), release, "blocked"),
    ("edit", new_job, edit, "pending"),
    ("edit", lambda: in_state("failed"), edit, "failed"),
    ("edit", blocked, edit, "blocked"),
    ("edit", lambda: new_job(hold=True), edit, "held"),
    ("claim", new_job, claim, "processing"),
    ("claim", lambda: in_state("failed"), claim, "processing"),
    ("finish", running, finish(0), "completed"),
    ("finish", running, finish(1), "failed"),
    ("finish", lambda: running(max_retries=0), finish(1), "dead"),
    ("finish", lambda: asked_to_cancel(running()), finish(1), "cancelled"),
    ("give_back", running, give_back, "pending"),
    ("give_back", retried, give_back, "failed"),
    ("give_back", lambda: asked_to_cancel(running()), give_back, "cancelled"),
    ("interrupt", running, interrupt, "pending"),
    ("interrupt", lambda: asked_to_cancel(running()), interrupt, "cancelled"),
    ("lose", running, lose, "pending"),
    ("lose", lambda: running(max_losses=0), lose, "dead"),
    ("lose", lambda: asked_to_cancel(running()), lose, "cancelled"),
    ("cancel", new_job, cancel, "cancelled"),
    ("cancel", lambda: in_state("failed"), cancel, "cancelled"),
    ("cancel", blocked, cancel, "cancelled"),
    ("cancel", lambda: new_job(hold=True), cancel, "cancelled"),
    ("cancel", running, cancel, "processing"),
    ("retry", lambda: in_state("dead"), retry, "pending"),
    ("retry", lambda: in_state("cancelled"), retry, "pending"),
    ("retry", lambda: in_state("failed"), retry, "pending"),
    ("retry", lambda: ran(1, max_retries=0), retry, "blocked"),
    ("retry", in_vain, retry, "blocked"),
    ("retry", lambda: ran(1), retry, "blocked"),
    ("force_retry", lambda: in_state("completed"), force_retry, "pending"),
    ("force_retry", lambda: ran(0), force_retry, "blocked"),
]

EVENTS: dict[str, Callable[[Job], Job]] = {
    "unblock": unblock("completed"),
    "hold": hold,
    "release": release,
    "edit": edit,
    "claim": claim,
    "finish": finish(0),
    "give_back": give_back,
    "interrupt": interrupt,
    "lose": lose,
    "cancel": cancel,
    "retry": retry,
    "revive": revive,
}


@pytest.mark.parametrize(
    ("event", "start", "go", "target"), WAYS, ids=lambda x: x if isinstance(x, str) else ""
)
def test_every_transition_leads_to_the_state_in_the_table(
    event: str, start: Callable[[], Job], go: Callable[[Job], Job], target: State
) -> None:
    job = start()
    arrow = next(a for a in lifecycle.ARROWS if (a.event, a.source, a.target) == (event, job.state, target))
    assert arrow.when
    changed = go(job)
    assert changed.state == target
    assert changed.updated_at == LATER
    assert (changed.lease is not None) == (target == "processing")
    assert (changed.finished_at is not None) == (target in TERMINAL)


def test_these_tests_cover_every_transition() -> None:
    gone = {(event, start().state, target) for event, start, _, target in WAYS}
    table = {(a.event, a.source, a.target) for a in lifecycle.ARROWS if a.source}
    assert gone == table


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_an_event_without_a_transition_is_refused_with_a_message(event: str, state: State) -> None:
    if any(a.event == event and a.source == state for a in lifecycle.ARROWS):
        return
    if (event, state) in (("cancel", "cancelled"), ("hold", "held"), ("unblock", "held")):
        assert EVENTS[event](in_state(state, "a")) == in_state(state, "a")
        return
    with pytest.raises(Conflict) as caught:
        EVENTS[event](in_state(state, "a"))
    assert "job a is" in caught.value.message
    assert state in caught.value.message


def test_only_a_person_can_restart_an_ended_job() -> None:
    assert {a.event for a in lifecycle.ARROWS if a.source in TERMINAL} == {"retry", "force_retry", "revive"}


def test_a_completed_job_is_retried_only_with_force() -> None:
    with pytest.raises(Conflict, match="completed") as caught:
        retry(in_state("completed"))
    assert "--force" in (caught.value.hint or "")


def test_new_jobs_start_in_the_states_of_the_table() -> None:
    begun = {new_job().state, blocked().state, new_job(hold=True).state}
    assert begun == {a.target for a in lifecycle.ARROWS if a.source is None}


def test_the_default_policy_gives_three_retries_after_2_4_and_8_seconds() -> None:
    job, now, waits = new_job(), NOW, []
    while job.state != "dead":
        job = lifecycle.claim(job, attempt_id="a" * 32, worker="w1", lease=LEASE, now=now)
        job = lifecycle.finish(job, report(exit_code=1, now=now), now=now, random_number=0.5)
        if job.state == "failed":
            waits.append((job.run_at - now).total_seconds())
            now = job.run_at
    assert waits == [2.0, 4.0, 8.0]
    assert (job.attempts, job.failures) == (4, 4)


def test_an_exit_code_without_retry_makes_the_job_dead_at_once() -> None:
    assert finish(3)(running(no_retry_codes=(3,))).state == "dead"
    assert finish(4)(running(no_retry_codes=(3,))).state == "failed"


def test_a_claim_that_never_started_is_not_counted() -> None:
    job = new_job()
    given_back = give_back(claim(job))
    assert (given_back.attempts, given_back.failures, given_back.losses) == (0, 0, 0)
    assert given_back.history == ()
    assert given_back.sort_key == job.sort_key


def test_losses_have_a_limit_separate_from_failures() -> None:
    job = new_job(max_retries=0, max_losses=2)
    for losses in (1, 2):
        job = lose(claim(job))
        assert (job.state, job.losses, job.failures) == ("pending", losses, 0)
    job = lose(claim(job))
    assert job.state == "dead"
    assert lifecycle.CRASH_LOOP in (job.last_error or "")


def test_an_interrupted_attempt_is_neither_a_failure_nor_a_loss() -> None:
    job = interrupt(running())
    assert (job.failures, job.losses, job.attempts) == (0, 0, 1)
    assert job.history[-1].outcome == "lost"


def test_a_success_counts_although_a_cancel_was_requested() -> None:
    assert finish(0)(asked_to_cancel(running())).state == "completed"


def test_a_retry_begins_a_new_budget_and_keeps_the_history() -> None:
    dead = in_state("dead")
    again = retry(replace(dead, losses=2))
    assert (again.failures, again.losses, again.exit_code, again.cancel_requested) == (0, 0, None, None)
    assert (again.attempts, again.history) == (dead.attempts, dead.history)
    assert again.run_at == LATER


def test_the_history_keeps_the_last_attempts_and_counts_earlier_ones() -> None:
    job = new_job(max_retries=-1)
    for _ in range(HISTORY_KEPT + 5):
        job = finish(1)(claim(job))
    assert len(job.history) == HISTORY_KEPT
    assert job.history_dropped == 5
    assert [a.attempt for a in job.history] == list(range(6, HISTORY_KEPT + 6))


def test_the_fence_accepts_reports_of_the_present_attempt_only() -> None:
    job = running(attempt_id="a" * 32)
    assert lifecycle.holds_lease(job, "a" * 32)
    assert not lifecycle.holds_lease(job, "b" * 32)
    assert not lifecycle.holds_lease(finish(0)(job), "a" * 32)


def test_an_observed_end_is_replaced_only_if_the_attempt_was_recorded_as_lost() -> None:
    seen = report(exit_code=0).outcome
    silent = Report(outcome=Outcome(kind="lost", error="silent"), finished_at=LATER)
    [lost] = lifecycle.lose(running(), silent, now=LATER).history
    [interrupted], [ended] = (f(running()).history for f in (interrupt, finish(1)))
    assert lifecycle.is_given_up(lost, seen)
    assert lifecycle.is_given_up(lost, Outcome(kind="lost", error="its lease was over"))
    assert not lifecycle.is_given_up(lost, silent.outcome)
    assert not lifecycle.is_given_up(interrupted, report("signalled").outcome)
    assert not lifecycle.is_given_up(ended, seen)


class TestParents:
    """The end, the retry and the deletion of a parent change its child."""

    def test_a_parent_that_ended_as_wanted_is_not_checked_again(self) -> None:
        child = new_job(after=(Parent("p"), Parent("q")))
        child = lifecycle.unblock(child, {"p": "completed", "q": "pending"}, now=LATER)
        assert child.waiting_for == ("q",)
        for later in ("dead", "processing"):
            assert lifecycle.unblock(child, {"p": later, "q": "completed"}, now=LATER).state == "pending"
        assert lifecycle.unblock(child, {"q": "completed"}, now=LATER).state == "pending"

    def test_a_held_child_records_the_parents_that_ended_as_wanted(self) -> None:
        child = lifecycle.unblock(blocked(hold=True), {"p": "completed"}, now=LATER)
        assert (child.state, child.cause, child.waiting_for) == ("held", "person", ())
        assert lifecycle.release(child, {}, now=LATER).state == "pending"

    def test_a_held_child_of_a_failed_parent_is_released_only_with_anyway(self) -> None:
        for child in (in_vain("hold"), unblock("dead")(blocked(hold=True))):
            assert (child.state, child.waiting_for) == ("held", ("p",))
            for parents, words in (({"p": "dead"}, "which ended as dead"), ({}, "which was deleted")):
                with pytest.raises(Conflict, match=words) as caught:
                    lifecycle.release(child, parents, now=LATER)
                assert "queuectl release --anyway" in (caught.value.hint or "")
                free = lifecycle.release(child, parents, now=LATER, anyway=True)
                assert (free.state, free.waiting_for, free.cause) == ("pending", (), None)

    @pytest.mark.parametrize(
        ("wish", "parent", "cause"),
        [("ok", "dead", "parent"), ("ok", "cancelled", "parent"), ("failed", "completed", "skipped")],
    )
    def test_the_cause_distinguishes_a_failed_parent_from_an_unneeded_job(
        self, wish: str, parent: State, cause: str
    ) -> None:
        for policy, state in (("cancel", "cancelled"), ("hold", "held")):
            child = new_job(after=(Parent("p", wish),), after_failure=policy)  # type: ignore[arg-type]
            child = unblock(parent)(child)
            assert (child.state, child.cause, child.waiting_for) == (state, cause, ("p",))

    def test_retrying_a_child_of_a_failed_parent_is_refused_with_two_commands(self) -> None:
        child = in_vain()
        with pytest.raises(Conflict, match="waits for p, which ended as dead") as caught:
            lifecycle.retry(child, {"p": "dead"}, now=LATER)
        assert f"queuectl retry p {child.id}" in (caught.value.hint or "")
        assert f"queuectl retry --alone {child.id}" in (caught.value.hint or "")
        alone = lifecycle.retry(child, {"p": "dead"}, now=LATER, alone=True)
        assert (alone.state, alone.waiting_for) == ("pending", ())

    def test_a_retry_does_not_wait_for_a_deleted_parent_that_ended_as_wanted(self) -> None:
        assert retry(ran(1)).state == "blocked"
        assert lifecycle.retry(ran(1), {}, now=LATER).state == "pending"
        with pytest.raises(Conflict, match="which was deleted"):
            lifecycle.retry(in_vain(), {}, now=LATER)

    def test_only_children_that_a_parent_cancelled_are_restored_with_it(self) -> None:
        with pytest.raises(Conflict, match="not cancelled because of a parent"):
            revive(cancel(blocked()))
        child = new_job(after=(Parent("p"), Parent("q")))
        child = lifecycle.unblock(child, {"p": "dead", "q": "pending"}, now=LATER)
        assert lifecycle.revive(child, {"p": "pending", "q": "dead"}, now=LATER) is child
        back = lifecycle.revive(child, {"p": "pending", "q": "pending"}, now=LATER)
        assert (back.state, back.cause, back.waiting_for) == ("blocked", None, ("p", "q"))
        assert (back.finished_at, back.last_error) == (None, None)

    def test_a_job_that_a_person_cancelled_has_the_cause_person(self) -> None:
        asked = asked_to_cancel(running())
        for ended in (cancel(new_job()), finish(1)(asked), lose(asked), interrupt(asked), give_back(asked)):
            assert (ended.state, ended.cause) == ("cancelled", "person")

    def test_the_cause_is_removed_when_the_state_changes(self) -> None:
        assert new_job(hold=True).cause == hold(new_job()).cause == "person"
        assert edit(in_vain("hold")).cause == "parent"
        assert release(hold(new_job())).cause is None
        assert retry(cancel(new_job())).cause is None
