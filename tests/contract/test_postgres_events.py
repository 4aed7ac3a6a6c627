"""Events on PostgreSQL, where transactions may commit in another order than they began."""

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from contract.grounds import PostgresGround
from factories import LEASE, NOW, in_state, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.event import Event, between
from queuectl.domain.job import Job
from queuectl.store.driver import codec
from queuectl.store.postgres import PostgresStore, description, joined, schema
from queuectl.store.postgres.connect import Line
from queuectl.store.protocol import Store, Swap
from servers.postgres import GivenServer, PostgresServer

FAR = timedelta(days=9999)
Connection = psycopg.Connection[Any]


@pytest.fixture
def ground(postgres_server: PostgresServer | GivenServer) -> Iterator[PostgresGround]:
    ground = PostgresGround(postgres_server)
    yield ground
    ground.close()


@pytest.fixture
def store(ground: PostgresGround) -> Store:
    store = ground.open()
    ground.admin.execute(f"CREATE TABLE {ground.schema}.orders (id int)")
    return store


@pytest.fixture
def connect(ground: PostgresGround, store: Store) -> Iterator[Callable[[], Connection]]:
    """Connections of other programs, each with a transaction that stays open until it is committed."""
    opened: list[Connection] = []

    def connect() -> Connection:
        opened.append(psycopg.connect(ground.plain_url, options=f"-c search_path={ground.schema}"))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def add(store: Store, *ids: str) -> list[Job]:
    jobs = [new_job(id) for id in ids]
    return [added.job for added in store.add(jobs, [between(None, job) for job in jobs])]


def enqueue(connection: Connection, id: str, **fields: object) -> None:
    names = "".join(f", {name} => %({name})s" for name in fields)
    connection.execute(f"SELECT enqueue('true', id => %(id)s{names})", {"id": id, **fields})


def write(connection: Connection) -> None:
    """Write into a table of the other program: the transaction gets its number now."""
    connection.execute("INSERT INTO orders VALUES (1)")


class Follower:
    """A reader that goes on from where it was, in small pages."""

    def __init__(self, store: Store) -> None:
        self.store, self.after, self.events = store, store.event_cursor(None), list[Event]()

    @property
    def seen(self) -> list[str]:
        """The jobs of all events so far."""
        while True:
            page = self.store.read_events(self.after, 2)
            assert not page.gap
            self.events += [event for _, event in page.events]
            self.after = page.next
            if not page.events:
                return [event.job for event in self.events]


def told(store: Store, after: str | None = None) -> list[tuple[str, str]]:
    events = store.read_events(after, 100).events
    return [(event.event.removeprefix("job."), event.job) for _, event in events]


def test_a_transaction_that_commits_late_loses_no_event(
    store: Store, connect: Callable[[], Connection]
) -> None:
    follower, late = Follower(store), connect()
    add(store, "a")
    assert follower.seen == ["a"]
    enqueue(late, "late")
    add(store, "b", "c")
    assert follower.seen == ["a"]
    assert store.event_cursor(None) == follower.after
    late.commit()
    assert sorted(follower.seen) == ["a", "b", "c", "late"]
    assert follower.seen.count("late") == 1


def test_of_several_late_transactions_each_event_is_read_once(
    store: Store, connect: Callable[[], Connection]
) -> None:
    follower, callers, undone = Follower(store), [connect() for _ in range(6)], connect()
    for n, caller in enumerate(callers):
        write(caller)
        enqueue(caller, f"early{n}")
    enqueue(undone, "undone")
    for n in (4, 1, 5, 0, 3, 2):
        add(store, f"own{n}")
        enqueue(callers[n], f"late{n}")
        assert len(follower.seen) == len(set(follower.seen))
        callers[n].commit()
    undone.rollback()
    assert sorted(follower.seen) == sorted(
        f"{word}{n}" for word in ("early", "own", "late") for n in range(6)
    )


def test_an_unrelated_open_transaction_delays_events_only_if_it_has_written(
    store: Store, connect: Callable[[], Connection]
) -> None:
    follower, reader, writer = Follower(store), connect(), connect()
    reader.execute("SELECT count(*) FROM orders")
    add(store, "a")
    assert follower.seen == ["a"]
    write(writer)
    add(store, "b")
    assert follower.seen == ["a"]
    writer.rollback()
    assert follower.seen == ["a", "b"]


