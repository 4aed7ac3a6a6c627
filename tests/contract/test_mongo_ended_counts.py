"""The ledger of what has ended in MongoDB: exact at every moment, whoever dies or is held up in the middle of a fold.

A fold is done one request at a time, by hand, while jobs end, rise again and are deleted in between. There are no
transactions that would help it, so this is where a fault would be.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.grounds import MongoGround, race
from contract.mongo_steps import Actor
from factories import LEASE, NOW, in_state, new_job
from queuectl.domain import lifecycle
from queuectl.domain.job import TERMINAL
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.mongo import description, ended_counts, purge
from servers.mongo import GivenMongo, MongoServer


def folding(base: Any) -> None:
    """Fold whatever there is."""
    ended_counts.merge(base, at_least=1)


class Books:
    """A queue whose jobs end, rise and are deleted, and what its ledger says of that."""

    def __init__(self, ground: MongoGround) -> None:
        self.ground = ground
        self.store, self.base = ground.open(durability="fast"), ground.base
        self.store.migrate()

    def dead(self, *ids: str) -> None:
        """New ones that have ended."""
        self.store.add([in_state("dead", id) for id in ids])

    def retry(self, *ids: str) -> None:
        """These live again, if they have ended."""
        jobs = [job for job in self.store.get(ids).values() if job.ended]
        assert not jobs or set(self.store.save([lifecycle.retry(job, now=NOW) for job in jobs])) == {
            "accepted"
        }

    def cancel(self, *ids: str) -> None:
        """These end, if they live."""
        jobs = [job for job in self.store.get(ids).values() if not job.ended]
        ended = [lifecycle.cancel(job, by="me", reason=None, now=NOW) for job in jobs]
        assert not jobs or set(self.store.save(ended)) == {"accepted"}

    def actor(self, work: Any = folding) -> Actor:
        """Somebody who does it step by step."""
        return Actor(self.base, work)

    def check(self) -> None:
        """What the ledger says is so."""
        found = self.base["jobs"].find({"state": {"$in": sorted(TERMINAL)}}, {"standing": 1})
        assert ended_counts.read(self.base) == dict(Counter(document["standing"] for document in found))

    def settle(self) -> None:
        """Another one comes, and finishes what was left unfinished: nothing is owed then, and nothing left behind."""
        self.check()
        folding(self.base)
        self.check()
        assert self.base["jobs"].count_documents({"owed": True}) == 0
        assert self.base["jobs"].count_documents({"gone": True}) == 0
        assert "planned" not in (self.base["tally"].find_one() or {})
        assert not any(count for _, count in description._damage(self.base))


@pytest.fixture
def ground(mongo_server: MongoServer | GivenMongo) -> Iterator[MongoGround]:
    ground = MongoGround(mongo_server)
    yield ground
    ground.close()


@pytest.fixture
def books(ground: MongoGround) -> Books:
    return Books(ground)


def every_kind(books: Books) -> None:
    """Of each kind of job that a fold may find: newly ended, risen, ended anew, alike and differently, and deleted."""
    books.dead("told", "risen", "other", "again", "gone", "gone too", "lived", "was told")
    folding(books.base)
    books.retry("risen", "other", "again", "lived")
    books.cancel("other", "again", "lived")
    books.retry("again")
    purge.purge(books.base, Filter(id_prefix="gone"), 9, None)
    books.dead("new", "new and gone")
    purge.purge(books.base, Filter(id_prefix="new and"), 9, None)


def steps_of_a_fold(books: Books) -> int:
    """How many requests a fold of all that takes."""
    actor, count = books.actor(), 1
    while actor.step():
        count += 1
    return count


def test_a_fold_brings_in_what_has_ended_risen_and_gone(books: Books) -> None:
    every_kind(books)
    books.check()
    assert books.store.counts(Filter()).states() == {"dead": 3, "cancelled": 2, "pending": 2}
    books.settle()


def test_who_dies_between_two_steps_of_a_fold_leaves_exact_counts(ground: MongoGround) -> None:
    books = Books(ground)
    every_kind(books)
    steps = steps_of_a_fold(books)
    assert steps > 8
    for died_at in range(steps):
        ground.empty()
        every_kind(books)
        actor = books.actor()
        for _ in range(died_at):
            actor.step()
        actor.kill()
        books.settle()


MEANWHILE = {
    "a retry": lambda books: books.retry("told", "new", "was told"),
    "a retry and another end": lambda books: (books.retry("new", "told"), books.cancel("new", "told")),
    "another end": lambda books: books.cancel("risen", "again"),
    "a deletion": lambda books: books.store.purge(Filter(), 99),
    "another end and a deletion": lambda books: (books.cancel("risen", "again"), books.store.purge(Filter(), 99)),
    "a fold": lambda books: folding(books.base),
    "a fold, a retry and a fold": lambda books: (
        folding(books.base), books.retry("new", "told", "other"), folding(books.base)
    ),
    "a fold, an end, a deletion and a fold": lambda books: (
        folding(books.base), books.cancel("risen"), books.store.purge(Filter(), 99), folding(books.base)
    ),
}  # fmt: skip


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_whatever_happens_between_two_steps_of_a_fold_the_counts_are_exact(
    ground: MongoGround, meanwhile: str
) -> None:
    books = Books(ground)
    every_kind(books)
    for held_up_at in range(steps_of_a_fold(books)):
        ground.empty()
        every_kind(books)
        actor = books.actor()
        for _ in range(held_up_at):
            actor.step()
        MEANWHILE[meanwhile](books)
        books.check()
        while actor.step():
            books.check()
        books.settle()


def test_who_was_held_up_takes_away_no_job_that_a_later_fold_has_counted(books: Books) -> None:
    """It looked at a job that lived again; by now that has ended, is counted, and was deleted."""
    books.dead("a", "b")
    folding(books.base)
    books.retry("a")
    late = books.actor().until("jobs.delete_many")
    folding(books.base)
    books.cancel("a")
    crashed = books.actor().until("tally.update_one")
    crashed.step()
    crashed.kill()
    deleter = books.actor(lambda base: purge.purge(base, Filter(id_prefix="a"), 1, None)).until(
        "output.delete_many"
    )
    deleter.kill()
    books.check()
    late.finish()
    books.settle()


def test_who_was_held_up_tells_no_job_what_a_later_fold_has_told_anew(books: Books) -> None:
    books.dead("a", "b")
    late = books.actor().until("jobs.update_many")
    folding(books.base)
    books.retry("a")
    folding(books.base)
    before = list(books.base["jobs"].find())
    late.finish()
    assert list(books.base["jobs"].find()) == before
    books.settle()


def test_who_was_held_up_strikes_out_no_later_plan(books: Books) -> None:
    books.dead("a", "b")
    late = books.actor().until("jobs.update_many")
    late.step()
    folding(books.base)
    books.retry("a")
    crashed = books.actor().until("jobs.update_many")
    crashed.kill()
    late.step()
    assert "planned" in (books.base["tally"].find_one() or {})
    late.finish()
    books.settle()


def test_of_two_who_plan_at_once_one_does(books: Books) -> None:
    books.dead("a", "b")
    first, second = books.actor().until("tally.update_one"), books.actor().until("tally.update_one")
    first.step()
    books.check()
    second.step()
    books.check()
    assert second.next is None
    first.finish()
    assert (books.base["tally"].find_one() or {})["fold"] == 1
    books.settle()


def test_a_count_that_a_fold_runs_through_is_counted_again(books: Books) -> None:
    books.dead("a", "b", "c")
    counting = Actor(books.base, ended_counts.read).until("jobs.find")
    folding(books.base)
    assert counting.finish() == {"dead default": 3}


def test_a_count_is_given_up_where_somebody_folds_all_the_time(books: Books) -> None:
    books.dead("a")
    counting = Actor(books.base, ended_counts.read)
    with pytest.raises(StoreUnavailable, match="change all the time"):
        while counting.step() or counting.finish():
            books.base["tally"].update_one({}, {"$inc": {"fold": 1}})


def test_a_ledger_that_is_gone_is_not_begun_anew(books: Books) -> None:
    books.dead("a")
    books.base["tally"].delete_many({})
    with pytest.raises(StoreUnusable, match="the counts of ended jobs are gone"):
        books.store.counts(Filter())


def test_the_output_of_a_deleted_job_goes_with_it_though_the_deleter_dies(books: Books) -> None:
    books.store.add([new_job("a")])
    [job] = books.store.claim("w1", (), 1, LEASE)
    books.store.write_output([Chunk("a", job.attempt_id or "", 1, 0, NOW, 0, b"x")])
    ended = lifecycle.give_back(lifecycle.cancel(job, by="me", reason=None, now=NOW), now=NOW)
    assert books.store.save([ended]) == ["accepted"]
    deleter = books.actor(lambda base: purge.purge(base, Filter(), 1, None)).until("output.delete_many")
    deleter.kill()
    assert books.base["output"].count_documents({}) == 1
    books.settle()
    assert books.base["output"].count_documents({}) == 0


def test_a_deleter_that_was_held_up_says_only_what_it_has_deleted(books: Books) -> None:
    books.dead("a", "b", "c")
    late = books.actor(lambda base: purge.purge(base, Filter(), 9, None)).until("jobs.update_many")
    books.retry("b")
    books.store.purge(Filter(id_prefix="c"), 1)
    assert late.finish() == ["a"]
    books.settle()


def test_many_who_fold_and_delete_at_once_agree(ground: MongoGround) -> None:
    books = Books(ground)
    handles = [ground.open() for _ in range(4)]
    jobs = [[f"{n}-{i}" for i in range(40)] for n in range(4)]

    def work(place: int) -> None:
        store, base = handles[place], ground.base
        store.add([in_state("dead", id, queue=f"q{place % 2}") for id in jobs[place]])
        for start in range(0, 40, 10):
            some = store.get(jobs[place][start : start + 10])
            store.save([lifecycle.retry(job, now=NOW) for job in some.values()])
            folding(base)
            again = store.get(list(some))
            store.save([lifecycle.cancel(job, by="me", reason=None, now=NOW) for job in again.values()])
            folding(base)
            store.purge(Filter(queue=f"q{place % 2}"), 7)

    race(*[lambda p=place: work(p) for place in range(4)])
    books.settle()
    total = sum(ended_counts.read(ground.base).values())
    assert total == books.store.counts(Filter()).total()


IDS = ("a", "b", "c")
HAPPENING = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 2), st.integers(1, 6)),
        st.tuples(st.sampled_from(("fold", "purge")), st.integers(0, 2), st.sampled_from(IDS)),
        st.tuples(st.just("kill"), st.integers(0, 2), st.just(0)),
        st.tuples(st.sampled_from(("retry", "cancel", "dead")), st.just(0), st.sampled_from(IDS)),
    ),
    min_size=8,
    max_size=30,
)


@given(HAPPENING)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_in_whatever_order_things_happen_the_counts_are_exact(one_for_all: Books, happening: Any) -> None:
    books = one_for_all
    books.ground.empty()
    actors: dict[int, Actor] = {}
    try:
        for what, place, detail in happening:
            happen(books, actors, what, place, detail)
            books.check()
    finally:
        for actor in actors.values():
            actor.kill()
    books.settle()


def happen(books: Books, actors: dict[int, Actor], what: str, place: int, detail: Any) -> None:
    """One thing of those that may come in any order."""
    actor = actors.get(place)
    if what == "step" and actor is not None:
        for _ in range(detail):
            actor.step()
            books.check()
        assert actor.error is None
    elif what == "kill" and actor is not None:
        actor.kill()
    elif what == "fold" and (actor is None or actor.next is None):
        actors[place] = books.actor()
    elif what == "purge" and (actor is None or actor.next is None):
        actors[place] = books.actor(lambda base: purge.purge(base, Filter(id_prefix=detail), 1, None))
    elif what == "dead":
        books.dead(detail)
    elif what in ("retry", "cancel"):
        getattr(books, what)(detail)


@pytest.fixture(scope="module")
def one_for_all(mongo_server: MongoServer | GivenMongo) -> Iterator[Books]:
    """For many short examples."""
    ground = MongoGround(mongo_server)
    yield Books(ground)
    ground.close()
