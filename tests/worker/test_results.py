"""Recording results while the queue works and its archive may not be reachable."""

import io
from typing import Any

import pytest
from archive import Troubled

from factories import LEASE, report
from queuectl.domain import lifecycle
from queuectl.errors import OutcomeUnknown, StoreUnavailable
from queuectl.service.figures import Writer, since_ever
from queuectl.worker.agent import results
from queuectl.worker.agent.log import Log
from queuectl.worker.agent.results import ResultRecorder
from queuectl.worker.agent.translate import Ended
from queuectl.worker.protocol import Exited, Message, to_fields
from service.scenes import child, get, put

AWAY = "mongodb://h/past cannot be reached"


class Line:
    """The end of a line that remembers what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def queue(self, message: Message, _payload: bytes = b"") -> None:
        """Queue a message for the next flush."""
        self.sent.append(to_fields(message))


class Scene:
    """Two claimed jobs. Another worker has ended `late` meanwhile, and only the archive, which cannot be reached, has
    this job."""

    def __init__(self, ticks: list[float]) -> None:
        self.store, self.ticks, self.line, self._said = Troubled(), ticks, Line(), io.StringIO()
        for id in ("late", "good"):
            put(self.store, id)
        self.claims = {job.id: job for job in self.store.claim("w1", [], 2, LEASE)}
        now = self.store.now()
        self.store.save([lifecycle.finish(self.claims["late"], report(now=now), now=now, random_number=0.5)])
        self.store.past, self.store.away = {"late"}, AWAY
        self.log = Log(out=self._said)
        self.figures = Writer("w1.a")
        self.recorder = ResultRecorder(self.store, self.log, self.figures)

    def ends(self, id: str, *, known: bool = True) -> None:
        """Receive the end of an attempt from the holder; `known`: whether this agent started the attempt."""
        job = self.claims[id]
        message = Exited(job.attempt_id or "", id, "exited", exit_code=0)
        self.recorder.add(Ended(message, b"", "h", job if known else None))

    def record(self) -> list[str]:
        """Record what waits; the jobs whose results were recorded."""
        return [after.id for _, after in self.recorder.record(self.line)]  # type: ignore[arg-type]

    @property
    def acknowledged(self) -> list[str]:
        """The jobs whose results the holder may forget."""
        names = {job.attempt_id: id for id, job in self.claims.items()}
        return [names[attempt] for message in self.line.sent for attempt in message["attempt_ids"]]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    ticks = [100.0]
    monkeypatch.setattr(results, "boottime", lambda: ticks[0])
    return Scene(ticks)


@pytest.mark.parametrize("known", [True, False], ids=["started here", "adopted"])
def test_a_result_of_an_archived_job_does_not_delay_other_results(scene: Scene, known: bool) -> None:
    scene.ends("late", known=known)
    scene.ends("good", known=known)
    assert scene.record() == ["good"]
    assert scene.acknowledged == ["good"]
    assert get(scene.store, "good").state == "completed"


def test_a_deferred_result_is_kept_and_does_not_make_the_recorder_busy(scene: Scene) -> None:
    scene.ends("late")
    scene.record()
    assert [held.job_id for held in scene.recorder.refs()] == ["late"]
    assert scene.recorder.knows(scene.claims["late"].attempt_id)
    assert (scene.recorder.is_busy(), scene.recorder.waiting) == (False, 0)


def test_the_archive_is_called_for_a_deferred_result_only_after_a_pause(scene: Scene) -> None:
    scene.ends("late")
    scene.record()
    asked = scene.store.questions
    scene.record()
    assert scene.store.questions == asked
    scene.ticks[0] += results.RETRY_AFTER
    scene.record()
    assert scene.store.questions > asked


def test_a_deferred_result_is_acknowledged_when_the_archive_answers(scene: Scene) -> None:
    scene.ends("late")
    scene.record()
    scene.store.away = None
    scene.ticks[0] += results.RETRY_AFTER
    assert scene.record() == []
    assert scene.acknowledged == ["late"]
    assert scene.recorder.refs() == []


def test_giving_back_an_archived_job_does_not_delay_results(scene: Scene) -> None:
    scene.recorder.give_back(scene.claims["late"].attempt_id or "", scene.claims["late"])
    scene.ends("good")
    assert scene.record() == ["good"]
    assert not scene.recorder.is_busy()
    scene.store.away = None
    scene.ticks[0] += results.RETRY_AFTER
    scene.record()
    assert not scene.recorder.knows(scene.claims["late"].attempt_id)


def test_a_result_that_waits_for_output_does_not_delay_other_results(scene: Scene) -> None:
    scene.store.away = None
    put(scene.store, "loud")
    [loud] = scene.store.claim("w1", [], 1, LEASE)
    scene.claims["loud"] = loud
    scene.ends("loud")
    scene.ends("good")
    recorded = scene.recorder.record(scene.line, {loud.attempt_id})  # type: ignore[arg-type]
    assert [after.id for _, after in recorded] == scene.acknowledged == ["good"]
    assert scene.record() == ["loud"]


def test_an_outage_of_the_store_keeps_all_results_in_the_recorder(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: Any) -> Any:
        raise StoreUnavailable("the store is away")

    scene.ends("good")
    with monkeypatch.context() as patch:
        patch.setattr(scene.store, "save", save)
        with pytest.raises(StoreUnavailable):
            scene.record()
    assert scene.recorder.is_busy()
    assert scene.record() == ["good"]


def test_no_result_is_deferred_while_the_queue_cannot_be_reached(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_table(_: str) -> Any:
        raise StoreUnavailable("the store is away")

    scene.ends("late")
    monkeypatch.setattr(scene.store, "read_table", read_table)
    with pytest.raises(StoreUnavailable, match="the store is away"):
        scene.record()
    assert scene.recorder.is_busy()


def test_held_children_are_updated_although_no_job_is_blocked(scene: Scene) -> None:
    """The worker that records the result does it: a draining worker would end before its sweep, and a held job would
    stay held."""
    child(scene.store, "by_hand", "good", hold=True)
    child(scene.store, "by_failure", "good", after_failure="hold")
    failed = lifecycle.unblock(get(scene.store, "by_failure"), {"good": "dead"}, now=scene.store.now())
    scene.store.save([failed])
    assert failed.cause == "parent"
    scene.ends("good")
    assert scene.record() == ["good"]
    assert get(scene.store, "by_failure").state == "pending"
    assert (get(scene.store, "by_hand").state, get(scene.store, "by_hand").waiting_for) == ("held", ())


def test_each_result_is_told_once_with_its_attempt(scene: Scene) -> None:
    scene.ends("good")
    scene.record()
    scene.ends("good")
    scene.record()
    [(_, event)] = scene.store.read_events(None, 10).events
    assert (event.event, event.job, event.exit_code) == ("job.completed", "good", 0)
    assert event.attempt_id == scene.claims["good"].attempt_id


def test_a_claim_that_is_given_back_is_told(scene: Scene) -> None:
    scene.store.away = None
    scene.recorder.give_back(scene.claims["good"].attempt_id or "", scene.claims["good"])
    scene.record()
    assert [event.event for _, event in scene.store.read_events(None, 10).events] == ["job.given_back"]


def test_a_result_whose_save_lost_its_reply_counts_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scene.store.save

    def lose(*given: Any) -> Any:
        real(*given)
        monkeypatch.setattr(scene.store, "save", real)
        raise OutcomeUnknown("the reply was lost")

    monkeypatch.setattr(scene.store, "save", lose)
    scene.ends("good")
    with pytest.raises(OutcomeUnknown):
        scene.record()
    assert scene.record() == []
    scene.figures.write(scene.store)
    assert {queue: tally.ended for queue, tally in since_ever(scene.store)} == {"default": {"completed": 1}}
