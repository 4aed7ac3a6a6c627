"""`queuectl worker`: arguments that are refused before a start, and commands about existing workers."""

import json
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from cli.doors import WORKER, direct
from contract.grounds import SteppedClock
from queuectl.store.sqlite import SqliteStore
from queuectl.worker.host import process_table


@pytest.fixture
def silent(queuectl: CommandLine) -> Iterator[Actor]:
    """A worker `gone` of another host, whose last heartbeat was twenty seconds ago."""
    store = queuectl.store()
    ago = SteppedClock(datetime.now(UTC) - timedelta(seconds=20))
    earlier = SqliteStore(queuectl.root / "data" / "queuectl" / "queue.db", clock=ago)
    Actor(earlier).enters("gone")
    earlier.close()
    yield Actor(store)
    store.close()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The configurations of the workers that would have started."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr("queuectl.cli.worker._pipe_with", lambda config: found.append(config) or 0)
    monkeypatch.setattr(os, "set_inheritable", lambda *_: None)
    return found


@pytest.fixture(autouse=True)
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that is not refused would replace the process of these tests with a worker."""

    def become(*_words: object, **_options: object) -> None:
        raise AssertionError("a worker would have started")

    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr("queuectl.cli.worker.subprocess.Popen", become)


@direct(WORKER)
class TestStart:
    @pytest.mark.parametrize("detach", [(), ("--detach",)])
    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("--count", "0"), 2, "--count: '0' is not a count"),
            (("--count", "1001"), 2, "--count"),
            (("--count", "-1"), 2, "--count"),
            (("--count", "2.5"), 2, "--count"),
            (("--count", "9" * 5000), 2, "--count"),
            (("--name", ""), 0, ""),
            (("--name", "a\nb"), 2, "--name"),
            (("--name", "x" * 129), 2, "--name"),
            (("--name", "w 1"), 2, "--name 'w 1' is not allowed"),
            (("--queue", "a,b"), 2, "queue 'a,b' is not allowed"),
            (("--queue", "ok", ""), 2, "is not allowed"),
            (("--drain-timeout", "soon"), 2, "'soon' is not a duration"),
            (("--log-format", "xml"), 2, "log-format"),
            (("--on-disconnect", "panic"), 2, "on-disconnect"),
            (("--store", "sqlite://"), 2, "names no file"),
            (("--store", "mysql://x"), 2, "unknown store scheme"),
            (("extra",), 2, "unknown option or argument extra"),
        ],
    )
    def test_invalid_arguments_are_refused(
        self, queuectl: CommandLine, words: tuple[str, ...], code: int, said: str, detach: tuple[str, ...]
    ) -> None:
        if code == 0:
            with pytest.raises(AssertionError, match="would have started"):
                queuectl("worker", "start", *words, *detach)
        else:
            assert queuectl("worker", "start", *words, *detach, code=code) == ""
            assert said in queuectl.err

    def test_an_unusable_store_gives_exit_code_5(self, queuectl: CommandLine) -> None:
        Path("q.db").write_bytes(b"no database, " * 100)
        queuectl("worker", "start", "--store", "sqlite:///q.db", code=5)

    def test_settings_that_contradict_each_other_are_refused(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUEUECTL_LEASE", "1s")
        queuectl("worker", "start", code=2)
        assert "a third of lease" in queuectl.err

    def test_the_spelling_with_a_colon_is_the_same_command(self, queuectl: CommandLine) -> None:
        queuectl("worker:start", "--count", "0", code=2)
        assert "--count" in queuectl.err
        queuectl("worker:stop", "nobody", code=3)

    @direct(WORKER)
    def test_a_worker_of_root_prints_a_warning(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(AssertionError, match="would have started"):
            queuectl("worker", "start")
        assert "everybody who can enqueue can run commands as root here" in queuectl.err


class TestStop:
    def test_stopping_without_a_worker_prints_a_message(self, queuectl: CommandLine) -> None:
        assert queuectl("worker", "stop") == ""
        assert "no worker is running" in queuectl.err
        assert queuectl.json("worker", "stop") == {
            "schema": 1,
            "stopped": [],
            "remaining": [],
            "unanswered": [],
        }

    @pytest.mark.parametrize("words", [(), ("gone",), ("gone@atlas",)])
    def test_a_silent_worker_is_never_reported_as_stopped(
        self, queuectl: CommandLine, silent: Actor, words: tuple[str, ...]
    ) -> None:
        queuectl("enqueue", "--id", "a", "sleep 60")
        silent.take("a", "id-gone")
        assert queuectl("worker", "stop", *words, code=1) == ""
        silence = re.search(
            r"worker gone on atlas does not answer: it sent its last heartbeat (\d+)s ago", queuectl.err
        )
        assert silence is not None, queuectl.err
        assert int(silence[1]) >= 20
        assert "job a may still run there, and is taken back by a live worker in" in queuectl.err
        assert "queuectl worker forget gone" in queuectl.err
        document = queuectl.json("worker", "stop", *words, code=1)
        assert (document["stopped"], document["remaining"]) == ([], ["id-gone"])
        [unanswered] = document["unanswered"]
        assert (unanswered["name"], unanswered["host"], unanswered["jobs"]) == ("gone", "atlas", ["a"])
        assert unanswered["taken_back_at"] is not None

    def test_a_worker_that_becomes_silent_is_not_reported_as_stopped(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        queuectl("config", "set", "heartbeat_interval", "100ms")
        actor.enters("w")
        assert queuectl("worker", "stop", "w", code=1) == ""
        assert "worker w on atlas does not answer" in queuectl.err
        assert "it has no job" in queuectl.err

    def test_inside_a_job_of_the_worker_stop_does_not_wait(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queuectl("enqueue", "--id", "a", "true")
        job = actor.take("a", "id-w")
        actor.enters("w")
        monkeypatch.setenv("QUEUECTL_JOB_ID", "a")
        monkeypatch.setenv("QUEUECTL_ATTEMPT_ID", job.attempt_id or "")
        assert queuectl("worker", "stop", "--all") == "worker w is asked to exit\n"
        assert "this command runs inside job a, so it does not wait" in queuectl.err
        assert queuectl.json("worker", "stop")["asked"] == ["id-w"]
        assert actor.store.pending_instruction("id-w") == "drain"

    def test_inside_a_job_of_another_store_stop_waits(
        self, queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queuectl("enqueue", "--id", "a", "true")
        actor.take("a", "id-w")
        actor.enters("w")
        monkeypatch.setenv("QUEUECTL_JOB_ID", "a")
        monkeypatch.setenv("QUEUECTL_ATTEMPT_ID", "another")
        queuectl("worker", "stop", "--timeout", "0s", code=1)
        assert "still running: w" in queuectl.err

    def test_a_worker_that_does_not_stop_is_reported_after_the_timeout(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        actor.enters("w")
        document = queuectl.json("worker", "stop", "w", "--timeout", "0s", code=1)
        assert document["remaining"] == ["id-w"]

    @pytest.mark.parametrize(("words", "asked"), [((), "drain"), (("--now",), "stop")])
    def test_the_options_decide_the_instruction_to_the_worker(
        self, queuectl: CommandLine, actor: Actor, words: tuple[str, ...], asked: str
    ) -> None:
        actor.enters("w")
        queuectl("worker", "stop", "--timeout", "0s", *words, code=1)
        [worker] = actor.store.workers()
        assert actor.store.heartbeat(worker) == asked

    @pytest.mark.parametrize("verb", ["stop", "reload"])
    def test_the_error_for_an_unknown_worker_lists_the_known_ones(
        self, queuectl: CommandLine, actor: Actor, verb: str
    ) -> None:
        actor.enters("w")
        queuectl("worker", verb, "nobody", code=3)
        assert "there are: w" in queuectl.err


def test_show_names_a_worker_by_its_name(queuectl: CommandLine, actor: Actor) -> None:
    queuectl("enqueue", "--id", "a", "true")
    actor.take("a", "id-w")
    assert "worker id-w, lease until" in queuectl("show", "a")
    actor.enters("w")
    assert "worker w on atlas, lease until" in queuectl("show", "a")


class TestForget:
    def test_a_lost_worker_is_removed_from_the_registry(self, queuectl: CommandLine, silent: Actor) -> None:
        hints = [check["hint"] for check in queuectl.json("doctor", code=1)["checks"] if not check["ok"]]
        assert hints == ["queuectl worker forget gone"]
        assert queuectl("worker", "forget", "gone") == "worker gone forgotten\n"
        assert silent.store.workers() == []
        assert queuectl.json("doctor")["ok"]

    def test_the_jobs_of_a_forgotten_worker_are_reported_with_their_times(
        self, queuectl: CommandLine, silent: Actor
    ) -> None:
        queuectl("enqueue", "--id", "a", "sleep 60")
        silent.take("a", "id-gone")
        said = queuectl("worker", "forget", "--all")
        assert said.startswith("worker gone forgotten; job a may still run there, and is taken back")

    def test_forgetting_a_live_worker_is_refused(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w")
        queuectl("worker", "forget", "w", code=4)
        assert "worker w on atlas lives" in queuectl.err
        assert len(actor.store.workers()) == 1

    def test_forgetting_without_a_name_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("worker", "forget", code=2)
        queuectl("worker", "forget", "nobody", code=3)
        assert queuectl.json("worker", "forget", "--all") == {"schema": 1, "forgotten": [], "taken_back": []}


class TestNames:
    @direct(WORKER)
    def test_a_second_worker_with_the_same_name_is_renamed_with_a_message(
        self, queuectl: CommandLine, actor: Actor, started: list[dict[str, Any]]
    ) -> None:
        actor.enters("w")
        with pytest.raises(AssertionError, match="would have started"):
            queuectl("worker", "start", "--name", "w")
        [config] = started
        assert config["worker"]["name"] == f"w-{os.uname().nodename}"
        assert "a worker on atlas already has the name w; this worker is called w-" in queuectl.err

    @direct(WORKER)
    def test_the_name_of_a_lost_worker_is_free(
        self, queuectl: CommandLine, silent: Actor, started: list[dict[str, Any]]
    ) -> None:
        assert silent.store.workers()[0].name == "gone"
        with pytest.raises(AssertionError, match="would have started"):
            queuectl("worker", "start", "--name", "gone")
        assert started[0]["worker"]["name"] == "gone"

    @direct(WORKER)
    def test_the_name_of_a_worker_that_has_just_died_is_free(
        self, queuectl: CommandLine, actor: Actor, started: list[dict[str, Any]]
    ) -> None:
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        here = {"host": os.uname().nodename, "boot_id": process_table.boot_id(), "holder_pid": pid}
        actor.enters("w", **here)
        with pytest.raises(AssertionError, match="would have started"):
            queuectl("worker", "start", "--name", "w")
        assert started[0]["worker"]["name"] == "w"


class TestListAndReload:
    def test_a_host_clock_that_differs_is_reported(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w", skew=-7200.0)
        queuectl("worker", "list")
        assert "the clock of host atlas differs by -7200.0 s" in queuectl.err
        assert queuectl.json("worker", "list")["workers"][0]["skew"] == -7200.0

    def test_the_list_has_the_keys_of_status(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w", count=2, busy=("a",))
        assert queuectl.json("worker", "list")["workers"] == queuectl.json("status")["workers"]

    def test_the_list_has_one_line_per_worker(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "a", "true")
        actor.take("a", "id-w")
        actor.enters("w", count=2)
        [line] = queuectl.lines("worker", "list")
        assert line.split("\t")[:6] == ["w", "atlas", "1", "running", "1/2", "all"]

    def test_reload_accepts_a_name_or_an_id(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w")
        assert queuectl("worker", "reload", "id-w") == "worker w is asked to reload\n"
        assert json.loads(queuectl("worker", "reload", "w", "--json")) == {"schema": 1, "reloaded": ["id-w"]}
        [worker] = actor.store.workers()
        assert actor.store.heartbeat(worker) == "reload"


def test_serve_without_the_libraries_of_the_server_names_the_command_that_installs_them(
    queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    queuectl("worker", "start", "--serve", "127.0.0.1:0", code=5)
    assert "the server needs starlette" in queuectl.err
    assert "pip install 'queuectl[http]'" in queuectl.err
