"""The duty of recording results: when it runs, how many results it gathers, and what follows."""

from pathlib import Path

import pytest
from archive import Troubled
from unstarted import Unstarted

from queuectl.domain import lifecycle
from queuectl.worker.agent.claim import ClaimJobs
from queuectl.worker.agent.recording import GATHER, GATHER_SECONDS, RecordResults
from queuectl.worker.agent.results import RETRY_AFTER
from service.scenes import get, put


@pytest.fixture
def short(unstarted: Unstarted) -> Unstarted:
    """A worker whose jobs are very short; it holds many."""
    unstarted.duty(ClaimJobs)._policy.record_run_time(0.001)
    unstarted.claims(*(f"a{n}" for n in range(GATHER + 2)))
    return unstarted


def due_in(agent: Unstarted) -> float:
    """In how many seconds the duty wants to run."""
    return round(agent.duty(RecordResults).due(agent.now) - agent.now, 3)


class TestDue:
    def test_the_duty_is_not_due_without_results(self, unstarted: Unstarted) -> None:
        assert due_in(unstarted) == float("inf")

    def test_a_result_is_recorded_at_once(self, unstarted: Unstarted) -> None:
        job, _ = unstarted.claims("a", "b")
        unstarted.ends(job, seconds=1.0)
        assert due_in(unstarted) == 0

    def test_results_of_very_short_jobs_are_gathered_for_a_moment(self, short: Unstarted) -> None:
        [job, *_] = [claim.job for claim in short.context.claims]
        short.ends(job, seconds=0.001)
        assert due_in(short) == GATHER_SECONDS
        short.now += GATHER_SECONDS
        assert due_in(short) == 0

    def test_a_full_batch_of_results_is_recorded_at_once(self, short: Unstarted) -> None:
        for claim in list(short.context.claims)[:GATHER]:
            assert due_in(short) in (GATHER_SECONDS, float("inf"))
            short.ends(claim.job, seconds=0.001)
        assert due_in(short) == 0

    def test_results_are_not_gathered_if_no_command_runs(self, short: Unstarted) -> None:
        for claim in list(short.context.claims)[:3]:
            short.ends(claim.job, seconds=0.001)
        for claim in short.context.claims:
            short.context.claims.pop(claim.attempt_id)
        assert due_in(short) == 0

    def test_a_draining_worker_records_each_result_at_once(self, short: Unstarted) -> None:
        [job, *_] = [claim.job for claim in short.context.claims]
        short.ends(job, seconds=0.001)
        short.hears("drain")
        assert due_in(short) == 0

    def test_a_claim_that_never_started_is_given_back_at_once(self, unstarted: Unstarted) -> None:
        [job] = unstarted.claims("a")
        unstarted.hears("dropped", attempt_ids=[job.attempt_id])
        assert due_in(unstarted) == 0

    def test_a_job_in_an_unreachable_archive_is_read_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Troubled()
        agent = Unstarted(tmp_path, monkeypatch, store)
        [job] = agent.claims("a")
        store.save([lifecycle.give_back(job, now=store.now())])
        store.past, store.away = {"a"}, "the archive is away"
        agent.ends(job, seconds=1.0)
        agent.run(RecordResults)
        assert due_in(agent) == RETRY_AFTER
        store.away = None
        agent.now += RETRY_AFTER
        agent.run(RecordResults)
        assert due_in(agent) == float("inf")


def test_a_result_is_saved_and_acknowledged(unstarted: Unstarted) -> None:
    [job] = unstarted.claims("a")
    unstarted.ends(job, seconds=1.0)
    unstarted.run(RecordResults)
    assert get(unstarted.store, "a").state == "completed"
    assert unstarted.connection.of("ack") == [{"type": "ack", "attempt_ids": [job.attempt_id]}]


def test_a_claim_that_never_started_is_given_back_uncounted(unstarted: Unstarted) -> None:
    [job] = unstarted.claims("a")
    unstarted.hears("dropped", attempt_ids=[job.attempt_id])
    unstarted.run(RecordResults)
    assert (get(unstarted.store, "a").state, get(unstarted.store, "a").attempts) == ("pending", 0)


def test_the_claim_policy_receives_the_run_time(unstarted: Unstarted) -> None:
    [job] = unstarted.claims("a")
    unstarted.ends(job, seconds=0.001)
    unstarted.run(RecordResults)
    assert unstarted.duty(ClaimJobs)._policy.ahead > 0


def test_a_recorded_result_unblocks_the_children(unstarted: Unstarted) -> None:
    from service.scenes import child

    [job] = unstarted.claims("a")
    child(unstarted.store, "b", "a")
    unstarted.ends(job, seconds=1.0)
    unstarted.run(RecordResults)
    assert get(unstarted.store, "b").state == "pending"
    put(unstarted.store, "c")
