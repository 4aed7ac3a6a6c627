"""The due jobs of a queue count as consumed under the tested conditions."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from contract.grounds import SteppedClock
from factories import LEASE
from queuectl.config import resolve
from queuectl.domain.queue import QueueChange
from queuectl.service import commands
from queuectl.service.consumption import grace, vitals
from queuectl.store.memory import MemoryStore
from service.scenes import heartbeat, put, take

SETTINGS = resolve({}, {}, {}, {})


def unconsumed(store: MemoryStore) -> list[str]:
    return list(vitals(store, SETTINGS).unconsumed)


def test_a_queue_without_due_jobs_is_consumed(store: MemoryStore, clock: SteppedClock) -> None:
    put(store, "a", state="held")
    put(store, "b", state="completed")
    clock.step(hours=1)
    assert unconsumed(store) == []


def test_a_due_job_may_wait_for_the_grace(store: MemoryStore, clock: SteppedClock) -> None:
    put(store, "a", queue="mail")
    clock.step(seconds=60)
    assert unconsumed(store) == []
    clock.step(seconds=1)
    assert unconsumed(store) == [
        "queue mail: 1 job has waited for 61s, and no worker serves it",
    ]


@pytest.mark.parametrize(("lease", "allowed"), [(1, 30), (15, 30), (30, 60)])
def test_the_grace_is_two_leases_and_at_least_30_seconds(lease: int, allowed: int) -> None:
    assert grace(timedelta(seconds=lease)) == timedelta(seconds=allowed)


def test_a_recent_claim_proves_consumption_of_its_queue_alone(
    store: MemoryStore, clock: SteppedClock
) -> None:
    put(store, "a", queue="mail")
    put(store, "b", queue="build")
    clock.step(minutes=5)
    heartbeat(store, claimed_at={"mail": clock.now() - timedelta(seconds=60)})
    assert unconsumed(store) == ["queue build: 1 job has waited for 5m, and its workers take no job"]
    clock.step(seconds=1)
    heartbeat(store, claimed_at={"mail": clock.now() - timedelta(seconds=61)})
    assert len(unconsumed(store)) == 2


def test_busy_slots_prove_consumption_while_leases_are_renewed(
    store: MemoryStore, clock: SteppedClock
) -> None:
    put(store, "waits")
    put(store, "runs")
    clock.step(minutes=5)
    take(store, "runs")
    heartbeat(store, count=1, busy=("runs",))
    assert unconsumed(store) == []
    heartbeat(store, count=2, busy=("runs",))  # one slot is free
    assert len(unconsumed(store)) == 1
    clock.step(seconds=LEASE.total_seconds() + 1)
    heartbeat(store, count=1, busy=("runs",))  # the worker lives and renews no lease
    assert len(unconsumed(store)) == 1


def test_a_worker_of_other_queues_proves_nothing(store: MemoryStore, clock: SteppedClock) -> None:
    put(store, "a", queue="mail")
    put(store, "b", queue="mail")
    clock.step(minutes=5)
    heartbeat(store, count=1, busy=("x",), queues=("build",))
    assert unconsumed(store) == ["queue mail: 2 jobs wait, one of them for 5m, and no worker serves it"]


def test_a_lost_worker_proves_nothing(store: MemoryStore, clock: SteppedClock) -> None:
    put(store, "a")
    heartbeat(store, count=1, busy=("x",))
    clock.step(minutes=5)
    assert len(unconsumed(store)) == 1


def test_a_queue_that_may_start_nothing_is_not_judged(store: MemoryStore, clock: SteppedClock) -> None:
    put(store, "paused", queue="paused")
    put(store, "full", queue="full")
    put(store, "runs", queue="full")
    commands.change_queue(store, "paused", QueueChange(paused=True))
    commands.change_queue(store, "full", QueueChange(limit=1))
    take(store, "runs")
    clock.step(minutes=5)
    assert unconsumed(store) == []
    commands.change_queue(store, "full", QueueChange(limit=2))
    assert [text.partition(":")[0] for text in unconsumed(store)] == ["queue full"]


def test_the_vital_signs(store: MemoryStore, clock: SteppedClock) -> None:
    put(store, "a")
    put(store, "b", state="dead")
    worker = heartbeat(store)
    clock.step(seconds=2)
    found = vitals(store, SETTINGS)
    assert found.enqueued == 2
    assert [(queue.name, queue.jobs) for queue in found.queues] == [("default", {"pending": 1, "dead": 1})]
    assert found.queues[0].oldest_due == clock.now() - timedelta(seconds=2)
    [item] = found.workers
    assert item.state == "running"
    assert replace(item.worker, heartbeat=None) == worker
