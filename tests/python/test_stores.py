"""Each method of `Queue` on each kind of store, and through a server.

The tests of one file share a store, so each has a queue of its own.
"""

import asyncio
import inspect
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from e2e.databases import Database
from facts import eventually
from python.conftest import served, started
from queuectl import AsyncQueue, Conflict, InvalidInput, NotFound, Queue, WaitTimeout


@pytest.fixture(scope="module")
def queue(database: Database, kind: str) -> Iterator[Queue]:
    with ExitStack() as stack:
        url, token = (stack.enter_context(served(database)), "admin") if kind == "http" else (None, None)
        queue = stack.enter_context(Queue(url, token=token))
        queue.enqueue("true", id="first", queue="first", hold=True)
        yield queue


@pytest.fixture(scope="module")
def worker(queue: Queue) -> Iterator[None]:
    """A worker for the queue `run`."""
    with started("--queue", "run", "--name", "runner"):
        eventually(lambda: [each for each in queue.workers() if each.name == "runner"])
        yield


def test_each_method_has_a_test_here() -> None:
    methods = [name for name, _ in inspect.getmembers(Queue, callable) if not name.startswith("_")]
    tested = Path(__file__).read_text("utf-8")
    assert [name for name in methods if f" queue.{name}(" not in tested and name != "close"] == []


def test_enqueue(queue: Queue) -> None:
    job = queue.enqueue("true", id="e", queue="enqueue", tags=["t"], delay="1h", after="first:any")
    assert (job.state, job.tags, [parent.job for parent in job.after]) == ("blocked", ("t",), ["first"])
    assert queue.enqueue("true", id="e", queue="enqueue", tags=["t"], delay="1h", after="first:any") == job
    with pytest.raises(Conflict):
        queue.enqueue("false", id="e")


def test_enqueue_many(queue: Queue) -> None:
    jobs = [{"command": "true", "id": f"many-{n}", "queue": "many", "hold": True} for n in range(3)]
    assert [added.status for added in queue.enqueue_many(jobs)] == ["added"] * 3
    assert [added.status for added in queue.enqueue_many(jobs)] == ["existing"] * 3


def test_stats(queue: Queue) -> None:
    job = queue.enqueue("true", queue="stats", label="nightly", hold=True)
    assert (job.label, queue.show(job).label) == ("nightly", "nightly")
    found = queue.stats(since="2h", until=timedelta(minutes=1), by="label", queue="stats")
    assert (found.rows, found.until - found.since >= timedelta(minutes=119)) == ((), True)


def test_show_and_list(queue: Queue) -> None:
    job = queue.enqueue("true", queue="show", batch="b", hold=True)
    assert queue.show(job) == queue.show(job.number) == job
    assert queue.list(queue="show", batch="b", state="held") == [job]
    with pytest.raises(NotFound):
        queue.show("nobody")


def test_explain(queue: Queue) -> None:
    job = queue.enqueue("true", queue="explain", hold=True)
    explained = queue.explain(job)
    assert (explained.job, explained.state) == (job.id, "held")
    assert explained.why
    assert f"queuectl release {job.number}" in " ".join(explained.next)


def test_cancel_and_retry(queue: Queue) -> None:
    job = queue.enqueue("true", queue="cancel")
    assert queue.cancel(job, reason="wrong").state == "cancelled"
    assert queue.retry(job).state == "pending"
    assert [change.changed for change in queue.cancel([job])] == [True]


def test_an_operation(queue: Queue) -> None:
    job = queue.enqueue("true", queue="operation", hold=True)
    begun = queue.operate("cancel", "queue:operation", expect=1)
    assert (begun.verb, begun.where) == ("cancel", "queue:operation")
    ended = queue.stop_operation(begun)
    assert ended.state in ("done", "stopped")  # a server carries it on at once
    assert queue.operation(ended) == ended
    assert ended in queue.operations()
    assert queue.show(job).state == ("cancelled" if ended.changed else "held")


def test_events(queue: Queue) -> None:
    job = queue.enqueue("true", queue="events", hold=True)
    queue.cancel(job)
    found = [(each.event, each.id) for each in queue.events(where="queue:events")]
    assert [name for name, _ in found] == ["job.held", "job.cancelled"]
    [last] = queue.events(since=found[0][1], where="queue:events")
    assert (last.job, last.id) == (job.id, found[1][1])


