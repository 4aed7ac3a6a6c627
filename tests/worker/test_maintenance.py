"""Maintenance while the store works but its archive cannot be reached, and after a jump of the clock."""

from datetime import timedelta
from pathlib import Path

import pytest
from archive import Troubled
from unstarted import Unstarted

from contract.grounds import SteppedClock
from queuectl import config
from queuectl.errors import StoreUnavailable
from queuectl.service import commands
from queuectl.service import maintenance as service
from queuectl.service.figures import since_ever
from queuectl.store.memory import MemoryStore
from queuectl.worker.agent import maintenance
from queuectl.worker.agent.claim import ClaimJobs
from queuectl.worker.agent.maintenance import Maintenance
from queuectl.worker.host import process_table, result_file
from queuectl.worker.host.slot_file import SlotFile
from queuectl.worker.protocol import Exited, encode
from service.scenes import child, heartbeat, put


class Duty:
    """The maintenance of one agent that has been connected for long, all its steps due at each round."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, store: Troubled | None = None
    ) -> None:
        self.store = store or Troubled()
        self.agent = Unstarted(directory, monkeypatch, self.store, config={"url": "redis://h"})
        self.agent.context.settings = config.resolve({}, {}, {}, {"retain_dead": "1d"})

    def round(self) -> list[str]:
        """Do all that there is; what was logged, without the time."""
        health, duty = self.agent.context.health, self.agent.duty(Maintenance)
        health._since, health._last_round = self.agent.now - 3600, self.agent.now
        for step in duty._steps:
            step.at = 0.0
        self.agent.run(Maintenance)
        return self.agent.said()

    @property
    def clock_jump(self) -> float | None:
        """The clock jump that the registry shows."""
        jump: float | None = self.agent.duty(Maintenance)._watch.jump
        return jump


@pytest.fixture
def duty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Duty:
    return Duty(tmp_path, monkeypatch)


def test_an_archive_outage_is_logged_at_its_start_and_its_end(duty: Duty) -> None:
    assert duty.round() == []
    duty.store.met = "mongodb://h/past cannot be reached"
    assert duty.round() == ["archive   mongodb://h/past cannot be reached; ended jobs wait in the queue"]
    duty.store.met = "mongodb://h/past does not answer"
    assert duty.round() == []
    duty.store.met = None
    assert duty.round() == ["archive   the archive is back"]
    assert duty.round() == []


@pytest.fixture
def waiting(duty: Duty) -> Troubled:
    """A store whose archive cannot be reached, with an expired lease and a child of an archived job."""
    store = duty.store
    put(store, "parent", state="completed")
    child(store, "child", "parent")
    put(store, "lost")
    store.claim("elsewhere", [], 1, timedelta())
    store.past, store.away = {"parent"}, "mongodb://h/past cannot be reached"
    return store


def test_an_archive_outage_does_not_delay_the_recovery(duty: Duty, waiting: Troubled) -> None:
    [line] = duty.round()
    assert line.startswith("recovered lost lost: its worker was silent")
    assert (waiting.get(["child"])["child"].state, waiting.met) == ("blocked", waiting.away)


def test_an_archive_that_failed_before_is_not_called_again(duty: Duty, waiting: Troubled) -> None:
    duty.round()
    asked = waiting.questions
    duty.round()
    assert waiting.questions == asked


def test_deferred_steps_run_when_the_archive_answers_again(duty: Duty, waiting: Troubled) -> None:
    duty.round()
    waiting.away = waiting.met = None
    duty.round()
    assert waiting.get(["child"])["child"].state == "pending"


def test_recoveries_are_logged_although_the_children_cannot_be_read(duty: Duty, waiting: Troubled) -> None:
    put(waiting, "last", max_losses=0)
    child(waiting, "behind", "last", "parent")
    waiting.claim("elsewhere", [], 1, timedelta())
    assert [line.split()[1] for line in duty.round() if line.startswith("recovered")] == ["lost", "last"]


def test_an_outage_of_the_store_itself_is_raised(duty: Duty, monkeypatch: pytest.MonkeyPatch) -> None:
    def purge_expired(*_: object) -> int:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(maintenance.maintenance, "purge_expired", purge_expired)
    with pytest.raises(StoreUnavailable, match="the store is away"):
        duty.round()


class TestClockJump:
    """With a wrong clock every job seems old."""

    @pytest.fixture
    def clock(self, duty: Duty) -> SteppedClock:
        """Advance the clocks of the store and of the host, without a jump."""
        clock = SteppedClock()
        duty.store._clock, duty.store._last_now = clock, clock.now()
        put(duty.store, "kept", state="completed")
        return clock

    def passes(self, duty: Duty, clock: SteppedClock, **time: float) -> None:
        clock.step(**time)
        duty.agent.now += timedelta(**time).total_seconds()

    @pytest.mark.parametrize("days", [30, 7300])
    def test_nothing_is_purged_for_an_hour(self, duty: Duty, clock: SteppedClock, days: int) -> None:
        duty.round()
        clock.step(days=days)
        assert duty.round() == [
            f"clock     the store's clock jumped {days}d ahead; nothing is purged for an hour"
        ]
        self.passes(duty, clock, minutes=59)
        assert duty.round() == []
        assert duty.store.get(["kept"])
        self.passes(duty, clock, minutes=2)
        assert duty.round() == []
        assert not duty.store.get(["kept"])
        assert duty.clock_jump is None

    def test_purging_continues_an_hour_after_the_clock_is_corrected(
        self, duty: Duty, clock: SteppedClock
    ) -> None:
        duty.round()
        clock.step(days=30)
        duty.round()
        clock.step(days=-30)
        assert duty.round() == ["clock     the store's clock jumped 30d back; nothing is purged for an hour"]
        self.passes(duty, clock, hours=2)
        duty.round()
        assert duty.store.get(["kept"])

    def test_a_jump_that_another_worker_reports_also_stops_purging(
        self, duty: Duty, clock: SteppedClock
    ) -> None:
        clock.step(days=30)
        heartbeat(duty.store, "other", clock_jump=30 * 86400.0)
        duty.round()
        assert duty.store.get(["kept"])

    def test_a_small_change_of_the_clock_is_not_a_jump(self, duty: Duty, clock: SteppedClock) -> None:
        duty.round()
        clock.step(minutes=59)
        assert duty.round() == []
        assert duty.clock_jump is None


class TestDue:
    def test_each_step_has_its_interval(self, unstarted: Unstarted) -> None:
        ran = list[str]()
        duty = unstarted.duty(Maintenance)
        for step in duty._steps:
            name = step.run.__name__
            step.run = lambda name=name: ran.append(name)
        for second in range(31):
            unstarted.now = 1000.0 + second
            if unstarted.is_due(Maintenance):
                unstarted.run(Maintenance)
        counted = {name: ran.count(name) for name in ran}
        assert counted == {
            "_recover_dead": 31,
            "_recover_expired": 16,
            "_sweep_blocked": 7,
            "_purge": 1,
            "_trim_events": 1,
            "_merge_figures": 1,
        }

    def test_the_duty_is_due_when_its_next_step_is_due(self, unstarted: Unstarted) -> None:
        unstarted.run(Maintenance)
        assert (
            unstarted.duty(Maintenance).due(unstarted.now) == unstarted.now + maintenance.DEAD_WORKERS_EVERY
        )

    def test_only_a_worker_connected_for_a_whole_lease_recovers_jobs(self, duty: Duty) -> None:
        put(duty.store, "a")
        duty.store.claim("elsewhere", [], 1, timedelta())
        duty.agent.run(Maintenance)
        assert duty.store.get(["a"])["a"].state == "processing"
        assert duty.round()[0].startswith("recovered a")

    def test_a_recovery_makes_a_claim_due_at_once(self, duty: Duty) -> None:
        put(duty.store, "a")
        duty.store.claim("elsewhere", [], 1, timedelta())
        duty.agent.run(ClaimJobs)
        assert not duty.agent.is_due(ClaimJobs)
        duty.round()
        assert duty.agent.is_due(ClaimJobs)


def test_a_job_with_a_result_file_is_not_lost_when_its_lease_expires(duty: Duty, tmp_path: Path) -> None:
    put(duty.store, "done")
    [job] = duty.store.claim("gone", [], 1, timedelta())
    results = result_file.path_of(tmp_path, "gone")
    results.write_bytes(b"no frame")
    assert duty.round()[0].startswith("recovered done lost")
    [job] = duty.store.claim("gone", [], 1, timedelta())
    results.write_bytes(encode(Exited(job.attempt_id or "", "done", "exited")))
    assert duty.round() == []
    results.unlink()
    assert duty.round()[0].startswith("recovered done lost")


def test_results_in_the_file_of_a_worker_in_doubt_are_recorded_once(duty: Duty, tmp_path: Path) -> None:
    """The host was restarted: the file of the worker stays until the registry forgets the worker after an hour."""
    put(duty.store, "done")
    [job] = duty.store.claim("gone", [], 1, timedelta(hours=1))
    heartbeat(duty.store, "gone")
    slots = tmp_path / "gone.slots"
    SlotFile.create(slots, {"id": "gone", "name": "old", "host": "atlas"}, 1).close()
    boot = process_table.boot_id().encode()
    slots.write_bytes(slots.read_bytes().replace(boot, boot[::-1]))
    ended = Exited(job.attempt_id or "", "done", "exited", exit_code=0, started_at=1.0, finished_at=2.0)
    result_file.path_of(tmp_path, "gone").write_bytes(encode(ended))
    assert duty.round()[0] == (
        "handover  worker old left 1 result that it could not deliver; recording those not taken over by others"
    )
    assert duty.store.get(["done"])["done"].state == "completed"
    assert duty.round() == []
    assert slots.exists()


def test_a_result_for_another_store_is_kept(
    duty: Duty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was replaced by a new one while its worker ran: the old one may be put back."""
    put(duty.store, "done")
    [job] = duty.store.claim("gone", [], 1, timedelta(hours=1))
    SlotFile.create(tmp_path / "gone.slots", {"id": "gone", "name": "old", "host": "atlas"}, 1).close()
    ended = Exited(job.attempt_id or "", "done", "exited", exit_code=0, started_at=1.0, finished_at=2.0)
    results = result_file.path_of(tmp_path, "gone")
    results.write_bytes(encode(ended))
    elsewhere = Duty(tmp_path, monkeypatch)
    assert elsewhere.round()[1:] == [
        "handover  1 result of worker old: kept, because this store has no such job"
    ]
    assert elsewhere.round() == []
    duty.round()
    assert duty.store.get(["done"])["done"].state == "completed"
    assert not results.exists()


