"""Each change tells its event once, with its actor, and the setting `events` leaves out what is not wanted."""

from datetime import timedelta

import pytest

from contract.grounds import SteppedClock
from factories import LEASE, NOW, report
from queuectl.domain import lifecycle
from queuectl.domain.event import Actor, Event, between
from queuectl.domain.query import Filter
from queuectl.service import commands, firing, maintenance
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.service.schedules import changing as schedules
from queuectl.service.settings import Sources
from queuectl.service.telling import GOOD_FOR, Setting, acting, telling, user_and_host
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Store
from service.conftest import Overtaken, settings_of
from service.scenes import child, end, put, take
from service.test_schedules import definition

ME = Actor("me@host", "cli")


@pytest.fixture
def queue(store: MemoryStore) -> LocalQueue:
    return LocalQueue(store, Sources({}, None, print)).acting(ME)


def events(store: Store) -> list[Event]:
    return [event for _, event in store.read_events(None, 1000).events]


def told(store: Store) -> list[tuple[str, str]]:
    """The events as kind and job."""
    return [(event.event.removeprefix("job."), event.job) for event in events(store)]


def enqueue(queue: LocalQueue, id: str, **fields: object) -> None:
    queue.enqueue([JobRequest(id=id, command="true", **fields)])  # type: ignore[arg-type]


class TestCommands:
    def test_an_enqueue_tells_the_state_of_each_job(self, queue: LocalQueue, store: MemoryStore) -> None:
        enqueue(queue, "a")
        enqueue(queue, "b", after=["a"])
        enqueue(queue, "c", hold=True)
        enqueue(queue, "a")
        assert told(store) == [("enqueued", "a"), ("blocked", "b"), ("held", "c")]
        assert {(event.by, event.via) for event in events(store)} == {("me@host", "cli")}

    def test_each_command_tells_its_change_once(self, queue: LocalQueue, store: MemoryStore) -> None:
        put(store, "a")
        put(store, "d", state="dead")
        for operation in (
            queue.hold(["a"]),
            queue.hold(["a"]),
            queue.release(["a"]),
            queue.edit(["a"], priority=3),
            queue.cancel(["a"]),
            queue.cancel(["a"]),
            queue.retry(["d"]),
            queue.cancel(["d"]),
            queue.delete(["a", "d"]),
        ):
            list(operation)
        assert told(store) == [
            ("held", "a"),
            ("released", "a"),
            ("edited", "a"),
            ("cancelled", "a"),
            ("retried", "d"),
            ("cancelled", "d"),
            ("deleted", "a"),
            ("deleted", "d"),
        ]
        assert {(event.by, event.via) for event in events(store)} == {("me@host", "cli")}

    def test_a_purge_tells_nothing(self, queue: LocalQueue, store: MemoryStore) -> None:
        put(store, "a", state="completed")
        assert sum(queue.purge(Filter())) == 1
        assert told(store) == []

    def test_a_cancelled_parent_and_its_child_are_told(self, queue: LocalQueue, store: MemoryStore) -> None:
        put(store, "p")
        child(store, "c", "p")
        list(queue.cancel(["p"]))
        list(queue.retry(["p"]))
        assert told(store) == [("cancelled", "p"), ("cancelled", "c"), ("retried", "p"), ("blocked", "c")]
        assert [event.cause for event in events(store)] == ["person", "parent", None, None]

    def test_a_lost_race_tells_the_change_that_was_stored(
        self, overtaken: Overtaken, store: MemoryStore
    ) -> None:
        put(store, "a")
        overtaken.before("save", lambda: take(store, "a"))
        commands.cancel(overtaken, ["a"], by="me")  # type: ignore[arg-type]
        assert told(store) == [("cancel_requested", "a")]

    def test_a_job_of_a_running_schedule_is_told(self, store: MemoryStore, clock: SteppedClock) -> None:
        schedules.add(store, "s", definition())
        clock.step(seconds=10)
        firing.fire(store, store.upcoming(10))
        id = schedules.run(store, "s", f"{7:026x}", force=True)
        [first, second] = events(store)
        assert (first.event, second.event) == ("job.enqueued", "job.enqueued")
        assert first.job == f"s:{NOW + timedelta(seconds=10):%Y%m%dT%H%M%SZ}"
        assert second.job == id


