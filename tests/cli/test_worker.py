"""`queuectl worker`: what is refused before anything starts, and the commands about workers that are there."""

import json
import os
from pathlib import Path

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine


@pytest.fixture(autouse=True)
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is not refused would become a worker, in place of these tests."""

    def become(*_words: object, **_options: object) -> None:
        raise AssertionError("a worker would have started")

    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr("subprocess.Popen", become)


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
    def test_what_cannot_be_meant_is_refused(
        self, queuectl: CommandLine, words: tuple[str, ...], code: int, said: str, detach: tuple[str, ...]
    ) -> None:
        if code == 0:
            with pytest.raises(AssertionError, match="would have started"):
                queuectl("worker", "start", *words, *detach)
        else:
            assert queuectl("worker", "start", *words, *detach, code=code) == ""
            assert said in queuectl.err

    def test_a_store_that_cannot_be_used_is_five(self, queuectl: CommandLine) -> None:
        Path("q.db").write_bytes(b"no database, " * 100)
        queuectl("worker", "start", "--store", "sqlite:///q.db", code=5)

    def test_settings_that_are_wrong_together_are_refused(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUEUECTL_LEASE", "1s")
        queuectl("worker", "start", code=2)
        assert "a third of lease" in queuectl.err

    def test_the_seeds_spelling_is_the_same_command(self, queuectl: CommandLine) -> None:
        queuectl("worker:start", "--count", "0", code=2)
        assert "--count" in queuectl.err
        queuectl("worker:stop", "nobody", code=3)

    def test_a_root_worker_says_what_that_means(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(AssertionError, match="would have started"):
            queuectl("worker", "start")
        assert "whoever can enqueue is root here" in queuectl.err


class TestStop:
    def test_with_no_worker_there_is_nothing_to_do(self, queuectl: CommandLine) -> None:
        assert queuectl("worker", "stop") == ""
        assert "no worker runs" in queuectl.err
        assert queuectl.json("worker", "stop") == {"schema": 1, "stopped": [], "remaining": []}

    def test_one_that_stays_is_said_when_the_patience_ends(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w")
        document = queuectl.json("worker", "stop", "w", "--timeout", "0s", code=1)
        assert document["remaining"] == ["id-w"]

    @pytest.mark.parametrize(("words", "asked"), [((), "drain"), (("--now",), "stop")])
    def test_it_asks_for_what_is_meant(
        self, queuectl: CommandLine, actor: Actor, words: tuple[str, ...], asked: str
    ) -> None:
        actor.enters("w")
        queuectl("worker", "stop", "--timeout", "0s", *words, code=1)
        [worker] = actor.store.workers()
        assert actor.store.beat(worker) == asked

    @pytest.mark.parametrize("verb", ["stop", "reload"])
    def test_an_unknown_one_is_not_found_and_the_known_are_named(
        self, queuectl: CommandLine, actor: Actor, verb: str
    ) -> None:
        actor.enters("w")
        queuectl("worker", verb, "nobody", code=3)
        assert "there are: w" in queuectl.err


class TestListAndReload:
    def test_the_list_has_the_keys_of_status(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w", count=2, busy=("a",))
        assert queuectl.json("worker", "list")["workers"] == queuectl.json("status")["workers"]

    def test_the_list_is_a_line_for_each(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "a", "true")
        actor.take("a", "id-w")
        actor.enters("w", count=2)
        [line] = queuectl.lines("worker", "list")
        assert line.split("\t")[:6] == ["w", "atlas", "1", "running", "1/2", "all"]

    def test_reload_asks_by_name_or_id(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.enters("w")
        assert queuectl("worker", "reload", "id-w") == "worker w reloads\n"
        assert json.loads(queuectl("worker", "reload", "w", "--json")) == {"schema": 1, "reloaded": ["id-w"]}
        [worker] = actor.store.workers()
        assert actor.store.beat(worker) == "reload"
