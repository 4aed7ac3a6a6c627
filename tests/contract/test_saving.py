"""`save` writes a batch of jobs with compare-and-swap on the version."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from contract.grounds import SteppedClock, race
from factories import LEASE, NOW, in_state, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import HISTORY_KEPT, Job, Parent
from queuectl.domain.query import Filter, Page
from queuectl.store.protocol import Store


def add(store: Store, *jobs: Job) -> list[Job]:
    return [added.job for added in store.add(jobs)]


@pytest.mark.doubles
def test_a_saved_job_is_read_back_with_the_next_version(store: Store) -> None:
    [job] = add(store, new_job("a"))
    held = lifecycle.hold(job, now=NOW)
    assert statuses(store.save([held])) == ["accepted"]
    assert store.get(["a"])["a"] == replace(held, version=2)


@pytest.mark.doubles
def test_saving_an_older_version_is_stale_and_changes_nothing(store: Store) -> None:
    [job] = add(store, new_job("a"))
    store.save([lifecycle.hold(job, now=NOW)])
    before = store.get(["a"])
    assert statuses(store.save([lifecycle.cancel(job, by="me", reason=None, now=NOW)])) == ["stale"]
    assert store.get(["a"]) == before


def test_saving_a_deleted_job_is_stale(store: Store) -> None:
    assert statuses(store.save([new_job("a")])) == ["stale"]


def test_a_batch_returns_one_status_per_job_in_its_order(store: Store) -> None:
    [a, b] = add(store, new_job("a"), new_job("b"))
    gone = new_job("gone")
    answers = store.save([lifecycle.hold(job, now=NOW) for job in (a, gone, b)])
    assert statuses(answers) == ["accepted", "stale", "accepted"]


def test_the_same_version_twice_in_a_batch_is_saved_once(store: Store) -> None:
    [job] = add(store, new_job("a"))
    held = lifecycle.hold(job, now=NOW)
    assert statuses(store.save([held, held])) == ["accepted", "stale"]


def test_a_save_never_changes_the_spec_the_number_or_the_creation_time(store: Store) -> None:
    [job] = add(store, new_job("a"))
    other_spec = replace(job.spec, command="false")
    forged = replace(job, spec=other_spec, number=99, created_at=NOW + timedelta(days=1), priority=5)
    assert statuses(store.save([forged])) == ["accepted"]
    assert store.get(["a"])["a"] == replace(job, priority=5, version=2)


def test_a_job_is_read_back_unchanged_after_every_transition(store: Store, clock: SteppedClock) -> None:
    add(store, new_job("a", max_retries=-1))
    for turn in range(HISTORY_KEPT + 2):
        clock.step(hours=2)
        [job] = store.claim("w1", (), 1, LEASE)
        started = lifecycle.note_start(job, slot=0, pid=turn, started_at=clock.now(), now=clock.now())
        assert statuses(store.save([started])) == ["accepted"]
        ended = lifecycle.finish(
            store.get(["a"])["a"],
            report(exit_code=turn + 1, now=clock.now(), host="h", user_cpu=0.25, output_tail="…\x1b[0m"),
            now=clock.now(),
            random_number=0.5,
        )
        assert statuses(store.save([ended])) == ["accepted"]
        assert store.get(["a"])["a"] == replace(ended, version=ended.version + 1)
    assert store.get(["a"])["a"].history_dropped == 2


def test_a_job_can_be_retried_only_if_its_unique_key_is_free(store: Store) -> None:
    [dead] = add(store, in_state("dead", "a", unique_key="k"))
    [rival] = add(store, new_job("b", unique_key="k"))
    revived = lifecycle.retry(dead, now=NOW)
    assert statuses(store.save([revived])) == ["duplicate"]
    assert store.get(["a"])["a"] == dead
    store.save([lifecycle.cancel(rival, by="me", reason=None, now=NOW)])
    assert statuses(store.save([revived])) == ["accepted"]


def test_a_taken_key_does_not_affect_other_jobs_of_the_batch(store: Store) -> None:
    [dead, free] = add(store, in_state("dead", "a", unique_key="k"), in_state("dead", "c"))
    add(store, new_job("b", unique_key="k"))
    assert statuses(store.save([lifecycle.retry(job, now=NOW) for job in (dead, free)])) == [
        "duplicate",
        "accepted",
    ]


def test_a_save_updates_the_parents_that_a_job_waits_for(store: Store) -> None:
    [job] = add(store, new_job("a", after=(Parent("p"), Parent("q"))))
    store.save([lifecycle.unblock(job, {"p": "completed", "q": "pending"}, now=NOW)])
    assert [j.id for j in store.find(Filter(waiting_for=("q", "p")), Page()).jobs] == ["a"]
    assert store.find(Filter(waiting_for=("p",)), Page()).jobs == []
    store.save([lifecycle.unblock(store.get(["a"])["a"], {"q": "completed", "p": "completed"}, now=NOW)])
    assert store.find(Filter(waiting_for=("q",)), Page()).jobs == []


def test_of_several_concurrent_saves_of_one_version_one_succeeds(store: Store, other: Store) -> None:
    [job] = add(store, new_job("a"))
    changes = [
        lifecycle.edit(job, priority=n, run_at=None, queue=None, now=NOW + timedelta(seconds=n))
        for n in range(8)
    ]
    handles = (store, other) * 4
    answers = race(*[lambda h=h, j=j: h.save([j])[0] for h, j in zip(handles, changes, strict=True)])
    assert sorted(statuses(answers)) == ["accepted"] + ["stale"] * 7
    assert store.get(["a"])["a"] == replace(changes[statuses(answers).index("accepted")], version=2)


def test_a_cancel_and_a_claim_never_both_succeed(store: Store, other: Store) -> None:
    jobs = add(store, *(new_job(f"j{n}") for n in range(20)))
    cancelled = [lifecycle.cancel(job, by="me", reason=None, now=NOW) for job in jobs]
    saved, claimed = race(
        lambda: [store.save([job])[0] for job in cancelled],
        lambda: [job.id for _ in range(20) for job in other.claim("w1", (), 1, LEASE)],
    )
    won = {job.id for job, answer in zip(jobs, saved, strict=True) if answer.status == "accepted"}
    assert won.isdisjoint(claimed)
    assert won.union(claimed) == {job.id for job in jobs}


def test_a_save_returns_each_job_as_stored(store: Store) -> None:
    [a, b] = add(store, new_job("a"), new_job("b"))
    answers = store.save(
        [lifecycle.hold(a, now=NOW), lifecycle.edit(b, priority=3, run_at=None, queue="q", now=NOW)]
    )
    stored = store.get(["a", "b"])
    assert [answer.job for answer in answers] == [stored["a"], stored["b"]]
    again = store.save([lifecycle.release(answers[0].job, now=NOW)])  # type: ignore[arg-type]
    assert again[0].job == store.get(["a"])["a"], "the answer serves as the next look"


def test_a_refused_save_returns_no_job(store: Store) -> None:
    [dead] = add(store, in_state("dead", "a", unique_key="k"))
    add(store, new_job("b", unique_key="k"))
    answers = store.save([lifecycle.retry(dead, now=NOW), new_job("gone")])
    assert [(answer.status, answer.job) for answer in answers] == [("duplicate", None), ("stale", None)]
