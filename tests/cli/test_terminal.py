"""Data is printed on stdout and messages on stderr; tables and colours only on a terminal; help; closed pipes."""

import json
import re
import subprocess

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from queuectl import __version__
from queuectl.cli.commands import ALIASES, COMMANDS, groups

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def some(queuectl: CommandLine, actor: Actor) -> None:
    queuectl("enqueue", "--id", "a", "make x")
    actor.kills(queuectl.enqueue("--id", "b", "--retries", "0", "exit 1"))


LOOKS = (
    ("list",),
    ("status",),
    ("show", "b"),
    ("dlq", "list"),
    ("queue", "list"),
    ("worker", "list"),
    ("config", "list"),
)


class TestTables:
    @pytest.mark.usefixtures("some")
    def test_a_list_has_a_heading_and_colours_on_a_terminal(self, queuectl: CommandLine) -> None:
        text = queuectl.on_terminal("list")
        assert COLOUR.search(text)
        plain = COLOUR.sub("", text)
        assert re.search(r"NUMBER +ID +STATE", plain)
        assert re.search(r"2 +b +dead", plain)

    @pytest.mark.usefixtures("some")
    @pytest.mark.parametrize(
        ("words", "variables"),
        [
            ((), {"NO_COLOR": "1"}),
            (("--color", "never"), {}),
            ((), {"TERM": "dumb"}),
            ((), {"QUEUECTL_COLOR": "never"}),
        ],
    )
    def test_no_colour_is_printed_if_it_is_disabled(
        self, queuectl: CommandLine, words: tuple[str, ...], variables: dict[str, str]
    ) -> None:
        assert "\x1b" not in queuectl.on_terminal("list", *words, **variables)

    @pytest.mark.usefixtures("some")
    def test_no_color_keeps_the_table(self, queuectl: CommandLine) -> None:
        assert "NUMBER" in queuectl.on_terminal("list", NO_COLOR="1")

    @pytest.mark.usefixtures("some")
    @pytest.mark.parametrize("words", LOOKS, ids=[" ".join(words) for words in LOOKS])
    def test_in_a_pipe_no_heading_and_no_escape_is_printed(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        text = queuectl(*words)
        assert "\x1b" not in text
        assert "NUMBER" not in text

    @pytest.mark.usefixtures("some")
    def test_colour_always_prints_colours_in_a_pipe(self, queuectl: CommandLine) -> None:
        assert COLOUR.search(queuectl("list", "--color", "always"))

    @pytest.mark.usefixtures("some")
    @pytest.mark.parametrize("words", LOOKS, ids=[" ".join(words) for words in LOOKS])
    def test_json_on_a_terminal_has_no_colours(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        assert json.loads(queuectl(*words, "--json", "--color", "always"))["schema"] == 1
        assert queuectl.err == ""

    def test_the_command_to_follow_a_new_job_is_printed_on_a_terminal_only(
        self, queuectl: CommandLine
    ) -> None:
        assert "queuectl logs -f a" in queuectl.on_terminal("enqueue", "--id", "a", "x")
        assert "queuectl logs -f 2\n" in queuectl.on_terminal("enqueue", "x")
        assert queuectl.on_terminal("enqueue", "-q", "--id", "b", "x") == "b\n"
        assert queuectl.on_terminal("enqueue", "x").endswith("queuectl logs -f 4\n")
        queuectl("enqueue", "x")
        assert queuectl.err == ""


class TestPipes:
    @pytest.mark.parametrize(
        "words", [("list", "--all"), ("list", "--all", "--jsonl"), ("list", "--all", "--json")]
    )
    def test_a_closed_pipe_ends_the_command_quietly(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        queuectl("enqueue", "-", input="echo some words to fill the pipe\n" * 3000)
        done = queuectl.process(*words, shell="{ $Q; echo $? >&2; } | head -c 1")
        assert len(done.stdout) == 1
        assert done.stderr == b"0\n"

    def test_a_closed_pipe_ends_logs_quietly(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"), *[b"line\n" * 10_000] * 10)
        for words in (("logs", "a"), ("logs", "a", "--raw"), ("logs", "-f", "a")):
            done = queuectl.process(*words, shell="{ $Q; echo $? >&2; } | head -1")
            assert (done.stdout, done.stderr) == (b"line\n", b"0\n")


class TestHelp:
    @pytest.mark.parametrize("words", COMMANDS)
    def test_every_command_has_help_with_examples(self, queuectl: CommandLine, words: str) -> None:
        text = queuectl(*words.split(), "--help")
        assert text.startswith(f"usage: queuectl {words}")
        assert re.search(r"^examples:\n  queuectl ", text, re.MULTILINE)
        for option in ("--store", "--json", "--quiet", "--help"):
            assert option in text
        assert queuectl(*words.split(), "-h") == text

    @pytest.mark.parametrize("alias", ALIASES)
    def test_an_alias_has_the_help_of_its_command(self, queuectl: CommandLine, alias: str) -> None:
        assert queuectl(alias, "--help") == queuectl(*ALIASES[alias].split(), "--help")

    @pytest.mark.parametrize("group", sorted(groups()))
    def test_a_group_lists_its_commands(self, queuectl: CommandLine, group: str) -> None:
        text = queuectl(group, "--help")
        for words in COMMANDS:
            assert (f"\n  {words} " in text) == words.startswith(f"{group} ")

    def test_the_overview_lists_all_commands(self, queuectl: CommandLine) -> None:
        text = queuectl("--help")
        assert all(words in text for words in COMMANDS)
        assert queuectl(code=2) == text

    def test_the_version_is_printed(self, queuectl: CommandLine) -> None:
        assert queuectl("--version") == f"queuectl {__version__}\n"


class TestProgram:
    def test_the_program_can_be_run_as_a_module(self, queuectl: CommandLine) -> None:
        queuectl("doctor", "--create")
        done = queuectl.process("enqueue", "--id", "a", "x")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"a\n", b"")
        done = queuectl.process("show", "nobody")
        assert (done.returncode, done.stdout) == (3, b"")

    def test_verbose_prints_the_traceback_of_an_error(self, queuectl: CommandLine) -> None:
        queuectl("show", "nobody", "-v", code=3)
        assert "Traceback" in queuectl.err
        queuectl("show", "nobody", code=3)
        assert "Traceback" not in queuectl.err

    def test_control_sequences_quoted_in_an_error_are_escaped(self, queuectl: CommandLine) -> None:
        queuectl("show", "\x1b[2J\nx", code=3)
        assert "\x1b" not in queuectl.err
        assert queuectl.err.count("\n") == 1


def test_stdout_contains_only_the_document_under_json(queuectl: CommandLine) -> None:
    done: subprocess.CompletedProcess[bytes] = queuectl.process("status", "--json")
    assert json.loads(done.stdout)["schema"] == 1
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""
