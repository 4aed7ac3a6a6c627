"""`heartbeat`, `instruct`, `workers`, `forget`: the registry of workers and their instructions."""

import json
from datetime import timedelta

import pytest
from msgspec.structs import replace

from contract.grounds import SteppedClock, race
from factories import LEASE, NOW, new_job
from queuectl.domain.worker import Slot, Worker
from queuectl.store.driver import codec
from queuectl.store.protocol import Store


def worker(name: str = "w1", **changes: object) -> Worker:
    made = Worker(
        id=name,
        name=f"name of {name}",
        host="h",
        boot_id="b",
        holder_pid=1,
        agent_pid=2,
        version="1.0",
        count=2,
        started_at=NOW,
        queues=("x",),
        slots=(Slot(slot=0, job="a", since=NOW), Slot(slot=1)),
    )
    return replace(made, **changes)


@pytest.mark.doubles
def test_a_heartbeat_registers_the_worker_with_the_time_of_the_store(
    store: Store, clock: SteppedClock
) -> None:
    now = clock.step(seconds=3)
    assert store.heartbeat(worker()) is None
    assert store.workers() == [worker(heartbeat=now)]


def test_a_heartbeat_renews_the_entry(store: Store, clock: SteppedClock) -> None:
    store.heartbeat(worker())
    now = clock.step(seconds=3)
    store.heartbeat(worker(state="draining", note="bye"))
    assert store.workers() == [worker(state="draining", note="bye", heartbeat=now)]


def test_a_beat_carries_the_newest_claim_of_each_queue(store: Store) -> None:
    claims = {"mail": NOW, "a queue: …": NOW + timedelta(microseconds=1)}
    store.heartbeat(worker(claimed_at=claims))
    [found] = store.workers()
    assert found.claimed_at == claims


def test_an_entry_of_an_older_version_has_no_claims() -> None:
    known = json.loads(codec.to_json(worker(heartbeat=NOW)))
    del known["claimed_at"]
    assert codec.worker("w1", json.dumps(known)) == worker(heartbeat=NOW)


def test_workers_are_listed_in_order_of_their_start(store: Store) -> None:
    for number, name in enumerate(["c", "a", "b"]):
        store.heartbeat(worker(name, started_at=NOW + timedelta(seconds=number)))
    assert [w.id for w in store.workers()] == ["c", "a", "b"]


@pytest.mark.doubles
def test_every_heartbeat_returns_the_instruction_until_the_worker_is_forgotten(store: Store) -> None:
    store.heartbeat(worker())
    assert store.instruct("w1", "drain")
    assert [store.heartbeat(worker()), store.heartbeat(worker())] == ["drain", "drain"]
    store.forget("w1")
    assert store.workers() == []
    assert store.heartbeat(worker()) is None


def test_the_latest_instruction_counts(store: Store) -> None:
    store.heartbeat(worker())
    store.instruct("w1", "drain")
    store.instruct("w1", "stop")
    assert store.heartbeat(worker()) == "stop"


def test_a_reload_is_completed_by_the_heartbeat_of_another_agent(store: Store) -> None:
    store.heartbeat(worker(agent_pid=10))
    store.instruct("w1", "reload")
    assert store.heartbeat(worker(agent_pid=10)) == "reload"
    assert store.heartbeat(worker(agent_pid=11)) is None
    assert store.heartbeat(worker(agent_pid=11)) is None


def test_an_unknown_worker_cannot_be_instructed(store: Store) -> None:
    assert not store.instruct("nobody", "stop")
    assert store.heartbeat(worker("nobody")) is None


def test_forgetting_a_worker_leaves_its_claims_and_may_be_repeated(store: Store) -> None:
    store.add([new_job("a")])
    store.heartbeat(worker())
    store.claim("w1", (), 1, LEASE)
    store.forget("w1")
    store.forget("w1")
    assert store.get(["a"])["a"].state == "processing"


def test_an_instruction_is_never_lost_in_a_concurrent_heartbeat(store: Store, other: Store) -> None:
    store.heartbeat(worker())
    race(
        *[lambda h=h: h.heartbeat(worker()) for h in (store, other) * 3], lambda: other.instruct("w1", "stop")
    )
    assert store.heartbeat(worker()) == "stop"


def test_concurrent_heartbeats_create_one_entry_per_worker(store: Store, other: Store) -> None:
    def heartbeat(handle: Store, name: str) -> None:
        for _ in range(5):
            handle.heartbeat(worker(name))

    race(*[lambda h=h, w=f"w{n % 4}": heartbeat(h, w) for n, h in enumerate((store, other) * 4)])
    assert [w.id for w in store.workers()] == ["w0", "w1", "w2", "w3"]


def test_an_instruction_can_be_read_without_a_heartbeat(store: Store) -> None:
    assert store.pending_instruction("w1") is None
    store.heartbeat(worker())
    before = store.workers()
    assert store.pending_instruction("w1") is None
    store.instruct("w1", "drain")
    assert store.pending_instruction("w1") == "drain"
    assert store.workers() == before
    store.forget("w1")
    assert store.pending_instruction("w1") is None
