"""Words that are not commands: planned commands, names of other queues, and commands without quotes."""

import pytest

from cli.conftest import CommandLine
from cli.doors import NO_STORE, direct
from queuectl.cli.commands import COMMANDS, MEANT

pytestmark = direct(NO_STORE)

TO_COME = (
    "batch", "limit", "result", "top", "move", "dashboard",
)  # fmt: skip


@pytest.mark.parametrize("rest", [(), ("--port", "80"), ("x", "--bogus"), ("--help",)], ids=" ".join)
@pytest.mark.parametrize("word", TO_COME)
def test_a_planned_command_is_reported_as_planned(
    queuectl: CommandLine, word: str, rest: tuple[str, ...]
) -> None:
    queuectl(word, *rest, code=2)
    assert queuectl.err.startswith(f"queuectl: {word} is still to come (")


@pytest.mark.parametrize(
    "words",
    [
        ("logs", "--where", "queue:a"),
        ("logs", "--where=x", "--bogus"),
    ],
    ids=" ".join,
)
def test_a_planned_option_is_reported_as_planned(queuectl: CommandLine, words: tuple[str, ...]) -> None:
    queuectl(*words, code=2)
    assert "is still to come" in queuectl.err
    assert "sqlite:///path" not in queuectl.err


@pytest.mark.parametrize("word", [word for word in MEANT if " " not in word])
def test_the_error_for_a_command_of_another_queue_names_our_command(queuectl: CommandLine, word: str) -> None:
    queuectl(word, "1", code=2)
    assert f"use: {MEANT[word]}" in queuectl.err


@pytest.mark.parametrize("meant", MEANT.values())
def test_each_of_these_hints_names_an_existing_command(queuectl: CommandLine, meant: str) -> None:
    for part in meant.split("queuectl ")[1:]:
        words = part.partition(",")[0].split()
        if words[0] == "--version":
            continue
        known = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0].strip(",")
        assert known in COMMANDS
        options = [word.strip(",") for word in words if word.startswith("-")]
        shown = queuectl(*known.split(), "--help")
        assert all(option in shown for option in options)


class TestNotQuoted:
    @pytest.mark.parametrize(
        ("words", "hint"),
        [
            (
                ("ls", "-l"),
                "quote it: queuectl enqueue 'ls -l'; or, without a shell: queuectl enqueue -- ls -l",
            ),
            (("--retries", "2", "ls", "-la", "/"), "queuectl enqueue 'ls -la /'"),
            (("echo", "hello", "world"), "queuectl enqueue 'echo hello world'"),
        ],
    )
    def test_several_words_are_refused_with_the_quoted_command(
        self, queuectl: CommandLine, words: tuple[str, ...], hint: str
    ) -> None:
        queuectl("enqueue", *words, code=2)
        assert "words are given, one command is expected" in queuectl.err
        assert hint in queuectl.err

    def test_a_mistyped_option_is_reported_as_an_option(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "true", "--priorty", "5", code=2)
        assert "unknown option or argument --priorty: did you mean --priority?" in queuectl.err


class TestParents:
    def test_a_list_of_parents_is_refused_with_one_option_per_parent(self, queuectl: CommandLine) -> None:
        for words in (("--after", "a,b:any", "x"), ('{"command":"x","after":["a,b:any"]}',)):
            queuectl("enqueue", *words, code=2)
            assert (
                "'a,b:any' is not one job (give it once for each job: --after a --after b:any)"
                in queuectl.err
            )

    def test_an_invalid_condition_of_a_parent_lists_the_valid_ones(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "e1", "x")
        queuectl("enqueue", "--after", "e1:done", "x", code=3)
        assert "if e1 is the job: e1:ok, e1:any or e1:failed" in queuectl.err
