"""`claim` returns due jobs in order, and each job to one caller only."""

import subprocess
import sys
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from msgspec.structs import replace

from contract.grounds import Ground, SqliteGround, SteppedClock, race, rising_tokens
from factories import LEASE, NOW, in_state, new_job, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.query import Filter
from queuectl.store.protocol import Store, Swap


def claim(store: Store, limit: int = 10, queues: tuple[str, ...] = (), worker: str = "w1") -> list[str]:
    return [job.id for job in store.claim(worker, queues, limit, LEASE)]


def configure(store: Store, queue: str, **setting: Any) -> None:
    entry = store.read_table("queues").get(queue)
    assert store.swap([Swap("queues", queue, setting, entry.version if entry else 0)])[0]


@pytest.mark.doubles
def test_a_claimed_job_equals_the_result_of_the_domain(ground: Ground) -> None:
    store = ground.open(token=rising_tokens())
    [added] = store.add([new_job("a")])
    ground.clock.step(seconds=5)
    [claimed] = store.claim("w1", (), 1, LEASE)
    expected = lifecycle.claim(
        added.job, attempt_id=f"{1:032x}", worker="w1", lease=LEASE, now=ground.clock.now()
    )
    assert claimed == replace(expected, version=2)
    assert store.get(["a"]) == {"a": claimed}


def test_attempt_ids_are_128_random_bits_in_hex(store: Store) -> None:
    store.add([new_job() for _ in range(20)])
    ids = {job.attempt_id for job in store.claim("w1", (), 20, LEASE)}
    assert len(ids) == 20
    assert all(len(bytes.fromhex(attempt_id or "")) == 16 for attempt_id in ids)


def test_jobs_are_claimed_in_the_order_of_sort_key_and_number(store: Store) -> None:
    store.add([new_job("b"), new_job("c"), new_job("z", priority=-1), new_job("a", priority=1)])
    store.add([new_job("d"), new_job("early", run_at=NOW - timedelta(minutes=1))])
    assert claim(store) == ["a", "early", "b", "c", "d", "z"]


def test_the_order_holds_across_queues(store: Store) -> None:
    store.add([new_job(f"j{n}", queue=f"q{n % 3}", priority=n % 2) for n in range(9)])
    assert claim(store, 4) == ["j1", "j3", "j5", "j7"]
    assert claim(store, 10) == ["j0", "j2", "j4", "j6", "j8"]


def test_no_more_jobs_are_claimed_than_requested(store: Store) -> None:
    store.add([new_job(f"j{n}") for n in range(5)])
    assert claim(store, 0) == []
    assert claim(store, 2) == ["j0", "j1"]
    assert claim(store, 9) == ["j2", "j3", "j4"]
    assert claim(store) == []


def test_only_pending_and_failed_jobs_are_claimed(store: Store, clock: SteppedClock) -> None:
    store.add([in_state(state, state) for state in ("blocked", "held", "completed", "dead", "cancelled")])
    store.add([in_state("processing", "processing"), in_state("failed", "failed"), new_job("pending")])
    clock.step(hours=1)
    assert sorted(claim(store)) == ["failed", "pending"]


def test_a_delayed_job_is_claimed_when_its_time_comes(store: Store, clock: SteppedClock) -> None:
    store.add([new_job("a", run_at=NOW + timedelta(seconds=10))])
    clock.step(seconds=9.999999)
    assert claim(store) == []
    clock.step(microseconds=1)
    assert claim(store) == ["a"]


def test_jobs_that_become_due_are_ordered_by_their_sort_key(store: Store, clock: SteppedClock) -> None:
    store.add([new_job("now"), new_job("later", run_at=NOW + timedelta(seconds=1), priority=1)])
    clock.step(seconds=2)
    assert claim(store) == ["later", "now"]


