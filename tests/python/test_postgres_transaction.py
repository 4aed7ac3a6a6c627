"""`connection=` with psycopg: the caller's rows and the job, or neither. Also behind PgBouncer."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from e2e.databases import PostgresDatabase
from facts import eventually
from python.conftest import settle, started
from queuectl import (
    AsyncQueue,
    ClosedQueue,
    Conflict,
    InvalidInput,
    NotFound,
    Queue,
    StoreUnavailable,
    StoreUnusable,
)
from queuectl.store.postgres import address, joined
from queuectl.store.postgres.schema import channel, known

NEWEST = known()


@pytest.fixture(
    scope="module", params=["postgres", pytest.param("pooled", marks=pytest.mark.doubles)], name="kind"
)
def kind_(request: pytest.FixtureRequest) -> str:
    """The server itself, and behind PgBouncer."""
    return str(request.param)


@pytest.fixture(scope="module")
def database(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresDatabase]:
    door = request.getfixturevalue("bouncer") if kind == "pooled" else None
    made = PostgresDatabase(request.getfixturevalue("postgres_server"), door)
    with pytest.MonkeyPatch.context() as patch:
        settle(tmp_path_factory.mktemp("home"), patch)
        patch.setenv("QUEUECTL_STORE", made.url)
        yield made
    made.close()


@pytest.fixture(scope="module")
def queue(database: PostgresDatabase) -> Iterator[Queue]:
    with Queue() as queue:
        queue.enqueue("true", id="parent", queue="parents")
        with psycopg.connect(dsn(database)) as made:
            made.execute(f"CREATE TABLE {database.schema}.invoice (n integer PRIMARY KEY)")
        yield queue


def dsn(database: PostgresDatabase) -> str:
    """The URL as psycopg takes it: without what is only for queuectl."""
    return psycopg.conninfo.make_conninfo(**address.parse(database.url).parts)


@pytest.fixture
def db(database: PostgresDatabase, queue: Queue) -> Iterator["psycopg.Connection[Any]"]:
    """The caller's connection."""
    connection = psycopg.connect(dsn(database))
    yield connection
    connection.close()


@pytest.fixture
def other(database: PostgresDatabase) -> Iterator["psycopg.Connection[Any]"]:
    """A second connection of the caller."""
    connection = psycopg.connect(dsn(database))
    yield connection
    connection.close()


def there(queue: Queue, id: str) -> bool:
    try:
        return queue.show(id).id == id
    except NotFound:
        return False


