"""Operations change many jobs in steps, by names or by a filter, and can be stopped between two steps."""

from contextlib import closing

import pytest

from factories import NOW
from queuectl.domain.query import Filter
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import paging
from queuectl.service.local_queue import LocalQueue
from queuectl.store.memory import MemoryStore
from service.conftest import Overtaken
from service.scenes import get, put

HELD = parse("state:held", NOW)
EVERY = parse("number:>0", NOW)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "BATCH", 2)


def test_nothing_is_changed_before_the_first_step(store: MemoryStore, queue: LocalQueue) -> None:
    put(store, "a")
    operation = queue.cancel(["a"])
    assert (operation.count(), get(store, "a").state) == (1, "pending")
    assert [change.id for step in operation for change in step] == ["a"]
    assert get(store, "a").state == "cancelled"


def test_a_reference_to_no_job_is_refused_at_once(store: MemoryStore, queue: LocalQueue) -> None:
    put(store, "a")
    for act in (queue.cancel, queue.retry, queue.hold, queue.release, queue.delete):
        with pytest.raises(NotFound):
            act(["a", "nobody"])


def test_a_name_that_is_given_twice_counts_once(store: MemoryStore, queue: LocalQueue) -> None:
    job = put(store, "a")
    assert queue.hold(["a", str(get(store, "a").number), job.id]).count() == 1


@pytest.mark.usefixtures("small_steps")
def test_an_operation_by_filter_can_be_stopped_between_two_steps(
    store: MemoryStore, queue: LocalQueue
) -> None:
    for n in range(5):
        put(store, f"j{n}", state="held")
    with closing(queue.release(HELD)) as operation:
        assert operation.count() == 5
        for step in operation:
            assert len(step) == 2
            break
    assert store.counts(HELD.filter).total() == 3
    assert [len(step) for step in queue.release(HELD)] == [2, 1]
    assert store.counts(HELD.filter).total() == 0


@pytest.mark.usefixtures("small_steps")
def test_no_call_reads_or_saves_more_jobs_than_one_step(
    store: MemoryStore, overtaken: Overtaken, queue: LocalQueue
) -> None:
    sizes: list[int] = []
    save = store.save
    overtaken.replace("save", lambda jobs, events: sizes.append(len(jobs)) or save(jobs, events))
    queue._store = overtaken  # type: ignore[assignment]
    for n in range(5):
        put(store, f"j{n}")
    assert sum(len(step) for step in queue.cancel(EVERY)) == 5
    assert sizes == [2, 2, 1]


def test_a_cancel_by_filter_ignores_ended_jobs(store: MemoryStore, queue: LocalQueue) -> None:
    for state in ("pending", "completed", "held", "dead"):
        put(store, state, state=state)
    changes = [change for step in queue.cancel(EVERY) for change in step]
    assert sorted(change.id for change in changes) == ["held", "pending"]
    with pytest.raises(InvalidInput, match="completed, dead have ended"):
        queue.cancel(parse("state:completed,dead", NOW))


def test_all_matching_ids_are_returned_page_by_page(store: MemoryStore, queue: LocalQueue) -> None:
    for n in range(1005):
        put(store, f"a{n}")
    assert len(set(queue.ids(Filter()))) == 1005
