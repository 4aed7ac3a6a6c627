"""Query plans of MongoDB for frequent queries: each uses its index and reads no more keys than necessary.

Whatever a verb asks is explained just before it is sent, on a queue that has a long past and a long future. A question
that began to read a whole collection would still pass every other test.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from contract.grounds import MongoGround
from contract.mongo_witness import Plan, Witness
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, State
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Filter, Page
from queuectl.store.mongo import documents, ended_counts
from queuectl.store.mongo.claim import PROMOTED_AT_ONCE
from queuectl.store.mongo.documents import standing
from queuectl.store.protocol import AttemptRef, Swap
from servers.mongo import GivenMongo, MongoServer

MANY, MANY_PROOF = 4_000, 20_000
"""The number of ended jobs, in `make test` and in `make proof`: more than ten times FEW in both."""
SOME = 2_000
"""The number of waiting jobs and of delayed jobs: more than are promoted at once."""
FEW = 300
"""The maximum number of keys and documents that a frequent query may read."""
WITH_CARE = ("jobs", "output")
"""The collections that grow; the others have a handful of documents, and reading them whole is the plan."""
QUEUES = ("busy", "default", "other")


class Crowd:
    """A database with many ended and many waiting jobs, and a handle whose requests are explained."""

    def __init__(self, server: MongoServer | GivenMongo, ended: int) -> None:
        self.ground = MongoGround(server)
        self.store: Any = self.ground.open()
        self.store.migrate()
        self._number = 0
        counts: dict[State, int] = {
            "completed": ended, "dead": ended // 10, "pending": SOME, "processing": 100, "blocked": 100
        }  # fmt: skip
        for state, count in counts.items():
            self._many(in_state(state), state, count)
        self._many(new_job(run_at=NOW + timedelta(days=1)), "delayed", SOME)
        base = self.ground.base
        base["output"].insert_many(
            [{"_id": {"a": f"{n:032x}", "n": 1}, "job": n, "data": b"x"} for n in range(ended)]
        )
        base["counters"].update_one({"_id": "number"}, {"$set": {"n": self._number}})
        ended_counts.merge(base, at_least=1)
        for name in ("w1", "w2"):
            self.store.heartbeat(worker(name))
        self.witness = Witness(self.store, base.client, base.name)

    def plans(self, work: Callable[[Any], Any]) -> list[Plan]:
        """The query plans of a piece of work."""
        return self.witness.of(lambda: work(self.store))

    def close(self) -> None:
        """Leave nothing behind."""
        self.ground.close()

    def _many(self, sample: Job, name: str, count: int) -> None:
        """Insert many more copies without the store, spread over the queues."""
        made = []
        for n in range(count):
            self._number += 1
            queue = QUEUES[n % len(QUEUES)]
            document = documents.new(sample, self._number, NOW)
            document |= {"id": f"seed-{name}-{n}", "queue": queue, "standing": standing(sample.state, queue)}
            document |= {"ready": queue} if "ready" in document else {}
            made.append(document)
        self.ground.base["jobs"].insert_many(made)


@pytest.fixture(scope="module")
def crowd(mongo_server: MongoServer | GivenMongo, thorough: bool) -> Iterator[Crowd]:
    crowd = Crowd(mongo_server, MANY_PROOF if thorough else MANY)
    yield crowd
    crowd.close()


def _claimed(store: Any, *queues: str, limit: int = 10) -> list[Job]:
    jobs: list[Job] = store.claim("w1", queues, limit, LEASE)
    assert len(jobs) == limit
    return jobs


def _held(job: Job) -> AttemptRef:
    return AttemptRef(job.id, job.attempt_id or "")


def _renewed(store: Any) -> None:
    assert len(store.renew("w1", [_held(job) for job in _claimed(store)], LEASE)) == 10


def _ended(store: Any) -> None:
    now = NOW + timedelta(seconds=1)
    jobs = [lifecycle.finish(job, report(now=now), now=now, random_number=0.5) for job in _claimed(store)]
    assert statuses(store.save(jobs)) == ["accepted"] * 10
    assert statuses(store.save(jobs)) == ["stale"] * 10


def _added(store: Any) -> None:
    jobs = [new_job() for _ in range(10)]
    keyed = new_job(unique_key="only one")
    assert {added.status for added in store.add([*jobs, keyed])} == {"added"}
    again = store.add([*jobs, new_job(unique_key="only one")])
    assert [added.status for added in again] == ["existing"] * 10 + ["duplicate"]
    store.purge(Filter(), 0)
    [ended] = store.get([keyed.id]).values()
    store.save([lifecycle.cancel(ended, by="me", reason=None, now=NOW)])


def _printed(store: Any) -> None:
    [job, *_] = _claimed(store)
    chunks = [Chunk(job.id, job.attempt_id or "", n, 0, NOW, n, b"x") for n in range(1, 9)]
    assert store.write_output(chunks, [Trim(job.id, job.attempt_id or "", 2, 5)]) == set()
    assert len(store.read_output(job.attempt_id or "", 0)) == 6


def _limited(store: Any) -> None:
    assert store.swap([Swap("queues", "busy", {"paused": False, "limit": 1000}, 0)])[0]
    _claimed(store)
    _claimed(store, "busy", "other")
    assert store.swap([Swap("queues", "busy", None, 1)])[0]


def _retried(store: Any) -> None:
    """Merge the counts of retried jobs and of jobs that have ended since."""
    jobs = store.find(Filter(states=frozenset(("dead",))), Page(limit=20)).jobs
    assert statuses(store.save([lifecycle.retry(job, now=NOW) for job in jobs])) == ["accepted"] * 20
    again = list(store.get([job.id for job in jobs]).values())
    store.save([lifecycle.cancel(job, by="me", reason=None, now=NOW) for job in again[:10]])
    store.session.write(lambda base: ended_counts.merge(base, at_least=1))


def _page(
    sort: Any = "created", *, found: bool = True, limit: int = 50, **wanted: Any
) -> Callable[[Any], Any]:
    def ask(store: Any) -> None:
        page = store.find(Filter(**wanted), Page(limit=limit, sort=sort))
        assert bool(page.jobs) == found
        if page.next is not None:
            store.find(Filter(**wanted), Page(limit=limit, sort=sort, after=page.next))

    return ask


def _states(*states: State) -> frozenset[State]:
    return frozenset(states)


TOMORROW = NOW + timedelta(days=1)
HOT: dict[str, Callable[[Any], Any]] = {
    "claim": _claimed,
    "claim from named queues": lambda store: _claimed(store, "busy", "no"),
    "claim from limited queues": _limited,
    "claim from empty queues": lambda store: store.claim("w1", ("no", "nowhere"), 10, LEASE),
    "renew": _renewed,
    "expired_leases": lambda store: store.expired_leases(10),
    "due since": lambda store: store.due_since(),
    "save": _ended,
    "add": _added,
    "output": _printed,
    "get": lambda store: store.get([f"seed-pending-{n}" for n in range(50)]),
    "heartbeat": lambda store: store.heartbeat(worker("w1")),
    "instruct": lambda store: (store.instruct("w1", "drain"), store.pending_instruction("w1"), store.workers()),
    "fold": _retried,
    "newest": _page(),
    "last finished": _page(sort="updated", states=_states("completed")),
    "newest dead": _page(states=_states("dead")),
    "last changed": _page(sort="updated", states=_states("dead", "completed")),
    "last ended": _page(sort="ended"),
    "last dead": _page(sort="ended", states=_states("dead")),
    "oldest": _page(sort="number"),
    "oldest dead": _page(sort="number", states=_states("dead")),
    "newest of several states": _page(states=_states("dead", "cancelled", "processing")),
    "newest of a queue": _page(queue="busy"),
    "newest blocked": _page(states=_states("blocked")),
    "one by its number": _page(number=17),
    "by the beginning of an id": _page(id_prefix="seed-dead-170", limit=2),
    "children": _page(states=_states("blocked", "held"), waiting_for=("parent",), limit=100),
    "children of nobody": _page(states=_states("blocked", "held"), waiting_for=("nobody",), found=False),
    "cancelled children": _page(states=_states("cancelled"), waiting_for=("nobody",), found=False),
    "held by a worker": _page(worker="w1", states=_states("processing")),
    "held by nobody": _page(worker="w9", states=_states("processing"), found=False, limit=1),
    "by batch": _page(batch="b", found=False),
    "by tag": _page(tag="t", found=False),
    "by unique key": _page(unique_key="k", found=False),
    "purge": lambda store: store.purge(Filter(states=_states("completed", "cancelled"), ended_before=TOMORROW), 10),
    "purge of nothing": lambda store: store.purge(
        Filter(states=_states("completed", "cancelled"), ended_before=NOW - timedelta(days=1)), 10
    ),
    "purge of the dead": lambda store: store.purge(Filter(states=_states("dead"), ended_before=TOMORROW), 10),
}  # fmt: skip


SORTED = {
    "instruct": "the registry: as many as there are workers",
    "by the beginning of an id": "as many as begin alike, before they are so many that the newest are looked through",
    "held by nobody": "as many as run: where none is this worker's, any way leads past them all",
}
"""Queries whose few results may be sorted in memory; these are counted like all others."""


@pytest.mark.parametrize("name", HOT)
def test_a_frequent_query_reads_only_a_few_keys_and_documents(crowd: Crowd, name: str) -> None:
    plans = crowd.plans(HOT[name])
    assert plans
    for plan in plans:
        if plan.collection in WITH_CARE:
            assert "COLLSCAN" not in plan.stages, plan
        assert "SORT" not in plan.stages or name in SORTED, plan
        assert plan.looked <= FEW, plan


def test_the_query_for_queues_reads_one_key_per_queue(crowd: Crowd) -> None:
    looks = [plan for plan in crowd.plans(_claimed) if plan.command == "aggregate"]
    assert "DISTINCT_SCAN" in looks[0].stages
    assert (looks[0].keys, looks[0].docs) == (len(QUEUES), 0)
    assert [plan.looked for plan in looks if "IXSCAN" in plan.stages] == [0]  # no delayed job is due


def test_sorted_indexes_of_many_queues_are_merged_without_reading_jobs(crowd: Crowd) -> None:
    [heads] = [plan for plan in crowd.plans(_claimed) if "SORT_MERGE" in plan.stages]
    assert heads.docs == 0
    assert heads.keys <= 10 + len(QUEUES)


def test_a_claim_promotes_a_bounded_number_of_delayed_jobs(crowd: Crowd) -> None:
    crowd.ground.clock.step(days=2)
    try:
        plans = crowd.plans(_claimed)
        [lapsed] = crowd.plans(lambda store: store.expired_leases(10))
    finally:
        crowd.ground.clock.reset()
    assert lapsed.looked == 10
    bound = PROMOTED_AT_ONCE + PROMOTED_AT_ONCE // 10
    [found] = [plan for plan in plans if plan.command == "find" and plan.keys == PROMOTED_AT_ONCE]
    assert found.docs in (0, PROMOTED_AT_ONCE)
    for plan in plans:
        assert not {"COLLSCAN", "SORT"}.intersection(plan.stages) or plan.collection == "shared", plan
        assert plan.looked <= bound, plan


def test_counting_reads_neither_ended_jobs_nor_documents(crowd: Crowd) -> None:
    plans = [plan for plan in crowd.plans(lambda store: store.counts(Filter())) if plan.collection == "jobs"]
    owed = crowd.ground.base["jobs"].count_documents({"owed": True})
    for plan in plans:
        assert {"COUNT_SCAN", "DISTINCT_SCAN"}.intersection(plan.stages) or plan.looked <= owed, plan
        assert "COLLSCAN" not in plan.stages
    assert sum(plan.docs for plan in plans) <= owed
    assert sum(plan.keys for plan in plans) <= 3 * SOME
    assert crowd.store.counts(Filter()).total() > MANY


def test_counting_rare_states_reads_no_other_states(crowd: Crowd) -> None:
    """After each batch of results, the worker asks whether any job waits for a parent."""
    for plan in crowd.plans(lambda store: store.counts(Filter(states=_states("blocked", "held")))):
        assert plan.looked <= FEW, plan


COLD = {
    "all by their last change": _page("updated"),
    "all by their turn": _page("next"),
    "what waits in a queue by its turn": _page("next", queue="busy", states=_states("pending", "failed")),
}
"""Rare listings: an index for each of them would slow down every write."""


@pytest.mark.parametrize("name", COLD)
def test_a_rare_listing_is_sorted_by_the_server(crowd: Crowd, name: str) -> None:
    for plan in crowd.plans(COLD[name]):
        assert plan.collection == "jobs"
        assert "SORT" in plan.stages, "it is fast now: move it to HOT"
