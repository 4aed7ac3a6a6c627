"""`queuectl status`, `show` and `list`: their output, its order, and the references to a job."""

import json

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from queuectl.domain.job import STATES

JOB_KEYS = {
    "id", "number", "command", "argv", "shell", "queue", "priority", "state", "run_at", "attempts", "failures",
    "losses", "version", "max_retries", "max_losses", "backoff", "no_retry_codes", "timeout", "kill_grace", "cwd",
    "env", "umask", "stdin", "output_limit", "split", "allow_detached", "unique_key", "after", "after_failure",
    "waiting_for", "batch", "tags", "meta", "lease", "cancel_requested", "history", "history_dropped", "last_error",
    "exit_code", "output_tail", "created_at", "updated_at", "started_at", "finished_at", "cause",
    "sort_key", "boost", "content", "schedule", "instant", "label", "progress",
}  # fmt: skip


class TestReferences:
    """A reference to a job is an id, a number, a unique prefix, @last, or - for stdin."""

    SINGLE = ("show", "status", "explain", "logs")

    @pytest.fixture(autouse=True)
    def two(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "alpha", "true")
        queuectl("enqueue", "--id", "beta", "true")

    @pytest.mark.parametrize("command", SINGLE)
    @pytest.mark.parametrize("word", ["beta", "2", "be", "@last"])
    def test_each_kind_of_reference_finds_the_job(
        self, queuectl: CommandLine, command: str, word: str
    ) -> None:
        document = queuectl.json(command, word)
        found = document["job"]
        assert (found if isinstance(found, str) else found["id"]) == "beta"

    @pytest.mark.parametrize("command", SINGLE)
    def test_a_dash_reads_the_job_from_stdin(self, queuectl: CommandLine, command: str) -> None:
        document = json.loads(queuectl(command, "-", "--json", input="beta\n"))
        found = document["job"]
        assert (found if isinstance(found, str) else found["id"]) == "beta"

    @pytest.mark.parametrize("command", [name for name in SINGLE if name not in ("show", "explain")])
    def test_several_jobs_on_stdin_are_refused_by_commands_for_one_job(
        self, queuectl: CommandLine, command: str
    ) -> None:
        queuectl(command, "-", input="alpha\nbeta\n", code=2)
        assert "2 jobs are given, one is expected" in queuectl.err

    @pytest.mark.parametrize("command", [*SINGLE, "cancel", "retry", "hold", "release", "delete", "wait"])
    def test_an_empty_stdin_names_no_job(self, queuectl: CommandLine, command: str) -> None:
        queuectl(command, "-", input="", code=2)
        assert "no job is given" in queuectl.err

    @pytest.mark.parametrize(("command", "state"), [("cancel", "cancelled"), ("hold", "held")])
    def test_several_jobs_on_stdin_are_accepted_by_commands_for_many(
        self, queuectl: CommandLine, command: str, state: str
    ) -> None:
        queuectl(command, "-", input="1\nbeta\n")
        assert {job["state"] for job in queuectl.json("list")["jobs"]} == {state}

    @pytest.mark.parametrize("command", SINGLE)
    def test_an_ambiguous_prefix_is_refused(self, queuectl: CommandLine, command: str) -> None:
        queuectl("enqueue", "--id", "beton", "true")
        queuectl(command, "bet", code=2)
        assert "begins several ids" in queuectl.err


