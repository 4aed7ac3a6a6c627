"""Text that stdout cannot encode, and output that cannot be written: neither causes a traceback or a silent loss."""

import json
import os
from collections.abc import Callable

import pytest

from circles import turns
from cli.acting import Actor
from cli.conftest import CommandLine

TEXT = "naïve – 日本 🎉"
ENCODINGS = ("ascii", pytest.param("latin-1", marks=pytest.mark.proof))
"""Of the second, `make test` shows which characters it has; here it takes the same path as the first."""
LOOKS = (
    ("list",),
    ("list", "--columns", "command,error"),
    ("show", "a"),
    ("status", "a"),
    ("explain", "a"),
    ("logs", "a", "--color", "always"),
    ("logs", "a", "--color", "always", "--tail", "1"),
    ("queue", "list"),
    ("config", "list"),
    ("enqueue", TEXT, "--id", "dry", "--dry-run"),
    ("dlq", "list"),
    ("show", TEXT),
)
DOCUMENTS = (
    ("list", "--json"),
    ("list", "--jsonl"),
    ("show", "a", "--json"),
    ("logs", "a", "--json"),
    ("logs", "a", "--jsonl"),
    ("logs", "a", "-f", "--jsonl"),
    ("show", TEXT, "--json"),
    ("enqueue", TEXT, "--id", "dry", "--dry-run", "--json"),
)


@pytest.fixture
def foreign(queuectl: CommandLine, actor: Actor) -> None:
    """Job a: its command, its tag, its queue's neighbour and its output are no ASCII."""
    queuectl("enqueue", "--id", "a", "--retries", "0", f"echo {TEXT}; exit 1")
    actor.runs("a", TEXT.encode() + b"\n", exit_code=1)


@pytest.mark.usefixtures("foreign")
class TestEncoding:
    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("words", LOOKS, ids=" ".join)
    def test_text_that_the_encoding_lacks_is_replaced(
        self, queuectl: CommandLine, words: tuple[str, ...], encoding: str
    ) -> None:
        done = queuectl.process(*words, PYTHONIOENCODING=encoding)
        assert b"Traceback" not in done.stderr
        assert done.returncode == (3 if TEXT in words and words[0] == "show" else 0)
        done.stdout.decode(encoding)

    def test_a_missing_character_is_shown_as_its_code(self, queuectl: CommandLine) -> None:
        done = queuectl.process("list", "--columns", "command", PYTHONIOENCODING="ascii")
        assert done.stdout == b"echo na\\xefve \\u2013 \\u65e5\\u672c \\U0001f389; exit 1\n"
        done = queuectl.process("list", "--columns", "command", PYTHONIOENCODING="latin-1")
        assert done.stdout.startswith("echo naïve \\u2013".encode("latin-1"))

    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("words", DOCUMENTS, ids=" ".join)
    def test_json_is_ascii_with_the_same_content(
        self, queuectl: CommandLine, words: tuple[str, ...], encoding: str
    ) -> None:
        done = queuectl.process(*words, PYTHONIOENCODING=encoding)
        assert done.stdout.isascii()
        said = [json.loads(line) for line in done.stdout.splitlines()]
        meant = [
            json.loads(line)
            for line in queuectl.process(*words, PYTHONIOENCODING="utf-8").stdout.splitlines()
        ]
        assert "enqueue" in words or said == meant
        assert "naïve" in json.dumps(said, ensure_ascii=False)

    @pytest.mark.parametrize(
        "words", [("logs", "a"), ("logs", "a", "--raw"), ("logs", "-f", "a")], ids=" ".join
    )
    def test_the_bytes_of_logs_are_not_changed_in_a_pipe(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        done = queuectl.process(*words, PYTHONIOENCODING="ascii")
        assert done.stdout == TEXT.encode() + b"\n"

    def test_a_command_is_accepted_and_shown_in_the_c_locale(self, queuectl: CommandLine) -> None:
        plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = queuectl.process("enqueue", "--id", "b", f"echo {TEXT}", **plain)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"b\n", b"")
        assert queuectl.job("b")["command"] == f"echo {TEXT}"
        assert queuectl.process("show", "b", **plain).returncode == 0

    def test_a_table_needs_only_ascii_characters(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "long", "x" * 300)
        for words in (("list",), ("show", "a"), ("queue", "list")):
            text = queuectl.on_terminal(*words, PYTHONIOENCODING="ascii", NO_COLOR="1", LC_ALL="C")
            assert "\\u2026" not in text
            assert "\\u2500" not in text


