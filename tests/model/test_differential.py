"""Each store and the reference run the same random sequence of calls; answers and contents are always equal."""

import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from contract.grounds import (
    ArchivedGround,
    MongoGround,
    PostgresGround,
    RedisGround,
    ServerGround,
    SteppedClock,
    rising_tokens,
)
from factories import new_job, report
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Parent, State
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Found, Page
from queuectl.errors import Conflict
from queuectl.store.memory import MemoryStore
from queuectl.store.mongo import ended_counts
from queuectl.store.protocol import Added, AttemptRef, Store, Swap
from queuectl.store.sqlite import SqliteStore

IDS = st.integers(0, 11).map("j{}".format)
QUEUES = st.sampled_from(["x", "y", "z"])
WORKERS = st.sampled_from(["w1", "w2"])
SECONDS = st.sampled_from([0, 1, 2, 5, 30, 3600])
LEASES = st.sampled_from([5, 30]).map(lambda seconds: timedelta(seconds=seconds))
EVENTS = st.sampled_from(
    ["succeed", "fail", "lose", "give_back", "interrupt", "note_start", "cancel", "hold", "release", "retry",
     "force_retry", "retry_alone", "revive", "release_anyway", "edit", "unblock"]
)  # fmt: skip


def comparable(answer: Any) -> Any:
    """An answer without numbers: they rise alike, but a refused job may leave a gap in one store only."""
    if isinstance(answer, list):
        return [comparable(part) for part in answer]
    if isinstance(answer, Job):
        return replace(answer, number=0)
    if isinstance(answer, Added):
        return (answer.status, comparable(answer.job))
    if isinstance(answer, Found):
        return (comparable(answer.jobs), answer.next is None)
    return answer


