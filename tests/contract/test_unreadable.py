"""A job that cannot be decoded stops no other job: it is skipped, set aside, listed, and can be deleted."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from circles import its_turn
from contract.archived import Between, move_all
from contract.damage import EDITS, Edit
from contract.grounds import Ground, MongoGround, PostgresGround, SqliteGround, SteppedClock, ground_of
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page, Unreadable
from queuectl.domain.queue import QueueChange
from queuectl.service import commands, queue_status
from queuectl.store.driver import set_aside
from queuectl.store.protocol import AttemptRef, Store, Swap

NAMES = sorted({name for edits in EDITS.values() for name in edits})
"""Every damage. `make test` shows each one every other day, on one of the stores on which it is possible; `make proof`
shows it on all.
"""


def shown_on(name: str) -> str:
    """The store on which `make test` shows a damage."""
    possible = [kind for kind in EDITS if name in EDITS[kind]]
    return possible[NAMES.index(name) % len(possible)]


CASES = [
    pytest.param(
        kind,
        name,
        marks=() if kind == shown_on(name) and its_turn(NAMES.index(name), 2) else pytest.mark.proof,
    )
    for kind, edits in EDITS.items()
    for name in edits
]


@pytest.fixture
def ground(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    with ground_of(kind, tmp_path, request.getfixturevalue) as ground:
        yield ground


@pytest.fixture
def edit(kind: str, name: str) -> Edit:
    return EDITS[kind][name]


def listed(store: Store, sort: Any, limit: int) -> tuple[list[str], dict[int, Unreadable]]:
    """All readable and unreadable jobs, page by page."""
    ids, damaged, after = list[str](), dict[int, Unreadable](), None
    while True:
        found = store.find(Filter(), Page(sort=sort, limit=limit, after=after))
        ids += [job.id for job in found.jobs]
        damaged |= {each.number: each for each in found.unreadable}
        after = found.next
        if after is None:
            return ids, damaged


@pytest.mark.parametrize("kind", EDITS)
def test_a_claim_handles_a_bounded_number_of_unreadable_jobs(
    ground: Ground, store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In SQLite no other process can write meanwhile: 20,000 unreadable jobs blocked all others for ten seconds."""
    monkeypatch.setattr(set_aside, "AT_ONCE", 3)
    store.add([*(new_job(f"bad{n}") for n in range(9)), new_job("good")])
    edit = next(iter(EDITS[kind].values()))
    for n in range(9):
        edit(ground, f"bad{n}")
    claimed, met = list[str](), list[int]()
    while not claimed:
        claimed = [job.id for job in store.claim("w1", (), 2, LEASE)]
        met.append(len(store.set_aside(expired=False)))
    assert (claimed, sum(met)) == (["good"], 9)
    assert max(met) <= 4