def full(line: str) -> str:
    return f"{{ {line}; }} >/dev/full"


def closed(line: str) -> str:
    return f"{{ {line}; }} >&-"


@pytest.mark.parametrize(("away", "why"), [(full, "No space left on device"), (closed, "stdout is closed")])
class TestLost:
    """The output of a command cannot be written: the exit code is 1, and one line reports what was done."""

    @pytest.mark.parametrize(
        "words",
        turns([
            "list", "list --json", "show a", "-q status", "status --json", "queue list", "config list", "dlq list",
            "logs a", "logs a --raw", "logs -f a", "--version", "--help", "list --help", "doctor", "explain a",
            "completion bash",
        ], 3),
    )  # fmt: skip
    @pytest.mark.usefixtures("foreign")
    def test_a_command_that_reads_fails_with_one_line(
        self, queuectl: CommandLine, away: Callable[[str], str], why: str, words: str
    ) -> None:
        done = queuectl.process(shell=away(f"$Q {words}"))
        assert done.returncode == 1
        assert done.stderr.decode() == f"queuectl: the output could not be written: {why}\n"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("enqueue --id b x", "job b is enqueued"),
            ("enqueue --id b x --json", "job b is enqueued"),
            ("cancel a", "1 cancelled"),
            ("hold a", "1 held"),
            ("edit a --priority 4", "1 changed"),
            ("queue pause default", "queue default paused"),
            ("queue limit q 3 --json", "queue q runs at most 3 at once"),
            ("config set max-retries 9", "max_retries = 9"),
        ],
    )
    def test_a_command_that_changes_jobs_reports_the_change(
        self, queuectl: CommandLine, away: Callable[[str], str], why: str, words: str, said: str
    ) -> None:
        queuectl("enqueue", "--id", "a", "x")
        done = queuectl.process(shell=away(f"$Q {words}"))
        assert done.returncode == 1
        assert (
            done.stderr.decode()
            == f"queuectl: the output could not be written: {why} (it was done: {said})\n"
        )

    def test_a_generated_id_is_printed_so_that_the_job_can_be_found(
        self, queuectl: CommandLine, away: Callable[[str], str], why: str
    ) -> None:
        done = queuectl.process(shell=away("$Q enqueue x"))
        (id,) = queuectl.ids()
        assert done.stderr.decode().endswith(f"{why} (it was done: job 1 is enqueued, its id is {id})\n")
        assert done.returncode == 1

    def test_the_numbers_of_many_enqueued_jobs_are_reported(
        self, queuectl: CommandLine, away: Callable[[str], str], why: str
    ) -> None:
        done = queuectl.process(shell="printf 'a\\nb\\nc\\n' | " + away("$Q enqueue -"))
        assert len(queuectl.ids()) == 3
        assert done.stderr.decode().endswith(f"{why} (it was done: jobs 1 to 3 are enqueued)\n")
        assert done.returncode == 1

    def test_an_error_keeps_its_own_exit_code(
        self, queuectl: CommandLine, away: Callable[[str], str], why: str
    ) -> None:
        done = queuectl.process(shell=away("$Q show nobody --json"))
        assert done.returncode == 3
        assert b"there is no job 'nobody'" in done.stderr
        assert why.encode() not in done.stderr


def test_a_closed_stdout_does_not_overwrite_the_store(queuectl: CommandLine) -> None:
    queuectl.process(shell="$Q enqueue --id a x >&- 2>&- <&-")
    assert queuectl.job("a")["state"] == "pending"
    assert all(check["name"] != "store fault" for check in queuectl.json("doctor", code=1)["checks"])


@pytest.mark.parametrize("away", ["2>/dev/full", "2>&-"])
def test_messages_that_cannot_be_written_do_not_fail_the_command(queuectl: CommandLine, away: str) -> None:
    done = queuectl.process(shell=f"$Q enqueue --id a x {away}; $Q enqueue --id a x {away}; $Q logs a {away}")
    assert (done.returncode, done.stdout) == (0, b"a\na\n")
    done = queuectl.process(shell=f"$Q show nobody {away}")
    assert done.returncode == 3


def test_output_that_fails_in_the_middle_is_reported(
    queuectl: CommandLine, tmp_path: os.PathLike[str]
) -> None:
    queuectl("enqueue", "-", input="echo some words to fill the file\n" * 3000)
    done = queuectl.process(shell=f"ulimit -f 100; trap '' XFSZ; $Q list --all > {tmp_path}/out")
    assert done.returncode == 1
    assert done.stderr.decode() == "queuectl: the output could not be written: File too large\n"
