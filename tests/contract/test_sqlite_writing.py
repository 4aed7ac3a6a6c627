"""SQLite: group commit, counters, query plans, and the state after a crash."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from contract.grounds import SqliteGround, SteppedClock, named, race
from factories import LEASE, NOW, in_state, new_job, report
from facts import eventually
from queuectl.domain import lifecycle, topics
from queuectl.domain.job import STATES
from queuectl.domain.query import Filter
from queuectl.errors import Conflict, QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.protocol import AttemptRef, Swap
from queuectl.store.sqlite import SqliteStore, claim, find, purge, write
from queuectl.store.sqlite.saver import Saver
from queuectl.store.sqlite.sql import FOLDER


@pytest.fixture
def store(sqlite: SqliteGround) -> Iterator[SqliteStore]:
    store = SqliteStore.open(sqlite.path, clock=sqlite.clock)
    yield store
    store.close()


def hold_writer(store: SqliteStore) -> tuple[threading.Event, threading.Thread]:
    """Keep the writer busy with an operation of its own until the event is set."""
    entered, release = threading.Event(), threading.Event()

    def operation(connection: apsw.Connection) -> None:
        entered.set()
        release.wait(10)

    thread = threading.Thread(target=store.session.writer.run, args=(operation,))
    thread.start()
    entered.wait(10)
    return release, thread


def test_writes_that_wait_together_are_committed_together(store: SqliteStore) -> None:
    release, holder = hold_writer(store)
    before = store.session.writer.commits
    adders = [threading.Thread(target=store.add, args=([new_job()],)) for _ in range(20)]
    for adder in adders:
        adder.start()
    eventually(lambda: len(store.session.writer._waiting) == 20)
    release.set()
    for thread in (holder, *adders):
        thread.join()
    assert store.counts(Filter()).total() == 20
    assert store.session.writer.commits == before + 1


def test_many_threads_need_fewer_commits_than_writes(store: SqliteStore) -> None:
    before = store.session.writer.commits
    race(*[lambda: [store.add([new_job()]) for _ in range(20)]] * 10)
    assert store.counts(Filter()).total() == 200
    assert store.session.writer.commits - before < 200


def test_a_failed_write_is_rolled_back_alone(store: SqliteStore) -> None:
    release, holder = hold_writer(store)
    impossible = lifecycle.claim(new_job("bad"), attempt_id="a", worker="w", lease=LEASE, now=NOW)
    answers: dict[str, object] = {}

    def write(name: str, *jobs: object) -> None:
        try:
            answers[name] = [added.status for added in store.add(jobs)]  # type: ignore[arg-type]
        except QueuectlError as error:
            answers[name] = type(error)

    writers = [
        threading.Thread(target=write, args=("first", new_job("a"))),
        threading.Thread(target=write, args=("bad", new_job("b"), _without_lease(impossible))),
        threading.Thread(target=write, args=("last", new_job("c"))),
    ]
    for writer in writers:
        writer.start()
    eventually(lambda: len(store.session.writer._waiting) == 3)
    release.set()
    for thread in (holder, *writers):
        thread.join()
    assert answers == {"first": ["added"], "bad": Conflict, "last": ["added"]}
    assert set(store.get(["a", "b", "c", "bad"])) == {"a", "c"}
    assert store.counts(Filter()).total() == 2


def _without_lease(job: object) -> object:
    from msgspec.structs import replace

    return replace(job, lease=None)  # type: ignore[type-var]


def test_a_waiting_write_fails_when_the_store_is_closed(store: SqliteStore) -> None:
    release, holder = hold_writer(store)
    errors: list[str] = []

    def add() -> None:
        try:
            store.add([new_job()])
        except StoreUnavailable as error:
            errors.append(error.message)

    adder = threading.Thread(target=add)
    adder.start()
    eventually(lambda: store.session.writer._waiting)
    closer = threading.Thread(target=store.close)
    closer.start()
    eventually(lambda: store.session.writer._closed)
    release.set()
    for thread in (holder, adder, closer):
        thread.join()
    assert len(errors) + store_total(store) == 1


def store_total(store: SqliteStore) -> int:
    reopened = SqliteStore.open(store.session.database.path)
    total = reopened.counts(Filter()).total()
    reopened.close()
    return total


def test_the_database_refuses_a_job_in_an_impossible_state(store: SqliteStore) -> None:
    with pytest.raises(Conflict, match="impossible"):
        store.add([_without_lease(in_state("processing"))])  # type: ignore[list-item]
    assert store.counts(Filter()).total() == 0


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from factories import new_job
from queuectl.store.sqlite import SqliteStore
store = SqliteStore.open(sys.argv[1])
for turn in range(100_000):
    for added in store.add([new_job(f"j{turn}-{n}") for n in range(20)]):
        print(added.job.id, flush=True)
"""