class TestStatus:
    def test_the_document_has_the_documented_keys(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "x", "true")
        actor.take("x", "id-w")
        actor.enters("w", count=2, busy=("x",))
        document = queuectl.json("status")
        assert document.keys() == {
            "schema",
            "store",
            "jobs",
            "queues",
            "slots",
            "without_slot",
            "workers",
            "last_hour",
            "attention",
            "now",
        }
        assert document["store"]["durability"] == "power-safe"
        assert document["jobs"].keys() == {"total", *STATES}
        assert document["slots"] == {"live": 2, "processing": 1, "idle": 1}
        assert document["without_slot"] == {"claimed_ahead": 0, "held_by_lost": 0}
        assert [q["name"] for q in document["queues"]] == ["default"]
        assert document["queues"][0].keys() >= {
            "name",
            "paused",
            "limit",
            "pending",
            "processing",
            "oldest_due_seconds",
            "oldest_due",
        }
        [worker] = document["workers"]
        documented = {
            "id",
            "host",
            "holder_pid",
            "agent_pid",
            "started_at",
            "last_heartbeat",
            "state",
            "slots",
        }
        assert worker.keys() >= documented
        assert worker["state"] == "running"

    def test_the_counts_of_the_states_add_up(self, queuectl: CommandLine, actor: Actor) -> None:
        for id in ("done", "dead", "runs", "waits"):
            queuectl("enqueue", "--id", id, "--retries", "0", "x")
        actor.runs("done")
        actor.runs("dead", exit_code=1)
        actor.take("runs")
        queuectl("enqueue", "--hold", "x")
        counts = queuectl.json("status")["jobs"]
        assert counts.pop("total") == sum(counts.values()) == 5
        assert {state for state, count in counts.items() if count} == {
            "completed", "dead", "processing", "pending", "held"
        }  # fmt: skip

    def test_the_status_of_one_job_is_the_document_of_show(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "true")
        assert queuectl("status", "a", "--json") == queuectl("show", "a", "--json")

    def test_the_status_of_an_empty_store_prints_a_hint_on_stderr(self, queuectl: CommandLine) -> None:
        assert "worker start" not in queuectl("status")
        assert "queuectl worker start" in queuectl.err
        queuectl("status", "-q")
        assert queuectl.err == ""


