"""Single parts of the PostgreSQL driver: URLs, the clock, and the connections that it lends."""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from contract.grounds import PostgresGround, race, rising_tokens
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from facts import eventually, stays_quiet
from queuectl.domain import lifecycle, topics
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreUnavailable, StoreUnusable
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.codec import moment
from queuectl.store.driver.server_clock import ServerClock
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.postgres import PostgresStore, claim, connect, output
from queuectl.store.postgres.connect import Line
from queuectl.store.protocol import ClaimRequest, Store, Subscription, Swap
from servers.bouncer import Bouncer
from servers.postgres import GivenServer, PostgresServer


class Server:
    """The clock of a server that can become unreachable."""

    def __init__(self) -> None:
        self.asked, self.time, self.reachable = 0, 1_000_000_000, True

    def ask(self) -> int:
        self.asked += 1
        if not self.reachable:
            raise StoreUnavailable("away")
        return self.time


class TestClock:
    def test_the_clock_follows_the_server_and_is_never_ahead(self) -> None:
        server = Server()
        clock = ServerClock(server.ask, lambda: True, good_for=3600)
        started = time.monotonic()
        first, second = clock.now(), clock.now()
        assert moment(server.time) <= first <= second
        assert second <= moment(server.time) + timedelta(seconds=time.monotonic() - started)
        assert server.asked == 1

    def test_the_server_time_is_read_again_when_it_is_old(self) -> None:
        server = Server()
        clock = ServerClock(server.ask, lambda: True, good_for=0)
        clock.now()
        server.time += 5_000_000
        assert clock.now() == moment(server.time)

    def test_the_clock_does_not_go_backwards(self) -> None:
        server = Server()
        clock = ServerClock(server.ask, lambda: True, good_for=0)
        before = clock.now()
        server.time -= 60_000_000
        assert clock.now() == before

    def test_the_clock_advances_while_the_server_cannot_be_reached(self) -> None:
        server = Server()
        clock = ServerClock(server.ask, lambda: server.reachable, good_for=1e-9)
        before = clock.now()
        server.reachable = False
        assert clock.now() >= before
        assert server.asked == 1

    def test_the_clock_advances_if_reading_the_server_time_fails(self) -> None:
        server = Server()
        clock = ServerClock(server.ask, lambda: True, good_for=1e-9)
        before = clock.now()
        server.reachable = False
        assert clock.now() >= before

    def test_before_the_first_answer_the_time_is_unavailable(self) -> None:
        server = Server()
        server.reachable = False
        with pytest.raises(StoreUnavailable):
            ServerClock(server.ask, lambda: False).now()


@pytest.fixture
def ground(postgres_server: PostgresServer | GivenServer) -> Iterator[PostgresGround]:
    ground = PostgresGround(postgres_server)
    yield ground
    ground.close()


def sessions(ground: PostgresGround) -> int:
    """How many connections our stores have to this schema's queue: each names the schema in its last statement."""
    found = ground.admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()",
        (f"%{ground.schema}%",),
    ).fetchone()
    return int(found[0]) if found else 0


def end_sessions(ground: PostgresGround) -> None:
    """End all sessions, as an administrator or a restart does."""
    ground.admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()",
        (f"%{ground.schema}%",),
    )
    eventually(lambda: sessions(ground) == 0, what="the sessions to end")