def test_a_killed_writer_loses_no_acknowledged_job(tmp_path: Path) -> None:
    path, tests = tmp_path / "queue.db", Path(__file__).parents[1]
    for turn in range(3):
        command = [
            sys.executable,
            "-c",
            WRITER.replace("j{turn}", f"k{turn}-{{turn}}"),
            str(path),
            str(tests),
        ]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        said = [writer.stdout.readline() for _ in range(50 + 77 * turn)]
        os.kill(writer.pid, signal.SIGKILL)
        said += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        ids = [line.strip() for line in said if line.endswith("\n")]
        store = SqliteStore.open(path)
        assert set(store.get(ids)) == set(ids)
        assert store.counts(Filter()).total() % 20 == 0
        assert store.describe(thorough=True).faults == ()
        store.close()


def test_counters_agree_with_the_rows_after_random_operations(
    store: SqliteStore, sqlite: SqliteGround
) -> None:
    random_number, clock = random.Random(7), sqlite.clock
    for turn in range(300):
        clock.step(seconds=random_number.random())
        _random_step(store, clock, random_number, turn)
    rows = store.session.read(
        lambda c: c.execute("SELECT queue, state, count(*) FROM job GROUP BY 1, 2 ORDER BY 1, 2").fetchall()
    )
    tally = store.session.read(
        lambda c: c.execute("SELECT queue, state, n FROM tally WHERE n > 0 ORDER BY 1, 2").fetchall()
    )
    assert tally == rows
    assert len(rows) > 5
    for orphan in ("spec", "waiting", "output"):
        column = {"spec": "number", "waiting": "child", "output": "job"}[orphan]
        sql = f"SELECT count(*) FROM {orphan} WHERE {column} NOT IN (SELECT number FROM job)"
        assert store.session.read(lambda c, s=sql: c.execute(s).get) == 0


def _random_step(store: SqliteStore, clock: SteppedClock, random_number: random.Random, turn: int) -> None:
    now = clock.now()
    jobs = list(
        store.get([f"{turn}-{n}" for n in range(3)] + [f"{random_number.randrange(turn + 1)}-0"]).values()
    )
    step = random_number.randrange(5)
    if step == 0:
        states = [random_number.choice(STATES) for _ in range(3)]
        queue = f"q{random_number.randrange(3)}"
        store.add([in_state(s, f"{turn}-{n}", now=now, queue=queue) for n, s in enumerate(states)])
    elif step == 1:
        claimed = store.claim("w1", (), 2, LEASE)
        code = random_number.randrange(2)
        store.save(
            [
                lifecycle.finish(j, report(exit_code=code, now=now), now=now, random_number=0.5)
                for j in claimed
            ]
        )
    elif step == 2:
        store.save([lifecycle.cancel(j, by="me", reason=None, now=now) for j in jobs if not j.ended])
    elif step == 3:
        store.save([lifecycle.retry(j, now=now) for j in jobs if j.state in ("dead", "cancelled", "failed")])
    else:
        store.purge(Filter(), 1)


def plan(store: SqliteStore, sql: str, count: int) -> str:
    rows = store.session.read(lambda c: c.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * count).fetchall())
    return "; ".join(row[3] for row in rows)


