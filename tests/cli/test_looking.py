"""`queuectl explain`, `doctor`, `completion`: their documents, and what a person reads."""

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from contract.grounds import SteppedClock
from queuectl.cli.commands import COMMANDS
from queuectl.store.sqlite import SqliteStore


class TestExplain:
    def test_the_document_has_the_documented_keys(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        document = queuectl.json("explain", "a")
        assert document.keys() == {"schema", "job", "state", "why", "next"}
        assert (document["job"], document["state"]) == ("a", "pending")
        assert document["why"]
        assert document["next"]

    def test_a_person_reads_sentences(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"), exit_code=3)
        actor.enters("w")
        first, second, third = queuectl.lines("explain", "a")
        assert first == "job a is failed"
        assert second == "  because attempt 1 failed: exit code 3"
        assert third.startswith("  next: it is due at ")

    def test_a_reason_that_somebody_typed_cannot_harm(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("cancel", "a", "--reason", "\x1b[2J")
        assert "\x1b" not in queuectl("explain", "a")
        assert "\x1b" not in queuectl("show", "a")


class TestDoctor:
    def test_all_is_well(self, queuectl: CommandLine) -> None:
        document = queuectl.json("doctor")
        assert document.keys() == {"schema", "ok", "checks"}
        assert document["ok"] is True
        assert all(check.keys() == {"name", "ok", "detail", "hint"} for check in document["checks"])
        found = {check["name"]: check["detail"] for check in document["checks"]}
        assert found["durability"] == "power-safe"
        assert found["store"].startswith("sqlite:///")
        assert found["settings"] == "all defaults"

    def test_durability_is_read_back_and_not_assumed(self, queuectl: CommandLine) -> None:
        document = queuectl.json("doctor", "--durability", "fast")
        found = {check["name"]: check["detail"] for check in document["checks"]}
        assert found["durability"] == "memory-safe"

    def test_a_fault_ends_with_one_and_says_what_to_do(self, queuectl: CommandLine) -> None:
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

    def test_a_directory_of_workers_that_others_can_read_is_a_fault(self, queuectl: CommandLine) -> None:
        queuectl("doctor", "--create")
        directory = Path("../data/queuectl/queue.db-workers")
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        checks = queuectl.json("doctor", code=1)["checks"]
        [fault] = [check for check in checks if not check["ok"]]
        assert fault["hint"].startswith("chmod 700 ")

    def test_settings_that_are_not_the_default_are_named(self, queuectl: CommandLine) -> None:
        queuectl("config", "set", "lease", "1m")
        assert "lease=1m" in queuectl("doctor")


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_every_command_stands_in_the_script(self, queuectl: CommandLine, shell: str) -> None:
        script = queuectl("completion", shell)
        for words in COMMANDS:
            assert all(re.search(rf"\b{word}\b", script) for word in words.split()), words
        assert "max-retries" in script

    def test_the_script_of_bash_is_one_that_bash_takes(self, queuectl: CommandLine) -> None:
        script = queuectl("completion", "bash")
        assert (
            subprocess.run(["bash", "-n"], input=script.encode(), check=True, capture_output=True).stderr
            == b""
        )

    def test_under_json_it_is_a_document(self, queuectl: CommandLine) -> None:
        document = queuectl.json("completion", "fish")
        assert document.keys() == {"schema", "shell", "script"}
        assert document["script"] + "\n" == queuectl("completion", "fish")
