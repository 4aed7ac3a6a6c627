"""The session of an agent: it adopts the attempts of an earlier agent, and it ends after the last message."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from unstarted import AGENT, Unstarted

from contract.grounds import SteppedClock
from queuectl.domain.job import Job
from queuectl.errors import StoreUnavailable
from queuectl.store.memory import MemoryStore
from queuectl.worker.agent.heartbeat import Heartbeat
from queuectl.worker.agent.recording import RecordResults
from queuectl.worker.protocol import Drain, Hello
from service.scenes import get, put

LEASE = timedelta(seconds=30)


class Takeover:
    """An earlier agent has claimed `a` and `b`."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory, self._monkeypatch = directory, monkeypatch
        self.store = MemoryStore(SteppedClock())
        put(self.store, "a"), put(self.store, "b")
        self.a, self.b = self.store.claim(AGENT, [], 2, LEASE)

    def agent(self, *attempts: dict[str, Any], **welcome: Any) -> Unstarted:
        """The next agent; the holder has these attempts."""
        return Unstarted(self._directory, self._monkeypatch, self.store, attempts=list(attempts), **welcome)


@pytest.fixture
def takeover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Takeover:
    return Takeover(tmp_path, monkeypatch)


def attempt(job: Job, state: str, **fields: Any) -> dict[str, Any]:
    """An attempt as the welcome lists it."""
    return {"attempt_id": job.attempt_id, "job_id": job.id, "state": state, **fields}


def running(job: Job) -> dict[str, Any]:
    """The attempt of a job that runs in slot 1."""
    return attempt(job, "running", slot=1, pid=77, started_at=0.0)


class TestAdoption:
    def test_running_and_queued_attempts_are_adopted(self, takeover: Takeover) -> None:
        agent = takeover.agent(running(takeover.a), attempt(takeover.b, "queued"))
        agent.parts.session.connect()
        claims = {claim.job.id: claim.slot for claim in agent.context.claims}
        assert claims == {"a": 1, "b": None}

    def test_an_attempt_unknown_to_the_holder_is_given_back_uncounted(self, takeover: Takeover) -> None:
        agent = takeover.agent(running(takeover.a))
        agent.parts.session.connect()
        agent.run(RecordResults)
        assert (get(agent.store, "b").state, get(agent.store, "b").attempts) == ("pending", 0)
        assert get(agent.store, "a").state == "processing"

    def test_a_finished_attempt_is_recorded_when_its_result_arrives(self, takeover: Takeover) -> None:
        agent = takeover.agent(attempt(takeover.a, "finished"), running(takeover.b))
        agent.parts.session.connect()
        assert [claim.job.id for claim in agent.context.claims] == ["b"]
        agent.ends(takeover.a, seconds=1.0)
        agent.run(RecordResults)
        assert get(agent.store, "a").state == "completed"

    def test_a_queued_attempt_without_a_claim_is_dropped(self, takeover: Takeover) -> None:
        gone = attempt(takeover.a, "queued") | {"attempt_id": "f" * 32}
        agent = takeover.agent(gone, running(takeover.a), running(takeover.b))
        agent.parts.session.connect()
        assert agent.connection.of("drop") == [{"type": "drop", "attempt_ids": ["f" * 32]}]

    def test_all_attempts_are_renewed_before_they_are_adopted(self, takeover: Takeover) -> None:
        agent = takeover.agent(running(takeover.a), attempt(takeover.b, "queued"))
        asked = sorted(ref.job_id for ref in agent.parts.renewal._open_attempts())
        assert asked == ["a", "b"]
        agent.parts.session.connect()
        assert sorted(ref.job_id for ref in agent.parts.renewal._open_attempts()) == ["a", "b"]

    def test_a_queued_attempt_is_withdrawn_if_the_holder_drains(self, takeover: Takeover) -> None:
        agent = takeover.agent(running(takeover.a), attempt(takeover.b, "queued"), phase="draining")
        agent.parts.session.connect()
        assert agent.connection.of("drop")[-1]["attempt_ids"] == [takeover.b.attempt_id]


def test_the_session_waits_for_a_store_that_cannot_be_reached(
    unstarted: Unstarted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of the holder are kept for the loop meanwhile."""
    receive, heartbeat = unstarted.connection.receive, unstarted.store.heartbeat

    def passes(timeout: float) -> Any:
        unstarted.now += timeout
        unstarted.connection.incoming = [(Drain(), b"")] if unstarted.now < 1001 else []
        return receive(timeout)

    def answer(worker: Any) -> Any:
        if unstarted.now < 1001:
            raise StoreUnavailable("the store is away")
        return heartbeat(worker)

    monkeypatch.setattr(unstarted.connection, "receive", passes)
    monkeypatch.setattr(unstarted.store, "heartbeat", answer)
    unstarted.parts.session.connect()
    assert unstarted.said() == ["store     the store is away; commands run on, results wait"]
    assert {type(message) for message, _ in unstarted.connection.incoming} == {Drain}


class TestEnd:
    def test_the_session_is_over_after_bye(self, unstarted: Unstarted) -> None:
        assert not unstarted.parts.session.is_over
        unstarted.hears("bye")
        assert unstarted.parts.session.is_over

    def test_a_claim_in_progress_is_given_back_before_the_end(self, unstarted: Unstarted) -> None:
        [job] = unstarted.claims("a")
        unstarted.hears("bye")
        assert not unstarted.parts.session.is_over
        assert unstarted.connection.of("drop")[-1]["attempt_ids"] == [job.attempt_id]
        unstarted.hears("dropped", attempt_ids=[job.attempt_id])
        assert not unstarted.parts.session.is_over
        unstarted.run(RecordResults)
        assert unstarted.parts.session.is_over

    def test_the_wait_for_a_claim_in_progress_is_limited(self, unstarted: Unstarted) -> None:
        unstarted.claims("a")
        unstarted.hears("bye")
        unstarted.now += 5
        assert unstarted.parts.session.is_over

    def test_results_of_a_dead_holder_are_recorded(self, unstarted: Unstarted) -> None:
        unstarted.run(Heartbeat)
        [job] = unstarted.claims("a")
        unstarted.ends(job, seconds=1.0)
        unstarted.parts.session.outlive_holder()
        assert get(unstarted.store, "a").state == "completed"


def test_a_message_without_a_handler_is_ignored(unstarted: Unstarted) -> None:
    unstarted.parts.inbox.handle(Hello(1, 2), b"")
    assert unstarted.connection.sent == []
