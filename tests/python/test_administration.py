"""Details of the methods for queues, settings, workers and the store, on SQLite; `test_stores.py` has all stores."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from facts import eventually
from python.conftest import lose_worker, started
from queuectl import Conflict, InvalidInput, NotFound, Queue, WaitTimeout, Worker


def printed(*words: str) -> Any:
    """The JSON that a command prints."""
    command = [sys.executable, "-m", "queuectl", *words, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=False).stdout)


def names(value: Any) -> Any:
    """The names of a document at every level, without its values. Of a list only the first item counts."""
    if isinstance(value, dict):
        return {key: names(item) for key, item in value.items() if key != "schema"}
    return [names(value[0])] if isinstance(value, list | tuple) and value else None


def test_each_value_has_the_names_of_the_json_of_its_command(queue: Queue) -> None:
    queue.enqueue("true", queue="other")
    with started("--queue", "mail"):
        eventually(queue.workers)
        for words, value in (
            (("status",), queue.status()),
            (("queue", "list"), {"queues": queue.queues()}),
            (("worker", "list"), {"workers": queue.workers()}),
            (("explain", "1"), queue.explain(1)),
            (("doctor",), queue.doctor()),
            (("config", "get", "lease"), {"setting": queue.settings()["lease"]}),
        ):
            assert names(msgspec.to_builtins(value)) == names(printed(*words)), words


class TestStats:
    def test_what_a_worker_ended(self, queue: Queue) -> None:
        queue.enqueue("true", label="nightly")
        queue.enqueue("exit 7", retries=0)
        with started("--drain") as process:
            assert process.wait(timeout=30) == 0
        [row] = queue.stats(label="nightly").rows
        assert (row.key, row.ended, row.completed, row.run.max is not None) == ("default", 1, 1, True)
        assert {row.key for row in queue.stats(by="label", since=timedelta(hours=3)).rows} == {
            "nightly",
            "exit",
        }
        since = datetime.now(UTC) - timedelta(days=2)
        found = queue.stats(since=since, by="hour")
        assert names(msgspec.to_builtins(found)) == names(printed("stats", "--by", "hour"))

    def test_a_wrong_question(self, queue: Queue) -> None:
        for wrong in ({"by": "colour"}, {"since": "soon"}, {"since": datetime(2026, 1, 1)}):
            with pytest.raises(InvalidInput):
                queue.stats(**wrong)  # type: ignore[arg-type]


class TestSettings:
    def test_a_value_is_written_in_several_ways(self, queue: Queue) -> None:
        for value in (timedelta(minutes=5), "5m", 300, "300"):
            assert queue.set("timeout", value).value == timedelta(minutes=5)
        assert queue.set("timeout", None).value is None
        assert queue.set("output_limit", "2KiB").value == 2048
        assert queue.set("jitter", 0.5).value == 0.5
        assert queue.enqueue("true").output_limit == 2048

    def test_a_wrong_key_or_value_changes_nothing(self, queue: Queue) -> None:
        for key, value, error in (
            ("leese", "5m", NotFound), ("lease", "soon", InvalidInput), ("store", "x", InvalidInput),
            ("max_retries", True, InvalidInput), ("timeout", timedelta(seconds=-1), InvalidInput),
        ):  # fmt: skip
            with pytest.raises(error):
                queue.set(key, value)
        with pytest.raises(NotFound):
            queue.unset("leese")
        assert not [key for key, setting in queue.settings().items() if "store's" in setting.origin]

    def test_a_variable_wins_over_the_stored_value(
        self, queue: Queue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUEUECTL_MAX_RETRIES", "9")
        setting = queue.set("max_retries", 5)
        assert (setting.value, setting.origin) == (9, "QUEUECTL_MAX_RETRIES")


class TestQueues:
    def test_a_queue_without_jobs(self, queue: Queue) -> None:
        assert queue.queues() == []
        queue.enqueue("true", queue="other")
        resumed = queue.resume("mail")
        assert (resumed.name, resumed.paused, resumed.pending, resumed.jobs) == ("mail", False, 0, {})
        assert queue.pause("mail").paused
        assert queue.pause("mail", reason="disk full").reason == "disk full"
        assert queue.pause("mail").reason == "disk full"
        assert [each.name for each in queue.queues()] == ["mail", "other"]
        with pytest.raises(InvalidInput):
            queue.limit("mail", 0)
        with pytest.raises(InvalidInput):
            queue.pause("a,b")


class TestWorkers:
    def test_nobody_works(self, queue: Queue) -> None:
        assert queue.workers() == queue.stop() == queue.reload() == []
        with pytest.raises(NotFound):
            queue.stop("web")

    def test_all_are_stopped(self, queue: Queue) -> None:
        with started("--name", "one") as process:
            eventually(queue.workers)
            [worker] = queue.workers()
            assert isinstance(worker, Worker)
            assert [each.id for each in queue.stop()] == [worker.id]
            assert process.wait(timeout=30) == 0


class TestWaitForWorkers:
    def test_a_worker_with_a_long_job_does_not_stop_in_time(self, queue: Queue) -> None:
        with started("--name", "busy"):
            job = queue.enqueue("sleep 60")
            eventually(lambda: queue.show(job).state == "processing")
            with pytest.raises(WaitTimeout, match="worker busy still runs"):
                queue.stop("busy", wait=0.1)
            assert [each.name for each in queue.stop("busy", now=True, wait="30s")] == ["busy"]
            assert not queue.workers()

    def test_reload(self, queue: Queue) -> None:
        with started("--name", "runner"):
            eventually(queue.workers)
            [before] = queue.reload(wait=30)
            [now] = queue.workers()
            assert (now.id, now.agent_pid == before.agent_pid) == (before.id, False)

    def test_none_are_waited_for_without_workers(self, queue: Queue) -> None:
        queue.enqueue("true")
        assert queue.stop(wait=10) == queue.reload(wait=10) == queue.forget() == []

    def test_a_wait_that_is_no_duration_asks_no_worker(self, queue: Queue) -> None:
        with pytest.raises(InvalidInput, match="wait"):
            queue.stop(wait="soon")


class TestForget:
    def test_lost_workers_are_removed(self, queue: Queue, home: Path) -> None:
        queue.enqueue("true")
        for named in (None, "gone", ["gone"]):
            lose_worker(home)
            [lost] = queue.workers()
            assert lost.state == "lost"
            assert queue.forget(named) == [lost]
            assert queue.workers() == []
        with pytest.raises(NotFound):
            queue.forget("gone")

    def test_a_live_worker_is_not_forgotten(self, queue: Queue) -> None:
        with started("--name", "alive"):
            eventually(queue.workers)
            assert queue.forget() == []
            with pytest.raises(Conflict, match="lives"):
                queue.forget("alive")


class TestDoctor:
    def test_it_has_the_checks_of_the_command(self, queue: Queue) -> None:
        queue.enqueue("true", delay="1h")  # a due job has a check of its own until the worker takes it
        with started():
            eventually(queue.workers)
            ours = [check.name for check in queue.doctor().checks]
            assert ours == [check["name"] for check in printed("doctor")["checks"]]
            assert {"queuectl", "supervision", "settings", "worker files"} <= {*ours}


class TestEdit:
    def test_the_start_is_a_time_or_a_text_or_a_delay(self, queue: Queue) -> None:
        job = queue.enqueue("true", delay="1h")
        start = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
        assert queue.edit(job, run_at=start).run_at == start
        assert queue.edit(job, run_at="2031-01-02T03:04:00Z").run_at.year == 2031
        assert queue.edit(job, delay=0).run_at <= datetime.now(UTC)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({}, "no change is given"),
            ({"delay": 1, "run_at": "now"}, "same thing twice"),
            ({"run_at": datetime(2030, 1, 1)}, "no time zone"),
            ({"priority": 5000}, "priority"),
            ({"priority": "7"}, "priority"),
            ({"priority": 1.5}, "priority"),
            ({"priority": True}, "priority"),
            ({"queue": "a,b"}, "queue"),
        ],
    )
    def test_a_wrong_change_is_refused(self, queue: Queue, fields: dict[str, Any], said: str) -> None:
        job = queue.enqueue("true")
        with pytest.raises(InvalidInput, match=said):
            queue.edit(job, **fields)
        assert queue.show(job) == job

    def test_several_say_what_became_of_each(self, queue: Queue) -> None:
        jobs = [queue.enqueue("true"), queue.enqueue("true")]
        queue.cancel(jobs[1])
        changes = queue.edit(jobs, priority=3)
        assert [(change.changed, type(change.refused)) for change in changes] == [
            (True, type(None)),
            (False, Conflict),
        ]


class TestDeleting:
    def test_several_say_what_became_of_each(self, queue: Queue) -> None:
        jobs = [queue.enqueue("true"), queue.enqueue("true")]
        queue.cancel(jobs[1])
        changes = queue.delete(iter(jobs))
        assert [(change.id, change.changed) for change in changes] == [
            (jobs[0].id, False),
            (jobs[1].id, True),
        ]
        assert [job.id for job in queue.list()] == [jobs[0].id]

    def test_purge_takes_ended_states_only(self, queue: Queue) -> None:
        for state in ("pending", ["dead", "held"], []):
            with pytest.raises(InvalidInput, match="only ended jobs"):
                queue.purge(older_than=0, state=state)
        with pytest.raises(InvalidInput):
            queue.purge(older_than="soon")