class TestCommit:
    def test_the_job_is_there_at_commit_and_not_before(self, queue: Queue, db: Any, database: Any) -> None:
        db.execute(f"INSERT INTO {database.schema}.invoice VALUES (1)")
        job = queue.enqueue("true", id="commit", queue="tx", tags=["t"], connection=db)
        assert (job.id, job.state, job.tags) == ("commit", "pending", ("t",))
        assert not there(queue, "commit")
        db.commit()
        assert queue.show("commit") == job

    def test_a_rollback_leaves_neither(self, queue: Queue, db: Any, database: Any) -> None:
        db.execute(f"INSERT INTO {database.schema}.invoice VALUES (2)")
        queue.enqueue("true", id="rollback", connection=db)
        db.rollback()
        assert not there(queue, "rollback")
        assert db.execute(f"SELECT FROM {database.schema}.invoice WHERE n = 2").fetchall() == []

    def test_a_transaction_begins_with_the_job_and_stays_open(self, queue: Queue, db: Any) -> None:
        queue.enqueue("true", id="begins", connection=db)
        assert not there(queue, "begins")
        db.rollback()
        assert not there(queue, "begins")

    def test_a_savepoint_of_the_caller_undoes_the_job(self, queue: Queue, db: Any) -> None:
        with db.transaction():
            queue.enqueue("true", id="outer", connection=db)
            with db.transaction(force_rollback=True):
                queue.enqueue("true", id="inner", connection=db)
        assert (there(queue, "outer"), there(queue, "inner")) == (True, False)

    def test_many(self, queue: Queue, db: Any) -> None:
        added = list(
            queue.enqueue_many(({"command": f"echo {n}", "id": f"m{n}"} for n in range(3)), connection=db)
        )
        assert [each.status for each in added] == ["added"] * 3
        assert not there(queue, "m0")
        db.commit()
        assert there(queue, "m2")

    def test_it_is_the_same_job_as_without_a_connection(self, queue: Queue, db: Any) -> None:
        job = queue.enqueue("true", id="same", retries=7)
        assert queue.enqueue("true", id="same", retries=7, connection=db) == job

    def test_parents_are_seen_in_the_transaction(self, queue: Queue, db: Any) -> None:
        first = queue.enqueue("true", id="first", connection=db)
        second = queue.enqueue("true", after=[first, "parent"], connection=db)
        assert (second.state, [each.job for each in second.after]) == ("blocked", ["first", "parent"])
        with pytest.raises(NotFound):
            queue.enqueue("true", after="nobody", connection=db)
        db.commit()
        assert queue.show(second) == second

    def test_a_worker_hears_of_the_commit(self, queue: Queue, db: Any) -> None:
        with started("--queue", "wake", "--name", "waker"):
            eventually(lambda: [each for each in queue.workers() if each.name == "waker"])
            job = queue.enqueue("true", queue="wake", connection=db)
            db.commit()
            assert queue.wait(job, timeout=20).state == "completed"

    def test_the_notification_comes_with_the_commit(self, queue: Queue, db: Any, database: Any) -> None:
        listener = database._connection
        listener.execute(f'LISTEN "{channel(database.schema)}"')
        queue.enqueue("true", queue="notify", connection=db)
        queue.enqueue("true", queue="notify", connection=db)
        db.commit()
        [heard] = listener.notifies(timeout=10, stop_after=1)
        listener.execute("UNLISTEN *")
        assert heard.payload == "work"

    def test_an_open_transaction_delays_no_notification_of_others(
        self, queue: Queue, db: Any, database: Any
    ) -> None:
        """The counter of notifications must not stay locked until the caller commits."""
        database.run(
            f"UPDATE {database.schema}.bell SET rung_at = timestamptz 'epoch'"
        )  # it rings at most every 50 ms
        queue.enqueue("true", queue="bell", connection=db)
        with database._connection.transaction():
            bell = f"SELECT name FROM {database.schema}.bell WHERE name = 'work' FOR UPDATE SKIP LOCKED"
            assert database.run(bell).fetchall() == [("work",)]


