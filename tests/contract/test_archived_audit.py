"""The audit compares queue and archive and repairs the differences, while other processes continue."""

from collections.abc import Callable

import pytest

from contract.archived import Between, counted, ids, move_all
from contract.test_archived_moving import before, retry
from factories import LEASE, in_state, new_job
from queuectl.domain import lifecycle
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable
from queuectl.store.redis_archive import ArchivedStore, audit
from queuectl.store.redis_archive.audit import LOST, MISCOUNTED, UNKNOWN

PAST = [f"past{n}" for n in range(10)]


@pytest.fixture
def between(between_ground: Between, monkeypatch: pytest.MonkeyPatch) -> Between:
    """A queue with ten archived jobs, of which the audit compares three at a time."""
    monkeypatch.setattr(audit, "AT_ONCE", 3)
    store = between_ground.fresh()
    store.add([in_state("completed", id) for id in PAST])
    move_all(store)
    return between_ground


@pytest.fixture
def store(between: Between) -> ArchivedStore:
    return between.fresh()


@pytest.fixture
def other(between: Between) -> ArchivedStore:
    return between.fresh()


def test_the_audit_of_a_correct_queue_finds_no_fault(between: Between, store: ArchivedStore) -> None:
    assert store.archiver._audit.repair() == {}
    assert between.server.call("GET", between.key("mended")) is None
    assert counted(store) == {"completed": 10}


def test_archived_jobs_missing_in_redis_are_entered_again(between: Between, store: ArchivedStore) -> None:
    for id in PAST[2:7]:
        between.server.call("ZREM", between.key("past"), id)
    assert ids(store) == PAST[:2] + PAST[7:]
    assert between.faults()[UNKNOWN] == 5
    assert store.archiver._audit.repair()[UNKNOWN] == 5
    assert ids(store) == PAST
    assert between.faults() == {}
    assert retry(store, PAST[3]) == "accepted"


def test_jobs_missing_in_the_archive_are_removed_from_redis_and_counts(
    between: Between, store: ArchivedStore
) -> None:
    between.past.base["jobs"].delete_many({"id": {"$in": PAST[:4]}})
    assert between.faults() == {LOST: 4, MISCOUNTED: 1}
    assert store.archiver._audit.repair() == {LOST: 4, MISCOUNTED: 1}
    assert counted(store) == {"completed": 6}
    assert [added.status for added in store.add([in_state("completed", PAST[0])])] == ["added"]


def test_wrong_counts_are_corrected(between: Between, store: ArchivedStore) -> None:
    sums = between.key("past_counts")
    between.server.call("HSET", sums, "completed default", "99", "dead nobody's", "1")
    assert store.archiver._audit.repair() == {MISCOUNTED: 2}
    assert counted(store) == {"completed": 10}


def test_the_audit_raises_the_job_counter_above_archived_numbers(
    between: Between, store: ArchivedStore
) -> None:
    between.server.call("SET", between.key("number"), "4")
    store.archiver._audit.repair()
    (added,) = store.add([new_job("new")])
    assert added.job.number == 11


def test_doctor_shows_the_repairs_and_their_time(between: Between, store: ArchivedStore) -> None:
    between.past.base["jobs"].delete_one({"id": PAST[0]})
    store.archiver._audit.repair()
    said = store.describe(thorough=True)
    assert said.faults == ()
    assert said.details["mended"].startswith(f"1 {LOST}, 1 {MISCOUNTED}, at {between.clock.now():%Y-%m-%d}T")
    when, kinds = store.session.read(audit.last_repair) or (None, {})
    assert (when, kinds) == (between.clock.now(), {LOST: 1, MISCOUNTED: 1})


CHANGES: dict[str, Callable[[ArchivedStore], object]] = {
    "retried": lambda store: [retry(store, id) for id in PAST],
    "deleted": lambda store: store.purge(Filter(), 10),
    "retried and run": lambda store: [_run(store, id) for id in PAST],
    "added": lambda store: [store.add([in_state("dead", "late")]), move_all(store)],
}


