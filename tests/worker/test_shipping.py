"""The duties for output: when it is written, what follows from a failure, and what is logged."""

from typing import Any

import pytest
from unstarted import Unstarted

from queuectl.errors import StoreUnavailable
from queuectl.worker.agent.heartbeat import Heartbeat
from queuectl.worker.agent.output import RETRY_AFTER
from queuectl.worker.agent.recording import RecordResults
from queuectl.worker.agent.shipping import OutputFaultReport, ShipOutput


@pytest.fixture
def printed(unstarted: Unstarted) -> Unstarted:
    """A command has printed something."""
    [job] = unstarted.claims("a")
    unstarted.hears(
        "output", b"hello", attempt_id=job.attempt_id, job_id="a", n=1, stream=0, at=0.0, offset=0
    )
    unstarted.run(Heartbeat)
    return unstarted


@pytest.fixture
def refused(printed: Unstarted, monkeypatch: pytest.MonkeyPatch) -> Unstarted:
    """The store has refused it, and refuses it until `fit` is True."""
    write = printed.store.write_output

    def write_output(*args: Any) -> Any:
        if not printed.context.config.get("fit"):
            raise StoreUnavailable("no space for output")
        return write(*args)

    monkeypatch.setattr(printed.store, "write_output", write_output)
    printed.run(ShipOutput)
    return printed


class TestDue:
    def test_the_duty_is_not_due_without_output(self, unstarted: Unstarted) -> None:
        assert unstarted.duty(ShipOutput).due(unstarted.now) == float("inf")

    def test_output_is_written_at_once(self, printed: Unstarted) -> None:
        assert printed.is_due(ShipOutput)

    def test_refused_output_is_written_again_later(self, refused: Unstarted) -> None:
        assert refused.duty(ShipOutput).due(refused.now) == refused.now + RETRY_AFTER

    def test_after_an_outage_the_output_is_written_at_once(self, refused: Unstarted) -> None:
        refused.context.health.failed()
        assert refused.is_due(ShipOutput)


def test_output_is_stored_and_acknowledged(printed: Unstarted) -> None:
    printed.run(ShipOutput)
    [claim] = printed.context.claims
    assert [chunk.data for chunk in printed.store.read_output(claim.attempt_id, 0)] == [b"hello"]
    assert printed.connection.of("ack_output") == [
        {"type": "ack_output", "attempt_id": claim.attempt_id, "n": 1}
    ]
    assert not printed.is_due(ShipOutput)


def test_refused_output_makes_a_heartbeat_due(refused: Unstarted) -> None:
    """The heartbeat shows whether only output is refused or the store cannot be reached."""
    assert refused.is_due(Heartbeat)


def test_a_result_waits_for_its_refused_output(refused: Unstarted) -> None:
    [claim] = refused.context.claims
    refused.ends(claim.job, seconds=1.0)
    assert not refused.is_due(RecordResults)
    refused.context.config["fit"] = True
    refused.run(ShipOutput)
    assert refused.is_due(RecordResults)


def test_the_refusal_and_its_end_are_logged_once(refused: Unstarted) -> None:
    refused.said()
    assert refused.is_due(OutputFaultReport)
    refused.run(OutputFaultReport)
    assert refused.said() == ["output    the output of commands is not stored: no space for output"]
    refused.run(ShipOutput)
    assert not refused.is_due(OutputFaultReport)
    refused.context.config["fit"] = True
    refused.run(ShipOutput)
    refused.run(OutputFaultReport)
    assert refused.said() == ["output    the output of commands is stored again"]
    assert not refused.is_due(OutputFaultReport)
