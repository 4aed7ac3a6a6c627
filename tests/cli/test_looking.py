"""`queuectl explain`, `doctor`, `completion`: their documents and their text."""

import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from cli.doors import SQLITE, WORKER, direct
from contract.grounds import SteppedClock
from queuectl.cli.commands import COMMANDS
from queuectl.service import maintenance
from queuectl.store.sqlite import SqliteStore


class TestExplain:
    def test_the_document_has_the_documented_keys(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        document = queuectl.json("explain", "a")
        assert document.keys() == {"schema", "job", "state", "why", "next", "number"}
        assert (document["job"], document["state"]) == ("a", "pending")
        assert document["why"]
        assert document["next"]

    def test_the_text_consists_of_sentences(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"), exit_code=3)
        actor.enters("w")
        first, second, third, fourth = queuectl.lines("explain", "a")
        assert first == "job a is failed"
        assert second == "  because attempt 1 failed: exit code 3"
        assert third.startswith("  next: it is due at ")
        assert fourth == "  next: to run it at once: queuectl retry a"

    def test_control_sequences_in_a_reason_are_escaped(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("cancel", "a", "--reason", "\x1b[2J")
        assert "\x1b" not in queuectl("explain", "a")
        assert "\x1b" not in queuectl("show", "a")


def paused(queuectl: CommandLine, _actor: Actor) -> None:
    queuectl("queue", "pause", "default")


def full(queuectl: CommandLine, actor: Actor) -> None:
    queuectl("enqueue", "--id", "other", "x")
    actor.take("other")
    queuectl("queue", "limit", "default", "1")


def taken(_queuectl: CommandLine, actor: Actor) -> None:
    actor.take("a", "id-w")
    actor.enters("w")


def lost(queuectl: CommandLine, actor: Actor) -> None:
    hour_ago = SteppedClock(datetime.now(UTC) - timedelta(hours=1))
    store = SqliteStore(queuectl.root / "data" / "queuectl" / "queue.db", clock=hour_ago)
    Actor(store).enters("w")
    store.close()
    actor.take("a", "id-w")


def in_vain(queuectl: CommandLine, actor: Actor, failure: str = "cancel") -> None:
    queuectl("cancel", "a")
    queuectl("delete", "a")
    queuectl("enqueue", "--id", "p", "--retries", "0", "x")
    queuectl("enqueue", "--id", "a", "--after", "p", "--after-failure", failure, "x")
    actor.runs("p", exit_code=1)
    maintenance.sweep_blocked(actor.store, None)


def held_in_vain(queuectl: CommandLine, actor: Actor) -> None:
    in_vain(queuectl, actor, "hold")


def dies(queuectl: CommandLine, actor: Actor) -> None:
    actor.kills("a")


def fails(_queuectl: CommandLine, actor: Actor) -> None:
    actor.runs("a", exit_code=1)


def completes(_queuectl: CommandLine, actor: Actor) -> None:
    actor.runs("a")


def held(queuectl: CommandLine, _actor: Actor) -> None:
    queuectl("hold", "a")


@pytest.mark.parametrize(
    "setting", [paused, full, taken, lost, in_vain, held_in_vain, dies, fails, completes, held]
)
def test_every_hint_of_explain_works_unchanged(
    queuectl: CommandLine, actor: Actor, setting: Callable[[CommandLine, Actor], None]
) -> None:
    """Each hint runs on a copy of the same database, because one hint may already solve the problem."""
    queuectl("enqueue", "--id", "a", "x")
    setting(queuectl, actor)
    found = [
        said.partition(": ")[2] for said in queuectl.json("explain", "a")["next"] if ": queuectl" in said
    ]
    hints = [hint for hint in found if "worker start" not in hint]
    assert hints, found
    for n, hint in enumerate(hints):
        copy = Path(f"copy{n}.db").absolute()
        source = str(queuectl.root / "data" / "queuectl" / "queue.db")
        with (
            closing(apsw.Connection(str(copy))) as target,
            closing(apsw.Connection(source)) as kept,
            target.backup("main", kept, "main") as backup,
        ):
            backup.step()
        copy.chmod(0o600)
        program, *words = shlex.split(hint)
        assert program == "queuectl"
        before = queuectl("--store", f"sqlite:///{copy}", "list", "--all", "--jsonl")
        queuectl("--store", f"sqlite:///{copy}", *words)
        after = queuectl("--store", f"sqlite:///{copy}", "list", "--all", "--jsonl")
        assert before != after or words[0] in ("logs", "queue", "worker")


class TestDoctor:
    def test_a_working_store_has_no_fault(self, queuectl: CommandLine) -> None:
        document = queuectl.json("doctor")
        assert document.keys() == {"schema", "ok", "checks"}
        assert document["ok"] is True
        assert all(check.keys() == {"name", "ok", "detail", "hint"} for check in document["checks"])
        found = {check["name"]: check["detail"] for check in document["checks"]}
        assert found["durability"] == "power-safe"
        assert found["store"].startswith("sqlite:///")
        assert found["settings"] == "all defaults"

    def test_each_worker_is_listed_with_version_and_clock_difference(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        actor.enters("w", skew=-0.25)
        found = [check["detail"] for check in queuectl.json("doctor")["checks"] if check["name"] == "worker"]
        assert found == ["w on atlas, 0; its host's clock differs by -0.250 s"]

    @direct(SQLITE)
    def test_the_durability_is_read_from_the_store(self, queuectl: CommandLine) -> None:
        document = queuectl.json("doctor", "--durability", "fast")
        found = {check["name"]: check["detail"] for check in document["checks"]}
        assert found["durability"] == "memory-safe"

    def test_a_fault_gives_exit_code_1_and_a_hint(self, queuectl: CommandLine) -> None:
        hour_ago = SteppedClock(datetime.now(UTC) - timedelta(hours=1))
        store = SqliteStore(queuectl.root / "data" / "queuectl" / "queue.db", clock=hour_ago)
        Actor(store).enters("silent")
        store.close()
        document = queuectl.json("doctor", code=1)
        assert document["ok"] is False
        [fault] = [check for check in document["checks"] if not check["ok"]]
        assert fault["name"] == "lost worker"
        assert "silent on atlas" in fault["detail"]
        assert "FAULT  lost worker" in queuectl("doctor", code=1)

    @direct(WORKER)
    def test_a_directory_of_workers_that_others_can_read_is_a_fault(self, queuectl: CommandLine) -> None:
        queuectl("doctor", "--create")
        directory = Path("../data/queuectl/queue.db-workers")
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        checks = queuectl.json("doctor", code=1)["checks"]
        [fault] = [check for check in checks if not check["ok"]]
        assert fault["hint"].startswith("chmod 700 ")

    def test_settings_without_default_values_are_listed(self, queuectl: CommandLine) -> None:
        queuectl("config", "set", "lease", "1m")
        assert "lease=1m" in queuectl("doctor")


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_script_contains_every_command(self, queuectl: CommandLine, shell: str) -> None:
        script = queuectl("completion", shell)
        for words in COMMANDS:
            assert all(re.search(rf"\b{word}\b", script) for word in words.split()), words
        assert "max-retries" in script

    def test_bash_accepts_its_script(self, queuectl: CommandLine) -> None:
        script = queuectl("completion", "bash")
        assert (
            subprocess.run(["bash", "-n"], input=script.encode(), check=True, capture_output=True).stderr
            == b""
        )

    def test_under_json_the_script_is_in_a_document(self, queuectl: CommandLine) -> None:
        document = queuectl.json("completion", "fish")
        assert document.keys() == {"schema", "shell", "script"}
        assert document["script"] + "\n" == queuectl("completion", "fish")
