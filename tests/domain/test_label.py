"""The label of a job: the program that it runs."""

import pytest

from queuectl.domain.job import Spec
from queuectl.domain.label import label_of

COMMANDS = {
    "make all": "make",
    "  ./run.sh 3": "run.sh",
    "/usr/bin/python3.11 -m x": "python3.11",
    "sudo -u bob nice -n 5 /usr/bin/env A=1 B='x y' python3 -m x": "python3",
    "A='x y' ffmpeg -i in": "ffmpeg",
    "LANG=C TZ=UTC sort": "sort",
    "time -p -o /tmp/times make": "make",
    "env -i A=b prog": "prog",
    "nice -5 tool": "tool",
    "sudo --user=bob tool": "tool",
    "(cd x; make)": "cd",
    "$HOME/bin/x 1": "x",
    '"/opt/my app/bin/tool" 3': "tool",
    "echo|cat": "echo",
    "X=$(date) run": "run",
    "sudo": "sudo",
    "": "unknown",
    "A=1": "unknown",
    "/": "unknown",
    "/bin/" + "x" * 300: "x" * 64,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_label_is_the_program_behind_others_that_run_it(command: str) -> None:
    assert label_of(Spec(command=command)) == COMMANDS[command]


def test_arguments_without_a_shell() -> None:
    assert label_of(Spec(argv=("sudo", "-u", "bob", "/bin/ls", "a b"))) == "ls"
    assert label_of(Spec(argv=("in put.sh", "x"))) == "in put.sh"


def test_a_label_of_the_request_wins() -> None:
    assert label_of(Spec(command="make all", label="nightly")) == "nightly"


def test_a_long_command_is_not_searched_to_its_end() -> None:
    assert label_of(Spec(command="A=1 " * 100_000 + "make")) == "unknown"
