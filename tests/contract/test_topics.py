"""The rule of `domain/topics.py` decides the topics of a change, and every store notifies by this rule.

PostgreSQL and Redis decide it in their statements. This one table of cases compares all stores with the rule.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from factories import LEASE, new_job, report
from facts import stays_quiet
from queuectl.domain import lifecycle, topics
from queuectl.domain.job import Job
from queuectl.domain.topics import CHANGES, ENDS, WORK, Topics
from queuectl.store.protocol import Store, Subscription

LATER = timedelta(hours=1)


class Case(NamedTuple):
    """One change. `change` answers the job to save, or to add (`begin` is None).

    begin  how the job stands before the change: waiting, claimed or ended
    """

    name: str
    begin: str | None
    change: Callable[[Job], Job]
    touched: Topics


def finished(job: Job, *, exit_code: int = 0) -> Job:
    now = job.updated_at
    return lifecycle.finish(job, report(exit_code=exit_code, now=now), now=now, random_number=0.5)


def failed(job: Job, *, delay: timedelta) -> Job:
    job = finished(job, exit_code=1)
    return replace(job, run_at=job.updated_at + delay)


def cancelled(job: Job) -> Job:
    return lifecycle.cancel(job, by="test", reason=None, now=job.updated_at)


CASES = (
    Case("added_due", None, lambda job: job, WORK | CHANGES),
    Case("added_held", None, lambda job: replace(job, state="held"), CHANGES),
    Case("completed", "claimed", finished, ENDS | CHANGES),
    Case("fails_and_waits", "claimed", lambda job: failed(job, delay=LATER), CHANGES),
    Case("fails_and_is_due", "claimed", lambda job: failed(job, delay=timedelta(0)), WORK | CHANGES),
    Case("given_back", "claimed", lambda job: lifecycle.give_back(job, now=job.updated_at), WORK | CHANGES),
    Case("is_to_be_cancelled", "claimed", cancelled, WORK | CHANGES),
    Case("cancelled", "waiting", cancelled, ENDS | CHANGES),
    Case("held", "waiting", lambda job: lifecycle.hold(job, now=job.updated_at), CHANGES),
    Case("delayed", "waiting", lambda job: replace(job, run_at=job.run_at + LATER), CHANGES),
    Case("released", "held", lambda job: lifecycle.release(job, now=job.updated_at), WORK | CHANGES),
    Case(
        "retried", "ended", lambda job: lifecycle.retry(job, now=job.updated_at, force=True), WORK | CHANGES
    ),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


def begun(store: Store, case: Case) -> Job:
    """The job before the change, as the store has it."""
    job = new_job("a", hold=case.begin == "held")
    if case.begin is None:
        return job
    store.add([job])
    if case.begin in ("claimed", "ended"):
        (job,) = store.claim("w1", (), 1, LEASE)
    if case.begin == "ended":
        store.save([finished(job)])
    return store.get(["a"])["a"]


@pytest.fixture
def subscriptions(store: Store) -> Iterator[dict[str, Subscription]]:
    with ExitStack() as stack:
        yield {
            topic: stack.enter_context(closing(store.subscribe(frozenset({topic}))))
            for topic in ("work", "ends", "changes")
        }


def test_the_domain_returns_the_topics_of_each_change(case: Case) -> None:
    held = {"claimed": "processing", "held": "held"}
    job = new_job("a", hold=case.begin == "held")
    if case.begin in ("claimed", "ended"):
        job = lifecycle.claim(job, attempt_id="a" * 32, worker="w1", lease=LEASE, now=job.updated_at)
        assert job.state == held["claimed"]
    if case.begin == "ended":
        job = finished(job)
    changed = case.change(job)
    assert topics.topics(changed, changed.updated_at) == case.touched


@pytest.mark.doubles
def test_every_store_notifies_by_the_rule(
    store: Store, case: Case, subscriptions: dict[str, Subscription]
) -> None:
    job = case.change(begun(store, case))
    while any(subscription.wait(0.15) for name, subscription in subscriptions.items() if name != "changes"):
        pass
    if case.begin is None:
        store.add([job])
    else:
        store.save([job])
        assert store.get(["a"])["a"].version > job.version
    for topic, subscription in subscriptions.items():
        if topic in case.touched:
            assert subscription.wait(10) is True, topic
        elif topic != "changes":
            stays_quiet(subscription.wait, 0.1)
