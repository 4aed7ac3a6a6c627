"""Why a job is in its state and what comes next: one sentence for each reason there is."""

from datetime import timedelta

import pytest

from contract.grounds import SteppedClock
from factories import NOW
from queuectl.config import Settings
from queuectl.domain.job import Parent
from queuectl.service import commands, maintenance
from queuectl.service.explain import explain
from queuectl.store.memory import MemoryStore
from service.scenes import beat, child, end, get, lose, put, take


class Answers:
    """`why` and `next` of a job, as text."""

    def __init__(self, store: MemoryStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def why(self, id: str) -> list[str]:
        return explain(self._store, self._settings, get(self._store, id)).why

    def next(self, id: str) -> list[str]:
        return explain(self._store, self._settings, get(self._store, id)).next


@pytest.fixture
def say(store: MemoryStore, settings: Settings) -> Answers:
    return Answers(store, settings)


@pytest.fixture
def worker(store: MemoryStore) -> None:
    beat(store)


class TestPending:
    @pytest.mark.usefixtures("worker")
    def test_it_is_ready(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a")
        assert say.why("a") == ["it is ready and no worker has taken it yet"]
        assert say.next("a") == ["it is the next of queue default"]

    @pytest.mark.usefixtures("worker")
    def test_it_is_delayed(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", run_at=NOW + timedelta(minutes=90))
        assert say.why("a") == ["it was enqueued to start not before 2026-11-22T13:30:00.000000Z"]
        assert say.next("a") == ["it is due at 2026-11-22T13:30:00.000000Z, in 1h30m"]

    @pytest.mark.usefixtures("worker")
    def test_its_queue_is_paused(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a")
        commands.pause(store, "default")
        assert "queue default is paused: queuectl queue resume default" in say.next("a")

    @pytest.mark.usefixtures("worker")
    def test_its_queue_runs_as_many_as_it_may(self, store: MemoryStore, say: Answers) -> None:
        put(store, "other", state="processing")
        put(store, "a")
        commands.limit(store, "default", 1)
        assert "queue default runs 1 at once, its limit" in say.next("a")

    @pytest.mark.usefixtures("worker")
    def test_its_queue_has_room_below_the_limit(self, store: MemoryStore, say: Answers) -> None:
        put(store, "other", state="processing")
        put(store, "a")
        commands.limit(store, "default", 2)
        assert not any("limit" in sentence for sentence in say.next("a"))

    def test_no_worker_runs(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a")
        assert "no running worker serves queue default: queuectl worker start" in say.next("a")

    @pytest.mark.parametrize("fields", [{"queues": ("mail",)}, {"state": "draining"}, {"state": "paused"}])
    def test_no_worker_serves_its_queue(
        self, store: MemoryStore, say: Answers, fields: dict[str, object]
    ) -> None:
        beat(store, **fields)  # type: ignore[arg-type]
        put(store, "a")
        assert any("no running worker serves queue default" in sentence for sentence in say.next("a"))

    def test_a_silent_worker_serves_nobody(
        self, store: MemoryStore, say: Answers, clock: SteppedClock
    ) -> None:
        beat(store)
        clock.step(minutes=5)
        put(store, "a")
        assert any("no running worker" in sentence for sentence in say.next("a"))

    def test_all_slots_are_busy(self, store: MemoryStore, say: Answers) -> None:
        beat(store, "w1", count=2, busy=("x", "y"))
        beat(store, "w2", count=1, busy=("z",), queues=("default",))
        beat(store, "w3", count=5, queues=("mail",))
        put(store, "a")
        assert "all 3 slots that serve queue default are busy" in say.next("a")

    def test_one_slot_is_free(self, store: MemoryStore, say: Answers) -> None:
        beat(store, count=2, busy=("x",))
        put(store, "a")
        assert not any("busy" in sentence for sentence in say.next("a"))

    @pytest.mark.usefixtures("worker")
    def test_others_stand_before_it(self, store: MemoryStore, say: Answers) -> None:
        put(store, "first")
        put(store, "elsewhere", queue="mail")
        put(store, "a")
        put(store, "urgent", priority=10)
        assert say.next("a") == ["2 jobs stand before it in queue default"]

    @pytest.mark.usefixtures("worker")
    def test_what_is_not_due_stands_in_nobodys_way(self, store: MemoryStore, say: Answers) -> None:
        put(store, "tomorrow", priority=1000, run_at=NOW + timedelta(days=1))
        put(store, "a")
        assert say.next("a") == ["it is the next of queue default"]

    @pytest.mark.usefixtures("worker")
    def test_very_many_stand_before_it(self, store: MemoryStore, say: Answers) -> None:
        for n in range(1001):
            put(store, f"b{n}")
        put(store, "a")
        assert say.next("a") == ["more than 1000 jobs stand before it in queue default"]

    def test_it_was_lost_before(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="processing")
        lose(store, "a")
        assert say.why("a") == ["it is to run again; last: lost: gone"]


class TestProcessing:
    def test_who_runs_it_and_until_when(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="processing")
        assert say.why("a") == ["worker w1 runs attempt 1; its lease lasts until 2026-11-22T12:00:30.000000Z"]
        assert say.next("a") == ["it ends by itself; to end it: queuectl cancel a"]

    def test_its_time_limit_is_named(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="processing", timeout=timedelta(minutes=5))
        assert say.next("a") == ["it ends by itself, or after 5m; to end it: queuectl cancel a"]

    def test_a_cancel_was_asked_for(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="processing")
        commands.cancel(store, ["a"], by="ada")
        assert say.why("a")[1] == "ada asked to cancel it at 2026-11-22T12:00:00.000000Z"
        assert not any("queuectl cancel" in sentence for sentence in say.next("a"))


class TestFailed:
    @pytest.mark.usefixtures("worker")
    def test_what_failed_and_when_it_runs_again(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="failed")
        assert say.why("a") == ["attempt 1 failed: exit code 1"]
        assert say.next("a") == ["it is due at 2026-11-22T12:00:02.000000Z, in 2s (retry 1 of 3)"]

    @pytest.mark.usefixtures("worker")
    def test_without_end(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="failed", max_retries=-1)
        assert say.next("a")[0].endswith("(retry 1 of any number)")

    def test_due_again_it_stands_in_the_line(
        self, store: MemoryStore, say: Answers, clock: SteppedClock
    ) -> None:
        put(store, "a", state="failed")
        clock.step(seconds=3)
        beat(store)
        assert say.next("a") == ["it is the next of queue default"]


class TestBlocked:
    @pytest.mark.parametrize(("on", "words"), [("ok", "well"), ("any", "at all"), ("failed", "badly")])
    def test_whom_it_waits_for_and_how_that_stands(
        self, store: MemoryStore, say: Answers, on: str, words: str
    ) -> None:
        put(store, "p", state="held")
        child(store, "c", Parent("p", on))  # type: ignore[arg-type]
        assert say.why("c") == [f"it waits for p to end {words}; that is held"]
        assert say.next("c") == ["it starts when these have ended as wanted"]

    def test_parents_that_have_ended_are_not_named(self, store: MemoryStore, say: Answers) -> None:
        put(store, "p", state="processing")
        put(store, "q")
        child(store, "c", "p", "q")
        end(store, "p")
        maintenance.unblock(store, ["c"])
        assert say.why("c") == ["it waits for q to end well; that is pending"]

    def test_it_waits_in_vain_until_somebody_looks(self, store: MemoryStore, say: Answers) -> None:
        put(store, "p", state="processing", max_retries=0)
        child(store, "c", "p")
        end(store, "p", exit_code=1)
        assert say.why("c") == ["it waits for p to end well; that is dead (in vain)"]


class TestHeld:
    def test_by_a_person(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="held")
        assert say.why("a") == ["it is held until a person releases it"]
        assert say.next("a") == ["queuectl release a"]

    def test_because_its_parent_failed(self, store: MemoryStore, say: Answers) -> None:
        put(store, "p")
        child(store, "c", "p", after_failure="hold")
        commands.cancel(store, ["p"], by="me")
        assert say.why("c") == ["it is held: parent p ended as cancelled"]


class TestEnded:
    def test_completed(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="completed")
        assert say.why("a") == ["attempt 1 ended with exit code 0"]
        assert say.next("a") == ["nothing; to run it again: queuectl retry --force a"]

    def test_dead(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", state="dead")
        assert say.why("a") == ["its last attempt failed for good: exit code 1"]
        assert say.next("a") == ["nothing by itself; to run it again: queuectl retry a"]

    def test_a_crash_loop(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a", max_losses=0)
        take(store, "a")
        lose(store, "a")
        assert say.why("a") == ["its last attempt failed for good: crash loop: lost 1 times, last: gone"]

    def test_cancelled_with_the_reason(self, store: MemoryStore, say: Answers) -> None:
        put(store, "a")
        commands.cancel(store, ["a"], by="ada", reason="wrong branch")
        assert say.why("a") == ["cancelled by ada: wrong branch"]
        assert say.next("a") == ["nothing by itself; to run it again: queuectl retry a"]