@pytest.mark.parametrize(("kind", "name"), CASES)
class TestUnreadableJob:
    def test_an_unreadable_job_is_skipped_set_aside_and_listed(
        self, ground: Ground, store: Store, edit: Edit
    ) -> None:
        added = store.add([new_job("first"), new_job("bad", tags=("t",)), new_job("last", tags=("t",))])
        number = added[1].job.number
        edit(ground, "bad")
        assert [job.id for job in store.claim("w1", (), 2, LEASE)] == ["first", "last"]
        assert store.claim("w1", (), 2, LEASE) == []
        [set_aside] = store.set_aside(expired=True)
        assert (set_aside.id, set_aside.number) == ("bad", number)
        assert set_aside.reason
        assert store.set_aside(expired=True) == []
        with closing(ground.open()) as other:
            assert other.claim("w2", (), 2, LEASE) == []
            assert other.set_aside(expired=True) == [], "whoever comes later does not find it again"
        found = store.get(["first", "bad", "none"])
        assert (set(found), set(found.unreadable)) == ({"first"}, {"bad"})
        assert store.counts(Filter()).total() == 3
        for sort in ("created", "updated", "next"):
            for limit in (1, 2, 50):
                ids, damaged = listed(store, sort, limit)
                assert sorted(ids) == ["first", "last"]
                assert list(damaged) == [number] or sort != "created", "which is the order of `doctor`"
        assert [job.id for job in store.find(Filter(tag="t"), Page()).jobs] == ["last"]
        assert [each.id for each in store.find(Filter(number=number), Page()).unreadable] == ["bad"]
        assert [each.id for each in store.find(Filter(id_prefix="bad"), Page()).unreadable] == ["bad"]

    def test_an_unreadable_job_can_be_deleted_completely(
        self, ground: Ground, store: Store, edit: Edit
    ) -> None:
        added = store.add([new_job("good"), new_job("bad", unique_key="k")])
        edit(ground, "bad")
        said = store.add([new_job("fresh"), new_job("bad", unique_key="k"), new_job("other", unique_key="k")])
        assert (said[0].status, said[0].job.id) == ("added", "fresh")
        assert said[1].status in ("conflict", "duplicate"), (
            "which of the two is seen first is the driver's affair"
        )
        assert (said[2].status, said[2].job.number) == ("duplicate", added[1].job.number)
        assert statuses(store.save([said[0].job])) == ["accepted"]
        store.claim("w1", (), 2, LEASE)
        numbers = [item.job.number for item in added]
        assert store.discard(numbers) == numbers[1:]
        assert store.discard(numbers) == []
        assert store.get(["bad"]).unreadable == {}
        assert store.counts(Filter()).total() == 2
        assert sorted(listed(store, "updated", 9)[0]) == ["fresh", "good"]
        assert listed(store, "updated", 9)[1] == {}
        assert [item.status for item in store.add([new_job("bad", unique_key="k")])] == ["added"]
        assert store.describe(thorough=True).faults == ()

    def test_a_running_unreadable_job_is_set_aside_when_its_lease_expires(
        self, ground: Ground, store: Store, clock: SteppedClock, edit: Edit, name: str
    ) -> None:
        store.add([new_job("bad"), new_job("good")])
        claimed = store.claim("w1", (), 2, LEASE)
        edit(ground, "bad")
        held = [AttemptRef(job.id, str(job.attempt_id)) for job in claimed]
        assert [job.id for job in store.renew("w1", held, LEASE)] == ["good"]
        clock.step(hours=1)
        assert [job.id for job in store.expired_leases(1)] == ["good"]
        if name != "state: none":  # which no index of leases holds either: `doctor` finds it
            assert [each.id for each in store.set_aside(expired=True)] == ["bad"]
        assert [each.id for each in store.set_aside(expired=True)] == []
        assert [job.id for job in store.expired_leases(9)] == ["good"]
        running = Filter(states=frozenset(("processing",)))
        assert store.counts(running).total() == 1
        assert store.find(running, Page()).unreadable == []

    def test_an_ended_unreadable_job_is_not_purged(
        self, ground: Ground, store: Store, clock: SteppedClock, edit: Edit
    ) -> None:
        ended = [in_state("completed", id, now=NOW) for id in ("bad", "good")]
        bad, _ = [item.job for item in store.add(ended)]
        store.counts(Filter())
        edit(ground, "bad")
        clock.step(days=100)
        assert store.purge(Filter(ended_before=clock.now()), 1) == ["good"]
        assert store.purge(Filter(), 9) == []
        assert set(store.get(["bad"]).unreadable) == {"bad"}
        assert store.discard([bad.number]) == [bad.number]
        assert store.counts(Filter()).total() == 0
        assert store.describe(thorough=True).faults == ()


@pytest.mark.parametrize("kind", EDITS)
def test_many_unreadable_jobs_do_not_block_later_jobs(ground: Ground, kind: str, store: Store) -> None:
    edit = next(iter(EDITS[kind].values()))
    store.add([new_job(f"bad{n}", priority=9) for n in range(40)])
    for n in range(40):
        edit(ground, f"bad{n}")
    store.add([new_job(f"good{n}") for n in range(3)])
    assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["good0"]
    assert len(store.set_aside(expired=True)) == 40
    for sort in ("created", "updated", "next"):
        ids, damaged = listed(store, sort, 1)
        assert (sorted(ids), len(damaged)) == (["good0", "good1", "good2"], 40)


def tamper(ground: Any, table: str, key: str, text: str) -> None:
    """Write an entry of a shared table, or of the registry (`worker`), as a hand would."""
    if isinstance(ground, SqliteGround):
        run = _statement(ground)
        if table == "worker":
            run("UPDATE worker SET worker = ? WHERE id = ?", (text, key))
        else:
            run("UPDATE shared SET value = ? WHERE name = ? AND key = ?", (text, table, key))
    elif isinstance(ground, PostgresGround):
        if table == "worker":
            ground.admin.execute(f"UPDATE {ground.schema}.worker SET worker = %s WHERE id = %s", (text, key))
        else:
            change = f"UPDATE {ground.schema}.shared SET value = %s::jsonb WHERE name = %s AND key = %s"
            ground.admin.execute(change, ('"text"' if text in ("{", "") else text, table, key))
    elif isinstance(ground, MongoGround):
        name = key if table == "worker" else f"{table}/{key}"
        where, field = ("workers", "worker") if table == "worker" else ("shared", "value")
        assert ground.base[where].update_one({"_id": name}, {"$set": {field: text}}).matched_count == 1
    else:
        name, entry = ("workers", text) if table == "worker" else (f"shared:{table}", f"1 {text}")
        ground.server.call("HSET", f"{ground.tag}:{name}", key, entry)


