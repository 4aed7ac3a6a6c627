"""Maintenance that every worker does: recover, unblock, purge. Several workers may do each step at once."""

from datetime import timedelta

import pytest

from contract.grounds import SteppedClock
from factories import LEASE, new_job
from queuectl.domain.job import Parent
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable
from queuectl.service import commands, maintenance
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Swap
from service.conftest import Overtaken, settings_of
from service.scenes import child, end, get, put, take


class TestRecoverExpired:
    def test_a_claim_with_a_valid_lease_is_not_recovered(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        put(store, "a", state="processing")
        clock.step(seconds=LEASE.total_seconds() - 1)
        assert maintenance.recover_expired(store) == []

    def test_a_job_with_an_expired_lease_is_lost_and_keeps_its_position(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        before = put(store, "a")
        take(store, "a")
        clock.step(seconds=LEASE.total_seconds())
        [job] = maintenance.recover_expired(store)
        assert (job.state, job.losses, job.failures, job.attempts) == ("pending", 1, 0, 1)
        assert job.sort_key == before.sort_key
        assert job.last_error == "lost: its worker was silent for longer than the lease"
        assert job.history[-1].outcome == "lost"

    def test_a_job_is_dead_after_more_than_max_losses(self, store: MemoryStore, clock: SteppedClock) -> None:
        put(store, "a", max_losses=2)
        states = []
        for _ in range(3):
            take(store, "a")
            clock.step(seconds=LEASE.total_seconds())
            states += [job.state for job in maintenance.recover_expired(store)]
        assert states == ["pending", "pending", "dead"]
        assert (get(store, "a").last_error or "").startswith("crash loop: lost 3 times")

    def test_a_crash_loop_cancels_the_children(self, store: MemoryStore, clock: SteppedClock) -> None:
        put(store, "p", max_losses=0)
        child(store, "c", "p")
        take(store, "p")
        clock.step(seconds=LEASE.total_seconds())
        maintenance.recover_expired(store)
        assert get(store, "c").state == "cancelled"

    def test_the_recovery_completes_a_requested_cancel(self, store: MemoryStore, clock: SteppedClock) -> None:
        put(store, "a", state="processing")
        commands.cancel(store, ["a"], by="me")
        clock.step(seconds=LEASE.total_seconds())
        assert [job.state for job in maintenance.recover_expired(store)] == ["cancelled"]

    def test_a_job_that_ends_before_the_recovery_is_not_recovered(
        self, store: MemoryStore, overtaken: Overtaken, clock: SteppedClock
    ) -> None:
        put(store, "a", state="processing")
        clock.step(seconds=LEASE.total_seconds())
        overtaken.before("save", lambda: end(store, "a"))
        assert maintenance.recover_expired(overtaken) == []
        assert get(store, "a").state == "completed"

    def test_expired_claims_behind_spared_claims_are_recovered(
        self, store: MemoryStore, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(maintenance, "STEP", 2)
        for n in range(11):
            put(store, f"a{n}", state="processing")
            clock.step(seconds=1)
        clock.step(seconds=LEASE.total_seconds())
        behind = ("a8", "a9", "a10")
        steps = [maintenance.recover_expired(store, lambda job: job.id not in behind) for _ in range(3)]
        assert [[job.id for job in step] for step in steps] == [["a8", "a9"], ["a10"], []]

    def test_one_recovery_reads_a_bounded_number_of_claims(
        self, store: MemoryStore, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(maintenance, "STEP", 2)
        monkeypatch.setattr(maintenance, "MOST_EXPIRED", 4)
        for n in range(5):
            put(store, f"a{n}", state="processing")
            clock.step(seconds=1)
        clock.step(seconds=LEASE.total_seconds())
        assert maintenance.recover_expired(store, lambda job: job.id != "a4") == []


class TestRecoverWorker:
    @pytest.fixture
    def attempts(self, store: MemoryStore) -> dict[str, str]:
        """Two jobs of a dead worker, one of another."""
        for id, worker in (("begun", "dead"), ("unbegun", "dead"), ("other", "alive")):
            put(store, id)
            take(store, id, worker=worker)
        return {id: get(store, id).attempt_id or "" for id in ("begun", "unbegun", "other")}

    def test_a_claim_that_never_started_is_given_back_uncounted(
        self, store: MemoryStore, attempts: dict[str, str]
    ) -> None:
        maintenance.recover_worker(store, "dead", frozenset((attempts["begun"],)), "killed")
        begun, unbegun = get(store, "begun"), get(store, "unbegun")
        assert (begun.state, begun.attempts, begun.losses) == ("pending", 1, 1)
        assert (unbegun.state, unbegun.attempts, unbegun.losses) == ("pending", 0, 0)
        assert unbegun.history == ()

    @pytest.mark.usefixtures("attempts")
    def test_without_a_slot_file_all_claims_count_as_started(self, store: MemoryStore) -> None:
        maintenance.recover_worker(store, "dead", None, "killed")
        assert [get(store, id).losses for id in ("begun", "unbegun")] == [1, 1]

    @pytest.mark.usefixtures("attempts")
    def test_an_empty_slot_file_gives_all_claims_back(self, store: MemoryStore) -> None:
        maintenance.recover_worker(store, "dead", frozenset(), "killed")
        assert [get(store, id).losses for id in ("begun", "unbegun")] == [0, 0]

    @pytest.mark.usefixtures("attempts")
    def test_claims_of_other_workers_are_not_recovered(self, store: MemoryStore) -> None:
        recovered = maintenance.recover_worker(store, "dead", None, "killed")
        assert {job.id for job in recovered} == {"begun", "unbegun"}
        assert get(store, "other").state == "processing"

    def test_more_claims_than_one_step_holds_are_recovered(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(maintenance, "STEP", 3)
        for n in range(10):
            put(store, f"a{n}", state="processing")
        assert len(maintenance.recover_worker(store, "w1", None, "killed")) == 10

    def test_a_retry_that_never_started_returns_to_the_state_failed(self, store: MemoryStore) -> None:
        put(store, "a", state="failed")
        take(store, "a")
        maintenance.recover_worker(store, "w1", frozenset(), "killed")
        assert (get(store, "a").state, get(store, "a").failures) == ("failed", 1)


class TestSweep:
    def test_the_sweep_unblocks_children_whose_parent_has_ended(self, store: MemoryStore) -> None:
        put(store, "p", state="processing")
        child(store, "c", "p")
        end(store, "p")
        assert get(store, "c").state == "blocked"
        assert maintenance.sweep_blocked(store, None) is None
        assert get(store, "c").state == "pending"

    def test_a_child_that_the_sweep_cancels_cancels_its_own_children(self, store: MemoryStore) -> None:
        put(store, "p", state="processing", max_retries=0)
        child(store, "c", "p")
        child(store, "g", "c")
        end(store, "p", exit_code=1)
        maintenance.sweep_blocked(store, None)
        assert get(store, "g").state == "cancelled"

    def test_the_sweep_reads_all_blocked_jobs_page_by_page(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(maintenance, "STEP", 2)
        put(store, "p", state="processing")
        for n in range(5):
            child(store, f"c{n}", "p")
        end(store, "p")
        cursor, pages = maintenance.sweep_blocked(store, None), 1
        while cursor:
            cursor, pages = maintenance.sweep_blocked(store, cursor), pages + 1
        assert pages == 3
        assert store.counts(Filter(states=frozenset(("blocked",)))).total() == 0

    def test_the_sweep_does_not_change_children_that_still_wait(self, store: MemoryStore) -> None:
        put(store, "p")
        before = child(store, "c", "p")
        maintenance.sweep_blocked(store, None)
        assert get(store, "c") == before


class TestPurgeExpired:
    @pytest.fixture
    def ended(self, store: MemoryStore, clock: SteppedClock) -> None:
        for state in ("completed", "cancelled", "dead"):
            put(store, state, state=state)
        clock.step(days=1)

    def left(self, store: MemoryStore) -> set[str]:
        return set(store.get(["completed", "cancelled", "dead"]))

    @pytest.mark.usefixtures("ended")
    def test_no_job_is_purged_before_its_retention_ends(self, store: MemoryStore) -> None:
        assert maintenance.purge_expired(store, settings_of(retain_completed="2d")) == 0

    @pytest.mark.usefixtures("ended")
    def test_retain_completed_applies_to_completed_and_cancelled_jobs(self, store: MemoryStore) -> None:
        assert maintenance.purge_expired(store, settings_of(retain_completed="1h")) == 2
        assert self.left(store) == {"dead"}

    @pytest.mark.usefixtures("ended")
    def test_retain_dead_applies_to_dead_jobs(self, store: MemoryStore) -> None:
        assert maintenance.purge_expired(store, settings_of(retain_dead="1h")) == 1
        assert self.left(store) == {"completed", "cancelled"}

    @pytest.mark.usefixtures("ended")
    def test_by_default_dead_jobs_are_never_purged(self, store: MemoryStore, clock: SteppedClock) -> None:
        clock.step(days=10_000)
        maintenance.purge_expired(store, settings_of())
        assert self.left(store) == {"dead"}

    def test_a_parent_is_purged_only_after_its_children_are_unblocked(
        self, store: MemoryStore, clock: SteppedClock
    ) -> None:
        put(store, "p", state="processing")
        child(store, "c", "p")
        end(store, "p")
        clock.step(seconds=59)
        assert maintenance.purge_expired(store, settings_of(retain_completed="0s")) == 0
        maintenance.sweep_blocked(store, None)
        assert get(store, "c").state == "pending"
        clock.step(seconds=2)
        assert maintenance.purge_expired(store, settings_of(retain_completed="0s")) == 1

    def test_a_purge_deletes_in_small_steps(
        self, store: MemoryStore, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(maintenance, "STEP", 2)
        for n in range(5):
            put(store, f"a{n}", state="completed")
        clock.step(days=8)
        assert [maintenance.purge_expired(store, settings_of()) for _ in range(4)] == [2, 2, 1, 0]

    def test_unfinished_jobs_are_never_purged(self, store: MemoryStore, clock: SteppedClock) -> None:
        put(store, "a")
        clock.step(days=365)
        maintenance.purge_expired(store, settings_of(retain_completed="0s", retain_dead="0s"))
        assert get(store, "a")


def test_unblocking_a_job_that_does_not_wait_changes_nothing(store: MemoryStore) -> None:
    put(store, "a")
    assert maintenance.unblock(store, ["a", "nobody"]) == []


def test_children_of_many_parents_are_unblocked_in_batches(store: MemoryStore) -> None:
    parents = [f"p{n}" for n in range(600)]
    store.add([new_job(id) for id in parents])
    for n, id in enumerate(parents):
        child(store, f"c{n}", id)
        take(store, id)
        end(store, id)
    maintenance.unblock_children(store, parents)
    assert store.counts(Filter()).states() == {"completed": 600, "pending": 600}


def test_the_clock_of_the_store_decides_whether_a_lease_is_expired(
    store: MemoryStore, clock: SteppedClock
) -> None:
    put(store, "a", state="processing")
    clock.step(seconds=LEASE.total_seconds())
    lease = get(store, "a").lease
    assert lease
    assert lease.until == store.now()
    assert lease.until - LEASE == store.now() - timedelta(seconds=30)
    assert len(maintenance.recover_expired(store)) == 1


def test_a_child_whose_parent_was_deleted_is_cancelled(store: MemoryStore) -> None:
    put(store, "child", state="blocked", after=(Parent("vanished"),))
    maintenance.sweep_blocked(store, None)
    child = get(store, "child")
    assert (child.state, child.last_error) == ("cancelled", "parent vanished was deleted")


def test_a_test_write_leaves_no_entry(store: MemoryStore) -> None:
    maintenance.try_write(store)
    maintenance.try_write(store)
    assert store.read_table("schedules") == {}


def test_an_interrupted_test_write_does_not_prevent_the_next_one(store: MemoryStore) -> None:
    store.swap([Swap("schedules", maintenance.PROBE, {"text": "left behind"}, 0)])
    maintenance.try_write(store)
    assert store.read_table("schedules") == {}


def test_a_test_write_raises_the_error_of_the_store(overtaken: Overtaken) -> None:
    def refuse(*_: object) -> bool:
        raise StoreUnavailable("the disk is full")

    overtaken.replace("swap", refuse)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        maintenance.try_write(overtaken)  # type: ignore[arg-type]