def _run(store: ArchivedStore, id: str) -> None:
    retry(store, id)
    (job,) = store.claim("w1", (), 1, LEASE)
    (job,) = store.get([job.id]).values()
    store.save([lifecycle.give_back(job, now=store.now())])
    (job,) = store.get([id]).values()
    store.save([lifecycle.cancel(job, by="test", reason=None, now=store.now())])
    move_all(store)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("verb", ["copies", "existing_ids"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_change_during_the_audit_is_counted_once(
    between: Between,
    store: ArchivedStore,
    other: ArchivedStore,
    change: str,
    verb: str,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A range is announced, read and compared; other changes happen between these steps."""
    between.server.call(
        "HSET", between.key("past_counts"), "completed default", "12"
    )  # otherwise nothing is repaired
    if when == "before":
        before(store._archive, verb, lambda: CHANGES[change](other), monkeypatch)
    else:
        _after(store, verb, lambda: CHANGES[change](other), monkeypatch)
    store.archiver._audit.repair()
    assert counted(other) == _true_counts(other)
    other.archiver.finish_all()
    assert between.faults() == {}


def _after(
    store: ArchivedStore, verb: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a function after the second call of a verb and before its answer is used."""
    call, calls = getattr(store._archive, verb), [0]

    def later(*args: object, **options: object) -> object:
        answer = call(*args, **options)
        calls[0] += 1
        if calls[0] == 2:
            act()
        return answer

    monkeypatch.setattr(store._archive, verb, later)


def _true_counts(store: ArchivedStore) -> dict[str, int]:
    sums: dict[str, int] = {}
    for job in store.get(ids(store)).values():
        sums[job.state] = sums.get(job.state, 0) + 1
    return sums


def test_of_two_concurrent_audits_the_later_one_counts(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    between.server.call("HSET", between.key("past_counts"), "completed default", "12")
    _after(store, "copies", lambda: other.archiver._audit.repair(), monkeypatch)
    store.archiver._audit.repair()
    assert counted(store) == {"completed": 10}


def test_the_audit_runs_once_and_again_after_a_change_of_history(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    for each in (store, other):
        monkeypatch.setattr(each.archiver._audit, "repair", lambda: looks.append(None))
    store.archiver._reconcile()
    other.archiver._reconcile()
    assert len(looks) == 1
    between.server.call("SET", between.key("history"), "another server")
    other.archiver._reconcile()
    store.archiver._reconcile()
    assert len(looks) == 2


def test_after_a_complete_audit_no_process_runs_another_for_a_day(
    between: Between, store: ArchivedStore
) -> None:
    store.archiver._reconcile()
    assert 86_000_000 < between.server.call("PTTL", between.key("turn:audit")) <= 86_400_000


def test_after_a_failed_audit_another_process_may_start_in_a_minute(
    between: Between, store: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("the archive is away")

    monkeypatch.setattr(store._archive, "copies", away)
    with pytest.raises(StoreUnavailable):
        store.archiver._reconcile()
    assert 0 < between.server.call("PTTL", between.key("turn:audit")) <= 60_000


def test_a_deletion_is_recorded_for_a_day(between: Between, store: ArchivedStore) -> None:
    store.purge(Filter(id_prefix=PAST[0]), 1)
    assert between.server.call("ZCARD", between.key("gone")) == 1
    between.clock.step(days=1, seconds=1)
    store.purge(Filter(id_prefix=PAST[1]), 1)
    assert between.server.call("ZCARD", between.key("gone")) == 1


def test_an_audit_that_only_reads_does_not_stop_a_repairing_audit(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in PAST:
        between.server.call("ZREM", between.key("past"), id)
    _after(store, "copies", lambda: other.describe(thorough=True), monkeypatch)
    assert store.archiver._audit.repair()[UNKNOWN] == 10
    assert ids(store) == PAST


def test_an_audit_that_another_one_replaced_reports_no_repair(
    between: Between, store: ArchivedStore, other: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    between.server.call("DEL", between.key("turn:audit"))

    def begin(*_: object) -> None:
        run = audit.Run("another", repairs=True)
        other.session.write(audit.begin, run, audit.FIRST, audit.FIRST)

    _after(store, "copies", begin, monkeypatch)
    store.archiver._reconcile()
    assert 0 < between.server.call("PTTL", between.key("turn:audit")) <= 60_000
    assert 0 < between.server.call("PTTL", between.key("recounting:past_counts")) <= 600_000
