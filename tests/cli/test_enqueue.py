"""`queuectl enqueue` accepts every form of a command and stores every option in the job."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine

OPTIONS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("--id", "mine"), {"id": "mine"}),
    (("--queue", "mail"), {"queue": "mail"}),
    (("-Q", "mail"), {"queue": "mail"}),
    (("--priority", "-5"), {"priority": -5}),
    (("-p", "5"), {"priority": 5}),
    (("--max-retries", "0"), {"max_retries": 0}),
    (("--retries", "-1"), {"max_retries": -1}),
    (("--no-retry-on", "2,64"), {"no_retry_codes": [2, 64]}),
    (("--backoff-base", "3"), {"backoff": {"base": 3.0, "factor": 1, "max": 3600, "jitter": 0.0}}),
    (("--backoff-factor", "500ms"), {"backoff": {"base": 2.0, "factor": 0.5, "max": 3600, "jitter": 0.0}}),
    (("--backoff-max", "1m"), {"backoff": {"base": 2.0, "factor": 1, "max": 60, "jitter": 0.0}}),
    (("--jitter", "0.5"), {"backoff": {"base": 2.0, "factor": 1, "max": 3600, "jitter": 0.5}}),
    (("--timeout", "2h30m"), {"timeout": 9000}),
    (("--kill-grace", "1500ms"), {"kill_grace": 1.5}),
    (("--at", "2036-11-22T15:00:00+01:00"), {"run_at": "2036-11-22T14:00:00.000000Z"}),
    (("--cwd", "/srv"), {"cwd": "/srv"}),
    (("--umask", "027"), {"umask": "027"}),
    (("--shell", "bash -e"), {"shell": "bash -e"}),
    (("--unique", "k"), {"unique_key": "k"}),
    (("--after", "parent"), {"after": [{"job": "parent", "on": "ok"}], "state": "blocked"}),
    (("--after", "parent:any"), {"after": [{"job": "parent", "on": "any"}]}),
    (("--after", "parent", "--after", "other:failed"),
     {"after": [{"job": "parent", "on": "ok"}, {"job": "other", "on": "failed"}], "waiting_for": ["parent", "other"]}),
    (("--after", "parent", "--after-failure", "hold"), {"after_failure": "hold"}),
    (("--batch", "nightly"), {"batch": "nightly"}),
    (("--tag", "a", "--tag", "b"), {"tags": ["a", "b"]}),
    (("--meta", '{"a": [1]}'), {"meta": {"a": [1]}}),
    (("--hold",), {"state": "held"}),
    (("--output-limit", "64KiB"), {"output_limit": 65536}),
    (("--split",), {"split": True}),
    (("--allow-detached",), {"allow_detached": True}),
    (("--env", "A=1=2", "--env", "B="), {"env": {"A": "1=2", "B": ""}}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "shown"), OPTIONS, ids=[" ".join(words) for words, _ in OPTIONS])
def test_every_option_is_stored_in_the_job(
    queuectl: CommandLine, words: tuple[str, ...], shown: dict[str, Any]
) -> None:
    for id in ("parent", "other"):
        queuectl.enqueue("--id", id, "true")
    job = queuectl.job(queuectl.enqueue(*words, "make x"))
    assert {name: job[name] for name in shown} == shown
    assert job["command"] == "make x"


class TestForms:
    def test_a_shell_command_is_stored_unchanged(self, queuectl: CommandLine) -> None:
        command = "  echo 'a  b' \"$HOME\" `x` \\\n | tee ü "
        assert queuectl.job(queuectl.enqueue(command))["command"] == command

    def test_a_program_with_arguments_is_stored_without_a_shell(self, queuectl: CommandLine) -> None:
        words = ["ls", "-l", "--json", "a b", "", "--", "@last"]
        job = queuectl.job(queuectl.enqueue("--priority", "3", "--", *words))
        assert (job["argv"], job["command"], job["priority"]) == (words, None, 3)

    def test_words_after_the_dashes_are_not_options_even_in_an_error(self, queuectl: CommandLine) -> None:
        assert queuectl("enqueue", "--priority", "x", "--", "ls", "--json", code=2) == ""

    def test_a_job_may_be_given_as_json(self, queuectl: CommandLine) -> None:
        job = queuectl.job(queuectl.enqueue(' {"command":"x","max_retries":9}'))
        assert (job["command"], job["max_retries"]) == ("x", 9)

    def test_fields_of_a_json_job_win_over_the_flags(self, queuectl: CommandLine) -> None:
        text = '{"command":"x","queue":"json","backoff":{"base":5},"delay":3600}'
        flags = (
            "--queue",
            "flag",
            "--priority",
            "4",
            "--backoff-base",
            "3",
            "--backoff-max",
            "9s",
            "--in",
            "1d",
        )
        job = queuectl.job(queuectl.enqueue(*flags, text))
        assert (job["queue"], job["priority"]) == ("json", 4)
        assert (job["backoff"]["base"], job["backoff"]["max"]) == (5.0, 9)
        assert datetime.fromisoformat(job["run_at"]) < datetime.now(UTC) + timedelta(hours=2)

    def test_a_script_with_an_interpreter_line_is_stored_unchanged(self, queuectl: CommandLine) -> None:
        text = "#!/usr/bin/env python3\nprint('hello')\n"
        Path("s.py").write_text(text)
        assert queuectl.job(queuectl.enqueue("--script", "s.py"))["command"] == text

    @pytest.mark.parametrize("alias", ["submit", "add"])
    def test_the_aliases_of_enqueue_work(self, queuectl: CommandLine, alias: str) -> None:
        assert queuectl(alias, "--id", "a", "true") == "a\n"

    def test_options_may_precede_or_follow_the_command(self, queuectl: CommandLine) -> None:
        Path("b.db").touch()
        queuectl("--store", "sqlite:///b.db", "enqueue", "true", "--id", "a")
        assert queuectl("show", "a", "--store=sqlite:///b.db")
        queuectl("show", "a", code=3)

    @pytest.mark.parametrize(
        "words",
        [("x", "--file", "f"), ("x", "--", "y"), ("--script", "s", "--file", "f"), ("-", "--script", "s")],
    )
    def test_two_commands_at_once_are_refused(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        queuectl("enqueue", *words, code=2)
        assert "two ways" in queuectl.err


class TestEnvironment:
    def test_a_variable_without_a_value_gets_its_current_value(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TOKEN", "a=b\n ")
        assert queuectl.job(queuectl.enqueue("--env", "TOKEN", "x"))["env"] == {"TOKEN": "a=b\n "}

    def test_only_given_variables_are_stored(self, queuectl: CommandLine) -> None:
        assert os.environ["HOME"]
        assert queuectl.job(queuectl.enqueue("x"))["env"] == {}

    def test_flags_win_over_a_file_of_variables(self, queuectl: CommandLine) -> None:
        Path("vars").write_text('A=1\nexport B="two words"\n# no\nC=$A\nD=\n')
        job = queuectl.job(queuectl.enqueue("--env-file", "vars", "--env", "A=9", "x"))
        assert job["env"] == {"A": "9", "B": "two words", "C": "$A", "D": ""}


class TestInput:
    def test_the_text_of_a_file_becomes_the_input_of_the_command(self, queuectl: CommandLine) -> None:
        Path("in").write_text("line\nü\n")
        assert queuectl.job(queuectl.enqueue("--stdin", "in", "cat"))["stdin"] == "line\nü\n"

    def test_input_that_is_not_text_is_stored_byte_for_byte(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        Path("in").write_bytes(bytes(range(256)))
        id = queuectl.enqueue("--stdin", "in", "cat")
        assert actor.job(id).spec.stdin == bytes(range(256))

    def test_a_dash_reads_the_input_from_stdin(self, queuectl: CommandLine) -> None:
        id = queuectl("enqueue", "--stdin", "-", "cat", input=b"here").strip()
        assert queuectl.job(id)["stdin"] == "here"


class TestTimes:
    @pytest.fixture(autouse=True)
    def zone(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        yield
        monkeypatch.undo()
        time.tzset()

    def test_a_delay_counts_from_now(self, queuectl: CommandLine) -> None:
        job = queuectl.job(queuectl.enqueue("--in", "1h", "x"))
        after = datetime.fromisoformat(job["run_at"]) - datetime.fromisoformat(job["created_at"])
        assert after == timedelta(hours=1)

    def test_a_time_without_zone_is_local_with_a_message(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TZ", "Etc/GMT-5")
        time.tzset()
        id = queuectl.enqueue("--at", "2036-11-22T15:00:00", "x")
        assert "taken as local time, that is 2036-11-22T10:00:00.000000Z" in queuectl.err
        assert queuectl.job(id)["run_at"] == "2036-11-22T10:00:00.000000Z"

    def test_a_time_with_zone_prints_no_message(self, queuectl: CommandLine) -> None:
        queuectl.enqueue("true")
        queuectl.enqueue("--at", "2036-11-22T15:00:00Z", "x")
        assert queuectl.err == ""


class TestAnswer:
    def test_enqueue_prints_only_the_id(self, queuectl: CommandLine) -> None:
        id = queuectl("enqueue", "x")
        assert id.endswith("\n")
        assert id.strip() in queuectl.ids()
        assert queuectl.err == ""

    def test_enqueue_prints_one_document_under_json(self, queuectl: CommandLine) -> None:
        document = queuectl.json("enqueue", "--id", "a", "x")
        assert document == {
            "schema": 1,
            "jobs": [{"id": "a", "number": 1, "state": "pending", "existing": False}],
        }

    def test_a_repeated_enqueue_is_reported_except_with_quiet(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        assert queuectl("enqueue", "--id", "a", "x") == "a\n"
        assert "already existed" in queuectl.err
        assert queuectl("enqueue", "-q", "--id", "a", "x") == "a\n"
        assert queuectl.err == ""

    def test_dry_run_shows_the_job_and_stores_nothing(self, queuectl: CommandLine) -> None:
        document = queuectl.json("enqueue", "--dry-run", "--id", "a", "--timeout", "5m", "x")
        assert (document["job"]["id"], document["job"]["timeout"]) == ("a", 300)
        assert '"timeout": 300' in queuectl("enqueue", "--dry-run", "--timeout", "5m", "x")
        assert queuectl.ids() == set()

    def test_a_dry_run_has_the_keys_of_a_stored_job(self, queuectl: CommandLine) -> None:
        dry = queuectl.json("enqueue", "--dry-run", "x")["job"]
        assert dry.keys() == queuectl.job(queuectl.enqueue("x")).keys()

    @pytest.mark.parametrize(
        ("words", "hint"),
        [
            (("--follow", "--json", "x"), "--wait"),
            (("--wait", "-"), "wait --batch"),
            (("--id", "a", "-"), "lines"),
        ],
    )
    def test_options_without_one_possible_answer_are_refused(
        self, queuectl: CommandLine, words: tuple[str, ...], hint: str
    ) -> None:
        queuectl("enqueue", *words, code=2)
        assert hint in queuectl.err
        assert queuectl.ids() == set()


class TestAfter:
    def test_the_child_of_a_completed_parent_is_pending(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "p", "x"))
        assert queuectl.json("enqueue", "--after", "p", "y")["jobs"][0]["state"] == "pending"

    def test_the_child_of_a_dead_parent_is_cancelled_at_once(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        actor.kills(queuectl.enqueue("--id", "p", "--retries", "0", "x"))
        assert queuectl.json("enqueue", "--after", "p", "y")["jobs"][0]["state"] == "cancelled"


class TestParentsByName:
    def test_the_option_after_accepts_every_reference_to_a_job(self, queuectl: CommandLine) -> None:
        made = queuectl.enqueue("x")
        for words in (("--after", "1"), ("--after", "@last:any"), ("--after", made[:14])):
            child = queuectl.job(queuectl.enqueue("--id", f"c{len(words[1])}", *words, "x"))
            assert child["state"] == "blocked"
        assert [queuectl.job(id)["after"] for id in ("c1", "c14")] == [[{"job": made, "on": "ok"}]] * 2
        assert queuectl.job("c9")["after"] == [{"job": "c1", "on": "any"}]

    @pytest.mark.parametrize("nobody", ["17", "@first", "17:any", "nobody", "j"])
    def test_an_unknown_parent_is_not_found(self, queuectl: CommandLine, nobody: str) -> None:
        queuectl("enqueue", "--id", "job-1", "x")
        queuectl("enqueue", "--after", nobody, "x", code=3)

    def test_a_plain_number_is_refused_as_a_new_id(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "1", "x", code=2)
        assert "'1' is a plain number" in queuectl.err
        queuectl("enqueue", '{"id":"12","command":"x"}', code=2)
        assert queuectl.enqueue("--id", "1a", "x") == "1a"


class TestRepeatedEnqueue:
    """An enqueue of the same id and command starts nothing, and a message explains how to run the job again."""

    def test_for_an_ended_job_the_end_time_and_the_retry_command_are_printed(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        queuectl("enqueue", "--id", "nightly", "x")
        assert queuectl("enqueue", "--id", "nightly", "x") == "nightly\n"
        assert queuectl.err == "queuectl: job nightly already existed (pending), unchanged\n"
        actor.runs("nightly")
        ended = queuectl.job("nightly")["finished_at"]
        assert queuectl("enqueue", "--id", "nightly", "x") == "nightly\n"
        assert f"ended at {ended} (completed): nothing will run" in queuectl.err
        assert "queuectl retry --force nightly" in queuectl.err
        assert "--id nightly-$(date +%F)" in queuectl.err
        assert queuectl("retry", "--force", "nightly") == "nightly pending\n"