VALID = (
    "[]",
    '{"paused": "perhaps", "limit": null}',
    '{"paused": false, "limit": "three"}',
    '{"limit": 1.5}',
)


def _statement(ground: SqliteGround) -> Any:
    def run(statement: str, values: tuple[Any, ...]) -> None:
        with closing(apsw.Connection(str(ground.path))) as connection:
            connection.execute(statement, values)
            assert connection.changes() == 1

    return run


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("text", ["{", "", *VALID])
def test_a_queue_with_damaged_settings_is_paused_and_others_continue(
    ground: Ground, kind: str, store: Store, text: str
) -> None:
    assert store.swap([Swap("queues", "odd", {"paused": False, "limit": 2}, 0)])[0]
    store.add([new_job("a", queue="odd"), new_job("b")])
    tamper(ground, "queues", "odd", text)
    assert [job.id for job in store.claim("w1", (), 9, LEASE)] == ["b"]
    assert store.claim("w1", ("odd",), 9, LEASE) == []
    [status] = [each for each in queue_status.queues(store) if each.name == "odd"]
    assert status.paused
    assert commands.change_queue(store, "odd", QueueChange(paused=False))
    assert [job.id for job in store.claim("w1", (), 9, LEASE)] == ["a"]


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("text", ["{", "", "[]", '{"id": 1}'])
def test_a_worker_with_a_damaged_entry_is_lost_until_its_next_heartbeat(
    ground: Ground, kind: str, store: Store, text: str
) -> None:
    store.heartbeat(worker("w1"))
    store.heartbeat(worker("w2"))
    tamper(ground, "worker", "w1", text)
    known = {each.id: each for each in store.workers()}
    assert known.keys() == {"w1", "w2"}
    assert known["w1"].heartbeat is None
    assert "cannot be read" in str(known["w1"].note)
    store.heartbeat(worker("w1"))
    assert [each.heartbeat for each in store.workers()] == [NOW, NOW]
    tamper(ground, "worker", "w1", text)
    store.forget("w1")
    assert [each.id for each in store.workers()] == ["w2"]


def spoil_chunk(ground: Any, attempt_id: str) -> None:
    """Damage the second chunk of an attempt."""
    if isinstance(ground, SqliteGround):
        _statement(ground)("UPDATE output SET at = ? WHERE attempt_id = ? AND n = 2", (2**63 - 1, attempt_id))
    elif isinstance(ground, PostgresGround):
        change = f"UPDATE {ground.schema}.output SET stream = 7 WHERE attempt_id = %s AND n = 2"
        assert ground.admin.execute(change, (attempt_id,)).rowcount == 1
    elif isinstance(ground, MongoGround):
        change = {"$set": {"data": "text"}}
        assert ground.base["output"].update_one({"_id": {"a": attempt_id, "n": 2}}, change).matched_count == 1
    else:
        key = f"{ground.tag}:output:{attempt_id}"
        [packed] = ground.server.call("ZRANGEBYSCORE", key, 2, 2)
        ground.server.call("ZREM", key, packed)
        ground.server.call("ZADD", key, 2, b"0000000000000002 j \xc1")


@pytest.mark.parametrize("kind", EDITS)
def test_an_unreadable_chunk_is_missing_and_other_chunks_are_returned(
    ground: Ground, kind: str, store: Store
) -> None:
    store.add([new_job("j")])
    [job] = store.claim("w1", (), 1, LEASE)
    attempt_id = str(job.attempt_id)
    store.write_output([Chunk("j", attempt_id, n, 0, NOW, n, b"x") for n in (1, 2, 3)])
    spoil_chunk(ground, attempt_id)
    assert [chunk.n for chunk in store.read_output(attempt_id, 0)] == [1, 3]
    assert statuses(store.save([lifecycle.finish(job, report(), now=NOW, random_number=0.5)])) == ["accepted"]
    assert [chunk.n for chunk in store.read_output(attempt_id, 0)] == [1, 3]


def test_an_ended_unreadable_job_is_not_archived(redis_server: Any, mongo_server: Any) -> None:
    """The archive cannot store such a job, and a job that is not archived is not deleted."""
    with closing(Between(redis_server, mongo_server)) as ground:
        store = ground.fresh()
        store.add([in_state("completed", "bad"), in_state("completed", "good")])
        EDITS["redis"]["history: no JSON"](ground, "bad")
        move_all(store)
        assert ground.here() == ["bad"]
        assert ground.copies() == ["good"]
        assert ground.unmoved() == 0
        assert set(store.get(["bad", "good"]).unreadable) == {"bad"}
        [number] = [each.number for each in store.find(Filter(), Page()).unreadable]
        assert store.discard([number]) == [number]
        assert ground.faults() == {}
