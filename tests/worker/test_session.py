"""The session of an agent: what it takes over from an earlier agent, and how it ends."""

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
    """Its command runs in slot 1."""
    return attempt(job, "running", slot=1, pid=77, started_at=0.0)


class TestAdoption:
    def test_what_runs_is_taken_over(self, takeover: Takeover) -> None:
        agent = takeover.agent(running(takeover.a), attempt(takeover.b, "queued"))
        agent.parts.session.connect()
        claims = {claim.job.id: claim.slot for claim in agent.context.claims}
        assert claims == {"a": 1, "b": None}

    def test_what_the_holder_does_not_know_never_started_and_goes_back(self, takeover: Takeover) -> None:
        agent = takeover.agent(running(takeover.a))
        agent.parts.session.connect()
        agent.run(RecordResults)
        assert (get(agent.store, "b").state, get(agent.store, "b").attempts) == ("pending", 0)
        assert get(agent.store, "a").state == "processing"

    def test_what_has_finished_is_recorded_when_the_holder_says_how(self, takeover: Takeover) -> None:
        agent = takeover.agent(attempt(takeover.a, "finished"), running(takeover.b))
        agent.parts.session.connect()
        assert [claim.job.id for claim in agent.context.claims] == ["b"]
        agent.ends(takeover.a, seconds=1.0)
        agent.run(RecordResults)
        assert get(agent.store, "a").state == "completed"

    def test_what_waits_in_the_holder_and_is_not_ours_any_more_is_dropped(self, takeover: Takeover) -> None:
        gone = attempt(takeover.a, "queued") | {"attempt_id": "f" * 32}
        agent = takeover.agent(gone, running(takeover.a), running(takeover.b))
        agent.parts.session.connect()
        assert agent.connection.of("drop") == [{"type": "drop", "attempt_ids": ["f" * 32]}]

    def test_all_are_renewed_until_they_are_adopted(self, takeover: Takeover) -> None:
        agent = takeover.agent(running(takeover.a), attempt(takeover.b, "queued"))
        asked = sorted(ref.job_id for ref in agent.parts.renewal._open_attempts())
        assert asked == ["a", "b"]
        agent.parts.session.connect()
        assert sorted(ref.job_id for ref in agent.parts.renewal._open_attempts()) == ["a", "b"]

    def test_under_a_holder_that_drains_what_waits_is_withdrawn(self, takeover: Takeover) -> None:
        agent = takeover.agent(running(takeover.a), attempt(takeover.b, "queued"), phase="draining")
        agent.parts.session.connect()
        assert agent.connection.of("drop")[-1]["attempt_ids"] == [takeover.b.attempt_id]


def test_a_store_that_is_away_at_first_is_waited_for(
    unstarted: Unstarted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the holder says meanwhile is kept for the loop."""
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
    def test_it_is_over_after_bye(self, unstarted: Unstarted) -> None:
        assert not unstarted.parts.session.is_over
        unstarted.hears("bye")
        assert unstarted.parts.session.is_over

    def test_a_claim_that_was_under_way_is_given_back_first(self, unstarted: Unstarted) -> None:
        [job] = unstarted.claims("a")
        unstarted.hears("bye")
        assert not unstarted.parts.session.is_over
        assert unstarted.connection.of("drop")[-1]["attempt_ids"] == [job.attempt_id]
        unstarted.hears("dropped", attempt_ids=[job.attempt_id])
        assert not unstarted.parts.session.is_over
        unstarted.run(RecordResults)
        assert unstarted.parts.session.is_over

    def test_but_not_for_ever(self, unstarted: Unstarted) -> None:
        unstarted.claims("a")
        unstarted.hears("bye")
        unstarted.now += 5
        assert unstarted.parts.session.is_over

    def test_a_dead_holders_results_are_recorded(self, unstarted: Unstarted) -> None:
        unstarted.run(Heartbeat)
        [job] = unstarted.claims("a")
        unstarted.ends(job, seconds=1.0)
        unstarted.parts.session.outlive_holder()
        assert get(unstarted.store, "a").state == "completed"


def test_a_message_that_means_nothing_to_an_agent_is_ignored(unstarted: Unstarted) -> None:
    unstarted.parts.inbox.handle(Hello(1, 2), b"")
    assert unstarted.connection.sent == []