def test_a_kept_file_counts_its_results_once_however_many_agents_read_it(
    duty: Duty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result of a job that was deleted meanwhile keeps the file, and each agent that starts reads it again."""
    put(duty.store, "done")
    [job] = duty.store.claim("gone", [], 1, timedelta(hours=1))
    SlotFile.create(tmp_path / "gone.slots", {"id": "gone", "name": "old", "host": "atlas"}, 1).close()
    ended = [
        Exited(attempt, id, "exited", exit_code=0, started_at=1.0, finished_at=2.0)
        for id, attempt in (("done", job.attempt_id or ""), ("deleted", "0" * 32))
    ]
    result_file.path_of(tmp_path, "gone").write_bytes(b"".join(map(encode, ended)))
    duty.round()
    duty.agent.parts.figures.finish()
    for _ in range(2):
        later = Duty(tmp_path, monkeypatch, duty.store)
        assert later.round()[0].startswith("handover  worker old left 2 results")
        later.agent.parts.figures.finish()
    assert {queue: tally.ended for queue, tally in since_ever(duty.store)} == {"default": {"completed": 1}}


def test_old_events_are_deleted_but_not_after_a_jump_of_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SteppedClock()
    store = MemoryStore(clock)
    agent = Unstarted(tmp_path, monkeypatch, store)
    put(store, "a")
    commands.hold(store, ["a"])
    duty = agent.duty(Maintenance)
    duty._trim_events()
    clock.step(days=4)
    duty._trim_events()
    assert len(store.read_events(None, 10).events) == 1
    agent.now += 2 * 3600
    clock.step(hours=2)
    duty._trim_events()
    assert store.read_events(None, 10).events == []


def test_events_beyond_the_limit_are_deleted_in_the_next_round_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("EVENTS_KEPT", 1), ("TRIM_STEP", 2), ("TRIM_STEPS", 2)):
        monkeypatch.setattr(service, name, value)
    duty, store = Duty(tmp_path, monkeypatch), MemoryStore()
    duty.agent.duty(Maintenance)._store = store
    for n in range(8):
        put(store, f"j{n}")
    commands.hold(store, [f"j{n}" for n in range(8)])
    left, trim = list[int](), duty.agent.duty(Maintenance)._trim
    trim.at = duty.agent.now
    for _ in range(3):
        duty.agent.run(Maintenance)
        left.append(len(store.read_events(None, 10).events))
    assert left == [4, 1, 1]
    assert trim.at > duty.agent.now
