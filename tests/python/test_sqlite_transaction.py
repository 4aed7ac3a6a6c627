"""`connection=` with apsw and `sqlite3`: the caller's rows and the job, or neither; and what is refused."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from facts import eventually
from python.conftest import started
from queuectl import AsyncQueue, Conflict, InvalidInput, NotFound, Queue, StoreUnavailable, StoreUnusable
from queuectl.store.sqlite import description, name_lock


@pytest.fixture
def file(home: Path) -> Path:
    """The file of a queue that another process has made, with a table of the caller."""
    program = "from queuectl import Queue\nwith Queue() as queue: queue.enqueue('true', id='parent', queue='parents')"
    subprocess.run([sys.executable, "-c", program], check=True)
    file = home / "data" / "queuectl" / "queue.db"
    made = apsw.Connection(str(file))
    made.execute("CREATE TABLE invoice (n INTEGER PRIMARY KEY)")
    made.close()
    return file


@pytest.fixture
def queue(file: Path) -> Iterator[Queue]:
    assert file.exists()
    with Queue() as queue:
        yield queue


@pytest.fixture
def db(file: Path) -> Iterator[apsw.Connection]:
    """The caller's connection of apsw."""
    connection = apsw.Connection(str(file))
    yield connection
    connection.close()


@pytest.fixture
def safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the library of `sqlite3` were a newer one. No other library has the file open in these tests."""
    monkeypatch.setattr(description, "has_safe_log", lambda version: True)
    monkeypatch.setattr(name_lock, "_foreign", set())


@pytest.fixture
def library(file: Path, safe: None) -> Iterator[Callable[..., sqlite3.Connection]]:
    """Connections of `sqlite3` to the file."""
    made: list[sqlite3.Connection] = []

    def connect(**options: Any) -> sqlite3.Connection:
        made.append(sqlite3.connect(file, **options))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def jobs() -> list[str]:
    """The ids of all jobs, as another process sees them."""
    program = (
        "from queuectl import Queue\nwith Queue() as queue: print(*sorted(job.id for job in queue.list()))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return [id for id in done.stdout.split() if id != "parent"]


class TestApsw:
    def test_the_job_is_there_at_commit_and_not_before(self, queue: Queue, db: apsw.Connection) -> None:
        db.execute("BEGIN")
        db.execute("INSERT INTO invoice VALUES (1)")
        job = queue.enqueue("true", id="a", tags=["t"], after="parent", connection=db)
        assert (job.state, queue._opened) == ("blocked", None)
        with pytest.raises(NotFound):
            queue.show("a")
        db.execute("COMMIT")
        assert queue.show("a") == job

    def test_a_rollback_leaves_neither(self, queue: Queue, db: apsw.Connection) -> None:
        db.execute("BEGIN")
        db.execute("INSERT INTO invoice VALUES (1)")
        list(queue.enqueue_many(["true", ["ls", "-l"]], connection=db))
        db.execute("ROLLBACK")
        assert queue.list(queue="default") == []
        assert db.execute("SELECT * FROM invoice").fetchall() == []

    def test_a_savepoint_of_the_caller_undoes_the_job(self, queue: Queue, db: apsw.Connection) -> None:
        with db:
            queue.enqueue("true", id="outer", connection=db)
            with pytest.raises(ZeroDivisionError), db:
                queue.enqueue("true", id="inner", connection=db)
                raise ZeroDivisionError
        assert [job.id for job in queue.list(queue="default")] == ["outer"]

    def test_a_refusal_leaves_the_transaction_usable(self, queue: Queue, db: apsw.Connection) -> None:
        with db:
            db.execute("INSERT INTO invoice VALUES (1)")
            with pytest.raises(Conflict, match="other content"):
                queue.enqueue("false", id="parent", connection=db)
            with pytest.raises(NotFound):
                queue.enqueue("true", after="nobody", connection=db)
            queue.enqueue("true", id="mine", connection=db)
        assert queue.show("mine").state == "pending"
        assert db.execute("SELECT n FROM invoice").get == 1

    def test_a_failing_statement_is_undone_and_leaves_the_transaction_usable(
        self, queue: Queue, db: apsw.Connection
    ) -> None:
        db.execute("CREATE TEMP TRIGGER no BEFORE INSERT ON main.spec BEGIN SELECT RAISE(ABORT, 'no'); END")
        with db:
            db.execute("INSERT INTO invoice VALUES (1)")
            with pytest.raises(Conflict) as raised:
                queue.enqueue("true", id="half", connection=db)
        assert isinstance(raised.value.__cause__, apsw.ConstraintError)
        assert db.execute("SELECT n FROM invoice").get == 1
        with pytest.raises(NotFound):
            queue.show("half")

    def test_the_hooks_of_the_connection_do_not_matter(self, queue: Queue, db: apsw.Connection) -> None:
        class Wrapped(apsw.Cursor):
            def execute(self, *args: Any, **options: Any) -> Any:
                raise AssertionError(args, options)

        with db:
            db.exec_trace = refuse = lambda *_: False
            db.row_trace = change = lambda *_: ("changed",)
            db.cursor_factory = Wrapped
            queue.enqueue("true", id="a", after="parent", connection=db)
            assert (db.exec_trace, db.row_trace, db.cursor_factory) == (refuse, change, Wrapped)
            db.exec_trace = db.row_trace = None
            db.cursor_factory = apsw.Cursor
        assert queue.show("a").state == "blocked"

    def test_a_worker_sees_the_commit(self, queue: Queue, db: apsw.Connection) -> None:
        with started():
            eventually(queue.workers)
            db.set_busy_timeout(10_000)
            with db:
                job = queue.enqueue("true", connection=db)
            assert queue.wait(job, timeout=20).state == "completed"

    def test_a_connection_without_a_transaction_is_refused(self, queue: Queue, db: apsw.Connection) -> None:
        with pytest.raises(InvalidInput, match="no transaction"):
            queue.enqueue("true", connection=db)

    def test_a_locked_file_is_unavailable_and_nothing_is_retried(
        self, queue: Queue, db: apsw.Connection, file: Path
    ) -> None:
        other = apsw.Connection(str(file))
        other.execute("BEGIN IMMEDIATE")
        with db, pytest.raises(StoreUnavailable) as raised:
            queue.enqueue("true", connection=db)
        other.close()
        assert isinstance(raised.value.__cause__, apsw.BusyError)
        assert "BEGIN IMMEDIATE" in str(raised.value.hint)

    def test_the_write_lock_comes_before_the_first_read(
        self, queue: Queue, db: apsw.Connection, file: Path
    ) -> None:
        """Else a write of a worker between the two would end the transaction of the caller."""
        other = apsw.Connection(str(file))

        def parents() -> Iterator[str]:
            with pytest.raises(apsw.BusyError):
                other.execute("INSERT INTO invoice VALUES (9)")
            yield "parent"

        with db:
            queue.enqueue("true", after=parents(), connection=db)
        other.close()


class TestFile:
    def test_another_file_is_refused(self, queue: Queue, home: Path) -> None:
        for name in (str(home / "orders.db"), ":memory:", ""):
            other = apsw.Connection(name)
            with other, pytest.raises(InvalidInput, match="main database"):
                queue.enqueue("true", connection=other)
            other.close()

    def test_an_attached_file_is_refused(self, queue: Queue, home: Path, file: Path) -> None:
        other = apsw.Connection(str(home / "orders.db"))
        other.execute("ATTACH ? AS queue", (str(file),))
        with other, pytest.raises(InvalidInput, match="main database"):
            queue.enqueue("true", connection=other)
        other.close()

    def test_a_link_to_the_file_is_the_file(self, queue: Queue, home: Path, file: Path) -> None:
        (home / "link.db").symlink_to(file)
        with apsw.Connection(str(home / "link.db")) as db:
            queue.enqueue("true", id="a", connection=db)
        db.close()
        assert queue.show("a").id == "a"

    def test_a_temporary_table_that_hides_one_of_ours_is_refused(
        self, queue: Queue, db: apsw.Connection
    ) -> None:
        db.execute("CREATE TEMP TABLE job (n)")
        with db, pytest.raises(InvalidInput, match="temporary table job"):
            queue.enqueue("true", connection=db)

    def test_a_file_without_a_queue_is_unusable(self, home: Path) -> None:
        db = apsw.Connection(str(home / "new.db"))
        with Queue(f"sqlite:///{home}/new.db") as queue, db, pytest.raises(StoreUnusable, match="no queue"):
            queue.enqueue("true", connection=db)
        db.close()

    def test_another_kind_of_connection_is_refused(self, queue: Queue) -> None:
        for wrong in (object(), 7, "db"):
            with pytest.raises(InvalidInput, match=r"apsw\.Connection or a sqlite3\.Connection is needed"):
                queue.enqueue("true", connection=wrong)  # type: ignore[arg-type]

    def test_an_async_queue_takes_none(self, db: apsw.Connection) -> None:
        async def program() -> None:
            async with AsyncQueue() as queue:
                with pytest.raises(InvalidInput, match="AsyncQueue"):
                    await queue.enqueue("true", connection=db)

        asyncio.run(program())


class TestSqlite3:
    def test_a_library_that_may_lose_commits_is_refused_with_the_way_out(
        self, queue: Queue, file: Path
    ) -> None:
        if description.has_safe_log(sqlite3.sqlite_version):
            pytest.skip(f"SQLite {sqlite3.sqlite_version} of this Python has no such fault")
        with (
            sqlite3.connect(file) as db,
            pytest.raises(StoreUnusable, match=sqlite3.sqlite_version) as raised,
        ):
            queue.enqueue("true", connection=db)
        db.close()
        assert "apsw.Connection" in str(raised.value.hint)
        assert queue.list(queue="default") == []

    @pytest.mark.parametrize("isolation", ["", "IMMEDIATE", "EXCLUSIVE"])
    def test_the_job_is_there_at_commit_and_not_before(
        self, library: Any, queue: Queue, isolation: str
    ) -> None:
        db = library(isolation_level=isolation)
        job = queue.enqueue("true", id="a", after="parent", connection=db)
        assert (job.state, db.in_transaction, jobs() if isolation != "EXCLUSIVE" else []) == (
            "blocked",
            True,
            [],
        )
        db.execute("INSERT INTO invoice VALUES (1)")
        db.commit()
        assert jobs() == ["a"]

    def test_a_rollback_leaves_neither(self, library: Any, queue: Queue) -> None:
        db = library()
        db.execute("INSERT INTO invoice VALUES (1)")
        list(queue.enqueue_many(["true", ["ls", "-l"]], connection=db))
        db.rollback()
        assert (jobs(), db.execute("SELECT * FROM invoice").fetchall()) == ([], [])

    def test_autocommit_needs_a_transaction(self, library: Any, queue: Queue) -> None:
        db = library(isolation_level=None)
        with pytest.raises(InvalidInput, match="no transaction"):
            queue.enqueue("true", connection=db)
        db.execute("BEGIN")
        queue.enqueue("true", id="a", connection=db)
        assert jobs() == []
        db.execute("COMMIT")
        assert jobs() == ["a"]

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has `autocommit` since Python 3.12")
    def test_the_attribute_autocommit(self, library: Any, queue: Queue) -> None:
        with pytest.raises(InvalidInput, match="no transaction"):
            queue.enqueue("true", connection=library(autocommit=True))
        db = library(autocommit=False)
        queue.enqueue("true", id="a", connection=db)
        assert jobs() == []
        db.commit()
        assert jobs() == ["a"]

    def test_factories_do_not_matter(self, library: Any, queue: Queue) -> None:
        class Wrapped(sqlite3.Connection):
            def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
                return super().cursor(factory)

        db = library(factory=Wrapped, detect_types=sqlite3.PARSE_DECLTYPES)
        db.row_factory, db.text_factory = sqlite3.Row, bytes
        job = queue.enqueue("true", id="a", after="parent", connection=db)
        assert (db.row_factory, db.text_factory) == (sqlite3.Row, bytes)
        assert queue.enqueue("true", id="a", after="parent", connection=db) == job
        with pytest.raises(Conflict):
            queue.enqueue("false", id="a", connection=db)
        db.commit()
        assert jobs() == ["a"]

    def test_ours_open_in_this_process_refuses_it(self, library: Any, queue: Queue) -> None:
        queue.list()
        for isolation in ("", "IMMEDIATE"):
            db = library(isolation_level=isolation)
            statements: list[str] = []
            db.set_trace_callback(statements.append)
            with pytest.raises(StoreUnusable, match="two SQLite libraries"):
                queue.enqueue("true", connection=db)
            assert (statements, db.in_transaction) == (["PRAGMA database_list"], False)

    def test_a_refused_connection_has_no_transaction_that_we_began(
        self, library: Any, queue: Queue, home: Path
    ) -> None:
        other = sqlite3.connect(home / "orders.db")
        with pytest.raises(InvalidInput, match="main database"):
            queue.enqueue("true", connection=other)
        assert not other.in_transaction
        other.close()
        db = library()
        db.execute("CREATE TEMP TABLE job (n)")
        with pytest.raises(InvalidInput, match="temporary table job"):
            queue.enqueue("true", connection=db)
        assert not db.in_transaction
        db.execute("INSERT INTO invoice VALUES (1)")
        with pytest.raises(InvalidInput, match="temporary table job"):
            queue.enqueue("true", connection=db)
        assert db.in_transaction

    def test_it_is_refused_where_names_cannot_be_locked(
        self, library: Any, queue: Queue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(name_lock, "sys", SimpleNamespace(platform="darwin"))
        db = library()
        with pytest.raises(StoreUnusable, match="two SQLite libraries") as raised:
            queue.enqueue("true", connection=db)
        assert "apsw.Connection" in str(raised.value.hint)
        assert not db.in_transaction

    def test_after_it_ours_does_not_open_the_file(self, library: Any, queue: Queue) -> None:
        db = library()
        queue.enqueue("true", id="a", connection=db)
        db.commit()
        with pytest.raises(StoreUnusable, match="two SQLite libraries"):
            queue.list()
        assert queue.enqueue("true", id="a", connection=db).id == "a"

    def test_errors_are_ours(self, library: Any, queue: Queue) -> None:
        holder, db = library(isolation_level=None), library(timeout=0)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as raised:
            queue.enqueue("true", connection=db)
        cause = raised.value.__cause__
        assert cause is not None
        assert isinstance(cause.__cause__, sqlite3.OperationalError)
        db.close()
        with pytest.raises(InvalidInput, match="closed"):
            queue.enqueue("true", connection=db)


@pytest.mark.parametrize(
    ("url", "name"), [("redis://localhost:1", "Redis"), ("mongodb://localhost:1/q", "MongoDB")]
)
def test_other_stores_say_what_to_do(db: apsw.Connection, url: str, name: str) -> None:
    with Queue(url) as queue, pytest.raises(InvalidInput, match=name) as raised:
        queue.enqueue("true", connection=db)
    assert "after the commit" in str(raised.value.hint)
