"""MongoDB's counts of ended jobs are exact at any time, also if a process dies or is suspended during a merge.

The tests do a merge one request at a time while jobs end, are retried and are deleted in between. No transaction
protects a merge, so an error in the algorithm (`store/mongo/ended_counts.py`) shows here.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from circles import turns
from contract.grounds import MongoGround, race
from contract.mongo_steps import Actor
from factories import LEASE, NOW, in_state, new_job, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import TERMINAL
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.mongo import description, ended_counts, purge
from servers.mongo import GivenMongo, MongoServer


def merging(base: Any) -> None:
    """Merge every changed job."""
    ended_counts.merge(base, at_least=1)


class Counted:
    """A queue whose jobs end, are retried and are deleted, and its counts."""

    def __init__(self, ground: MongoGround) -> None:
        self.ground = ground
        self.store, self.base = ground.open(durability="fast"), ground.base
        self.store.migrate()

    def dead(self, *ids: str) -> None:
        """Add jobs that have ended."""
        self.store.add([in_state("dead", id) for id in ids])

    def retry(self, *ids: str) -> None:
        """Retry these jobs if they have ended."""
        jobs = [job for job in self.store.get(ids).values() if job.ended]
        assert not jobs or set(
            statuses(self.store.save([lifecycle.retry(job, now=NOW) for job in jobs]))
        ) == {"accepted"}

    def cancel(self, *ids: str) -> None:
        """Cancel these jobs if they have not ended."""
        jobs = [job for job in self.store.get(ids).values() if not job.ended]
        ended = [lifecycle.cancel(job, by="me", reason=None, now=NOW) for job in jobs]
        assert not jobs or set(statuses(self.store.save(ended))) == {"accepted"}

    def actor(self, work: Any = merging) -> Actor:
        """A process that does it one request at a time."""
        return Actor(self.base, work)

    def check(self) -> None:
        """The counts are equal to a scan of all jobs."""
        found = self.base["jobs"].find({"state": {"$in": sorted(TERMINAL)}}, {"standing": 1})
        assert ended_counts.read(self.base) == dict(Counter(document["standing"] for document in found))

    def complete(self) -> None:
        """Another process finishes what was left unfinished: then no job is changed, and nothing is left behind."""
        self.check()
        merging(self.base)
        self.check()
        assert self.base["jobs"].count_documents({"owed": True}) == 0
        assert self.base["jobs"].count_documents({"gone": True}) == 0
        assert "planned" not in (self.base["tally"].find_one() or {})
        assert not any(count for _, count in description._damage(self.base))


@pytest.fixture
def ground(mongo_ground: MongoGround) -> MongoGround:
    return mongo_ground


@pytest.fixture
def queue(ground: MongoGround) -> Counted:
    return Counted(ground)


def every_kind(queue: Counted) -> None:
    """Each kind of changed job: newly ended, retried, ended again with the same or another standing, and deleted."""
    queue.dead("counted", "retried", "other", "again", "gone", "gone too", "lived", "was counted")
    merging(queue.base)
    queue.retry("retried", "other", "again", "lived")
    queue.cancel("other", "again", "lived")
    queue.retry("again")
    purge.purge(queue.base, Filter(id_prefix="gone"), 9, None)
    queue.dead("new", "new and gone")
    purge.purge(queue.base, Filter(id_prefix="new and"), 9, None)


def steps_of_a_merge(queue: Counted) -> int:
    """The number of requests of a merge with every kind of change."""
    actor, count = queue.actor(), 1
    while actor.step():
        count += 1
    return count


def test_a_merge_counts_ended_retried_and_deleted_jobs(queue: Counted) -> None:
    every_kind(queue)
    queue.check()
    assert queue.store.counts(Filter()).states() == {"dead": 3, "cancelled": 2, "pending": 2}
    queue.complete()


def test_a_process_that_dies_between_two_steps_of_a_merge_leaves_exact_counts(ground: MongoGround) -> None:
    queue = Counted(ground)
    every_kind(queue)
    steps = steps_of_a_merge(queue)
    assert steps > 8
    for died_at in range(steps):
        ground.empty()
        every_kind(queue)
        actor = queue.actor()
        for _ in range(died_at):
            actor.step()
        actor.kill()
        queue.complete()


MEANWHILE = {
    "a retry": lambda queue: queue.retry("counted", "new", "was counted"),
    "a retry and another end": lambda queue: (queue.retry("new", "counted"), queue.cancel("new", "counted")),
    "another end": lambda queue: queue.cancel("retried", "again"),
    "a deletion": lambda queue: queue.store.purge(Filter(), 99),
    "another end and a deletion": lambda queue: (queue.cancel("retried", "again"), queue.store.purge(Filter(), 99)),
    "a merge": lambda queue: merging(queue.base),
    "a merge, a retry and a merge": lambda queue: (
        merging(queue.base), queue.retry("new", "counted", "other"), merging(queue.base)
    ),
    "a merge, an end, a deletion and a merge": lambda queue: (
        merging(queue.base), queue.cancel("retried"), queue.store.purge(Filter(), 99), merging(queue.base)
    ),
}  # fmt: skip


ALONE = ("a retry", "another end", "a deletion", "a merge", "a retry and another end")
"""Each of these is a part of another one, so `make proof` alone runs it."""


@pytest.mark.parametrize(
    "meanwhile",
    [
        *turns([name for name in MEANWHILE if name not in ALONE], 3),
        *(pytest.param(name, marks=pytest.mark.proof) for name in ALONE),
    ],
)
def test_the_counts_are_exact_for_any_change_between_two_steps_of_a_merge(
    ground: MongoGround, meanwhile: str
) -> None:
    queue = Counted(ground)
    every_kind(queue)
    for held_up_at in range(steps_of_a_merge(queue)):
        ground.empty()
        every_kind(queue)
        actor = queue.actor()
        for _ in range(held_up_at):
            actor.step()
        MEANWHILE[meanwhile](queue)
        queue.check()
        while actor.step():
            queue.check()
        queue.complete()


def test_a_late_process_removes_no_job_that_a_later_merge_has_counted(queue: Counted) -> None:
    """The process read a job that had been retried; meanwhile this job ended, was counted, and was deleted."""
    queue.dead("a", "b")
    merging(queue.base)
    queue.retry("a")
    late = queue.actor().until("jobs.delete_many")
    merging(queue.base)
    queue.cancel("a")
    crashed = queue.actor().until("tally.update_one")
    crashed.step()
    crashed.kill()
    deleter = queue.actor(lambda base: purge.purge(base, Filter(id_prefix="a"), 1, None)).until(
        "output.delete_many"
    )
    deleter.kill()
    queue.check()
    late.finish()
    queue.complete()


def test_a_late_process_changes_no_mark_of_a_later_merge(queue: Counted) -> None:
    queue.dead("a", "b")
    late = queue.actor().until("jobs.update_many")
    merging(queue.base)
    queue.retry("a")
    merging(queue.base)
    before = list(queue.base["jobs"].find())
    late.finish()
    assert list(queue.base["jobs"].find()) == before
    queue.complete()


def test_a_late_process_removes_no_later_plan(queue: Counted) -> None:
    queue.dead("a", "b")
    late = queue.actor().until("jobs.update_many")
    late.step()
    merging(queue.base)
    queue.retry("a")
    crashed = queue.actor().until("jobs.update_many")
    crashed.kill()
    late.step()
    assert "planned" in (queue.base["tally"].find_one() or {})
    late.finish()
    queue.complete()


def test_of_two_concurrent_merges_one_plans(queue: Counted) -> None:
    queue.dead("a", "b")
    first, second = queue.actor().until("tally.update_one"), queue.actor().until("tally.update_one")
    first.step()
    queue.check()
    second.step()
    queue.check()
    assert second.next is None
    first.finish()
    assert (queue.base["tally"].find_one() or {})["fold"] == 1
    queue.complete()


def test_a_read_during_a_merge_is_repeated(queue: Counted) -> None:
    queue.dead("a", "b", "c")
    counting = Actor(queue.base, ended_counts.read).until("jobs.find")
    merging(queue.base)
    assert counting.finish() == {"dead default": 3}


def test_a_read_fails_if_merges_never_stop(queue: Counted) -> None:
    queue.dead("a")
    counting = Actor(queue.base, ended_counts.read)
    with pytest.raises(StoreUnavailable, match="change all the time"):
        while counting.step() or counting.finish():
            queue.base["tally"].update_one({}, {"$inc": {"fold": 1}})


def test_missing_totals_are_not_replaced_by_zeros(queue: Counted) -> None:
    queue.dead("a")
    queue.base["tally"].delete_many({})
    with pytest.raises(StoreUnusable, match="the counts of ended jobs are gone"):
        queue.store.counts(Filter())


def test_the_output_of_a_deleted_job_is_deleted_although_the_process_dies(queue: Counted) -> None:
    queue.store.add([new_job("a")])
    [job] = queue.store.claim("w1", (), 1, LEASE)
    queue.store.write_output([Chunk("a", job.attempt_id or "", 1, 0, NOW, 0, b"x")])
    ended = lifecycle.give_back(lifecycle.cancel(job, by="me", reason=None, now=NOW), now=NOW)
    assert statuses(queue.store.save([ended])) == ["accepted"]
    deleter = queue.actor(lambda base: purge.purge(base, Filter(), 1, None)).until("output.delete_many")
    deleter.kill()
    assert queue.base["output"].count_documents({}) == 1
    queue.complete()
    assert queue.base["output"].count_documents({}) == 0


def test_a_late_deletion_reports_only_the_jobs_that_it_deleted(queue: Counted) -> None:
    queue.dead("a", "b", "c")
    late = queue.actor(lambda base: purge.purge(base, Filter(), 9, None)).until("jobs.update_many")
    queue.retry("b")
    queue.store.purge(Filter(id_prefix="c"), 1)
    assert late.finish() == ["a"]
    queue.complete()


def test_concurrent_merges_and_deletions_agree(ground: MongoGround) -> None:
    queue = Counted(ground)
    handles = [ground.open() for _ in range(4)]
    jobs = [[f"{n}-{i}" for i in range(40)] for n in range(4)]

    def work(place: int) -> None:
        store, base = handles[place], ground.base
        store.add([in_state("dead", id, queue=f"q{place % 2}") for id in jobs[place]])
        for start in range(0, 40, 10):
            some = store.get(jobs[place][start : start + 10])
            store.save([lifecycle.retry(job, now=NOW) for job in some.values()])
            merging(base)
            again = store.get(list(some))
            store.save([lifecycle.cancel(job, by="me", reason=None, now=NOW) for job in again.values()])
            merging(base)
            store.purge(Filter(queue=f"q{place % 2}"), 7)

    race(*[lambda p=place: work(p) for place in range(4)])
    queue.complete()
    total = sum(ended_counts.read(ground.base).values())
    assert total == queue.store.counts(Filter()).total()


IDS = ("a", "b", "c")
HAPPENING = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 2), st.integers(1, 6)),
        st.tuples(st.sampled_from(("merge", "purge")), st.integers(0, 2), st.sampled_from(IDS)),
        st.tuples(st.just("kill"), st.integers(0, 2), st.just(0)),
        st.tuples(st.sampled_from(("retry", "cancel", "dead")), st.just(0), st.sampled_from(IDS)),
    ),
    min_size=8,
    max_size=30,
)


@given(HAPPENING)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_counts_are_exact_in_any_order_of_events(one_for_all: Counted, happening: Any) -> None:
    queue = one_for_all
    queue.ground.empty()
    actors: dict[int, Actor] = {}
    try:
        for what, place, detail in happening:
            happen(queue, actors, what, place, detail)
            queue.check()
    finally:
        for actor in actors.values():
            actor.kill()
    queue.complete()


def happen(queue: Counted, actors: dict[int, Actor], what: str, place: int, detail: Any) -> None:
    """One thing of those that may come in any order."""
    actor = actors.get(place)
    if what == "step" and actor is not None:
        for _ in range(detail):
            actor.step()
            queue.check()
        assert actor.error is None
    elif what == "kill" and actor is not None:
        actor.kill()
    elif what == "merge" and (actor is None or actor.next is None):
        actors[place] = queue.actor()
    elif what == "purge" and (actor is None or actor.next is None):
        actors[place] = queue.actor(lambda base: purge.purge(base, Filter(id_prefix=detail), 1, None))
    elif what == "dead":
        queue.dead(detail)
    elif what in ("retry", "cancel"):
        getattr(queue, what)(detail)


@pytest.fixture(scope="module")
def one_for_all(mongo_server: MongoServer | GivenMongo) -> Iterator[Counted]:
    """A queue that many short examples share."""
    ground = MongoGround(mongo_server)
    yield Counted(ground)
    ground.close()
