"""Completion with Tab: the scripts of the shells ask queuectl for jobs, queues and workers of the store."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from cli.doors import ABSENT, OTHER_STORE, direct
from facts import eventually
from queuectl.cli.completion import candidates
from queuectl.domain.job import STATES


@pytest.fixture
def filled(queuectl: CommandLine, actor: Actor) -> CommandLine:
    """A store with jobs, queues and a worker."""
    queuectl("enqueue", "--id", "nightly", "--queue", "mail", "true")
    queuectl("enqueue", "--id", "other", "true")
    actor.enters("atlas-1")
    return queuectl


def offered(queuectl: CommandLine, kind: str) -> list[str]:
    """The words of a kind. A process of its own: its clock must not end this one."""
    return queuectl.process("__complete", kind).stdout.decode().split()


class TestCandidates:
    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("jobs", {"1", "2", "nightly", "other"}),
            ("queues", {"default", "mail"}),
            ("workers", {"atlas-1"}),
            ("states", set(STATES)),
        ],
    )
    def test_candidates_are_the_existing_names(self, filled: CommandLine, kind: str, words: set[str]) -> None:
        # A machine that is busy for 50 ms offers nothing: so it may take several tries here.
        eventually(lambda: set(offered(filled, kind)) == words)

    @direct(ABSENT)
    def test_without_a_store_no_candidates_are_printed_and_none_is_created(
        self, queuectl: CommandLine, tmp_path: Path
    ) -> None:
        done = queuectl.process("__complete", "jobs")
        assert (done.returncode, done.stdout) == (0, b"")
        assert not (tmp_path / "data").exists()

    @direct(OTHER_STORE)
    @pytest.mark.parametrize("scheme", ["redis", "http"])
    def test_completion_does_not_wait_for_a_silent_store(self, queuectl: CommandLine, scheme: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
            done = queuectl.process("__complete", "jobs", QUEUECTL_STORE=url)
        assert (done.returncode, done.stdout) == (0, b"")

    def test_the_command_for_candidates_is_not_in_the_help(self, queuectl: CommandLine) -> None:
        assert "__complete" not in queuectl("--help")
        assert candidates.__doc__


def program(folder: Path) -> Path:
    """A directory with the `queuectl` that the scripts call."""
    folder.mkdir()
    file = folder / "queuectl"
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m queuectl "$@"\n')
    file.chmod(0o755)
    return folder


BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_shtab_queuectl
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("queuectl", "show", "ni"), {"nightly"}),
        (("queuectl", "cancel", ""), {"1", "2", "nightly", "other"}),
        (("queuectl", "enqueue", "--after", "o"), {"other"}),
        (("queuectl", "list", "--state", "comp"), {"completed"}),
        (("queuectl", "list", "--queue", "m"), {"mail"}),
        (("queuectl", "queue", "pause", "d"), {"default"}),
        (("queuectl", "worker", "stop", "at"), {"atlas-1"}),
        (("queuectl", "config", "get", "max_r"), {"max_retries"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bash_offers_the_candidates(
    filled: CommandLine, tmp_path: Path, line: tuple[str, ...], words: set[str]
) -> None:
    if not shutil.which("bash"):
        pytest.skip("there is no bash here")
    script = tmp_path / "completion"
    script.write_text(filled("completion", "bash"))
    path = f"{program(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}

    def reply() -> set[str]:
        command = ["bash", "--norc", "-c", BASH, "bash", str(script), *line]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    eventually(lambda: reply() == words, within=20, what=f"{words} are offered")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells_ask_for_the_same_candidates(
    queuectl: CommandLine, tmp_path: Path, shell: str
) -> None:
    script = queuectl("completion", shell)
    for kind in ("jobs", "queues", "workers", "states", "settings"):
        assert f"queuectl __complete {kind} 2>/dev/null" in script
    if shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(script)
        subprocess.run([shell, "-n", str(file)], check=True)