@pytest.mark.parametrize(
    ("sql", "indexes"),
    [
        (claim.SQL["anything_delayed_due"], ["job_delayed"]),
        (claim.SQL["promote"], ["job_delayed"]),
        (claim.SQL["queues_ready"], ["job_ready"]),
        (claim.SQL["ready"], ["COVERING INDEX job_ready"]),
        (claim.SQL["lapsed"], ["job_processing"]),
        (write.SQL["alive_by_key"], ["job_key_alive"]),
        (write.SQL["by_ids"], ["sqlite_autoindex_job_1"]),
        (write.SQL["update_job"], ["sqlite_autoindex_job_1"]),
        (f"{purge._FIRST}TRUE{purge._ENDED}", ["job_ended"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_frequent_statements_use_their_index(store: SqliteStore, sql: str, indexes: list[str]) -> None:
    found = plan(store, sql, sql.count("?"))
    assert all(index in found for index in indexes), found
    assert "SCAN job" not in found.replace("SCAN job USING INDEX", "").replace("SCAN job USING COVERING", "")
    assert "TEMP B-TREE" not in found or "by_ids" in sql


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(states=frozenset({"dead"})), "job_rare"),
        (Filter(states=frozenset({"failed", "blocked"})), "job_rare"),
        (Filter(states=frozenset({"processing"})), "job_processing"),
        (Filter(worker="w1"), "job_processing"),
        (Filter(ended_before=NOW), "job_ended"),
        (Filter(batch="b"), "job_batch"),
        (Filter(unique_key="k"), "job_key"),
        (Filter(waiting_for=("p",)), "waiting USING PRIMARY KEY"),
        (Filter(id_prefix="x"), "sqlite_autoindex_job_1"),
        (Filter(ids=("x", "y")), "sqlite_autoindex_job_1"),
        (Filter(number=5), "INTEGER PRIMARY KEY (rowid=?)"),
    ],
    ids=named,
)
def test_frequent_filters_use_their_index(store: SqliteStore, wanted: Filter, index: str) -> None:
    where, values = find.conditions(wanted)
    found = plan(store, f"{find._NUMBERS}{where} ORDER BY job.number DESC LIMIT 50", len(values))
    assert index in found, found


def test_the_newest_jobs_are_listed_without_sorting_all(store: SqliteStore) -> None:
    where, _ = find.conditions(Filter())
    found = plan(store, f"{find._NUMBERS}{where} ORDER BY job.number DESC LIMIT 50", 0)
    assert "TEMP B-TREE" not in found


def test_every_statement_has_a_name_and_a_purpose() -> None:
    for file in (Path(FOLDER) / "queries").glob("*.sql"):
        headings = [line for line in file.read_text().splitlines() if line.startswith("-- ")]
        assert headings
        assert all(": " in heading for heading in headings), file


def test_a_poll_that_finds_nothing_writes_nothing(store: SqliteStore) -> None:
    store.add([new_job(queue="x"), new_job(run_at=NOW + timedelta(days=1)), in_state("dead")])
    store.swap([Swap("queues", "x", {"paused": True, "limit": None}, 0)])
    store.claim("w1", (), 5, LEASE)
    before = store.session.writer._opened().total_changes()
    log = Path(store.session.database.log).stat().st_size
    for _ in range(20):
        assert store.claim("w1", (), 5, LEASE) == []
    assert store.session.writer._opened().total_changes() == before
    assert Path(store.session.database.log).stat().st_size == log


def test_a_poll_that_finds_nothing_does_not_wait_for_a_writer(sqlite: SqliteGround) -> None:
    store = SqliteStore.open(sqlite.path, clock=sqlite.clock, patience=0.05)
    store.add([new_job("a")])
    assert [len(store.claim("w1", (), 5, LEASE)) for _ in range(2)] == [1, 0]
    writer = apsw.Connection(str(sqlite.path))
    writer.execute("BEGIN IMMEDIATE")
    assert store.claim("w1", (), 5, LEASE) == []
    writer.execute("ROLLBACK")
    writer.close()
    store.close()


def test_a_reader_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(StoreUnusable):
        store.session.read(lambda c: c.execute("DELETE FROM job"))


def test_statements_are_not_prepared_again_for_each_value(store: SqliteStore) -> None:
    assert store.session.read(lambda c: c.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1)) == 1
    assert store.session.writer.alone(lambda c: c.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1)) == 1


def test_a_renewal_does_not_wake_its_own_worker(store: SqliteStore) -> None:
    store.add([new_job("a")])
    [job] = store.claim("w1", (), 1, LEASE)
    news = store.subscribe(topics.WORK)
    while news.wait(0.05):
        pass
    store.renew("w1", [AttemptRef("a", job.attempt_id or "")], LEASE)
    assert news.wait(0.05) is False


def test_more_delayed_jobs_than_one_claim_promotes_are_all_claimed(
    store: SqliteStore, sqlite: SqliteGround
) -> None:
    count = claim.PROMOTED_AT_ONCE + 50
    store.add([new_job(run_at=NOW + timedelta(seconds=1)) for _ in range(count)])
    sqlite.clock.step(seconds=2)
    assert sum(len(store.claim("w1", (), 600, LEASE)) for _ in range(4)) == count


def test_a_fast_store_syncs_its_log_within_the_interval_and_at_close(tmp_path: Path) -> None:
    synced: list[str] = []
    store = SqliteStore.open(tmp_path / "queue.db", durability="fast", save_interval=0.01)
    assert store._saver
    save, store._saver.save = store._saver.save, lambda: (synced.append("x"), save())  # type: ignore[func-returns-value, method-assign, assignment]
    store.add([new_job()])
    eventually(lambda: synced)
    eventually(lambda: not store._saver._dirty.is_set())  # type: ignore[union-attr]
    store.add([new_job()])
    store.close()
    assert not store._saver._dirty.is_set()


def test_a_clean_log_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = Saver(tmp_path / "queue.db-wal", 1.0)
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("synced a clean log"))
    saver.save()
