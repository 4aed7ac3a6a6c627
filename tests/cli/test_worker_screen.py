"""The output of a worker on a terminal, from its first line to its last, and the effect of Ctrl+C."""

import os
import re
import sys

import pytest

from cli.conftest import CommandLine
from cli.doors import WORKER, direct
from cli.terminals import Terminal
from facts import eventually

pytestmark = direct(WORKER)

WORKER = (sys.executable, "-m", "queuectl", "worker", "start")


def words(text: str) -> list[str]:
    """The lines without their clock, their colours and the orders to the terminal."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).replace("^C", "")
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in plain.splitlines()]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' source is what the processes run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.mark.usefixtures("source")
class TestCtrlC:
    def test_after_each_ctrl_c_the_effect_of_the_next_one_is_printed(self, queuectl: CommandLine) -> None:
        queuectl(
            "enqueue",
            "--id",
            "stubborn",
            "--kill-grace",
            "1m",
            "trap '' TERM; echo on; while :; do sleep 0.1; done",
        )
        terminal = Terminal(WORKER, columns=200)
        try:
            eventually(lambda: queuectl("logs", "stubborn") == "on\n", within=30, what="its output")
            for typed, said in enumerate(
                (
                    "draining: waiting for 1 running command, nothing more is started; "
                    "a second Ctrl+C ends it and gives it back to the queue",
                    "stopping: ending 1 command; a third Ctrl+C kills what still runs",
                    "killing: 1 command running",
                )
            ):
                terminal.type("\x03")
                eventually(
                    lambda said=said: f"worker    {said}" in words(terminal.read()),
                    within=20,
                    what=f"the line of Ctrl+C {typed + 1}",
                )
            assert terminal.wait() == 0
        finally:
            terminal.close()
        assert queuectl.job("stubborn")["state"] == "pending"

    def test_an_end_without_work_is_not_logged_as_a_drain(self, queuectl: CommandLine) -> None:
        queuectl("config", "set", "backoff_factor_ms", "10")
        queuectl("enqueue", "--id", "bad", "--retries", "1", "exit 3")
        terminal = Terminal([*WORKER, "--drain"])
        assert terminal.wait() == 0
        terminal.close()
        said = [line.split()[0] for line in words(terminal.text) if not line.startswith("queuectl:")]
        assert said == ["start", "retry", "start", "dead", "idle"]