class TestConnections:
    def test_a_connection_is_reused_and_closed_at_the_end(self, ground: PostgresGround) -> None:
        store = ground.open()
        for _ in range(10):
            store.counts(Filter())
        assert sessions(ground) == 1
        store.close()
        eventually(lambda: sessions(ground) == 0, what="the connection to be closed")

    def test_no_state_is_kept_in_a_database_session(self, ground: PostgresGround) -> None:
        """A connection pooler gives the session to other clients, which would otherwise see this state."""
        store = ground.open()
        store.add([new_job() for _ in range(20)])
        for _ in range(10):
            store.save(store.claim("w1", (), 1, LEASE))
            store.counts(Filter())
        line = store.session._idle[0]  # type: ignore[attr-defined]
        assert line.value("SELECT count(*) FROM pg_prepared_statements") == 0
        assert (
            line.value("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'")
            == 0
        )
        assert line.value("SELECT count(*) FROM pg_cursors") == 0

    def test_an_idle_connection_that_was_ended_is_replaced_silently(self, ground: PostgresGround) -> None:
        ground.open()
        store = PostgresStore(ground.url)
        store.now()
        end_sessions(ground)
        assert store.add([new_job("a")])[0].status == "added"
        store.close()

    def test_a_lock_that_is_kept_too_long_makes_the_store_unavailable(self, ground: PostgresGround) -> None:
        ground.open().add([new_job("a")])
        store = ground.open(patience=0.7)
        with psycopg.connect(ground.plain_url) as other:
            other.execute(f"LOCK TABLE {ground.schema}.live IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreUnavailable, match="statement timeout"):
                store.claim("w1", (), 1, LEASE)
        assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["a"]

    def test_behind_a_pooler_the_store_itself_ends_the_wait(
        self, ground: PostgresGround, bouncer: Bouncer
    ) -> None:
        ground.open().add([new_job("a")])
        store = PostgresStore(bouncer.url(schema=ground.schema), patience=0.7)
        store.counts(Filter())
        with psycopg.connect(ground.plain_url) as other:
            other.execute(f"LOCK TABLE {ground.schema}.live IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(OutcomeUnknown):
                store.claim("w1", (), 1, LEASE)
            with pytest.raises(StoreUnavailable):
                store.counts(Filter())
            eventually(lambda: not busy(ground), what="the server to give up what nobody waits for any more")
        assert store.claim("w1", (), 1, LEASE)
        assert store.session.answers
        store.close()

    def test_the_isolation_level_serializable_is_refused(
        self, ground: PostgresGround, bouncer: Bouncer, postgres_server: PostgresServer | GivenServer
    ) -> None:
        name = ground.schema
        ground.admin.execute(f"CREATE DATABASE {name}")
        ground.admin.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        pooled = PostgresStore(bouncer.url(name))
        with pytest.raises(StoreUnusable, match="isolates transactions as serializable"):
            pooled.counts(Filter())
        direct = PostgresStore(postgres_server.url(name))
        assert direct.add([new_job("a")])[0].status == "added"
        for store in (pooled, direct):
            store.close()
        ground.admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def test_a_transaction_is_repeated_after_a_deadlock(self, ground: PostgresGround) -> None:
        store, tries = ground.open(), []

        def deadlocked(line: Any) -> str:
            tries.append(line)
            if len(tries) < connect.TRIES:
                line.execute("DO $$ BEGIN RAISE 'x' USING ERRCODE = 'deadlock_detected'; END $$")
            return "done"

        assert store.session.write(deadlocked) == "done"  # type: ignore[attr-defined]
        assert len(tries) == connect.TRIES

    def test_a_closed_store_refuses_every_call(self, ground: PostgresGround) -> None:
        store = ground.open()
        store.close()
        with pytest.raises(StoreUnavailable, match="closed already"):
            store.counts(Filter())


class TestListening:
    @pytest.fixture(params=["auto", "no"], ids=["listens", "polls"])
    def store(self, request: pytest.FixtureRequest, ground: PostgresGround) -> Iterator[PostgresStore]:
        ground.open()
        with closing(PostgresStore(f"{ground.url}&listen={request.param}")) as store:
            yield store

    def test_the_topics_work_and_ends_are_notified_separately(
        self, ground: PostgresGround, store: PostgresStore
    ) -> None:
        work, ends = settled(store, topics.WORK), settled(store, topics.ENDS)
        ground.admin.execute(f"SELECT {ground.schema}.ring('end')")
        assert ends.wait(20) is True
        stays_quiet(work.wait, 0.4)
        ground.admin.execute(f"SELECT {ground.schema}.ring('work')")
        assert work.wait(20) is True

    def test_a_second_wake_up_covers_suppressed_notifications(
        self, ground: PostgresGround, store: PostgresStore
    ) -> None:
        """The function `ring` sends no notification within 50 ms of its last one."""
        work = settled(store, topics.WORK)
        ground.admin.execute(f"SELECT {ground.schema}.ring('work')")
        assert work.wait(20) is True
        assert work.wait(20) is True
        stays_quiet(work.wait, 0.3)

    def test_the_rate_of_notifications_is_limited(self, ground: PostgresGround) -> None:
        store = ground.open()
        before = time.monotonic()
        for _ in range(100):
            store.add([new_job()])
        passed = time.monotonic() - before
        count = ground.admin.execute(f"SELECT rings FROM {ground.schema}.bell WHERE name = 'work'").fetchone()
        assert count is not None
        assert 1 <= count[0] <= passed / 0.05 + 1

    def test_a_clock_that_was_set_back_does_not_stop_notifications(self, ground: PostgresGround) -> None:
        store = ground.open()
        ground.admin.execute(
            f"UPDATE {ground.schema}.bell SET rung_at = clock_timestamp() + interval '1 hour'"
        )
        store.add([new_job()])
        count = ground.admin.execute(f"SELECT rings FROM {ground.schema}.bell WHERE name = 'work'").fetchone()
        assert count == (1,)

    def test_a_heartbeat_reads_notifications_while_no_thread_waits(self, ground: PostgresGround) -> None:
        """A listener that never reads delays the notifications of all clients."""
        store = PostgresStore(ground.url)
        work = settled(store, topics.WORK)
        ground.open().add([new_job()])
        socket = store._listener.descriptor()
        eventually(lambda: select.select([socket], [], [], 0)[0], what="the notification")
        store.heartbeat(worker("w1"))
        assert not select.select([socket], [], [], 0)[0]
        assert work.wait(20) is True
        store.close()

    def test_a_listener_that_lost_its_connection_reconnects(self, ground: PostgresGround) -> None:
        store = ground.open()
        work = settled(store, topics.WORK)
        end_sessions(ground)
        assert work.wait(20) is True
        while work.wait(0.2):
            pass
        threading.Timer(0.05, lambda: ground.open().add([new_job()])).start()
        assert work.wait(20) is True

    def test_one_connection_serves_all_subscriptions(self, ground: PostgresGround) -> None:
        store = ground.open()
        waiters = [settled(store, topics.WORK) for _ in range(4)]
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s"
        assert ground.admin.execute(listening, (f'LISTEN "queuectl {ground.schema}"%',)).fetchone() == (1,)
        assert (
            race(*(partial(each.wait, 20) for each in waiters), lambda: ground.open().add([new_job()]))[:4]
            == [True] * 4
        )

    def test_behind_a_pooler_the_store_polls(self, ground: PostgresGround, bouncer: Bouncer) -> None:
        ground.open()
        store = PostgresStore(bouncer.url(schema=ground.schema))
        assert store.describe().details["wake_up"] == "polling"
        work = settled(store, topics.WORK)
        ground.open().add([new_job()])
        assert work.wait(20) is True
        store.close()


def settled(store: Store, wanted: topics.Topics) -> Subscription:
    """A subscription that has taken in what has changed so far."""
    subscription = store.subscribe(wanted)
    while subscription.wait(0.2):
        pass
    return subscription


class TestConcurrentClaims:
    """Two claims run at the same moment; the first is not committed yet."""

    def claim(self, line: Line) -> list[str]:
        return [
            job.id
            for job in claim.claim(
                line, ClaimRequest("w1", (), 1, LEASE), None, AttemptIds(rising_tokens()), SetAside()
            )
        ]

    @pytest.fixture
    def lines(self, ground: PostgresGround) -> Iterator[tuple[Line, Line]]:
        store = ground.open(patience=5.0)
        store.add([new_job("a"), new_job("b")])
        pair = store.session.open(), store.session.open()  # type: ignore[attr-defined]
        yield pair
        for line in pair:
            line.close()

    def test_the_second_claim_does_not_wait_and_takes_the_next_job(self, lines: tuple[Line, Line]) -> None:
        first, second = lines
        with first.transaction():
            assert self.claim(first) == ["a"]
            assert self.claim(second) == ["b"]

    def test_the_second_claim_of_a_limited_queue_waits_for_the_first(
        self, ground: PostgresGround, lines: tuple[Line, Line]
    ) -> None:
        assert ground.open().swap([Swap("queues", "default", {"paused": False, "limit": 1}, 0)])[0]
        first, second = lines
        answers: list[list[str]] = []
        waiting = threading.Thread(target=lambda: answers.append(self.claim(second)))
        with first.transaction():
            assert self.claim(first) == ["a"]
            waiting.start()
            eventually(lambda: answers or blocked(ground), what="the second claim at the first one's lock")
        waiting.join()
        assert answers == [[]]


class TestFolding:
    def test_counts_that_are_already_merged_are_not_written_again(self, ground: PostgresGround) -> None:
        store = ground.open()
        store.add([in_state("dead", queue=f"q{n}") for n in range(150)])
        lines = f"SELECT array_agg(ctid ORDER BY ctid)::text FROM {ground.schema}.tally"
        before = ground.admin.execute(lines).fetchone()
        store.heartbeat(worker("w1"))
        assert ground.admin.execute(lines).fetchone() == before


class TestOutputOfAnEndingJob:
    def test_a_job_cannot_end_while_its_output_is_being_written(self, ground: PostgresGround) -> None:
        """Otherwise the job could be purged meanwhile, and its output would stay for ever."""
        store = ground.open(patience=5.0)
        store.add([new_job("a")])
        [job] = store.claim("w1", (), 1, LEASE)
        ended = lifecycle.finish(job, report(now=NOW), now=NOW, random_number=0.5)
        line = store.session.open()  # type: ignore[attr-defined]
        answers: list[list[str]] = []
        leaving = threading.Thread(target=lambda: answers.append(statuses(store.save([ended]))))
        with line.transaction():
            output.write(line, [Chunk("a", job.attempt_id or "", 1, 0, NOW, 0, b"x")], [])
            leaving.start()
            eventually(lambda: answers or blocked(ground), what="the save at the lock of the output")
            assert answers == []
        leaving.join()
        line.close()
        assert answers == [["accepted"]]
        assert store.purge(Filter(), 5) == ["a"]
        assert store.describe(thorough=True).faults == ()


class TestLedger:
    def test_rows_of_counts_are_merged_with_the_same_sum(self, ground: PostgresGround) -> None:
        store = ground.open()
        for _ in range(30):
            store.add([in_state(state, queue=queue) for state in ("dead", "completed") for queue in "xy"])
        lines = f"SELECT count(*) FROM {ground.schema}.tally"
        before = ground.admin.execute(lines).fetchone()
        assert before is not None
        assert before[0] > 100
        store.purge(Filter(queue="x"), 7)
        store.heartbeat(worker("w1"))
        assert ground.admin.execute(lines).fetchone() == (4,)
        assert store.counts(Filter()).of("dead", "completed") == 113
        assert store.describe(thorough=True).faults == ()


def busy(ground: PostgresGround) -> bool:
    """Whether a statement about this schema runs."""
    found = ground.admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active' AND pid <> pg_backend_pid()",
        (f"%{ground.schema}%",),
    ).fetchone()
    return found != (0,)


def blocked(ground: PostgresGround) -> bool:
    """Whether a session waits for a lock of another one."""
    found = ground.admin.execute(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 AND query LIKE %s)",
        (f"%{ground.schema}%",),
    ).fetchone()
    return bool(found and found[0])
