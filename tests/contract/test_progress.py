"""The progress of a job: stored with a renewal or the outcome, and only that of the running or last attempt is read."""

import pytest
from msgspec.structs import replace

from contract.grounds import SteppedClock
from factories import LEASE, NOW, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Progress
from queuectl.domain.query import Filter, Page
from queuectl.store.protocol import AttemptRef, Store

HARD = "½ \x1b[1m\t\u2028 漢字 'quoted' \"twice\" \\ $x 😀"


def claimed(store: Store, *ids: str) -> list[Job]:
    store.add([new_job(id_) for id_ in ids])
    return store.claim("w1", (), len(ids), LEASE)


def progress(job: Job, percent: float = 40, message: str | None = None) -> Progress:
    assert job.attempt_id
    return Progress(attempt_id=job.attempt_id, percent=percent, message=message, at=NOW)


def ref(job: Job, noted: Progress | None = None) -> AttemptRef:
    return AttemptRef(job.id, job.attempt_id or "", noted)


def ended(job: Job, noted: Progress | None = None, exit_code: int = 0) -> Job:
    report_ = report(exit_code=exit_code, progress=noted)
    return lifecycle.finish(job, report_, now=NOW, random_number=0.5)


@pytest.mark.doubles
def test_a_renewal_stores_the_progress_of_the_attempts_that_have_one(
    store: Store, other: Store, clock: SteppedClock
) -> None:
    quiet, one, two = claimed(store, "quiet", "one", "two")
    clock.step(seconds=2)
    noted = progress(one, 40, HARD), progress(two, 33.3)
    fresh = store.renew("w1", [ref(one, noted[0]), ref(quiet), ref(two, noted[1])], LEASE)
    assert [job.progress for job in fresh] == [noted[0], None, noted[1]]
    expected = lifecycle.renew(one, lease=LEASE, now=clock.now(), progress=noted[0])
    assert fresh[0] == replace(expected, version=one.version + 1)
    assert other.get(["one"])["one"] == fresh[0]
    assert {job.progress for job in other.find(Filter(), Page()).jobs} == {*noted, None}


def test_a_renewal_without_progress_keeps_the_last_one(store: Store) -> None:
    [job] = claimed(store, "a")
    [fresh] = store.renew("w1", [ref(job, progress(job))], LEASE)
    [again] = store.renew("w1", [ref(job)], LEASE)
    assert again.progress == fresh.progress == progress(job)
    [newer] = store.renew("w1", [ref(job, progress(job, 41))], LEASE)
    assert newer.progress == progress(job, 41)


def test_the_progress_of_an_attempt_without_its_lease_is_not_stored(store: Store) -> None:
    [job] = claimed(store, "a")
    assert statuses(store.save([ended(job)])) == ["accepted"]
    assert store.renew("w1", [ref(job, progress(job))], LEASE) == []
    assert store.get(["a"])["a"].progress is None


@pytest.mark.doubles
def test_the_last_progress_goes_with_the_outcome_and_stays(store: Store) -> None:
    one, two, three = claimed(store, "one", "two", "three")
    one, two = store.renew("w1", [ref(job, progress(job, 10)) for job in (one, two)], LEASE)
    ends = [ended(one, progress(one, 99)), ended(two), ended(three, progress(three, 3, "x"), exit_code=1)]
    assert statuses(store.save(ends)) == ["accepted"] * 3
    found = store.get(["one", "two", "three"])
    assert [found[job.id].progress for job in ends] == [job.progress for job in ends]
    assert [job.progress and job.progress.percent for job in ends] == [99, 10, 3]


@pytest.mark.doubles
def test_the_next_attempt_begins_without_a_progress(store: Store, clock: SteppedClock) -> None:
    [job] = claimed(store, "a")
    assert statuses(store.save([ended(job, progress(job), exit_code=1)])) == ["accepted"]
    clock.step(hours=1)
    [again] = store.claim("w1", (), 1, LEASE)
    assert again.progress is None
    assert store.get(["a"])["a"].progress is None
    [renewed] = store.renew("w1", [ref(again)], LEASE)
    assert renewed.progress is None
    assert statuses(store.save([ended(renewed, exit_code=1)])) == ["accepted"]
    assert store.get(["a"])["a"].progress is None


def test_a_stale_save_changes_no_progress(store: Store) -> None:
    [job] = claimed(store, "a")
    [fresh] = store.renew("w1", [ref(job, progress(job))], LEASE)
    assert statuses(store.save([ended(job, progress(job, 99))])) == ["stale"]
    assert store.get(["a"])["a"] == fresh


@pytest.mark.parametrize("later", ["retry", "give_back"])
def test_a_job_that_waits_again_has_no_progress(store: Store, clock: SteppedClock, later: str) -> None:
    [job] = claimed(store, "a")
    assert statuses(store.save([ended(job, progress(job), exit_code=1)])) == ["accepted"]
    clock.step(hours=1)
    if later == "retry":
        back = lifecycle.retry(store.get(["a"])["a"], now=clock.now())
    else:
        back = lifecycle.give_back(store.claim("w1", (), 1, LEASE)[0], now=clock.now())
    assert statuses(store.save([back])) == ["accepted"]
    assert store.get(["a"])["a"].progress is None


def test_a_job_that_is_imported_keeps_its_progress(store: Store) -> None:
    [job] = claimed(store, "a")
    done = replace(ended(job, progress(job)), id="b", number=job.number + 5, version=1)
    assert [added.status for added in store.add([done, new_job("c")])] == ["added", "added"]
    assert store.get(["b"])["b"].progress == done.progress
    assert store.get(["c"])["c"].progress is None
