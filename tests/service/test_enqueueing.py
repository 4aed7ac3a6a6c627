"""Adding jobs: with parents, in batches, and while other processes change the parents."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from factories import NOW, new_job
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Parent, State, Want
from queuectl.domain.query import Filter
from queuectl.errors import Conflict, InvalidInput, NotFound
from queuectl.service import commands, enqueueing, maintenance
from queuectl.service.enqueueing import Enqueuer
from queuectl.service.request.fields import Backoff, JobRequest, Payload
from queuectl.service.request.spec import Defaults
from queuectl.store.memory import MemoryStore
from service.conftest import Overtaken, settings_of
from service.scenes import change, child, end, get, put, take


def waiting(id: str, *after: str | Parent, **fields: Any) -> Job:
    parents = tuple(Parent(item) if isinstance(item, str) else item for item in after)
    return new_job(id, after=parents, **fields)


def enqueued(store: MemoryStore, *jobs: Job) -> list[State]:
    return [item.job.state for item in enqueueing.enqueue(store, jobs)]


class TestParents:
    @pytest.mark.parametrize(
        ("parent", "on", "state"),
        [
            ("completed", "ok", "pending"),
            ("completed", "any", "pending"),
            ("completed", "failed", "cancelled"),
            ("dead", "ok", "cancelled"),
            ("dead", "any", "pending"),
            ("dead", "failed", "pending"),
            ("cancelled", "ok", "cancelled"),
            ("cancelled", "any", "pending"),
            ("cancelled", "failed", "pending"),
            ("pending", "ok", "blocked"),
            ("held", "any", "blocked"),
            ("processing", "ok", "blocked"),
            ("failed", "failed", "blocked"),
        ],
    )
    def test_the_state_of_the_parent_decides_the_first_state_of_a_child(
        self, store: MemoryStore, parent: State, on: Want, state: State
    ) -> None:
        put(store, "p", state=parent)
        assert enqueued(store, waiting("c", Parent("p", on))) == [state]

    def test_a_child_waits_until_all_parents_ended_as_wanted(self, store: MemoryStore) -> None:
        put(store, "p", state="completed")
        put(store, "q")
        assert enqueued(store, waiting("c", "p", "q")) == ["blocked"]
        assert get(store, "c").waiting_for == ("q",)

    def test_one_failed_parent_cancels_a_child_while_other_parents_run(self, store: MemoryStore) -> None:
        put(store, "p", state="dead")
        put(store, "q")
        enqueued(store, waiting("c", "q", "p"))
        assert get(store, "c").state == "cancelled"
        assert get(store, "c").last_error == "parent p ended as dead"

    def test_with_after_failure_hold_a_failed_parent_holds_the_child(self, store: MemoryStore) -> None:
        put(store, "p", state="dead")
        assert enqueued(store, waiting("c", "p", after_failure="hold")) == ["held"]

    def test_an_unknown_parent_is_refused_and_no_job_is_added(self, store: MemoryStore) -> None:
        with pytest.raises(NotFound, match="no job nobody to wait for"):
            enqueueing.enqueue(store, [new_job("a"), waiting("c", "nobody")])
        assert not store.get(["a", "c"])

    def test_a_cycle_is_refused_with_its_chain_and_no_job_is_added(self, store: MemoryStore) -> None:
        with pytest.raises(
            InvalidInput, match=r"wait for each other: (a → b → c → a|b → c → a → b|c → a → b → c)"
        ):
            enqueueing.enqueue(store, [waiting("a", "b"), waiting("b", "c"), waiting("c", "a")])
        assert not store.get(["a", "b", "c"])

    def test_a_job_cannot_be_its_own_parent(self, store: MemoryStore) -> None:
        with pytest.raises(InvalidInput, match="its own parent"):
            enqueueing.enqueue(store, [waiting("a", "a")])

    @pytest.mark.parametrize("order", ["pc", "cp"])
    def test_one_batch_may_contain_parent_and_child_in_any_order(
        self, store: MemoryStore, order: str
    ) -> None:
        jobs = {"p": new_job("p"), "c": waiting("c", "p")}
        enqueueing.enqueue(store, [jobs[id] for id in order])
        assert (get(store, "p").state, get(store, "c").state) == ("pending", "blocked")

    def test_a_child_may_name_a_parent_twice_with_different_conditions(self, store: MemoryStore) -> None:
        put(store, "p")
        assert enqueued(store, waiting("c", "p", Parent("p", "any"))) == ["blocked"]
        take(store, "p")
        end(store, "p")
        maintenance.unblock_children(store, ["p"])
        assert get(store, "c").state == "pending"

    def test_a_held_child_stays_held_and_waits_when_it_is_released(self, store: MemoryStore) -> None:
        put(store, "p")
        assert enqueued(store, waiting("c", "p", hold=True)) == ["held"]
        [released] = commands.release(store, ["c"])
        assert released.job
        assert released.job.state == "blocked"


class TestConcurrentParent:
    def test_a_parent_that_ends_between_read_and_add_unblocks_its_child(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "p", state="processing")
        overtaken.before("add", lambda: end(store, "p"))
        [added] = enqueueing.enqueue(overtaken, [waiting("c", "p")])
        assert (added.existing, added.job.state) == (False, "pending")

    def test_a_parent_that_fails_between_read_and_add_cancels_its_child(
        self, store: MemoryStore, overtaken: Overtaken
    ) -> None:
        put(store, "p", state="processing", max_retries=0)
        overtaken.before("add", lambda: end(store, "p", exit_code=1))
        [added] = enqueueing.enqueue(overtaken, [waiting("c", "p")])
        assert added.job.state == "cancelled"

    def test_a_child_that_is_cancelled_at_once_cancels_its_own_child(self, store: MemoryStore) -> None:
        put(store, "p", state="dead")
        enqueueing.enqueue(store, [waiting("c", "p"), waiting("g", "c")])
        maintenance.unblock_children(store, ["c"])
        assert (get(store, "c").state, get(store, "g").state) == ("cancelled", "cancelled")


class TestRepeatedEnqueue:
    def test_repeating_an_enqueue_finds_the_job_in_any_state(self, store: MemoryStore) -> None:
        job = new_job("a", content="x")
        enqueueing.enqueue(store, [job])
        commands.cancel(store, ["a"], by="me")
        [again] = enqueueing.enqueue(store, [job])
        assert (again.existing, again.job.state) == (True, "cancelled")
        assert again.refused is None

    def test_other_content_under_the_same_id_is_refused(self, store: MemoryStore) -> None:
        enqueueing.enqueue(store, [new_job("a", content="x")])
        [again] = enqueueing.enqueue(store, [new_job("a", content="y")])
        assert isinstance(again.refused, Conflict)

    def test_the_error_for_a_taken_unique_key_names_its_job(self, store: MemoryStore) -> None:
        enqueueing.enqueue(store, [new_job("a", unique_key="k")])
        [again] = enqueueing.enqueue(store, [new_job("b", unique_key="k")])
        refused = again.refused
        assert refused
        assert refused.message == "unique key 'k' is taken by job a (pending)"

    def test_the_error_for_a_taken_key_names_a_generated_id_by_number(self, store: MemoryStore) -> None:
        enqueueing.enqueue(store, [new_job("0" * 26, unique_key="k")])
        [again] = enqueueing.enqueue(store, [new_job("b", unique_key="k")])
        assert str(again.refused).startswith("unique key 'k' is taken by job 1 (pending)")


class TestEnqueuer:
    @pytest.fixture
    def enqueuer(self) -> Enqueuer:
        return Enqueuer(Defaults(settings_of(), "/here"), NOW)

    def test_ids_of_one_batch_are_unique_and_ascending(self, enqueuer: Enqueuer) -> None:
        ids = [enqueuer.next_id() for _ in range(1000)]
        assert ids == sorted(set(ids))
        assert {len(id) for id in ids} == {26}

    def test_the_queue_of_the_request_wins_over_the_queue_of_the_enqueuer(self) -> None:
        enqueuer = Enqueuer(Defaults(settings_of(), None), NOW, queue="mail")
        assert enqueuer.job(JobRequest(command="x")).queue == "mail"
        assert enqueuer.job(JobRequest(command="x", queue="web")).queue == "web"

    @pytest.mark.parametrize("common", [{}, {"queue": "q", "tags": ["t"], "after": ["p"], "env": {"A": "1"}}])
    def test_a_cached_spec_gives_the_same_job_as_a_spec_built_alone(
        self, enqueuer: Enqueuer, common: dict[str, Any]
    ) -> None:
        own: tuple[dict[str, Any], ...] = (
            {"command": "a"}, {"command": "b"}, {"argv": ["a"]}, {"payload": Payload("a")},
            {"command": "a", "priority": 3}, {"command": "a", "max_retries": 0},
            {"command": "a", "stdin": "in"}, {"command": "a", "delay": 5},
            {"command": "a", "hold": True}, {"command": "a", "cwd": "/srv"}, {"command": "a", "meta": {"m": 1}},
            {"command": "a", "unique_key": "k"}, {"command": "a", "backoff": Backoff(base=3)}, {"command": "b"},
        )  # fmt: skip
        asked = [JobRequest(**common | fields) for fields in own]
        alone = [Enqueuer(Defaults(settings_of(), "/here"), NOW).job(request) for request in asked]
        together = [enqueuer.job(request) for request in asked]
        assert [replace(job, id="same") for job in together] == [replace(job, id="same") for job in alone]

    def test_an_invalid_request_is_refused_although_its_spec_is_cached(self, enqueuer: Enqueuer) -> None:
        enqueuer.job(JobRequest(command="a"))
        for bad in (
            JobRequest(command=" "),
            JobRequest(),
            JobRequest(command="a", argv=["a"]),
            JobRequest(argv=[""]),
        ):
            with pytest.raises(InvalidInput):
                enqueuer.job(bad)

    def test_a_delayed_job_is_ready_after_its_delay(self, enqueuer: Enqueuer) -> None:
        assert enqueuer.job(JobRequest(command="x", delay="90s")).run_at == NOW + timedelta(seconds=90)


def test_a_thousand_children_of_one_parent_are_unblocked_together(store: MemoryStore) -> None:
    put(store, "p", state="processing")
    enqueueing.enqueue(store, [waiting(f"c{n}", "p") for n in range(1000)])
    end(store, "p")
    maintenance.unblock_children(store, ["p"])
    assert store.counts(Filter()).states() == {"completed": 1, "pending": 1000}


def test_a_grandchild_waits_for_its_own_parent_only(store: MemoryStore) -> None:
    put(store, "p", state="processing")
    child(store, "c", "p")
    child(store, "g", "c")
    end(store, "p")
    maintenance.unblock_children(store, ["p"])
    assert (get(store, "c").state, get(store, "g").state) == ("pending", "blocked")
    take(store, "c")
    change(store, lifecycle.note_start(get(store, "c"), slot=0, pid=9, started_at=NOW, now=NOW))
    assert get(store, "g").state == "blocked"
