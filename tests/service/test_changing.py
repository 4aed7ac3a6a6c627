"""Commands that change jobs: the new state, what is refused, and concurrent changes by other processes."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from factories import NOW, in_state
from queuectl.domain import lifecycle
from queuectl.domain.arrival import arriving
from queuectl.domain.job import STATES, Parent, State
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.domain.queue import QueueChange
from queuectl.errors import Changed, CommandFailed, Conflict, InvalidInput, NotFound
from queuectl.service import changing, commands, maintenance, matching, paging, shared_settings
from queuectl.service.changing import Change
from queuectl.service.local_queue import LocalQueue
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Entry
from service.conftest import Overtaken
from service.scenes import change, child, end, get, heartbeat, put, take

REFUSED = "refused"


def became(changes: list[Change]) -> list[str]:
    """The state of each job, or that the change was refused."""
    return [REFUSED if change.refused else change.job.state for change in changes if change.job]


class TestCancel:
    @pytest.mark.parametrize(
        ("state", "after"),
        [
            ("pending", "cancelled"),
            ("held", "cancelled"),
            ("failed", "cancelled"),
            ("processing", "processing"),
            ("cancelled", "cancelled"),
            ("completed", REFUSED),
            ("dead", REFUSED),
        ],
    )
    def test_the_state_of_a_job_decides_the_result_of_a_cancel(
        self, store: MemoryStore, state: State, after: str
    ) -> None:
        put(store, "a", state=state)
        assert became(commands.cancel(store, ["a"], by="me")) == [after]

    def test_a_running_job_is_only_marked_for_its_worker(self, store: MemoryStore) -> None:
        put(store, "a", state="processing")
        commands.cancel(store, ["a"], by="me", reason="wrong branch")
        request = get(store, "a").cancel_requested
        assert request
        assert (request.by, request.reason, request.at) == ("me", "wrong branch", NOW)
        assert end(store, "a", exit_code=1).state == "cancelled"

    def test_the_latest_reason_wins_while_the_job_runs(self, store: MemoryStore) -> None:
        put(store, "a", state="processing")
        commands.cancel(store, ["a"], by="me", reason="first")
        commands.cancel(store, ["a"], by="you", reason="second")
        request = get(store, "a").cancel_requested
        assert request
        assert (request.by, request.reason) == ("you", "second")

    def test_a_second_cancel_changes_nothing(self, store: MemoryStore) -> None:
        put(store, "a")
        commands.cancel(store, ["a"], by="me", reason="first")
        before = get(store, "a")
        commands.cancel(store, ["a"], by="you", reason="second")
        assert get(store, "a") == before

    def test_a_cancel_reaches_a_chain_of_a_thousand_blocked_jobs(self, store: MemoryStore) -> None:
        put(store, "j0")
        for n in range(1, 1001):
            child(store, f"j{n}", f"j{n - 1}")
        commands.cancel(store, ["j0"], by="me")
        assert store.counts(Filter()).states() == {"cancelled": 1001}
        assert get(store, "j1000").last_error == "parent j999 ended as cancelled"

    def test_children_that_wait_for_a_failure_start(self, store: MemoryStore) -> None:
        put(store, "p")
        child(store, "c", Parent("p", "failed"))
        commands.cancel(store, ["p"], by="me")
        assert get(store, "c").state == "pending"

    def test_a_refused_job_does_not_prevent_the_cancel_of_other_jobs(self, store: MemoryStore) -> None:
        put(store, "a", state="completed")
        put(store, "b")
        changes = commands.cancel(store, ["a", "b"], by="me")
        assert became(changes) == [REFUSED, "cancelled"]
        assert [change.id for change in changes] == ["a", "b"]

    def test_an_unknown_id_changes_nothing(self, store: MemoryStore) -> None:
        put(store, "a")
        with pytest.raises(NotFound):
            commands.cancel(store, ["a", "nobody"], by="me")
        assert get(store, "a").state == "pending"


class TestRetry:
    @pytest.mark.parametrize("state", ["dead", "cancelled", "failed"])
    def test_a_retried_job_is_ready_at_once_with_a_new_budget(self, store: MemoryStore, state: State) -> None:
        put(store, "a", state=state)
        assert became(commands.retry(store, ["a"])) == ["pending"]
        again = get(store, "a")
        assert (again.failures, again.losses, again.run_at) == (0, 0, NOW)
        assert again.finished_at is None

    def test_a_retry_continues_the_attempt_numbers(self, store: MemoryStore) -> None:
        put(store, "a", state="dead")
        commands.retry(store, ["a"])
        assert take(store, "a").attempts == 2
        assert [past.attempt for past in get(store, "a").history] == [1]

    def test_retrying_a_completed_job_needs_force(self, store: MemoryStore) -> None:
        put(store, "a", state="completed")
        assert became(commands.retry(store, ["a"])) == [REFUSED]
        assert became(commands.retry(store, ["a"], force=True)) == ["pending"]

    @pytest.mark.parametrize("state", ["pending", "processing", "held"])
    def test_retrying_an_unfinished_job_is_refused_even_with_force(
        self, store: MemoryStore, state: State
    ) -> None:
        put(store, "a", state=state)
        assert became(commands.retry(store, ["a"], force=True)) == [REFUSED]

    def test_a_retry_is_refused_while_another_job_has_the_unique_key(self, store: MemoryStore) -> None:
        put(store, "a", state="dead", unique_key="k")
        put(store, "b", unique_key="k")
        [change] = commands.retry(store, ["a"])
        assert isinstance(change.refused, Conflict)
        assert "unique key 'k'" in change.refused.message
        assert get(store, "a").state == "dead"

    def test_a_child_of_a_failed_parent_is_retried_only_with_alone(self, store: MemoryStore) -> None:
        put(store, "p")
        child(store, "c", "p")
        commands.cancel(store, ["p"], by="me")
        assert became(commands.retry(store, ["c"])) == [REFUSED]
        assert became(commands.retry(store, ["c"], alone=True)) == ["pending"]
        assert get(store, "c").waiting_for == ()

    @pytest.mark.parametrize("named", [["p", "c"], ["c", "p"]])
    def test_a_retried_child_waits_for_its_retried_parent_in_any_order(
        self, store: MemoryStore, named: list[str]
    ) -> None:
        put(store, "p", state="dead")
        put(store, "c", state="dead", after=())
        spec = replace(get(store, "c").spec, after=(Parent("p"),))
        store._jobs["c"] = replace(get(store, "c"), spec=spec)
        changes = commands.retry(store, named)
        assert [change.id for change in changes] == named
        assert (get(store, "p").state, get(store, "c").state) == ("pending", "blocked")
        take(store, "p")
        end(store, "p")
        maintenance.unblock_children(store, ["p"])
        assert get(store, "c").state == "pending"

    def test_retrying_a_parent_restores_its_whole_chain_of_children(self, store: MemoryStore) -> None:
        put(store, "p", state="processing", max_retries=0)
        chain = ["p", "c", "g", "h"]
        for parent, id in pairwise(chain):
            child(store, id, parent)
        child(store, "by_hand", "p")
        commands.cancel(store, ["by_hand"], by="me")
        end(store, "p", exit_code=1)
        maintenance.unblock_children(store, ["p"])
        assert [get(store, id).cause for id in chain[1:]] == ["parent"] * 3
        changes = commands.retry(store, ["p"])
        assert [(change.id, change.state, change.revived) for change in changes] == [
            ("p", "pending", False),
            ("c", "blocked", True),
            ("g", "blocked", True),
            ("h", "blocked", True),
        ]
        assert get(store, "by_hand").state == "cancelled"
        for id in chain:
            take(store, id)
            end(store, id)
            maintenance.unblock_children(store, [id])
        assert [get(store, id).state for id in chain] == ["completed"] * 4

    def test_a_retry_stopped_between_two_steps_still_restores_all_children(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paging, "BATCH", 2)
        put(store, "p")
        for n in range(5):
            child(store, f"c{n}", "p")
        commands.cancel(store, ["p"], by="me")
        steps = commands.retry_in_steps(store, ["p"])
        assert became(next(steps)) == ["pending"]
        steps.close()
        assert store.counts(Filter()).states() == {"pending": 1, "blocked": 5}

    def test_a_retry_with_alone_leaves_the_children_cancelled(self, store: MemoryStore) -> None:
        put(store, "p")
        child(store, "c", "p")
        commands.cancel(store, ["p"], by="me")
        assert became(commands.retry(store, ["p"], alone=True)) == ["pending"]
        assert get(store, "c").state == "cancelled"

    def test_a_child_whose_unique_key_is_taken_stays_cancelled_with_a_reason(
        self, store: MemoryStore
    ) -> None:
        put(store, "p")
        child(store, "c", "p", unique_key="k")
        commands.cancel(store, ["p"], by="me")
        put(store, "other", unique_key="k")
        _, change = commands.retry(store, ["p"])
        assert change.id == "c"
        assert change.refused
        assert "unique key 'k' of job c is taken by job other (pending)" in change.refused.message

    def test_a_restored_child_starts_if_its_parent_ended_meanwhile(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "p")
        child(store, "c", "p")
        commands.cancel(store, ["p"], by="me")

        def run() -> None:
            take(store, "p")
            end(store, "p")
            maintenance.unblock_children(store, ["p"])

        overtaken.before("save", lambda: None, run)
        commands.retry(overtaken, ["p"])
        assert get(store, "c").state == "pending"


class TestHoldAndRelease:
    @pytest.mark.parametrize("state", ["pending", "failed"])
    def test_a_waiting_job_is_held_and_becomes_pending_when_released(
        self, store: MemoryStore, state: State
    ) -> None:
        put(store, "a", state=state)
        assert became(commands.hold(store, ["a"])) == ["held"]
        assert became(commands.release(store, ["a"])) == ["pending"]

    @pytest.mark.parametrize("state", ["processing", "completed", "dead", "cancelled"])
    def test_jobs_in_other_states_cannot_be_held(self, store: MemoryStore, state: State) -> None:
        put(store, "a", state=state)
        assert became(commands.hold(store, ["a"])) == [REFUSED]

    @pytest.mark.parametrize("state", sorted(set(STATES) - {"held", "blocked"}))
    def test_only_held_jobs_can_be_released(self, store: MemoryStore, state: State) -> None:
        put(store, "a", state=state)
        assert became(commands.release(store, ["a"])) == [REFUSED]

    def test_a_job_that_an_import_has_not_finished_is_not_released(self, store: MemoryStore) -> None:
        store.add([arriving(in_state("completed", "a"))])
        assert became(commands.release(store, ["a"])) == [REFUSED]
        assert became(commands.release(store, ["a"], anyway=True)) == [REFUSED]
        assert became(commands.cancel(store, ["a"], by="eve")) == ["cancelled"]

    def test_a_held_child_is_blocked_again_when_released(self, store: MemoryStore) -> None:
        put(store, "p")
        child(store, "c", "p")
        assert became(commands.hold(store, ["c"])) == ["held"]
        assert became(commands.release(store, ["c"])) == ["blocked"]

    def test_a_released_child_does_not_wait_for_a_parent_that_has_ended(self, store: MemoryStore) -> None:
        put(store, "p", state="processing")
        child(store, "c", "p")
        commands.hold(store, ["c"])
        end(store, "p")
        maintenance.unblock_children(store, ["p"])
        assert (get(store, "c").state, get(store, "c").waiting_for) == ("held", ())
        commands.delete(store, ["p"])
        assert became(commands.release(store, ["c"])) == ["pending"]

    def test_a_purge_of_a_parent_unblocks_its_held_children_first(self, store: MemoryStore) -> None:
        put(store, "p", state="processing")
        child(store, "c", "p")
        commands.hold(store, ["c"])
        end(store, "p")
        commands.purge(store, Filter(states=frozenset(("completed",))))
        assert became(commands.release(store, ["c"])) == ["pending"]

    def test_a_child_held_by_a_failure_runs_after_its_parent_is_retried(self, store: MemoryStore) -> None:
        put(store, "p", state="processing", max_retries=0)
        child(store, "c", "p", after_failure="hold")
        for exit_code, state in ((1, "held"), (0, "pending")):
            end(store, "p", exit_code=exit_code)
            maintenance.unblock_children(store, ["p"])
            assert get(store, "c").state == state
            if exit_code:
                commands.retry(store, ["p"])
                take(store, "p")

    def test_a_held_child_of_a_failed_parent_is_released_only_with_anyway(self, store: MemoryStore) -> None:
        put(store, "p", state="processing", max_retries=0)
        child(store, "c", "p")
        child(store, "g", "c")
        commands.hold(store, ["c"])
        end(store, "p", exit_code=1)
        [change] = commands.release(store, ["c"])
        assert isinstance(change.refused, Conflict)
        assert (get(store, "c").state, get(store, "g").state) == ("held", "blocked")
        assert became(commands.release(store, ["c"], anyway=True)) == ["pending"]


class TestEdit:
    def edit(self, store: MemoryStore, **wanted: Any) -> list[str]:
        given: dict[str, Any] = {"priority": None, "run_at": None, "queue": None} | wanted
        return became(commands.edit(store, ["a"], **given))

    def test_only_the_given_fields_change(self, store: MemoryStore) -> None:
        before = put(store, "a", priority=1, queue="q")
        assert self.edit(store, priority=5) == ["pending"]
        after = get(store, "a")
        assert (after.priority, after.queue, after.run_at) == (5, "q", before.run_at)
        assert after.sort_key < before.sort_key

    def test_queue_and_time_can_be_edited(self, store: MemoryStore) -> None:
        put(store, "a")
        later = NOW + timedelta(hours=1)
        self.edit(store, run_at=later, queue="mail")
        assert (get(store, "a").run_at, get(store, "a").queue) == (later, "mail")

    def test_priority_zero_is_a_priority(self, store: MemoryStore) -> None:
        put(store, "a", priority=7)
        self.edit(store, priority=0)
        assert get(store, "a").priority == 0

    @pytest.mark.parametrize("state", ["completed", "dead", "cancelled", "processing"])
    def test_editing_a_job_in_another_state_is_refused(self, store: MemoryStore, state: State) -> None:
        put(store, "a", state=state)
        assert self.edit(store, priority=5) == [REFUSED]

    @pytest.mark.parametrize("state", ["held", "failed"])
    def test_editing_a_job_that_has_not_started_keeps_its_state(
        self, store: MemoryStore, state: State
    ) -> None:
        before = put(store, "a", state=state)
        assert self.edit(store, priority=5, queue="mail") == [state]
        after = get(store, "a")
        assert (after.priority, after.queue, after.run_at) == (5, "mail", before.run_at)
        assert after.cause == before.cause

    def test_an_invalid_queue_name_is_refused(self, store: MemoryStore) -> None:
        put(store, "a")
        with pytest.raises(InvalidInput):
            self.edit(store, queue="a,b")


class TestDelete:
    @pytest.mark.parametrize("state", ["completed", "dead", "cancelled"])
    def test_an_ended_job_is_deleted_with_its_output(self, store: MemoryStore, state: State) -> None:
        put(store, "a", state="processing", max_retries=0)
        store.write_output([Chunk("a", "a-1", 1, 0, NOW, 0, b"x")])
        end(store, "a", exit_code=0 if state == "completed" else 1)
        assert not commands.delete(store, ["a"])[0].refused
        assert not store.get(["a"])
        assert store.read_output("a-1", 0) == []

    @pytest.mark.parametrize("state", ["pending", "processing", "failed", "held"])
    def test_deleting_an_unfinished_job_is_refused_with_a_hint(
        self, store: MemoryStore, state: State
    ) -> None:
        put(store, "a", state=state)
        [change] = commands.delete(store, ["a"])
        assert change.refused
        assert change.refused.hint == "queuectl cancel a"
        assert store.get(["a"])

    def test_jobs_whose_ids_begin_with_the_same_text_are_not_deleted(self, store: MemoryStore) -> None:
        for id in ("a", "ab", "abc"):
            put(store, id, state="completed")
        commands.delete(store, ["a"])
        assert set(store.get(["a", "ab", "abc"])) == {"ab", "abc"}

    def test_children_are_unblocked_before_their_parent_is_deleted(self, store: MemoryStore) -> None:
        put(store, "p", state="processing")
        child(store, "c", "p")
        end(store, "p")
        commands.delete(store, ["p"])
        assert get(store, "c").state == "pending"

    def test_a_job_that_is_retried_meanwhile_is_not_reported_as_deleted(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "a", state="dead")
        overtaken.before("purge", lambda: commands.retry(store, ["a"]))
        [change] = commands.delete(overtaken, ["a"])
        assert isinstance(change.refused, Conflict)
        assert get(store, "a").state == "pending"


class TestPurge:
    def test_a_purge_deletes_all_matching_jobs_in_several_steps(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paging, "BATCH", 3)
        for n in range(10):
            put(store, f"c{n}", state="completed")
        put(store, "d", state="dead")
        assert commands.purge(store, Filter(states=frozenset(("completed",)))) == 10
        assert store.counts(Filter()).states() == {"dead": 1}

    def test_a_purge_never_deletes_unfinished_jobs(self, store: MemoryStore) -> None:
        put(store, "a")
        assert commands.purge(store, Filter()) == 0


class TestSelect:
    def test_every_match_is_returned_once_page_by_page(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paging, "BATCH", 4)
        for n in range(10):
            put(store, f"a{n}", queue="mail" if n % 2 else "web")
        pages = list(matching.select(store, Filter()))
        assert [len(page) for page in pages] == [4, 4, 2]
        assert {id for page in pages for id in page} == {f"a{n}" for n in range(10)}
        assert [id for page in matching.select(store, Filter(queue="web")) for id in page] == [
            "a8",
            "a6",
            "a4",
            "a2",
            "a0",
        ]

    def test_a_filter_without_a_match_selects_nothing(self, store: MemoryStore) -> None:
        assert list(matching.select(store, Filter())) == []


class TestConcurrentChange:
    """Another process changes the job between the read and the save."""

    def test_the_change_is_repeated_on_the_new_version_of_the_job(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "a")
        overtaken.before("save", lambda: commands.hold(store, ["a"]))
        assert became(commands.cancel(overtaken, ["a"], by="me")) == ["cancelled"]
        assert overtaken.calls["save"] == 2

    def test_the_change_is_refused_if_the_new_version_does_not_allow_it(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "a")
        overtaken.before("save", lambda: take(store, "a"))
        [change] = commands.edit(overtaken, ["a"], priority=3, run_at=None, queue=None)
        assert isinstance(change.refused, Conflict)
        assert get(store, "a").state == "processing"

    def test_the_change_is_repeated_only_for_the_job_that_changed(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "a")
        put(store, "b")
        overtaken.before("save", lambda: commands.hold(store, ["a"]))
        seen: list[str] = []

        def rule(job: Any, now: Any, parents: Any) -> Any:
            seen.append(job.id)
            return lifecycle.cancel(job, by="me", reason=None, now=now)

        changing.change(overtaken, ["a", "b"], rule)
        assert seen == ["a", "b", "a"]

    def test_a_change_fails_if_other_processes_always_save_first(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "a")
        others = [lambda: change(store, get(store, "a"))] * changing.TRIES
        overtaken.before("save", *others)
        with pytest.raises(CommandFailed, match="too fast"):
            commands.hold(overtaken, ["a"])
        assert overtaken.calls["save"] == changing.TRIES

    def test_a_job_deleted_meanwhile_is_refused_and_other_jobs_are_changed(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "a", state="dead")
        put(store, "b", state="dead")
        overtaken.before("save", lambda: commands.delete(store, ["a"]))
        gone, retried = commands.retry(overtaken, ["a", "b"])
        assert isinstance(gone.refused, NotFound)
        assert retried.job
        assert retried.job.state == "pending"


class TestQueues:
    def test_pausing_or_resuming_twice_reports_that_nothing_changed(self, store: MemoryStore) -> None:
        assert [
            commands.change_queue(store, "q", QueueChange(paused=True)),
            commands.change_queue(store, "q", QueueChange(paused=True)),
        ] == [True, False]
        assert [
            commands.change_queue(store, "q", QueueChange(paused=False)),
            commands.change_queue(store, "q", QueueChange(paused=False)),
        ] == [True, False]

    def test_the_limit_and_the_pause_do_not_overwrite_each_other(self, store: MemoryStore) -> None:
        commands.change_queue(store, "q", QueueChange(limit=2))
        commands.change_queue(store, "q", QueueChange(paused=True))
        commands.change_queue(store, "q", QueueChange(paused=False))
        assert store.read_table("queues")["q"].value == {"paused": False, "limit": 2}
        commands.change_queue(store, "q", QueueChange(limit=None))
        assert store.read_table("queues")["q"].value == {"paused": False, "limit": None}

    def test_the_reason_is_stored_with_the_pause_and_removed_by_the_resume(self, store: MemoryStore) -> None:
        commands.change_queue(store, "q", QueueChange(paused=True, reason="disk full"))
        assert not commands.change_queue(store, "q", QueueChange(paused=True))
        assert store.read_table("queues")["q"].value == {"paused": True, "limit": None, "reason": "disk full"}
        assert commands.change_queue(store, "q", QueueChange(paused=True, reason="replaced"))
        commands.change_queue(store, "q", QueueChange(paused=False))
        assert store.read_table("queues")["q"].value == {"paused": False, "limit": None}

    @pytest.mark.parametrize(
        "wanted",
        [
            QueueChange(reason="without a pause"),
            QueueChange(paused=False, reason="x"),
            QueueChange(paused=True, reason="x" * 10_001),
            QueueChange(paused=True, reason="\0"),
            QueueChange(paused=True, reason="\udc80"),
        ],
    )
    def test_a_reason_that_is_none_is_refused(self, store: MemoryStore, wanted: QueueChange) -> None:
        with pytest.raises(InvalidInput, match="reason"):
            commands.change_queue(store, "q", wanted)
        assert store.read_table("queues") == {}

    def test_a_queue_with_another_version_is_not_changed(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        commands.change_queue(store, "q", QueueChange(limit=3), version=0)
        with pytest.raises(Changed, match="version 1, not 0"):
            commands.change_queue(store, "q", QueueChange(limit=4), version=0)
        overtaken.before("swap", lambda: commands.change_queue(store, "q", QueueChange(limit=5)))
        with pytest.raises(Changed, match="version 2, not 1"):
            commands.change_queue(overtaken, "q", QueueChange(paused=True), version=1)
        assert store.read_table("queues")["q"].value == {"paused": False, "limit": 5}

    @pytest.mark.parametrize("at_most", [0, -1, 1_000_001])
    def test_a_limit_out_of_range_is_refused(self, store: MemoryStore, at_most: int) -> None:
        with pytest.raises(InvalidInput, match="out of range"):
            commands.change_queue(store, "q", QueueChange(limit=at_most))

    def test_a_pause_keeps_a_limit_that_is_set_at_the_same_moment(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        overtaken.before("swap", lambda: commands.change_queue(store, "q", QueueChange(limit=3)))
        assert commands.change_queue(overtaken, "q", QueueChange(paused=True))
        assert store.read_table("queues")["q"].value == {"paused": True, "limit": 3}

    def test_a_pause_fails_if_other_processes_always_save_first(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        limits = iter(range(1, 1000))
        overtaken.before(
            "swap",
            *[lambda: commands.change_queue(store, "q", QueueChange(limit=next(limits)))] * changing.TRIES,
        )
        with pytest.raises(CommandFailed, match="change queue"):
            commands.change_queue(overtaken, "q", QueueChange(paused=True))


class TestSettings:
    def test_a_shared_setting_is_written_replaced_and_removed(self, store: MemoryStore) -> None:
        shared_settings.write(store, "lease", "1m")
        shared_settings.write(store, "lease", "2m")
        assert store.read_table("settings")["lease"] == Entry({"value": "2m"}, 2)
        shared_settings.write(store, "lease", None)
        shared_settings.write(store, "lease", None)
        assert "lease" not in store.read_table("settings")

    def test_the_later_of_two_writers_wins(self, store: MemoryStore, overtaken: Overtaken) -> None:
        overtaken.before("swap", lambda: shared_settings.write(store, "lease", "1m"))
        shared_settings.write(overtaken, "lease", "2m")
        assert store.read_table("settings")["lease"].value == {"value": "2m"}

    def test_two_processes_can_remove_a_setting_at_the_same_moment(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        shared_settings.write(store, "lease", "1m")
        overtaken.before("swap", lambda: shared_settings.write(store, "lease", None))
        shared_settings.write(overtaken, "lease", None)
        assert "lease" not in store.read_table("settings")

    def test_writing_a_setting_fails_if_others_always_save_first(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        overtaken.before("swap", *[lambda: shared_settings.write(store, "lease", "1m")] * changing.TRIES)
        with pytest.raises(CommandFailed, match="lease is being changed"):
            shared_settings.write(overtaken, "lease", "2m")


def test_a_worker_receives_an_instruction_with_its_next_heartbeat(
    store: MemoryStore, queue: LocalQueue
) -> None:
    worker = heartbeat(store, "w1")
    queue.stop([worker.id])
    assert store.heartbeat(worker) == "drain"