class SideBySide(RuleBasedStateMachine):
    """Every rule does one thing to both stores and compares the answers; the invariant compares what they keep."""

    def __init__(self, ground: ServerGround | None = None) -> None:
        super().__init__()
        self.ground = ground

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        ground = self.ground
        self.clock = ground.clock if isinstance(ground, PostgresGround) else SteppedClock()
        self.memory = MemoryStore(clock=self.clock, token=rising_tokens())
        self.stores: list[Store] = [self.memory]
        if ground is None:
            path = Path(self.folder.name) / "queue.db"
            self.stores.append(SqliteStore(path, durability="fast", clock=self.clock, token=rising_tokens()))
        else:
            ground.clock = self.clock
            self.stores.append(ground.open(token=rising_tokens()))
            ground.empty()
        self.looks: dict[str, Job] = {}

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            if isinstance(
                self.ground, RedisGround
            ):  # Redis stores many values twice, and the archive stores some of them too
                assert self.stores[1].describe(thorough=True).faults == ()
            for store in self.stores:
                store.close()
            self.folder.cleanup()

    def all(self, verb: Callable[[Store], Any]) -> Any:
        """The answer of all, which has to be one: the reference's."""
        answer, *others = [verb(store) for store in self.stores]
        for store, other in zip(self.stores[1:], others, strict=True):
            assert comparable(other) == comparable(answer), store
        return answer

    @rule(
        ids=st.lists(IDS, min_size=1, max_size=4, unique=True),
        queue=QUEUES,
        priority=st.integers(-2, 2),
        delay=SECONDS,
        key=st.sampled_from([None, None, "k1", "k2"]),
        parent=st.none() | IDS,
        on=st.sampled_from(["ok", "any", "failed"]),
        hold=st.booleans(),
        after_failure=st.sampled_from(["cancel", "hold"]),
        retries=st.integers(0, 2),
        content=st.sampled_from(["c1", "c2"]),
    )
    def add(
        self,
        ids: list[str],
        delay: int,
        key: str | None,
        parent: str | None,
        on: Any,
        retries: int,
        **fields: Any,
    ) -> None:
        now = self.clock.now()
        fields["after"] = (Parent(parent, on),) if parent and parent not in ids else ()
        fields |= {
            "now": now,
            "run_at": now + timedelta(seconds=delay),
            "unique_key": key,
            "max_retries": retries,
        }
        jobs = [new_job(id_, **fields) for id_ in ids]
        self.all(lambda store: store.add(jobs))

    @rule(
        worker=WORKERS,
        queues=st.lists(QUEUES, max_size=2).map(tuple),
        limit=st.integers(0, 4),
        lease=LEASES,
    )
    def claim(self, worker: str, queues: tuple[str, ...], limit: int, lease: timedelta) -> None:
        for job in self.all(lambda store: store.claim(worker, queues, limit, lease)):
            self.looks[job.id] = job

    @rule(worker=WORKERS, lease=LEASES, stale=st.booleans())
    def renew(self, worker: str, lease: timedelta, stale: bool) -> None:
        jobs = self.looks.values() if stale else self.memory.find(Filter(worker=worker), Page()).jobs
        held = [AttemptRef(job.id, job.attempt_id) for job in jobs if job.attempt_id]
        self.all(lambda store: store.renew(worker, held, lease))

    @rule(chosen=IDS, event=EVENTS, old=st.booleans(), priority=st.integers(-2, 2), delay=SECONDS)
    def change(self, chosen: str, event: str, old: bool, priority: int, delay: int) -> None:
        job = self.looks.get(chosen) if old else self.memory.get([chosen]).get(chosen)
        if job is None:
            return
        self.looks.setdefault(chosen, job)
        try:
            changed = self.changed(job, event, priority, delay)
        except Conflict:
            return
        self.all(lambda store: store.save([changed]))

    def changed(self, job: Job, event: str, priority: int, delay: int) -> Job:
        now = self.clock.now()
        parents: dict[str, State] = {j.id: j.state for j in self.memory.find(Filter(), Page()).jobs}
        events: dict[str, Callable[[], Job]] = {
            "succeed": lambda: lifecycle.finish(job, report(now=now), now=now, random_number=0.5),
            "fail": lambda: lifecycle.finish(job, report(exit_code=1, now=now), now=now, random_number=0.5),
            "lose": lambda: lifecycle.lose(job, report("lost", now=now), now=now),
            "give_back": lambda: lifecycle.give_back(job, now=now),
            "interrupt": lambda: lifecycle.interrupt(job, report("signalled", now=now), now=now),
            "note_start": lambda: lifecycle.note_start(job, slot=1, pid=2, started_at=now, now=now),
            "cancel": lambda: lifecycle.cancel(job, by="me", reason=None, now=now),
            "hold": lambda: lifecycle.hold(job, now=now),
            "release": lambda: lifecycle.release(job, parents, now=now),
            "release_anyway": lambda: lifecycle.release(job, parents, now=now, anyway=True),
            "retry": lambda: lifecycle.retry(job, parents, now=now),
            "force_retry": lambda: lifecycle.retry(job, parents, now=now, force=True),
            "retry_alone": lambda: lifecycle.retry(job, parents, now=now, alone=True),
            "revive": lambda: lifecycle.revive(job, parents, now=now),
            "edit": lambda: lifecycle.edit(
                job, priority=priority, run_at=now + timedelta(seconds=delay), queue="y", now=now
            ),
            "unblock": lambda: lifecycle.unblock(job, parents, now=now),
        }
        return events[event]()

    @rule()
    def recover(self) -> None:
        now = self.clock.now()
        lapsed = self.all(lambda store: store.expired_leases(3))
        lost = [lifecycle.lose(job, report("lost", now=now), now=now) for job in lapsed]
        self.all(lambda store: store.save(lost))

    @rule(numbers=st.lists(st.integers(1, 5), max_size=3), old=st.booleans())
    def print(self, numbers: list[int], old: bool) -> None:
        jobs = list(self.looks.values()) if old else self.memory.find(Filter(), Page()).jobs
        now = self.clock.now()
        chunks = [
            Chunk(j.id, j.attempt_id, n, 0, now, n, b"x" * n) for j in jobs if j.attempt_id for n in numbers
        ]
        self.all(lambda store: store.write_output(chunks))
        for attempt in {chunk.attempt_id for chunk in chunks}:
            self.all(lambda store, a=attempt: store.read_output(a, 1, 2))

    @rule(limit=st.integers(0, 2), state=st.sampled_from([(), ("dead",), ("completed", "cancelled")]))
    def purge(self, limit: int, state: tuple[State, ...]) -> None:
        self.all(lambda store: store.purge(Filter(states=frozenset(state)), limit))

    @rule(seconds=SECONDS)
    def step(self, seconds: int) -> None:
        self.clock.step(seconds=seconds)
        if isinstance(self.ground, MongoGround):  # workers do this regularly
            ended_counts.merge(self.ground.base, at_least=1)

    @rule(
        queue=QUEUES, paused=st.booleans(), limit=st.sampled_from([None, 0, 1, 2]), version=st.integers(0, 2)
    )
    def configure(self, queue: str, paused: bool, limit: int | None, version: int) -> None:
        self.all(
            lambda store: store.swap([Swap("queues", queue, {"paused": paused, "limit": limit}, version)])[0]
        )

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "stores"):
            return
        for sort in ("created", "updated", "next"):
            self.all(lambda store, s=sort: store.find(Filter(), Page(sort=s, limit=7)))
        for states in (("blocked", "held"), ("cancelled",)):
            waiting = Filter(states=frozenset(states), waiting_for=tuple(f"j{n}" for n in range(12)))
            self.all(lambda store, wanted=waiting: store.find(wanted, Page()))
        self.all(lambda store: store.counts(Filter()))
        self.all(lambda store: store.read_table("queues"))


def lives(examples: int) -> settings:
    """The number of random runs and their length."""
    return settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def test_sqlite_never_differs_from_the_reference(thorough: bool) -> None:
    run_state_machine_as_test(SideBySide, settings=lives(150 if thorough else 30))


GROUNDS: dict[str, tuple[Callable[..., ServerGround], list[str]]] = {
    "postgres": (PostgresGround, ["postgres_server"]),
    "mongodb": (MongoGround, ["mongo_server"]),
    "redis": (RedisGround, ["redis_server"]),
    "archived": (ArchivedGround, ["redis_server", "mongo_server"]),
}


@pytest.mark.parametrize("kind", GROUNDS)
def test_a_server_store_never_differs_from_the_reference(
    kind: str, request: pytest.FixtureRequest, thorough: bool
) -> None:
    make, servers = GROUNDS[kind]
    with closing(make(*map(request.getfixturevalue, servers))) as ground:
        run_state_machine_as_test(lambda: SideBySide(ground), settings=lives(25 if thorough else 5))