def test_a_saved_job_is_claimed_when_its_new_time_comes(store: Store, clock: SteppedClock) -> None:
    [first, second] = [added.job for added in store.add([new_job("a"), new_job("b", queue="x")])]
    later = lifecycle.edit(
        first, priority=None, run_at=NOW + timedelta(minutes=1), queue=None, now=clock.now()
    )
    held = lifecycle.hold(second, now=clock.now())
    assert statuses(store.save([later, held])) == ["accepted"] * 2
    assert claim(store) == []
    clock.step(minutes=1)
    assert claim(store) == ["a"]
    store.save([lifecycle.release(store.get(["b"])["b"], now=clock.now())])
    assert claim(store) == ["b"]


def test_only_the_named_queues_are_served(store: Store) -> None:
    store.add([new_job("a", queue="x"), new_job("b", queue="y"), new_job("c", queue="z")])
    assert claim(store, queues=("y", "x", "nothing")) == ["a", "b"]
    assert claim(store, queues=("nothing",)) == []


def test_a_queue_named_twice_is_served_once(store: Store) -> None:
    store.add([new_job("a", queue="x"), new_job("b", queue="x")])
    assert claim(store, 2, queues=("x", "x")) == ["a", "b"]


def test_jobs_of_a_paused_queue_are_not_claimed_until_it_is_resumed(store: Store) -> None:
    store.add([new_job("a", queue="x"), new_job("b", queue="y")])
    configure(store, "x", paused=True, limit=None)
    assert claim(store) == ["b"]
    assert claim(store, queues=("x",)) == []
    configure(store, "x", paused=False, limit=None)
    assert claim(store) == ["a"]


def test_a_claim_fills_a_limited_queue_up_to_its_limit(store: Store, clock: SteppedClock) -> None:
    store.add([new_job(f"j{n}", queue="x") for n in range(5)])
    configure(store, "x", paused=False, limit=2)
    jobs = store.claim("w1", (), 5, LEASE)
    assert [job.id for job in jobs] == ["j0", "j1"]
    assert claim(store) == []
    store.save([lifecycle.give_back(jobs[0], now=clock.now())])
    assert claim(store) == ["j0"]


def test_a_limit_below_the_number_of_running_jobs_allows_no_claim(store: Store) -> None:
    store.add([new_job(f"j{n}", queue="x") for n in range(5)])
    assert len(claim(store, 3)) == 3
    configure(store, "x", paused=False, limit=1)
    assert claim(store) == []


def test_concurrent_claims_never_return_the_same_job(store: Store, other: Store) -> None:
    store.add([new_job() for _ in range(200)])

    def drain(handle: Store, worker: str) -> list[Job]:
        taken: list[Job] = []
        while jobs := handle.claim(worker, (), 3, LEASE):
            taken += jobs
        return taken

    taken = list(
        chain.from_iterable(
            race(*[lambda h=h, w=f"w{n}": drain(h, w) for n, h in enumerate((store, other) * 4)])
        )
    )
    assert len(taken) == len({job.id for job in taken}) == 200
    assert store.counts(Filter()).states() == {"processing": 200}


def test_concurrent_claims_respect_the_limit_of_a_queue(store: Store, other: Store) -> None:
    store.add([new_job(queue="x") for _ in range(20)])
    configure(store, "x", paused=False, limit=3)
    taken = race(*[lambda h=h: claim(h, 2) for h in (store, other) * 4])
    assert sum(map(len, taken)) == 3


CLAIMER = """
import sys
from datetime import timedelta
from queuectl.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
while jobs := store.claim(sys.argv[2], (), 7, timedelta(hours=1)):
    print(*(job.id for job in jobs), sep="\\n")
store.close()
"""


def test_many_processes_never_claim_the_same_job(sqlite: SqliteGround) -> None:
    sqlite.open().add([new_job(f"j{n}") for n in range(2000)])
    command = [sys.executable, "-c", CLAIMER, str(sqlite.path)]
    claimers = [subprocess.Popen([*command, f"w{n}"], stdout=subprocess.PIPE, text=True) for n in range(4)]
    taken = "".join(claimer.communicate(timeout=50)[0] for claimer in claimers).split()
    assert [claimer.returncode for claimer in claimers] == [0] * 4
    assert len(taken) == len(set(taken)) == 2000