class TestShow:
    def test_the_document_has_the_documented_keys(self, queuectl: CommandLine, actor: Actor) -> None:
        actor.runs(queuectl.enqueue("--id", "a", "x"), b"out", exit_code=3)
        document = queuectl.json("show", "a")
        assert document.keys() == {"schema", "job"}
        assert document["job"].keys() == JOB_KEYS
        [past] = document["job"]["history"]
        assert (past["outcome"], past["exit_code"], past["output_bytes"], past["pid"]) == (
            "exited",
            3,
            3,
            4711,
        )

    def test_the_text_shows_the_attempts_and_the_last_output(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        id = queuectl.enqueue("--env", "TOKEN=secret", "make x")
        actor.take(id)
        actor.prints(id, b"oops\n")
        actor.ends(id, exit_code=3, tail="oops\n")
        text = queuectl("show", id)
        for words in ("make x", "failed", "exit code 3", "last output:\n  oops", "TOKEN", "1.0MiB"):
            assert words in text
        assert "secret" not in text

    def test_control_sequences_in_a_command_are_escaped(self, queuectl: CommandLine) -> None:
        id = queuectl.enqueue("printf '\x1b[31m'")
        assert "\x1b" not in queuectl("show", id)
        assert "\\x1b" in queuectl("show", id)


class TestList:
    @pytest.fixture
    def some(self, queuectl: CommandLine, actor: Actor) -> None:
        """a: pending, mail, tag t; b: completed, batch n; c: held; d: pending, urgent."""
        queuectl("enqueue", "--id", "a", "--queue", "mail", "--tag", "t", "x")
        queuectl("enqueue", "--id", "b", "--batch", "n", "x")
        queuectl("enqueue", "--id", "c", "--hold", "x")
        queuectl("enqueue", "--id", "d", "--priority", "9", "--tag", "t", "x")
        actor.runs("b")

    def ids(self, queuectl: CommandLine, *words: str) -> str:
        return "".join(job["id"] for job in queuectl.json("list", *words)["jobs"])

    @pytest.mark.parametrize(
        ("words", "ids"),
        [
            ((), "dcba"),
            (("--state", "pending"), "da"),
            (("--state", "held,completed"), "cb"),
            (("--state", " held , completed "), "cb"),
            (("--queue", "mail"), "a"),
            (("-Q", "nowhere"), ""),
            (("--tag", "t"), "da"),
            (("--batch", "n"), "b"),
            (("--tag", "t", "--queue", "mail"), "a"),
            (("--since", "1h"), "dcba"),
            (("--since", "0s"), ""),
            (("--limit", "2"), "dc"),
            (("--limit", "1", "--all"), "dcba"),
            (("--sort", "updated", "--limit", "1"), "b"),
            (("--sort", "next", "--state", "pending"), "da"),
        ],
    )
    @pytest.mark.usefixtures("some")
    def test_filters_order_and_limit_select_the_listed_jobs(
        self, queuectl: CommandLine, words: tuple[str, ...], ids: str
    ) -> None:
        assert self.ids(queuectl, *words) == ids

    @pytest.mark.usefixtures("some")
    @pytest.mark.parametrize("sort", ["created", "updated", "next"])
    def test_the_pages_together_are_the_whole_list(self, queuectl: CommandLine, sort: str) -> None:
        whole, seen, cursor = self.ids(queuectl, "--sort", sort), "", None
        while True:
            more = ("--after", cursor) if cursor else ()
            document = queuectl.json("list", "--sort", sort, "--limit", "1", *more)
            seen, cursor = seen + "".join(job["id"] for job in document["jobs"]), document["next"]
            if cursor is None:
                break
        assert seen == whole
        assert len(seen) == 4

    @pytest.mark.usefixtures("some")
    def test_the_document_has_the_documented_keys(self, queuectl: CommandLine) -> None:
        document = queuectl.json("list")
        assert document.keys() == {"schema", "jobs", "next", "unreadable"}
        assert document["next"] is None
        assert all(job.keys() == JOB_KEYS for job in document["jobs"])

    @pytest.mark.usefixtures("some")
    def test_a_negative_cursor_may_be_a_separate_word(self, queuectl: CommandLine) -> None:
        document = queuectl.json("list", "--limit", "2")
        assert document["next"].startswith("-")
        assert self.ids(queuectl, "--after", document["next"]) == "ba"

    @pytest.mark.usefixtures("some")
    def test_jsonl_prints_one_job_per_line(self, queuectl: CommandLine) -> None:
        lines = [json.loads(line) for line in queuectl.lines("list", "--jsonl", "--all")]
        assert [line["id"] for line in lines] == ["d", "c", "b", "a"]
        assert lines[0].keys() == JOB_KEYS

    @pytest.mark.usefixtures("some")
    def test_without_a_terminal_columns_are_separated_by_tabs(self, queuectl: CommandLine) -> None:
        assert queuectl.lines("list", "--columns", "id,state,tags,batch,queue") == [
            "d\tpending\tt\t\tdefault",
            "c\theld\t\t\tdefault",
            "b\tcompleted\t\tn\tdefault",
            "a\tpending\tt\t\tmail",
        ]

    def test_every_column_can_be_shown(self, queuectl: CommandLine, actor: Actor) -> None:
        from queuectl.cli.cells import ALL_COLUMNS

        actor.take(queuectl.enqueue("x"))
        [line] = queuectl.lines("list", "--columns", ",".join(ALL_COLUMNS))
        assert len(line.split("\t")) == len(ALL_COLUMNS)
        assert "w1" in line

    def test_a_long_command_is_not_cut_in_a_pipe(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "echo " + "x" * 5000)
        assert queuectl.lines("list", "--columns", "command") == ["echo " + "x" * 5000]

    def test_a_command_of_many_lines_is_printed_in_one_line(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "echo a\n\techo b\x1b[31m")
        assert queuectl.lines("list", "--columns", "id,command")[0].endswith("\techo a echo b\\x1b[31m")

    @pytest.mark.usefixtures("some")
    def test_further_jobs_are_mentioned_on_stderr_except_with_quiet(self, queuectl: CommandLine) -> None:
        assert len(queuectl.lines("list", "--limit", "2")) == 2
        assert "there are more" in queuectl.err
        queuectl("list", "--limit", "2", "-q")
        assert queuectl.err == ""
        queuectl("list", "--limit", "4")
        assert queuectl.err == ""

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "9" * 5000, ""])
    def test_an_invalid_limit_is_refused(self, queuectl: CommandLine, limit: str) -> None:
        queuectl("list", f"--limit={limit}", code=2)
        assert "is not a count" in queuectl.err

    @pytest.mark.parametrize("cursor", ["x", "1:2", "", "9" * 30])
    def test_an_invalid_cursor_is_refused(self, queuectl: CommandLine, cursor: str) -> None:
        queuectl("list", f"--after={cursor}", code=2)

    def test_more_jobs_than_one_page_of_the_store_are_listed(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "-", input="x\n" * 2500)
        assert len(queuectl.lines("list", "--all")) == 2500
        assert len(queuectl.json("list", "--limit", "1500")["jobs"]) == 1500