class TestRefusals:
    def test_a_job_with_other_content_leaves_the_transaction_usable(self, queue: Queue, db: Any) -> None:
        queue.enqueue("true", id="taken")
        queue.enqueue("true", id="mine", connection=db)
        with pytest.raises(Conflict, match="other content"):
            queue.enqueue("false", id="taken", connection=db)
        with pytest.raises(InvalidInput):
            queue.enqueue("true", priority=5000, connection=db)
        db.commit()
        assert there(queue, "mine")

    def test_a_statement_that_the_server_refuses_leaves_the_transaction_usable(
        self, queue: Queue, db: Any, database: Any
    ) -> None:
        database.run(f"ALTER TABLE {database.schema}.body ADD CONSTRAINT refused CHECK (id <> 'refused')")
        db.execute(f"INSERT INTO {database.schema}.invoice VALUES (3)")
        with pytest.raises(Conflict) as raised:
            queue.enqueue("true", id="refused", connection=db)
        assert isinstance(raised.value.__cause__, psycopg.errors.CheckViolation)
        assert db.execute(f"SELECT n FROM {database.schema}.invoice WHERE n = 3").fetchall() == [(3,)]
        db.rollback()
        database.run(f"ALTER TABLE {database.schema}.body DROP CONSTRAINT refused")

    def test_a_failed_transaction(self, queue: Queue, db: Any) -> None:
        with pytest.raises(psycopg.Error):
            db.execute("SELECT 1 / 0")
        with pytest.raises(InvalidInput, match="has failed"):
            queue.enqueue("true", connection=db)

    def test_autocommit_needs_a_transaction(self, queue: Queue, db: Any) -> None:
        db.autocommit = True
        with pytest.raises(InvalidInput, match="autocommit"):
            queue.enqueue("true", id="auto", connection=db)
        with db.transaction():
            queue.enqueue("true", id="auto", connection=db)
            assert not there(queue, "auto")
        assert there(queue, "auto")

    def test_a_closed_connection_and_others(self, queue: Queue, db: Any) -> None:
        db.close()
        with pytest.raises(InvalidInput, match="closed"):
            queue.enqueue("true", connection=db)
        for wrong in (object(), "postgresql://", 3):
            with pytest.raises(InvalidInput, match=r"psycopg\.Connection is needed"):
                queue.enqueue("true", connection=wrong)  # type: ignore[arg-type]

    def test_a_pipeline(self, queue: Queue, db: Any, kind: str) -> None:
        if kind == "pooled":
            pytest.skip("PgBouncer of Debian 12 has no pipelines")
        with db.pipeline(), pytest.raises(InvalidInput, match="pipeline"):
            queue.enqueue("true", connection=db)

    def test_another_database(self, database: Any, db: Any) -> None:
        with Queue(database.url.replace(database.schema, "nowhere_at_all")) as elsewhere:
            db.execute("SELECT 1")
            with pytest.raises((StoreUnusable, StoreUnavailable)):
                elsewhere.enqueue("true", connection=db)
            assert db.execute("SELECT 2").fetchone() == (2,)

    def test_nothing_is_retried(self, queue: Queue, db: Any) -> None:
        """Under REPEATABLE READ a job that another transaction added meanwhile ends this one."""
        db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        db.execute("SELECT 1 FROM pg_class LIMIT 1")
        queue.enqueue("false", id="raced")
        with pytest.raises(StoreUnavailable) as raised:
            queue.enqueue("true", id="raced", connection=db)
        assert isinstance(raised.value.__cause__, psycopg.errors.SerializationFailure)

    def test_a_lost_connection_is_unavailable(self, queue: Queue, db: Any, database: Any) -> None:
        db.execute("SELECT 1")
        pid = db.execute("SELECT pg_backend_pid()").fetchone()[0]
        database.run(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises((StoreUnavailable, InvalidInput)):
            queue.enqueue("true", connection=db)


class TestSchemaVersion:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("INSERT INTO {}.migration (version) VALUES (99)", f"has schema 99, .* up to {NEWEST}"),
            ("DELETE FROM {}.migration WHERE version > 1", f"has schema 1, .* needs schema {NEWEST}"),
        ],
    )
    def test_another_one_is_refused_with_both_versions(
        self, queue: Queue, db: Any, database: Any, monkeypatch: pytest.MonkeyPatch, change: str, said: str
    ) -> None:
        """In the transaction of the caller, which is rolled back."""
        monkeypatch.setattr(joined, "_checked", set())
        db.execute(change.format(database.schema))
        with pytest.raises(StoreUnusable, match=said) as raised:
            queue.enqueue("true", connection=db)
        assert raised.value.hint
        assert db.execute("SELECT 2").fetchone() == (2,)
        db.rollback()
        assert queue.enqueue("true", connection=db).state == "pending"
        db.rollback()

    def test_it_is_read_once(self, queue: Queue, db: Any, database: Any) -> None:
        """A program that runs while a newer one migrates goes on."""
        queue.enqueue("true", id="before-migration", connection=db)
        db.execute(f"INSERT INTO {database.schema}.migration (version) VALUES (99)")
        assert queue.enqueue("true", id="during-migration", connection=db).id == "during-migration"
        db.rollback()


