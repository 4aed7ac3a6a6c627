"""`from queuectl import Queue`: what a Python program can do, over a SQLite store of its own."""

import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import queuectl
from e2e.databases import SqliteDatabase
from python.conftest import drain, served
from queuectl import (
    ClosedQueue,
    Conflict,
    InvalidInput,
    Job,
    NotFound,
    Part,
    Queue,
    StoreUnusable,
    WaitTimeout,
)
from queuectl.errors import OutcomeUnknown
from queuectl.python import queue as module
from queuectl.service import shapes


class TestImport:
    def test_it_loads_nothing_of_ours_and_nothing_heavy(self) -> None:
        script = "import sys; before = set(sys.modules); import queuectl; print(*set(sys.modules) - before, sep='\\n')"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["queuectl"]

    def test_a_queue_loads_neither_asyncio_nor_the_drivers_of_servers(self) -> None:
        script = "import sys; from queuectl import Queue; print(*sys.modules, sep='\\n')"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert not {"asyncio", "psycopg", "pymongo", "redis", "sqlite3", "http", "ssl"} & set(
            done.stdout.split()
        )

    @pytest.mark.parametrize("name", queuectl.__all__)
    def test_every_name_that_is_listed_is_there(self, name: str) -> None:
        assert getattr(queuectl, name).__name__ == name

    def test_another_name_is_not(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
            queuectl.Nothing  # noqa: B018


class TestOpening:
    def test_nothing_is_opened_before_the_first_call(self, home: Path) -> None:
        Queue().close()
        assert not (home / "data").exists()

    def test_looking_makes_no_store_and_the_first_enqueue_does(self, queue: Queue, home: Path) -> None:
        assert queue.list() == []
        assert not (home / "data").exists()
        queue.enqueue("true")
        assert (home / "data" / "queuectl" / "queue.db").exists()

    def test_a_store_that_somebody_else_makes_is_seen(self, queue: Queue) -> None:
        assert queue.list() == []
        with Queue() as other:
            other.enqueue("true", id="a")
        assert [job.id for job in queue.list()] == ["a"]

    def test_it_is_the_store_of_the_command_line(self, queue: Queue) -> None:
        queue.enqueue("true", id="a")
        command = [sys.executable, "-m", "queuectl", "list", "--columns", "id"]
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"a\n"

    def test_a_url_names_another_one(self, queue: Queue, home: Path) -> None:
        with Queue(f"sqlite:///{home}/other.db") as other:
            other.enqueue("true", id="a")
            assert [job.id for job in other.list()] == ["a"]
        assert queue.list() == []

    def test_a_file_that_is_no_database_is_unusable(self, home: Path) -> None:
        (home / "q.db").write_bytes(b"this is not a database, " * 100)
        with Queue(f"sqlite:///{home}/q.db") as queue, pytest.raises(StoreUnusable):
            queue.list()

    def test_a_closed_queue_says_so_and_closing_again_is_nothing(self, queue: Queue) -> None:
        queue.enqueue("true")
        queue.close()
        queue.close()
        for call in (queue.list, lambda: queue.enqueue("true"), lambda: queue.show(1)):
            with pytest.raises(ClosedQueue):
                call()

    def test_threads_share_it(self, queue: Queue) -> None:
        def enqueue(name: int) -> None:
            for n in range(20):
                queue.enqueue("true", id=f"t{name}-{n}")

        threads = [threading.Thread(target=enqueue, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(queue.list(limit=None)) == 80

    def test_the_child_of_a_fork_opens_the_store_for_itself(self, queue: Queue) -> None:
        queue.enqueue("true", id="parent")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                queue.enqueue("true", id="child")
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        queue.enqueue("true", id="after")
        assert {job.id for job in queue.list()} == {"parent", "child", "after"}


class TestEnqueue:
    def test_every_argument_arrives(self, queue: Queue, home: Path) -> None:
        start = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
        job = queue.enqueue(
            "make report", id="r", queue="reports", priority=5, retries=7, no_retry_codes=[2, 64], backoff_base=3,
            backoff_factor="500ms", backoff_max=timedelta(minutes=5), jitter=0.5, timeout="10m", kill_grace=2.5,
            run_at=start, unique_key="k", batch="night", tags=("a", "b"), meta={"n": 1}, hold=True, cwd="sub",
            env={"A": "1"}, umask=0o22, stdin=b"\xff", shell="bash -e", output_limit="1KiB", split=True,
            allow_detached=True, after_failure="hold",
        )  # fmt: skip
        assert (job.id, job.command, job.queue, job.priority, job.state) == (
            "r",
            "make report",
            "reports",
            5,
            "held",
        )
        assert (job.max_retries, job.no_retry_codes, job.backoff.base, job.backoff.jitter) == (
            7,
            (2, 64),
            3,
            0.5,
        )
        assert (job.backoff.factor, job.backoff.max) == (timedelta(milliseconds=500), timedelta(minutes=5))
        assert (job.timeout, job.kill_grace) == (timedelta(minutes=10), timedelta(seconds=2.5))
        assert (job.run_at, job.unique_key, job.batch, job.tags, job.meta) == (
            start,
            "k",
            "night",
            ("a", "b"),
            {"n": 1},
        )
        assert (job.cwd, job.env, job.umask, job.stdin) == (str(home / "sub"), {"A": "1"}, 0o22, b"\xff")
        assert (job.shell, job.output_limit, job.split, job.allow_detached) == ("bash -e", 1024, True, True)
        assert job.after_failure == "hold"
        assert queue.show("r") == job

    def test_a_list_runs_without_a_shell_in_this_directory(self, queue: Queue, home: Path) -> None:
        job = queue.enqueue(["convert", "in put.png", "out.jpg"], delay=60)
        assert (job.argv, job.command, job.cwd) == (("convert", "in put.png", "out.jpg"), None, str(home))
        assert job.run_at - job.created_at == timedelta(minutes=1)

    def test_parents_are_named_in_every_way(self, queue: Queue) -> None:
        first, second = queue.enqueue("a", id="first"), queue.enqueue("b", id="second")
        child = queue.enqueue("c", after=[first, second.number, "second:any"])
        assert child.state == "blocked"
        assert [(parent.job, parent.on) for parent in child.after] == [
            ("first", "ok"), ("second", "ok"), ("second", "any")
        ]  # fmt: skip
        with pytest.raises(NotFound, match="nobody"):
            queue.enqueue("c", after="nobody")

    def test_the_same_again_is_the_same_job_and_another_is_a_conflict(self, queue: Queue) -> None:
        job = queue.enqueue("true", id="a")
        assert queue.enqueue("true", id="a") == job
        with pytest.raises(Conflict, match="other content"):
            queue.enqueue("false", id="a")
        queue.enqueue("true", unique_key="k")
        with pytest.raises(Conflict, match="unique key"):
            queue.enqueue("true", unique_key="k")

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"priority": 5000}, "priority"),
            ({"timeout": "soon"}, "timeout"),
            ({"run_at": datetime(2030, 1, 1)}, "no time zone"),
            ({"id": "a b"}, "id"),
            ({"delay": 1, "run_at": "now"}, "same thing twice"),
        ],
    )
    def test_what_cannot_be_is_refused_with_the_name_of_the_field(
        self, queue: Queue, fields: dict[str, object], said: str
    ) -> None:
        with pytest.raises(InvalidInput, match=said):
            queue.enqueue("true", **fields)  # type: ignore[arg-type]

    def test_a_lost_reply_names_the_id_to_repeat(self, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
        queue.enqueue("true")
        store = queue._open()._store

        def lose(jobs: object) -> None:
            raise OutcomeUnknown("the reply was lost")

        with monkeypatch.context() as patch:
            patch.setattr(type(store), "add", lambda _store, jobs, events: lose(jobs))
            with pytest.raises(OutcomeUnknown) as raised:
                queue.enqueue("echo once")
        [id] = raised.value.ids
        assert queue.enqueue("echo once", id=id).id == id


class TestEnqueueMany:
    def test_in_commits_while_it_is_iterated(self, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "COMMIT", 10)
        added = queue.enqueue_many(
            {"command": f"thumb {n}", "timeout": timedelta(seconds=n + 1)} for n in range(25)
        )
        assert queue.list() == []
        assert next(added).job.command == "thumb 0"
        assert len(queue.list(limit=None)) == 10
        assert [item.status for item in added] == ["added"] * 24
        assert queue.list(limit=1)[0].timeout == timedelta(seconds=25)

    def test_each_kind_of_item_and_each_status(self, queue: Queue) -> None:
        queue.enqueue("x", id="a")
        queue.enqueue("x", unique_key="k")
        items = [
            {"command": "x", "id": "a"}, {"command": "y", "id": "b", "retries": 1}, "echo", ["ls", "-l"],
            {"command": "x", "unique_key": "k"},
        ]  # fmt: skip
        added = list(queue.enqueue_many(items))
        assert [item.status for item in added] == ["existing", "added", "added", "added", "duplicate"]
        assert [item.refused is None for item in added] == [True, True, True, True, False]
        assert added[1].job.max_retries == 1

    def test_a_bad_one_is_named_and_its_commit_is_not_stored(
        self, queue: Queue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "COMMIT", 2)
        for bad in ({"comand": "x"}, {"command": "x", "priority": 5000}, " "):
            done = []
            with pytest.raises(InvalidInput) as raised:
                for item in queue.enqueue_many(["one", "two", "three", bad]):
                    done.append(item)
            assert (raised.value.index, len(done)) == (3, 2)


class TestLooking:
    def test_a_job_has_the_names_of_the_json(self, queue: Queue) -> None:
        job = queue.enqueue("true")
        stored = queue._open().show(job.id)
        assert set(Job.__struct_fields__) == shapes.job(stored).keys()

    def test_a_job_is_found_by_itself_its_id_and_its_number(self, queue: Queue) -> None:
        job = queue.enqueue("true", id="a")
        assert queue.show(job) == queue.show("a") == queue.show(job.number) == job
        with pytest.raises(NotFound):
            queue.show("b")

    def test_the_filters(self, queue: Queue) -> None:
        queue.enqueue("x", id="a", queue="mail", tags=["t"])
        queue.enqueue("x", id="b", batch="night", hold=True)
        queue.enqueue("x", id="c", queue="mail", delay=60)

        def ids(**wanted: object) -> list[str]:
            return [job.id for job in queue.list(**wanted)]  # type: ignore[arg-type]

        assert ids() == ["c", "b", "a"]
        assert ids(queue="mail") == ["c", "a"]
        assert ids(state="held") == ids(batch="night") == ["b"]
        assert ids(state=["held", "pending"], limit=2) == ["c", "b"]
        assert ids(tag="t") == ["a"]
        assert ids(since="1h", sort="next") == ["a", "c", "b"]
        assert ids(sort="number") == ["a", "b", "c"]
        assert ids(sort="ended", limit=2) == ["c", "b"]
        with pytest.raises(InvalidInput, match="no state 'hold'"):
            ids(state="hold")
        with pytest.raises(InvalidInput, match="sort"):
            ids(sort="newest")


class TestRunning:
    @pytest.mark.usefixtures("worker")
    def test_wait_output_and_follow(self, queue: Queue) -> None:
        job = queue.enqueue("echo one; echo two >&2; exit 3", retries=0)
        parts = list(queue.follow(job))
        assert b"".join(part.data for part in parts) == b"one\ntwo\n"
        job = queue.wait(job, timeout=30)
        assert (job.state, job.exit_code, job.ended) == ("dead", 3, True)
        assert job.history[0].outcome == "exited"
        output = queue.output(job)
        assert (output.text, output.data, output.omitted, output.total, output.attempt) == (
            "one\ntwo\n", b"one\ntwo\n", 0, 8, 1
        )  # fmt: skip

    @pytest.mark.usefixtures("worker")
    def test_following_goes_on_behind_a_part(self, queue: Queue) -> None:
        job = queue.enqueue("for n in 1 2 3; do echo $n; sleep 0.3; done")
        first: Part = next(queue.follow(job))
        rest = list(queue.follow(job, after=first))
        whole = first.data + b"".join(part.data for part in rest)
        assert whole == b"1\n2\n3\n"
        assert {part.attempt for part in rest} <= {1}
        assert all(part.n > first.n for part in rest)

    def test_several_are_waited_for_in_order(self, queue: Queue) -> None:
        jobs = [queue.enqueue("true", id=f"j{n}") for n in range(3)]
        drain()
        assert [(job.id, job.state) for job in queue.wait(jobs)] == [(f"j{n}", "completed") for n in range(3)]

    def test_the_time_is_over(self, queue: Queue) -> None:
        job = queue.enqueue("true", delay="1h")
        with pytest.raises(WaitTimeout, match="pending"):
            queue.wait(job, timeout=0.1)
        with pytest.raises(NotFound):
            queue.wait("nobody")

    def test_output_of_a_job_that_has_not_run(self, queue: Queue) -> None:
        output = queue.output(queue.enqueue("true"))
        assert (output.data, output.attempt) == (b"", None)


class TestActs:
    def test_one_job_is_answered_or_refused(self, queue: Queue) -> None:
        job = queue.enqueue("true")
        assert queue.hold(job).state == "held"
        assert queue.release(job.number).state == "pending"
        cancelled = queue.cancel(job.id, reason="wrong branch")
        assert (cancelled.state, "wrong branch" in (cancelled.last_error or "")) == ("cancelled", True)
        with pytest.raises(Conflict):
            queue.hold(job)
        assert queue.retry(job).state == "pending"
        with pytest.raises(NotFound):
            queue.cancel("nobody")

    def test_several_say_what_became_of_each(self, queue: Queue) -> None:
        queue.enqueue("true", id="a", queue="mail")
        queue.enqueue("true", id="b", queue="mail", hold=True)
        changes = queue.hold(queue.list(queue="mail"))
        assert [(change.id, change.changed, change.refused is None) for change in changes] == [
            ("b", False, True), ("a", True, True)
        ]  # fmt: skip
        changes = queue.cancel(["a", "b"])
        assert [change.job.state for change in changes if change.job] == ["cancelled", "cancelled"]
        assert [type(change.refused) for change in queue.release(["a", "b"])] == [Conflict, Conflict]
        assert queue.cancel([]) == []

    def test_nothing_is_changed_when_one_does_not_exist(self, queue: Queue) -> None:
        queue.enqueue("true", id="a")
        with pytest.raises(NotFound):
            queue.cancel(["a", "nobody"])
        assert queue.show("a").state == "pending"


def test_every_public_method_is_described_without_loose_arguments() -> None:
    import inspect

    for name, method in inspect.getmembers(Queue, callable):
        if name.startswith("_"):
            continue
        assert method.__doc__, name
        kinds = {parameter.kind for parameter in inspect.signature(method).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, name
    assert (Path(queuectl.__file__).parent / "py.typed").exists()


PAGE = Path(__file__).parents[2] / "docs" / "python.md"
URL = "http://127.0.0.1:7733"
"""The server of the page."""


@pytest.mark.usefixtures("worker")
def test_every_block_of_the_page_runs(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block is a program of its own. A block of text after one is what it prints."""
    monkeypatch.setenv(
        "QUEUECTL_TOKEN", "admin"
    )  # a server in a process of its own has a file with its token
    with served(SqliteDatabase(home / "data")) as url:
        run_page(PAGE, url, capsys)


@pytest.mark.usefixtures("home")
def test_the_block_on_the_page_about_schedules_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.with_name("schedules.md").read_text("utf-8")
    [block] = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(block[0], "schedules.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == block[1]


def run_page(page: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the blocks of the page; `url` is that of the server."""
    blocks = re.findall(r"```(python|text)\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) > 5
    printed = ""
    for kind, text in blocks:
        if kind == "text":
            assert printed == text
            continue
        names: dict[str, object] = {"__name__": "page"}
        exec(compile(text.replace(URL, url), str(page), "exec"), names)
        printed = capsys.readouterr().out
        for value in names.values():
            if isinstance(value, Queue):
                value.close()