def test_hold_and_release(queue: Queue) -> None:
    job = queue.enqueue("true", queue="hold")
    assert queue.hold(job).state == "held"
    assert queue.release(job).state == "pending"


def test_edit(queue: Queue) -> None:
    job = queue.enqueue("true", queue="edit")
    edited = queue.edit(job, priority=7, delay=timedelta(hours=1), queue="edited")
    assert (edited.priority, edited.queue) == (7, "edited")
    with pytest.raises(InvalidInput, match=r"priority: .* is not a whole number"):
        queue.edit(job, priority=1.5)  # type: ignore[call-overload]
    assert timedelta(minutes=59) < edited.run_at - job.created_at < timedelta(minutes=61)


def test_delete(queue: Queue) -> None:
    job = queue.enqueue("true", queue="delete")
    with pytest.raises(Conflict, match="only ended jobs"):
        queue.delete(job)
    queue.cancel(job)
    queue.delete(job)
    with pytest.raises(NotFound):
        queue.show(job)


def test_purge(queue: Queue) -> None:
    job = queue.enqueue("true", queue="purge")
    queue.cancel(job)
    assert queue.purge(older_than="1d") == 0

    def is_gone() -> bool:  # the clock of a client may be behind that of its server
        queue.purge(older_than=0, state="cancelled")
        return job.id not in {each.id for each in queue.list(state="cancelled", limit=None)}

    eventually(is_gone)
    with pytest.raises(NotFound):
        queue.show(job)


def test_queues_pause_resume_and_limit(queue: Queue) -> None:
    queue.enqueue("true", queue="line")
    assert queue.pause("line").paused
    assert queue.limit("line", 2).limit == 2
    [line] = [each for each in queue.queues() if each.name == "line"]
    assert (line.paused, line.limit, line.pending, line.jobs) == (True, 2, 1, {"pending": 1})
    assert not queue.resume("line").paused
    assert queue.limit("line", None).limit is None


def test_settings_set_and_unset(queue: Queue) -> None:
    assert queue.set("kill-grace", timedelta(seconds=3)).value == timedelta(seconds=3)
    assert queue.settings()["kill_grace"].origin == "the store's settings"
    assert queue.unset("kill_grace").value == timedelta(seconds=10)
    assert queue.settings()["kill_grace"].origin == "default"


def test_no_password_is_in_the_settings_nor_in_the_status(queue: Queue, database: Database) -> None:
    for url in (queue.settings()["store"].value, queue.status().store.url):
        assert isinstance(url, str)
        assert not [secret for secret in getattr(database, "passwords", ()) if secret in url]
        assert url.partition(":")[0] in ("sqlite", "postgresql", "mongodb", "redis", "http")


def test_status(queue: Queue) -> None:
    queue.enqueue("true", queue="status")
    status = queue.status()
    assert (status.store.durability, status.jobs["held"] > 0) == ("power-safe", True)
    assert status.jobs["total"] == sum(count for state, count in status.jobs.items() if state != "total")
    [line] = [each for each in status.queues if each.name == "status"]
    assert line.oldest_due_seconds is not None
    assert "no_worker" in [thing.kind for thing in status.attention]


def test_a_transfer(queue: Queue, tmp_path: Path) -> None:
    job = queue.enqueue("echo moved", hold=True)
    done = queue.export_to(tmp_path / "f.jsonl.gz", where=f"id:{job.id}")
    assert (done.jobs, done.left_out) == (1, ())
    found = queue.import_from(tmp_path / "f.jsonl.gz")
    assert (found.jobs, found.existing, found.complete) == (0, 1, True)
    queue.cancel(job)


def test_doctor(queue: Queue) -> None:
    diagnosis = queue.doctor()
    assert {"store", "durability", "write", "clock"} <= {check.name for check in diagnosis.checks}
    assert diagnosis.ok == all(check.ok for check in diagnosis.checks)


@pytest.mark.usefixtures("worker")
def test_wait_and_output(queue: Queue) -> None:
    job = queue.wait(queue.enqueue("echo hello; exit 3", queue="run", retries=0), timeout=30)
    assert (job.state, job.exit_code, queue.output(job).text) == ("dead", 3, "hello\n")
    with pytest.raises(WaitTimeout):
        queue.wait("first", timeout=0.1)