def test_doctor_names_the_transactions_that_delay_events(
    ground: PostgresGround, store: Store, connect: Callable[[], Connection]
) -> None:
    reader, writer = connect(), connect()
    reader.execute("SELECT count(*) FROM orders")
    write(writer)
    with Line.connect(ground.plain_url, autocommit=True) as line:
        found = description.delaying_events(line, timedelta(0)) or ""
        assert f"{writer.info.backend_pid} of " in found
        assert f"{reader.info.backend_pid} of " not in found
        assert description.delaying_events(line, description.DELAYED_FOR) is None


def test_the_events_of_a_job_are_in_order_although_an_older_transaction_claims_it(
    store: Store, connect: Callable[[], Connection]
) -> None:
    """As a claim that has waited for the lock of a limited queue, and sees jobs that were added meanwhile."""
    older = connect()
    write(older)
    add(store, "a", "b")
    claim = f"SELECT id FROM claim_4('w', '{{}}', 2, 30000000, ARRAY['{'a' * 32}', '{'b' * 32}'])"
    assert older.execute(claim).fetchall() == [("a",), ("b",)]
    older.commit()
    assert told(store) == [("enqueued", "a"), ("enqueued", "b"), ("started", "a"), ("started", "b")]


def test_the_cursor_of_a_time_misses_no_event_of_transactions_that_overlap(
    store: Store, connect: Callable[[], Connection]
) -> None:
    first, second = connect(), connect()
    write(first)
    enqueue(second, "early")
    first.execute("UPDATE stepped SET now = now + 60000000")
    enqueue(first, "late")
    second.commit()
    first.commit()
    assert told(store) == [("enqueued", "late"), ("enqueued", "early")]
    later = NOW + timedelta(minutes=1)
    assert told(store, store.event_cursor(later)) == told(store)
    assert told(store, store.event_cursor(later + timedelta(seconds=1))) == []


def test_the_cursor_of_a_time_waits_for_open_transactions_as_a_reader_does(
    ground: PostgresGround, store: Store, connect: Callable[[], Connection]
) -> None:
    late = connect()
    add(store, "a")
    enqueue(late, "late")
    ground.clock.step(minutes=1)
    add(store, "b")
    after = store.event_cursor(ground.clock.now())
    late.commit()
    assert {job for _, job in told(store, after)} == {"late", "b"}


def test_an_event_of_an_open_transaction_is_not_trimmed_and_has_no_gap(
    store: Store, connect: Callable[[], Connection]
) -> None:
    follower, late = Follower(store), connect()
    add(store, "a")
    enqueue(late, "late")
    add(store, "b")
    assert follower.seen == ["a"]
    assert store.trim_events(NOW + FAR, 0, 100) == 1
    late.commit()
    assert sorted(follower.seen) == ["a", "b", "late"]


def test_events_of_another_server_are_older_than_new_ones(ground: PostgresGround, store: Store) -> None:
    """A restored dump has numbers of transactions of another server, which may be far ahead."""
    add(store, "a", "b", "c")
    store.trim_events(NOW - FAR, 2, 100)
    for table in ("event", "event_trimmed"):
        ground.admin.execute(
            f"UPDATE {ground.schema}.{table} SET xid = (xid::text::bigint + 1000000)::text::xid8"
        )
    [(old,)] = ground.admin.execute(f"SELECT max(xid::text || '-' || seq) FROM {ground.schema}.event")
    add(store, "d")
    store.trim_events(NOW - FAR, 100, 100)
    assert told(store) == [("enqueued", job) for job in "bcd"]
    page = store.read_events(old, 1)
    assert (page.gap, [event.job for _, event in page.events]) == (True, ["b"])
    assert told(store, page.next) == [("enqueued", job) for job in "cd"]