class TestCallersSettings:
    def test_factories_do_not_matter(self, queue: Queue, db: Any) -> None:
        db.row_factory, db.cursor_factory = dict_row, psycopg.RawCursor
        db.prepare_threshold = 0
        assert queue.enqueue("true", id="factories", after="parent", connection=db).state == "blocked"
        assert (db.row_factory, db.cursor_factory) == (dict_row, psycopg.RawCursor)
        assert db.execute("SELECT 1 AS one").fetchone() == {"one": 1}
        db.commit()
        assert there(queue, "factories")

    def test_another_encoding_is_refused(self, queue: Queue, db: Any) -> None:
        db.execute("SET client_encoding TO latin1")
        with pytest.raises(InvalidInput, match="client_encoding"):
            queue.enqueue("true", connection=db)
        db.execute("SET client_encoding TO utf8")

    def test_a_search_path_does_not_matter(self, queue: Queue, db: Any) -> None:
        db.execute("CREATE TEMPORARY TABLE body (n integer) ON COMMIT DROP")
        assert queue.enqueue("true", id="path", connection=db).id == "path"

    def test_the_handle_of_the_queue_is_not_used(self, db: Any) -> None:
        with Queue() as fresh:
            fresh.enqueue("true", id="untouched", connection=db)
            assert fresh._opened is None
        with pytest.raises(ClosedQueue):
            fresh.enqueue("true", connection=db)


def run(program: Any) -> None:
    asyncio.run(asyncio.wait_for(program, 60))


class TestAsync:
    def test_the_job_is_there_at_commit_and_not_before(self, queue: Queue, database: Any) -> None:
        async def program() -> None:
            async with (
                AsyncQueue() as asynchronous,
                await psycopg.AsyncConnection.connect(dsn(database)) as db,
            ):
                db.row_factory = dict_row
                job = await asynchronous.enqueue("true", id="async", after=["parent"], connection=db)
                added = asynchronous.enqueue_many([{"command": "true", "id": "async-many"}], connection=db)
                assert [each.status async for each in added] == ["added"]
                with pytest.raises(Conflict):
                    await asynchronous.enqueue("false", id="parent", connection=db)
                assert not there(queue, "async")
                await db.commit()
                assert queue.show("async") == job
                await asynchronous.enqueue("true", id="async-undone", connection=db)
                await db.rollback()
                assert (there(queue, "async-many"), there(queue, "async-undone")) == (True, False)

        run(program())

    def test_each_kind_takes_its_own_connection(self, queue: Queue, database: Any, db: Any) -> None:
        async def program() -> None:
            async with (
                AsyncQueue() as asynchronous,
                await psycopg.AsyncConnection.connect(dsn(database)) as own,
            ):
                with pytest.raises(InvalidInput, match=r"psycopg\.AsyncConnection is needed"):
                    await asynchronous.enqueue("true", connection=db)
                with pytest.raises(InvalidInput, match=r"psycopg\.Connection is needed"):
                    queue.enqueue("true", connection=own)

        run(program())

    def test_a_cancel_ends_the_statement_and_leaves_the_transaction_usable(
        self, queue: Queue, database: Any, db: Any
    ) -> None:
        """Else the statement would go on in the next transaction of the connection."""
        queue.enqueue("true", id="locked", connection=db)  # others that add this id wait for its commit

        async def program() -> None:
            async with (
                AsyncQueue() as asynchronous,
                await psycopg.AsyncConnection.connect(dsn(database)) as own,
            ):
                await own.execute("SELECT 1")
                begun = time.monotonic()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asynchronous.enqueue("true", id="locked", connection=own), 0.3)
                assert time.monotonic() - begun < 8
                cursor = await own.execute("SELECT 2")
                assert await cursor.fetchone() == (2,)
                await asynchronous.enqueue("true", id="after-cancel", connection=own)
                await own.commit()

        run(program())
        db.rollback()
        assert (there(queue, "after-cancel"), there(queue, "locked")) == (True, False)


def test_two_transactions_of_one_id_wait_for_each_other(queue: Queue, db: Any, other: Any) -> None:
    job = queue.enqueue("true", id="twice", connection=db)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(lambda: queue.enqueue("true", id="twice", connection=other))
        assert not second.done()
        db.commit()
        assert second.result(timeout=20) == job
