"""`queuectl enqueue -` and `--file` enqueue many jobs, one per line or as a JSON array, in batches."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from cli.conftest import CommandLine
from cli.terminals import Terminal
from queuectl.cli import bulk
from queuectl.cli.bulk import BATCH, REMOTE_BATCH


def commands(queuectl: CommandLine) -> list[str | None]:
    """The commands of all jobs, in the order in which they were enqueued."""
    jobs = queuectl.json("list", "--all")["jobs"]
    return [job["command"] for job in sorted(jobs, key=lambda job: job["number"])]


class TestForms:
    @pytest.mark.parametrize("end", ["\n", "", "\n\n", "\r\n"])
    def test_the_last_line_is_read_with_and_without_a_line_end(self, queuectl: CommandLine, end: str) -> None:
        assert len(queuectl.lines("enqueue", "-", input=f"echo 1\necho 2{end}")) == 2
        assert commands(queuectl) == ["echo 1", "echo 2"]

    def test_shell_commands_and_json_jobs_may_be_mixed(self, queuectl: CommandLine) -> None:
        text = 'echo 1\n{"command":"echo 2","priority":5}\n\n  {"argv":["echo","3"]}\n[ -f x ] && y\n'
        queuectl("enqueue", "--tag", "t", "-", input=text)
        assert commands(queuectl) == ["echo 1", "echo 2", None, "[ -f x ] && y"]
        jobs = queuectl.json("list", "--tag", "t")["jobs"]
        assert sorted(job["priority"] for job in jobs) == [0, 0, 0, 5]

    @pytest.mark.parametrize("indent", [None, 2])
    def test_each_item_of_a_json_array_is_enqueued(self, queuectl: CommandLine, indent: int | None) -> None:
        items = [{"command": "a"}, "echo 2", {"argv": ["b"]}, "{ echo 3; }", "two\nlines"]
        queuectl("enqueue", "-", input=json.dumps(items, indent=indent))
        assert commands(queuectl) == ["a", "echo 2", None, "{ echo 3; }", "two\nlines"]

    def test_an_empty_array_or_file_enqueues_no_job(self, queuectl: CommandLine) -> None:
        assert queuectl("enqueue", "-", input="[]") == ""
        assert queuectl("enqueue", "-", input="\n\n") == ""

    @pytest.mark.parametrize("item", ["3", "null", "true", "[1]"])
    def test_an_item_that_is_neither_job_nor_text_is_refused(self, queuectl: CommandLine, item: str) -> None:
        queuectl("enqueue", "-", input=f'["a", {item}]', code=2)
        assert f"line 2: a job or the text of a command is expected, not {item}" in queuectl.err
        assert queuectl.ids() == set()

    def test_an_array_that_is_not_utf8_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "-", input=b'["\xff"]', code=2)
        assert queuectl.ids() == set()

    def test_a_file_is_read_like_stdin(self, queuectl: CommandLine) -> None:
        Path("jobs").write_text("echo 1\necho 2\n")
        assert len(queuectl.lines("enqueue", "--file", "jobs")) == 2
        assert len(queuectl.lines("enqueue", "--file", "-", input="echo 3\n")) == 1

    def test_flags_complete_every_line(self, queuectl: CommandLine) -> None:
        queuectl(
            "enqueue", "--batch", "b", "--retries", "7", "-", input='x\n{"command":"y","max_retries":1}\n'
        )
        jobs = queuectl.json("list", "--batch", "b", "--sort", "next")["jobs"]
        assert [job["max_retries"] for job in jobs] == [7, 1]

    def test_lines_may_depend_on_each_other_in_any_order(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "-", input='{"id":"c","command":"x","after":["p"]}\n{"id":"p","command":"y"}\n')
        assert queuectl.job("c")["state"] == "blocked"


class TestSize:
    def test_twenty_thousand_lines_keep_their_order(self, queuectl: CommandLine) -> None:
        ids = queuectl.lines("enqueue", "-", input="".join(f"echo {n}\n" for n in range(20_000)))
        assert len(set(ids)) == 20_000
        assert ids == sorted(ids)
        assert queuectl.job("20000")["command"] == "echo 19999"
        assert queuectl.job(ids[12_345])["number"] == 12_346

    def test_thousands_of_mixed_lines_are_all_enqueued(self, queuectl: CommandLine) -> None:
        lines = [
            f"echo {n}" if n % 2 else json.dumps({"command": f"echo {n}", "priority": n % 7})
            for n in range(6000)
        ]
        document = json.loads(queuectl("enqueue", "-", "--json", input="\n".join(lines)))
        assert (document["schema"], len(document["jobs"])) == (1, 6000)
        assert [job["number"] for job in document["jobs"]] == list(range(1, 6001))
        assert queuectl.json("status")["jobs"]["pending"] == 6000


class TestBadLines:
    def test_jobs_committed_before_a_bad_line_stay_and_are_printed(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bulk, "BATCH", 2)
        monkeypatch.setattr(bulk, "REMOTE_BATCH", 2)
        out = queuectl("enqueue", "-", input='a\nb\nc\n{"x":1}\n', code=2)
        assert len(out.splitlines()) == 2
        assert "line 4: there is no field 'x'" in queuectl.err
        assert commands(queuectl) == ["a", "b"]

    def test_keep_going_skips_and_reports_each_bad_line(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--keep-going", "-", input='a\n{"x":1}\nb\n{"command":""}\n', code=1)
        assert queuectl.err.count("skipped") == 2
        assert "line 2 skipped" in queuectl.err
        assert "line 4 skipped" in queuectl.err
        assert commands(queuectl) == ["a", "b"]

    def test_a_conflicting_line_does_not_stop_later_lines(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        text = '{"id":"a","command":"other"}\n{"id":"b","command":"x"}\n'
        assert queuectl("enqueue", "-", input=text, code=4) == "b\n"
        assert "id a exists with other content" in queuectl.err

    def test_under_json_the_document_has_the_conflict_and_the_added_jobs(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        Path("jobs").write_text('{"id":"a","command":"other"}\n{"id":"b","command":"x"}\n')
        document = queuectl.json("enqueue", "--file", "jobs", code=4)
        assert [job["id"] for job in document["jobs"]] == ["b"]
        assert document["error"]["code"] == "conflict"

    def test_of_two_lines_with_one_unique_key_one_is_enqueued(self, queuectl: CommandLine) -> None:
        assert len(queuectl.lines("enqueue", "--unique", "k", "-", input="a\nb\n", code=4)) == 1
        assert commands(queuectl) == ["a"]

    def test_an_unknown_parent_stops_the_batch(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "-", input='a\n{"command":"x","after":["nobody"]}\n', code=3)
        assert queuectl.ids() == set()


def test_dry_run_prints_every_job_and_stores_none(queuectl: CommandLine) -> None:
    lines = queuectl.lines("enqueue", "--dry-run", "-", input='a\n{"command":"b"}\n')
    assert [json.loads(line)["command"] for line in lines] == ["a", "b"]
    assert len(json.loads(queuectl("enqueue", "--dry-run", "--json", "-", input="a\nb\n"))["jobs"]) == 2
    assert queuectl.ids() == set()


class TestProgress:
    """One live line on a terminal shows the number of enqueued jobs and an estimated total; it is removed at the
    end."""

    LINES = 5 * BATCH // 2

    def enqueue(self, words: str, lines: int = LINES) -> str:
        Path("jobs").write_text("".join(f"echo {number:06}\n" for number in range(lines)))
        command = f"{sys.executable} -m queuectl {words}"
        terminal = Terminal(["/bin/sh", "-c", command], columns=60, PYTHONPATH=os.pathsep.join(sys.path))
        assert terminal.wait() == 0, terminal.text
        terminal.close()
        return terminal.text

    @pytest.mark.usefixtures("queuectl")
    @pytest.mark.parametrize("words", ["enqueue --file jobs > ids", "enqueue - < jobs > ids"])
    def test_the_number_of_lines_is_estimated_from_the_size(self, words: str, door: str) -> None:
        text = self.enqueue(words)
        done, total = map(int, re.search(r"(\d+) of about (\d+) enqueued", text).groups())  # type: ignore[union-attr]
        assert done == (BATCH if door == "sqlite" else REMOTE_BATCH)
        assert abs(total - self.LINES) < self.LINES / 50
        assert text.endswith("\r\x1b[K")
        assert len(Path("ids").read_text().splitlines()) == self.LINES

    def test_ids_on_the_terminal_are_printed_above_the_live_line(self, queuectl: CommandLine) -> None:
        queuectl("doctor", "--create")
        text = self.enqueue("enqueue --file jobs")
        assert "of about" in text
        lines = [line.rpartition("\r\x1b[K")[2] for line in text.split("\n")]
        assert set(map(len, lines)) <= {26, 0}
        assert len([line for line in lines if line]) == self.LINES

    @pytest.mark.usefixtures("queuectl")
    def test_for_a_pipe_only_the_enqueued_number_is_shown(self) -> None:
        text = self.enqueue(f"--version > ids; cat jobs | {sys.executable} -m queuectl enqueue - > ids")
        assert f"{BATCH} enqueued" in text
        assert "of about" not in text

    @pytest.mark.usefixtures("queuectl")
    def test_with_quiet_no_progress_is_shown(self) -> None:
        assert "\x1b" not in self.enqueue("enqueue -q --file jobs > ids")
