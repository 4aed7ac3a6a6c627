"""The commands that the server executes for each verb: not more with many thousands of jobs than with a few.

Counted by the server itself, command by command. A script that began to look at all jobs would pass every other test.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from contract.grounds import RedisGround
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from facts import TooSlow
from queuectl.domain import lifecycle
from queuectl.domain.event import between
from queuectl.domain.job import Job, Parent
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page
from queuectl.store.protocol import DUE_LOOKED_AT, AttemptRef, Swap
from queuectl.store.redis import RedisStore
from servers.redis import RedisServer

FEW, MANY, PROOF = 600, 10_000, 50_000
"""The sizes of the crowds. `make test` compares FEW with MANY: a verb that reads one job of a hundred exceeds its
allowance there. `make proof` compares FEW with PROOF."""

QUEUES = 200
"""Lines in which jobs wait."""
NOT_OF_THE_VERB = frozenset(
    ("info", "config", "config|resetstat", "config|get", "auth", "hello", "client", "select")
)


class Crowd:
    """A queue with so many jobs, in all states and many lines, and a handle whose commands are counted."""

    def __init__(self, server: RedisServer, count: int) -> None:
        self.ground = RedisGround(server)
        self.server = server
        self.store: Any = RedisStore(self.ground.url, durability="fast", clock=self.ground.clock)
        for start in range(0, count, 500):
            jobs = [_job(n) for n in range(start, start + 500)]
            self.store.add(jobs, [between(None, replace(new_job(), id=job.id)) for job in jobs])
        self.store.add([new_job("parent", priority=1000), new_job("child", after=(Parent("parent"),))])
        self.store.heartbeat(worker("w1"))

    def cost(self, work: Callable[[Any], Any]) -> dict[str, int]:
        """The number of commands that the server executed, by name."""
        before = self._done()
        work(self.store)
        return {verb: n - before.get(verb, 0) for verb, n in self._done().items() if n != before.get(verb, 0)}

    def _done(self) -> dict[str, int]:
        stats = self.server.info("commandstats")
        counts = {k.removeprefix("cmdstat_"): int(v.split(",")[0].split("=")[1]) for k, v in stats.items()}
        return {verb: count for verb, count in counts.items() if verb not in NOT_OF_THE_VERB}

    def close(self) -> None:
        self.store.close()
        self.ground.close()


def _job(n: int) -> Job:
    fields = {"queue": f"q{n % QUEUES}", "tags": ("all",), "batch": "b", "unique_key": f"k{n}"}
    if n % 5 == 0:
        return in_state("completed", f"c{n}", **fields)
    if n % 5 == 1:
        return in_state("dead", f"x{n}", **fields)
    if n % 5 == 2:
        return new_job(f"d{n}", run_at=NOW + timedelta(days=1), **fields)
    return new_job(f"p{n}", **fields)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with closing(RedisServer(appendonly="no")) as server:
        server.start()
        yield server


@pytest.fixture(scope="module")
def few(server: RedisServer) -> Iterator[Crowd]:
    with closing(Crowd(server, FEW)) as crowd:
        yield crowd


@pytest.fixture(scope="module")
def many(server: RedisServer, thorough: bool) -> Iterator[Crowd]:
    with closing(Crowd(server, PROOF if thorough else MANY)) as crowd:
        yield crowd


def _claim_and_finish(store: Any) -> None:
    running = store.claim("w1", (), 10, LEASE, tell=True)
    assert len(running) == 10
    held = [AttemptRef(job.id, job.lease.attempt_id) for job in running]
    running = store.renew("w1", held, LEASE)
    assert len(running) == 10
    store.write_output([Chunk(job.id, job.lease.attempt_id, 1, 0, NOW, 0, b"x") for job in running])
    store.read_output(running[0].lease.attempt_id, 0)
    assert (
        statuses(store.save([lifecycle.finish(job, report(), now=NOW, random_number=0.5) for job in running]))
        == ["accepted"] * 10
    )


def _page(**wanted: Any) -> Callable[[Any], None]:
    page = Page(limit=10, sort=wanted.pop("sort", "created"))

    def find(store: Any) -> None:
        first = store.find(Filter(**wanted), page)
        assert len(first.jobs) == 10
        store.find(Filter(**wanted), Page(limit=10, sort=page.sort, after=first.next))

    return find


ENDED = frozenset(("completed", "cancelled"))
WORKS: dict[str, Callable[[Any], Any]] = {
    "claim, renew, output, save": _claim_and_finish,
    "claim from one line": lambda store: store.claim("w1", ["q3", "q4"], 1, LEASE),
    "claim from nobody's line": lambda store: store.claim("w1", ["nobody's"], 5, LEASE),
    "add": lambda store: store.add([new_job(), new_job(unique_key="k3")]),
    "get": lambda store: store.get(["p3", "p4", "nobody"]),
    "page": _page(),
    "page by state": _page(states=frozenset(("dead",))),
    "page by states": _page(states=frozenset(("dead", "pending"))),
    "page by tag": _page(tag="all"),
    "page by batch": _page(batch="b"),
    "page by change": _page(sort="updated"),
    "page by turn": _page(sort="next"),
    "page by end": _page(sort="ended"),
    "page by number": _page(sort="number"),
    "by number": lambda store: store.find(Filter(number=7), Page()),
    "by key": lambda store: store.find(Filter(unique_key="k7"), Page()),
    "by a whole id": lambda store: store.find(Filter(id_prefix="parent"), Page(limit=2)),
    "by ids": lambda store: store.find(Filter(ids=("p3", "p4", "nobody")), Page()),
    "purge of some ids": lambda store: store.purge(Filter(ids=("c0", "x1", "p3")), 3),
    "by parent": lambda store: store.find(Filter(waiting_for=("parent",)), Page()),
    "by worker": lambda store: store.find(Filter(worker="w1"), Page(limit=1)),
    "blocked": lambda store: store.find(Filter(states=frozenset(("blocked",))), Page()),
    "counts": lambda store: store.counts(Filter()),
    "counts of one state": lambda store: store.counts(Filter(states=frozenset(("dead",)))),
    "expired_leases": lambda store: store.expired_leases(10),
    "purge": lambda store: store.purge(Filter(states=ENDED), 5),
    "purge of what is too young": lambda store: store.purge(
        Filter(states=ENDED, ended_before=NOW - timedelta(days=1)), 5
    ),
    "heartbeat": lambda store: [
        store.heartbeat(worker("w1")),
        store.pending_instruction("w1"),
        store.instruct("w1", "drain"),
    ],
    "swap": lambda store: [
        store.swap([Swap("settings", "s", {"value": 1}, 0, due=NOW)]),
        store.upcoming(9),
        store.read_table("settings"),
    ],
    "describe": lambda store: store.describe(),
    "events": lambda store: [
        store.read_events(None, 10),
        store.read_events("1-1", 10),
        store.event_cursor(NOW),
        store.event_cursor(NOW + timedelta(days=1)),
        store.trim_events(NOW, 10**6, 10),
    ],
}


@pytest.mark.parametrize("work", WORKS)
def test_the_cost_of_a_verb_does_not_grow_with_the_number_of_jobs(few: Crowd, many: Crowd, work: str) -> None:
    for crowd in (few, many):
        WORKS[work](crowd.store)  # open the connections and load the scripts
    cheap, dear = few.cost(WORKS[work]), many.cost(WORKS[work])
    allowed = sum(cheap.values()) * 1.2 + 10
    assert sum(dear.values()) <= allowed, {verb: (cheap.get(verb, 0), n) for verb, n in dear.items()}


def test_a_claim_reads_no_more_queues_than_it_needs(many: Crowd) -> None:
    cost = many.cost(lambda store: store.claim("w1", (), 1, LEASE))
    assert sum(cost.values()) < 60, cost


def test_a_batch_of_changes_needs_few_commands_for_each_job(server: RedisServer) -> None:
    crowd = Crowd(server, 500)
    jobs = crowd.store.find(Filter(states=frozenset(("pending",))), Page(limit=100)).jobs
    ended = [lifecycle.cancel(job, by="me", reason=None, now=NOW) for job in jobs]
    spent = crowd.cost(lambda store: store.save(ended))
    crowd.close()
    assert len(jobs) == 100
    assert {verb: n for verb, n in spent.items() if n > 2 * QUEUES and n > 2 * len(jobs)} == {}
    assert spent["zadd"] + spent["zrem"] < 500, "before, nine for each job"


def test_a_page_is_read_once(server: RedisServer) -> None:
    crowd = Crowd(server, 1500)
    spent = crowd.cost(lambda store: store.find(Filter(), Page(limit=500, sort="number")))
    crowd.close()
    assert spent["evalsha"] == 1
    assert spent["hmget"] == 501


def test_due_since_reads_only_the_first_jobs_of_each_queue(many: Crowd) -> None:
    waiting = len(many.store.due_since())
    cost = many.cost(lambda store: store.due_since())
    assert sum(cost.values()) <= (DUE_LOOKED_AT + 1) * waiting + 10, cost


def test_a_prefix_of_thousands_of_ids_is_not_read_completely(many: Crowd) -> None:
    cost = many.cost(lambda store: store.find(Filter(id_prefix="p"), Page(limit=2)))
    assert sum(cost.values()) < 200, cost


def test_an_unblock_costs_one_step_per_remaining_parent(server: RedisServer) -> None:
    with closing(Crowd(server, 500)) as crowd:
        parents = [new_job(f"parent{n}") for n in range(400)]
        child = new_job("many", after=tuple(Parent(job.id) for job in parents))
        crowd.store.add([*parents, child])
        (stored,) = crowd.store.get(["many"]).values()
        waits = lifecycle.unblock(
            stored, {"parent0": "completed"} | dict.fromkeys(stored.waiting_for[1:], "pending"), now=NOW
        )
        cost = crowd.cost(lambda store: store.save([waits]))
        assert sum(cost.values()) < 60, cost


def test_calls_that_change_nothing_write_nothing_to_the_log() -> None:
    with closing(RedisServer()) as server:
        server.start()
        with closing(Crowd(server, 0)) as crowd:
            crowd.store.purge(Filter(), 9)
            crowd.store.claim("w1", (), 9, LEASE)
            before = server.info("persistence")["aof_current_size"]
            for look in (
                lambda store: store.claim("w1", (), 9, LEASE),
                lambda store: store.expired_leases(9),
                lambda store: store.pending_instruction("w1"),
                lambda store: store.find(Filter(), Page()),
                lambda store: store.counts(Filter()),
                lambda store: store.purge(Filter(), 9),
                lambda store: RedisStore(crowd.ground.url).now(),
            ):
                look(crowd.store)
            after = server.info("persistence")["aof_current_size"]
            if after != before:
                raise TooSlow(f"{before} → {after}: a key expired meanwhile, or a call wrote")


def test_a_page_of_children_reads_only_its_own_children(server: RedisServer) -> None:
    with closing(Crowd(server, 0)) as crowd:
        crowd.store.add([new_job(f"child{n}", after=(Parent("parent"),)) for n in range(2000)])
        cost = crowd.cost(
            lambda store: store.find(Filter(waiting_for=("parent",)), Page(limit=100, after="1000"))
        )
        assert sum(cost.values()) < 700, cost
