"""An operation on many jobs that is killed in the middle, and repeated."""

import signal

import pytest

from e2e.harness import Place
from facts import eventually
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page


@pytest.mark.parametrize(("verb", "state"), [("cancel", "cancelled"), ("hold", "held")])
def test_a_killed_operation_repeated_changes_exactly_the_jobs_that_match(
    place: Place, verb: str, state: str, thorough: bool
) -> None:
    count = 50_000 if thorough else 3000
    place.run("enqueue", "--queue", "mail", "--delay", "1h", "-", input="true\n" * count)
    place.run("enqueue", "--queue", "web", "--delay", "1h", "-", input="true\n" * 100)
    words = (verb, "--where", "queue:mail state:pending", "--yes", "-q")
    killed = place.invoke(*words, QUEUECTL_CRASH_AT="after_step:2")
    assert killed.returncode == -signal.SIGKILL
    assert place.store.counts(Filter(queue="mail")).states() == {"pending": count - 1000, state: 1000}
    place.run(*words)
    assert place.store.counts(Filter(queue="mail")).states() == {state: count}
    assert place.store.counts(Filter(queue="web")).states() == {"pending": 100}


def test_a_killed_worker_is_replaced_in_the_middle_of_an_operation(place: Place) -> None:
    """Its last step is done again after the lease, and changes no job twice; only the counts miss that step."""
    place.run("enqueue", "--queue", "mail", "--delay", "1h", "-", input="true\n" * 3000)
    words = ("hold", "--where", "queue:mail state:pending", "--background", "--yes")
    id = place.run(*words).strip()
    first = place.start_worker(QUEUECTL_CRASH_AT="after_step:3")
    eventually(lambda: place.store.counts(Filter(states=frozenset(("held",)))).total() == 1500)
    first.kill()
    place.start_worker()
    eventually(lambda: place.json("operation", "show", id)["operation"]["state"] == "done", within=40)
    found = place.json("operation", "show", id)["operation"]
    assert (found["matched"], found["changed"], found["refused_count"]) == (2500, 2500, 0)
    assert place.store.counts(Filter()).states() == {"held": 3000}
    jobs = [job for after in (None, "1000", "2000") for job in _page(place, after)]
    assert {(len(jobs), job.version) for job in jobs} == {(3000, 2)}


def _page(place: Place, after: str | None) -> list[Job]:
    return place.store.find(Filter(), Page(limit=1000, sort="number", after=after)).jobs
