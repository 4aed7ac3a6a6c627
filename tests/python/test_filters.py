"""`where=`: the jobs that match a filter, listed and changed from Python."""

import pytest

from queuectl import InvalidInput, Queue


@pytest.fixture
def some(queue: Queue) -> Queue:
    for id, name in (("a", "mail"), ("b", "mail"), ("c", "web")):
        queue.enqueue(f"echo {id}", id=id, queue=name)
    return queue


def test_jobs_that_match_are_listed(some: Queue) -> None:
    assert [job.id for job in some.list(where="queue:mail")] == ["b", "a"]
    assert [job.id for job in some.list(where="cmd:~ECHO", queue="mail", state="pending", since="1h")] == [
        "b",
        "a",
    ]
    assert [job.id for job in some.list(where="-queue:mail", limit=None, sort="number")] == ["c"]
    with pytest.raises(InvalidInput, match="the filter is empty"):
        some.list(where="")


def test_jobs_that_match_are_changed_in_the_order_of_their_numbers(some: Queue) -> None:
    assert [change.job.id for change in some.hold(where="queue:mail") if change.job] == ["a", "b"]
    assert [change.id for change in some.release(where="state:held", limit=1)] == ["a"]
    assert [change.id for change in some.edit(where="cmd:~echo", priority=3)] == ["a", "b", "c"]
    assert [change.id for change in some.cancel(where="queue:web")] == ["c"]
    assert [change.id for change in some.retry(where="state:cancelled")] == ["c"]
    some.cancel(["a", "b"])
    assert [change.id for change in some.delete(where="queue:mail")] == ["a", "b"]
    assert [job.id for job in some.list()] == ["c"]


def test_wrong_selections_are_refused(some: Queue) -> None:
    with pytest.raises(InvalidInput, match="either jobs or where"):
        some.cancel(["a"], where="queue:mail")  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match="limit needs where"):
        some.cancel(["a"], limit=3)  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match="several jobs"):
        some.cancel("1-2")
    assert {job.state for job in some.list()} == {"pending"}


def test_a_range_in_a_list_means_its_jobs(some: Queue) -> None:
    assert [change.id for change in some.hold(["1-2"])] == ["a", "b"]
