"""`renew` and `expired_leases`: a lease lasts while its worker renews it, and only one process recovers it."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from contract.grounds import SteppedClock, race
from factories import LEASE, NOW, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.store.protocol import AttemptRef, Store


def claimed(store: Store, *ids: str, lease: timedelta = LEASE) -> list[Job]:
    store.add([new_job(id_) for id_ in ids])
    return store.claim("w1", (), len(ids), lease)


def held(*jobs: Job) -> list[AttemptRef]:
    return [AttemptRef(job.id, job.attempt_id or "") for job in jobs]


def lost(job: Job, clock: SteppedClock) -> Job:
    return lifecycle.lose(job, report("lost", error="lease ended"), now=clock.now())


def test_a_recovery_from_a_version_before_the_renewal_is_refused(store: Store, clock: SteppedClock) -> None:
    [job] = claimed(store, "a")
    clock.step(seconds=31)
    [older_look] = store.expired_leases(10)
    [renewed] = store.renew("w1", held(job), LEASE)
    assert renewed.version > older_look.version
    assert statuses(store.save([lost(older_look, clock)])) == ["stale"]
    assert store.get(["a"])["a"] == renewed


def test_a_recovered_attempt_cannot_be_renewed(store: Store, clock: SteppedClock) -> None:
    [job] = claimed(store, "a")
    clock.step(seconds=31)
    assert statuses(store.save([lost(job, clock)])) == ["accepted"]
    assert store.renew("w1", held(job), LEASE) == []


@pytest.mark.doubles
def test_a_renewed_job_equals_the_result_of_the_domain(store: Store, clock: SteppedClock) -> None:
    [job] = claimed(store, "a")
    clock.step(seconds=10)
    [renewed] = store.renew("w1", held(job), timedelta(seconds=60))
    expected = lifecycle.renew(job, lease=timedelta(seconds=60), now=clock.now())
    assert renewed == replace(expected, version=job.version + 1)
    assert store.get(["a"])["a"] == renewed


def test_a_renewal_returns_a_cancel_request(store: Store) -> None:
    [job] = claimed(store, "a")
    store.save([lifecycle.cancel(job, by="me", reason="enough", now=NOW)])
    [renewed] = store.renew("w1", held(job), LEASE)
    assert renewed.cancel_requested is not None
    assert renewed.cancel_requested.reason == "enough"


def test_lost_attempts_are_missing_in_the_result_of_a_renewal(store: Store) -> None:
    [a, b, c] = claimed(store, "a", "b", "c")
    store.save([lifecycle.finish(b, report(), now=NOW, random_number=0.5)])
    wanted = [*held(a), *held(b), AttemptRef("c", "f" * 32), AttemptRef("gone", "e" * 32)]
    assert [job.id for job in store.renew("w1", wanted, LEASE)] == ["a"]
    assert store.renew("w2", held(a), LEASE) == []
    assert store.get(["c"])["c"] == c


def test_a_renewal_without_attempts_returns_no_job(store: Store) -> None:
    assert store.renew("w1", [], LEASE) == []


@pytest.mark.doubles
def test_a_lease_expires_by_the_clock_of_the_store(store: Store, clock: SteppedClock) -> None:
    claimed(store, "a")
    clock.step(seconds=29.999999)
    assert store.expired_leases(10) == []
    clock.step(microseconds=1)
    assert [job.id for job in store.expired_leases(10)] == ["a"]


def test_a_limited_number_of_expired_leases_is_returned_oldest_first(
    store: Store, clock: SteppedClock
) -> None:
    for number in range(4):
        claimed(store, f"j{number}", lease=timedelta(seconds=40 - 10 * number))
    clock.step(minutes=5)
    assert [job.id for job in store.expired_leases(3)] == ["j3", "j2", "j1"]


@pytest.mark.parametrize("turn", range(5))
def test_a_renewal_and_a_recovery_never_both_succeed(
    store: Store, other: Store, clock: SteppedClock, turn: int
) -> None:
    [job] = claimed(store, "a")
    clock.step(seconds=31)
    [look] = other.expired_leases(1)
    renewed, [saved] = race(
        lambda: store.renew("w1", held(job), LEASE), lambda: other.save([lost(look, clock)])
    )
    assert bool(renewed) != (saved.status == "accepted")
    assert store.get(["a"])["a"].state == ("processing" if renewed else "pending")


def test_of_several_concurrent_recoveries_one_succeeds(
    store: Store, other: Store, clock: SteppedClock
) -> None:
    claimed(store, "a")
    clock.step(seconds=31)
    [look] = store.expired_leases(1)
    answers = race(*[lambda h=h: h.save([lost(look, clock)])[0] for h in (store, other) * 3])
    assert sorted(statuses(answers)) == ["accepted"] + ["stale"] * 5
    assert store.get(["a"])["a"].losses == 1