@pytest.mark.usefixtures("worker")
def test_follow(queue: Queue) -> None:
    job = queue.enqueue("echo one; sleep 0.1; echo two", queue="run")
    assert b"".join(part.data for part in queue.follow(job)) == b"one\ntwo\n"


@pytest.mark.usefixtures("worker")
def test_an_async_queue(queue: Queue) -> None:
    async def program() -> None:
        async with AsyncQueue(queue._url, token=queue._token) as same:
            job = await same.enqueue("echo one; sleep 0.1; echo two; exit 3", queue="run", retries=0)
            assert b"".join([part.data async for part in same.follow(job)]) == b"one\ntwo\n"
            assert (await same.wait(job, timeout=30)).exit_code == 3
            assert [change.refused is None for change in await same.cancel([job])] == [False]
            added = [each.status async for each in same.enqueue_many([{"command": "true", "hold": True}])]
            assert added == ["added"]

    asyncio.run(asyncio.wait_for(program(), 60))


@pytest.mark.usefixtures("worker")
def test_workers_and_reload(queue: Queue) -> None:
    [before] = [each for each in queue.workers() if each.name == "runner"]
    assert (before.state, before.queues, len(before.slots)) == ("running", ("run",), 2)
    assert [each.name for each in queue.reload(before)] == ["runner"]
    [asked] = queue.reload(before.name, wait=30)
    [after] = [each for each in queue.workers() if each.id == before.id]
    assert after.agent_pid != asked.agent_pid
    with pytest.raises(NotFound):
        queue.reload("nobody")


def test_stop(queue: Queue) -> None:
    with started("--queue", "stop", "--name", "leaver") as process:
        eventually(lambda: [each for each in queue.workers() if each.name == "leaver"])
        with pytest.raises(NotFound):
            queue.stop(["leaver", "nobody"])
        with pytest.raises(Conflict, match="lives"):
            queue.forget("leaver")
        assert [each.name for each in queue.stop("leaver", now=True, wait=30)] == ["leaver"]
        assert "leaver" not in [each.name for each in queue.workers()]
        assert process.wait(timeout=30) == 0


FILE = """
owner = "ops"
[schedule.report]
when = "0 7 * * 1-5"
timezone = "Europe/Berlin"
command = "make report"
"""


def test_a_schedule_from_its_add_to_its_removal(queue: Queue) -> None:
    every = queue.schedules
    added = every.add(
        "nightly", "30 2 * * *", ["make", "report"], timezone="Europe/Berlin", jitter="5m",
        not_on=[date(2026, 12, 24)], start=datetime(2026, 1, 1, tzinfo=UTC), retries=7, timeout=timedelta(hours=1),
        env={"A": "b"},
    )  # fmt: skip
    assert (added.description, added.jitter, added.timezone) == (
        "At 02:30 every day", timedelta(minutes=5), "Europe/Berlin",
    )  # fmt: skip
    assert (added.not_on, added.start) == ((date(2026, 12, 24),), datetime(2026, 1, 1, tzinfo=UTC))
    assert added.job["argv"] == ["make", "report"]
    assert len(added.next or ()) == 5
    assert [each.name for each in every.list()] == ["nightly"]
    edited = every.edit("nightly", when="@hourly", overlap="queue", priority=5)
    assert (edited.when, edited.overlap, edited.job["priority"]) == ("@hourly", "queue", 5)
    assert edited.job["argv"] == ["make", "report"]
    job = every.run("nightly")
    assert (job.schedule, job.max_retries, job.timeout, job.env) == (
        "nightly", 7, timedelta(hours=1), {"A": "b"},
    )  # fmt: skip
    paused = every.pause("nightly", reason="repair").paused
    assert paused is not None
    assert paused.reason == "repair"
    assert every.resume("nightly", catch_up=True).paused is None
    assert every.history("nightly") == []
    assert every.remove("nightly", cancel=True) == 1
    assert queue.show(job).state == "cancelled"
    with pytest.raises(NotFound):
        every.show("nightly")


def test_a_file_is_applied_and_exported(queue: Queue) -> None:
    every = queue.schedules
    assert every.apply(FILE, dry_run=True).added == ("report",)
    assert every.apply(FILE).added == ("report",)
    assert every.apply(tomllib.loads(FILE)).empty
    assert every.apply(every.export()).unchanged == ("report",)
    assert every.apply('owner = "ops"', prune=True).removed == ("report",)