class TestMaintenance:
    def test_a_recovered_claim_is_told_as_lost(self, store: MemoryStore, clock: SteppedClock) -> None:
        put(store, "a", state="processing")
        clock.step(minutes=5)
        maintenance.recover_expired(store)
        assert told(store) == [("lost", "a")]

    def test_a_claim_that_never_started_is_told_as_given_back(self, store: MemoryStore) -> None:
        put(store, "a", state="processing")
        maintenance.recover_worker(store, "w1", frozenset(), "dead")
        assert told(store) == [("given_back", "a")]

    def test_a_child_that_may_start_is_told_once(self, store: MemoryStore) -> None:
        put(store, "p", state="processing")
        child(store, "c", "p")
        end(store, "p")
        for _ in range(2):
            maintenance.unblock_children(store, ["p"])
        assert told(store) == [("released", "c")]

    def test_old_events_are_deleted(self, store: MemoryStore, clock: SteppedClock) -> None:
        put(store, "a")
        commands.hold(store, ["a"])
        clock.step(days=2)
        commands.release(store, ["a"])
        assert maintenance.trim_events(store, settings_of()) == 0
        clock.step(days=2)
        assert maintenance.trim_events(store, settings_of()) == 1
        assert told(store) == [("released", "a")]
        assert maintenance.trim_events(store, settings_of(retain_events="1h")) == 1

    def test_events_are_deleted_in_bounded_steps(
        self, store: MemoryStore, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(maintenance, "TRIM_STEP", 2)
        monkeypatch.setattr(maintenance, "TRIM_STEPS", 3)
        for n in range(8):
            put(store, f"{n}")
            commands.hold(store, [f"{n}"])
        clock.step(days=4)
        assert [maintenance.trim_events(store, settings_of()) for _ in range(3)] == [6, 2, 0]


class TestSetting:
    @pytest.mark.parametrize(
        ("which", "kinds"),
        [
            ("all", ["enqueued", "held", "released", "started", "failed", "started", "completed", "deleted"]),
            ("ends", ["failed", "completed"]),
            ("none", []),
        ],
    )
    def test_the_setting_leaves_out_events(
        self, store: MemoryStore, clock: SteppedClock, which: Setting, kinds: list[str]
    ) -> None:
        queue = LocalQueue(store, Sources({}, None, print)).acting(ME)
        queue.set("events", which)
        enqueue(queue, "a")
        list(queue.hold(["a"]))
        list(queue.release(["a"]))
        worker = telling(store, lambda: which)
        for code in (1, 0):
            [job] = worker.claim("w", [], 1, LEASE, tell=True)
            after = lifecycle.finish(job, report(exit_code=code), now=NOW, random_number=0.5)
            worker.save([after], [between(job, after)])
            clock.step(hours=1)
        list(queue.delete(["a"]))
        assert [kind for kind, _ in told(store)] == kinds

    def test_a_running_program_uses_a_changed_setting(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr("queuectl.service.telling.boottime", lambda: now)
        queue, other = (LocalQueue(store, Sources({}, None, print)).acting(ME) for _ in range(2))
        put(store, "a")
        list(queue.hold(["a"]))
        other.set("events", "none")
        list(queue.release(["a"]))
        now += GOOD_FOR + 1
        list(queue.hold(["a"]))
        assert told(store) == [("held", "a"), ("released", "a")]


class TestActor:
    def test_without_a_name_it_is_the_user_on_this_host(self, store: MemoryStore) -> None:
        enqueue(LocalQueue(store, Sources({}, None, print), via="python"), "a")
        [event] = events(store)
        assert (event.by, event.via) == (user_and_host(), "python")
        assert event.by
        assert "@" in event.by

    def test_a_queue_acts_for_another_actor(self, queue: LocalQueue, store: MemoryStore) -> None:
        enqueue(queue.acting(Actor("token:ci", "http")), "a")
        enqueue(queue, "b")
        assert [(event.by, event.via) for event in events(store)] == [
            ("token:ci", "http"),
            ("me@host", "cli"),
        ]

    def test_a_worker_is_no_actor(self, store: MemoryStore) -> None:
        put(store, "a")
        telling(store, lambda: "all").claim("w", [], 1, LEASE, tell=True)
        [event] = events(store)
        assert (event.by, event.via) == (None, None)

    def test_a_store_without_telling_acts_for_nobody(self, store: MemoryStore) -> None:
        assert acting(store, ME) is store