def test_the_function_enqueue_tells_its_jobs(
    ground: PostgresGround, store: Store, connect: Callable[[], Connection]
) -> None:
    caller, undone = connect(), connect()
    enqueue(caller, "a", queue="mail", batch='b"1')
    enqueue(caller, "held", hold=True)
    enqueue(caller, "child", after=["a"])
    enqueue(caller, "a", queue="mail", batch='b"1')
    enqueue(undone, "undone")
    undone.rollback()
    caller.commit()
    [user] = caller.execute("SELECT session_user::text").fetchone() or ()
    events = [event for _, event in store.read_events(None, 10).events]
    jobs = store.get(["a", "held", "child"])
    wanted = [between(None, replace(jobs[id], cause=jobs[id].cause)) for id in ("a", "held", "child")]
    assert events == [replace(event, at=NOW, by=user, via="sql") for event in wanted if event]
    assert [event.event for event in events] == ["job.enqueued", "job.held", "job.blocked"]


@pytest.mark.parametrize("value", ["ends", "none"])
def test_the_function_enqueue_follows_the_setting(
    store: Store, connect: Callable[[], Connection], value: str
) -> None:
    store.swap([Swap("settings", "events", {"value": value}, 0)])
    caller = connect()
    enqueue(caller, "a")
    caller.commit()
    assert set(store.get(["a"])) == {"a"}
    assert told(store) == []


def test_a_job_of_the_callers_transaction_has_its_event_with_the_commit(
    ground: PostgresGround, store: Store, connect: Callable[[], Connection]
) -> None:
    for id, end in (("done", "commit"), ("undone", "rollback")):
        caller = connect()
        own = joined.store(caller, ground.url, None)
        job = new_job(id)
        assert own.add([job], [between(None, job)])[0].status == "added"
        assert own.add([job], [between(None, job)])[0].status == "existing"
        assert told(store) == [("enqueued", "done")][: id == "undone"]
        getattr(caller, end)()
    assert told(store) == [("enqueued", "done")]


def test_programs_of_the_schema_before_go_on_and_tell_nothing(ground: PostgresGround, tmp_path: Path) -> None:
    old = PostgresStore(ground.url, migrations=_earlier(tmp_path))
    old.migrate()
    now = old.now()
    jobs = [new_job(id, now=now, run_at=now) for id in ("a", "b", "c")]
    assert {added.status for added in old.add(jobs)} == {"added"}
    [a] = old.claim("w", [], 1, LEASE)
    new = PostgresStore(ground.url)
    new.migrate()
    assert new.read_events(None, 10).events == []
    [b] = old.claim("w", [], 1, LEASE)
    [c] = new.claim("w", [], 1, LEASE, tell=True)
    ended = [lifecycle.finish(job, report(now=now), now=now, random_number=0.5) for job in (a, b, c)]
    assert statuses(old.save(ended[:2])) == ["accepted"] * 2
    assert statuses(new.save(ended[2:], [between(c, ended[2])])) == ["accepted"]
    assert old.swap([Swap("schedules", "s", {}, 0, adding=(new_job("d"),))]) == [True]
    assert told(new) == [("started", "c"), ("completed", "c")]
    old.close()
    new.close()


def test_reading_while_many_events_wait_to_be_deleted_returns_the_newest(store: Store) -> None:
    job = in_state("completed", "a")
    event = between(None, new_job("a"))
    for start in range(0, 3000, 1000):
        store.add([replace(job, id=f"{n}") for n in range(start, start + 1000)], [event] * 1000)
    assert [store.trim_events(NOW - FAR, 500, 1000) for _ in range(4)] == [1000, 1000, 500, 0]
    assert len(store.read_events(None, 1000).events) == 500


def test_a_line_of_the_server_is_like_one_of_the_program(ground: PostgresGround, store: Store) -> None:
    odd = 'q"\\ü\u2028'
    job = new_job("a", queue=odd, batch=odd)
    store.add([job])
    [claimed] = store.claim(f"w{odd}", [], 1, LEASE, tell=True)
    before = replace(claimed, state="pending", lease=None, attempts=0)
    wanted = between(before, claimed)
    assert wanted
    [(_, event)] = store.read_events(None, 10).events
    assert event == replace(wanted, at=NOW)
    [(line,)] = ground.admin.execute(f"SELECT line FROM {ground.schema}.event").fetchall()
    assert codec.event(0, claimed.number, line) == codec.event(0, 0, codec.event_line(wanted))


def _earlier(folder: Path) -> str:
    """The migrations of the schema before events."""
    copy = folder / "before"
    shutil.copytree(schema.SCRIPTS, copy, ignore=shutil.ignore_patterns("0007.sql", "0008.sql"))
    return str(copy)
