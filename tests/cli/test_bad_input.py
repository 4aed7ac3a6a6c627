"""Bad input is refused with one line of explanation and the documented exit code, and nothing is changed."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import CommandLine
from cli.doors import SQLITE, WORKER, direct
from queuectl.domain.job import Job
from queuectl.errors import OutcomeUnknown
from queuectl.store.protocol import Added
from queuectl.store.sqlite import SqliteStore

BAD_JOBS = [
    ('{"command":"x"', "line 1, column 15"),
    ('{"command":"x",}', "malformed JSON"),
    ('{"command":"x","max_retry":1}', "did you mean max_retries?"),
    ('{"command":"x","backoff":{"bas":2}}', "backoff: there is no field 'bas'"),
    ('{"command":"x","command":"y"}', "'command' is given twice"),
    ('{"command":"x","env":{"A":"1","A":"2"}}', "'A' is given twice"),
    ('{"command":"x","priority":NaN}', "NaN is not JSON"),
    ('{"command":"x","timeout":Infinity}', "Infinity is not JSON"),
    ('{"command":"x","timeout":1e999}', "out of range"),
    ('{"command":"x","priority":true}', "priority: a whole number is expected, not true or false"),
    ('{"command":"x","priority":"5"}', "priority: a whole number is expected, not a text"),
    ('{"command":"x","priority":1.5}', "priority: a whole number is expected"),
    ('{"command":"x","priority":1001}', "priority: may be at most 1000"),
    ('{"command":"x","priority":-1001}', "priority: must be at least -1000"),
    ('{"command":"x","max_retries":-2}', "max_retries: must be at least -1"),
    ('{"command":"x","max_retries":99999999999999999999999999}', "max_retries"),
    ('{"command":"x","jitter":2}', "jitter: may be at most 1"),
    ('{"command":"x","backoff_base":0.5}', "backoff_base: must be at least 1"),
    ('{"command":"a\\u0000b"}', "command: contains a NUL byte"),
    ('{"command":"x","env":{"A":"a\\u0000"}}', "NUL byte"),
    ('{"command":"x\\ud800"}', "surrogate"),
    ('{"command":""}', "the command is empty"),
    ('{"command":"  \\n"}', "the command is empty"),
    ("{}", "there is no command"),
    ('{"command":"x","argv":["x"]}', "command and argv are both given"),
    ('{"argv":[]}', "argv: may not be empty"),
    ('{"command":"x","id":"../etc/passwd"}', "is not allowed"),
    ('{"command":"x","id":""}', "is not allowed"),
    ('{"command":"x","queue":"a,b"}', "is not allowed"),
    ('{"command":"x","timeout":"5x"}', "timeout: '5x' is not a duration"),
    ('{"command":"x","timeout":0}', "timeout: 0 would end the command"),
    ('{"command":"x","timeout":-1}', "timeout"),
    ('{"command":"x","kill_grace":"-1s"}', "kill_grace"),
    ('{"command":"x","run_at":"yesterday"}', "is not a time"),
    ('{"command":"x","run_at":"0001-01-01T00:00:00Z"}', "out of range"),
    ('{"command":"x","run_at":"9999-12-31T23:59:59Z"}', "out of range"),
    ('{"command":"x","run_at":"2026-02-30T00:00:00Z"}', "is not a time"),
    ('{"command":"x","run_at":"2026-01-01T00:00:00Z","delay":5}', "say the same thing twice"),
    ('{"command":"x","id":"a","after":["a"]}', "is its own parent"),
    ('{"command":"x","after":[{"job":"a","on":"maybe"}]}', "is not ok, any or failed"),
    ('{"command":"x","umask":"999"}', "umask"),
    ('{"command":"x","output_limit":"1XB"}', "is not a size"),
    ('{"command":"x","no_retry_codes":[300]}', "no_retry_codes"),
    ('{"command":"x","meta":[1]}', "meta: an object is expected, not a list"),
    ('{"command":"x","hold":1}', "hold: true or false is expected"),
    ('{"a":' * 5000, "nested too deeply"),
    ('{"command":"x","meta":' + '{"a":' * 2000 + "1" + "}" * 2000 + "}", "nested too deeply"),
]


@pytest.mark.parametrize(("text", "words"), BAD_JOBS, ids=[text[:40] for text, _ in BAD_JOBS])
def test_a_bad_json_job_is_refused_in_one_line(queuectl: CommandLine, text: str, words: str) -> None:
    assert queuectl("enqueue", text, code=2) == ""
    assert words in queuectl.err
    assert queuectl.err.count("\n") == 1
    assert queuectl.ids() == set()


BAD_WORDS = [
    (("enqueue",), 2, "no command is given"),
    (("enqueue", ""), 2, "the command is empty"),
    (("enqueue", "echo", "hello"), 2, "quote it: queuectl enqueue 'echo hello'"),
    (("enqueue", "x\udcff"), 2, "not valid UTF-8"),
    (("enqueue", "x" * (1024 * 1024 + 1)), 2, "the command has 1048577 bytes"),
    (("enqueue", "x", "--priorty", "1"), 2, "did you mean --priority?"),
    (("enqueue", "x", "--prio", "1"), 2, "unknown option"),
    (("enqueue", "x", "--priority", "1.5"), 2, "--priority: '1.5' is not a whole number"),
    (("enqueue", "x", "--no-retry-on", "a"), 2, "is not a list of exit codes"),
    (("enqueue", "x", "--after", "nobody"), 3, "there is no job nobody to wait for"),
    (("enqueue", "x", "--env", "SURELY_NOT_SET"), 2, "this variable is not set here"),
    (("enqueue", "x", "--env-file", "nowhere"), 2, "cannot read nowhere"),
    (("enqueue", "--script", "nowhere"), 2, "cannot read nowhere"),
    (("enqueue", "--file", "nowhere"), 2, "cannot read nowhere"),
    (("enqeue", "x"), 2, "did you mean enqueue?"),
    (("serve", "--prot", "80"), 2, "did you mean --port?"),
    (("--store", "http://127.0.0.1:1", "serve"), 2, "serve does not work through a server"),
    (("--store", "http://127.0.0.1:1", "worker", "start"), 2, "does not work through a server"),
    (("--store", "http://127.0.0.1:1", "demo"), 2, "demo does not work through a server"),
    (("dashboard",), 2, "still to come"),
    (("dlq", "lst"), 2, "did you mean dlq list?"),
    (("dlq",), 2, "dlq: the second word is missing"),
    (("--nope",), 2, "unknown option --nope"),
    (("list", "--state", "pendin"), 2, "did you mean pending?"),
    (("list", "--limit", "0"), 2, "--limit"),
    (("list", "--columns", "colour"), 2, "there is no column"),
    (("list", "--since", "soon"), 2, "is not a duration"),
    (("show", "nobody"), 3, "there is no job 'nobody'"),
    (("show", "@last"), 3, "there is no job yet"),
    (("show", "17"), 3, "there is no job '17'"),
    (("logs", "nobody"), 3, "there is no job"),
    (("cancel", "nobody"), 3, "there is no job"),
    (("cancel",), 2, "no job is given"),
    (("cancel", "--queue", "nope", "--yes"), 3, "there is no queue 'nope'"),
    (("retry", "nobody"), 3, "there is no job"),
    (("wait", "nobody"), 125, "there is no job"),
    (("wait",), 2, "exactly one selection of jobs is expected"),
    (("dlq", "retry"), 2, "no job is given"),
    (("purge",), 2, "--older-than"),
    (("purge", "--state", "pending", "--older-than", "1d"), 2, "only ended jobs"),
    (("worker", "stop", "nobody"), 3, "there is no worker 'nobody'"),
    (("worker", "start", "--count", "0"), 2, "--count"),
    (("worker", "start", "--count", "many"), 2, "--count"),
    (("worker", "start", "--count", "0" * 9 + "1"), 2, "--count"),
    (("worker", "start", "--count", "\u0661"), 2, "--count"),
    (("worker", "start", "--drain-timeout", "foo"), 2, "--drain-timeout: 'foo' is not a duration"),
    (("worker", "start", "--serve-read-only"), 2, "--serve-read-only needs --serve HOST:PORT"),
    (
        ("worker", "start", "--serve", "[::1]:0", "--serve-tls-cert", "c"),
        2,
        "--serve-tls-cert and --serve-tls-key need each other",
    ),
    (
        ("worker", "start", "--serve", "[::1]:0", "--serve-max-body", "x"),
        2,
        "--serve-max-body: 'x' is not a size",
    ),
    (("serve", "--max-body", "x"), 2, "--max-body: 'x' is not a size"),
    (("serve", "--request-timeout", "soon"), 2, "--request-timeout: 'soon' is not a duration"),
    (("serve", "--request-timeout", "0"), 2, "--request-timeout: no request can be answered in no time"),
    (("serve", "--public-url", "ops"), 2, "--public-url: 'ops' is not the URL of a server"),
    (
        ("token", "create", "a", "--scope", "view", "--expires", "foo"),
        2,
        "--expires: 'foo' is not a duration",
    ),
    (("token", "rotate", "a", "--keep", "foo"), 2, "--keep: 'foo' is not a duration"),
    (("worker", "start", "--serve", "8000"), 2, "is not HOST:PORT (for example --serve 127.0.0.1:7733)"),
    (("worker", "start", "--serve", "127.0.0.1:99999"), 2, "is not HOST:PORT"),
    (("worker", "start", "--serve", "127.0.0.1:" + "0" * 9 + "99999"), 2, "is not HOST:PORT"),
    (("worker", "start", "--serve", "127.0.0.1:" + "0" * 5000), 2, "is not HOST:PORT"),
    (("worker", "start", "--serve", "127.0.0.1:\u06680"), 2, "is not HOST:PORT"),
    (("worker", "start", "--serve", ":80"), 2, "is not HOST:PORT"),
    (("worker", "start", "--serve", "::1:80"), 2, "is not HOST:PORT"),
    (("worker", "start", "--serve", "0.0.0.0:80"), 2, "is reached from other machines"),
    (("worker", "start", "--serve", "no.such.invalid:80"), 2, "is no address of this machine"),
    (("queue", "limit", "default", "0"), 2, "out of range"),
    (("queue", "pause", ""), 2, "is not allowed"),
    (("config", "get", "nope"), 3, "there is no setting"),
    (("config", "get", "max_retry"), 3, "did you mean max_retries?"),
    (("config", "set", "max_retries", "abc"), 2, "is not a whole number"),
    (("config", "set", "max_retries", "-2"), 2, "out of range"),
    (("config", "set", "backoff_base", "nan"), 2, "is not a number"),
    (("config", "set", "lease", "5s"), 2, "a third of lease"),
    (("config", "set", "store", "x"), 2, "belongs to one program"),
    (("--store", "foo://x", "status"), 2, "unknown store scheme 'foo'"),
    (("--store", "sqlite://", "status"), 2, "names no file"),
    (("--store", "postgres", "status"), 2, "DATABASE_URL is not set"),
    (("--config", "nowhere.toml", "status"), 2, "cannot read nowhere.toml"),
    (("completion", "tcsh"), 2, "there is no completion for 'tcsh'"),
]


OF_HERE = [row for row in BAD_WORDS if row[0][0] == "serve" or row[0][:2] == ("worker", "start")]
"""Those of workers and servers of this host."""

ELSE = [row for row in BAD_WORDS if row not in OF_HERE]


@pytest.mark.parametrize(("words", "code", "said"), ELSE, ids=[" ".join(words)[:40] for words, *_ in ELSE])
def test_a_bad_command_line_is_refused_in_one_line(
    queuectl: CommandLine, words: tuple[str, ...], code: int, said: str
) -> None:
    refused(queuectl, words, code, said)


@direct(WORKER)
@pytest.mark.parametrize(
    ("words", "code", "said"), OF_HERE, ids=[" ".join(words)[:40] for words, *_ in OF_HERE]
)
def test_a_bad_command_line_for_a_worker_or_a_server_is_refused_in_one_line(
    queuectl: CommandLine, words: tuple[str, ...], code: int, said: str
) -> None:
    refused(queuectl, words, code, said)


def refused(queuectl: CommandLine, words: tuple[str, ...], code: int, said: str) -> None:
    """Check that a command line is refused in one line, and that nothing is enqueued."""
    assert queuectl(*words, code=code) == ""
    assert said in queuectl.err
    assert queuectl.err.count("\n") == 1
    assert queuectl.ids() == set()


def test_an_error_under_json_is_a_document_with_the_same_exit_code(queuectl: CommandLine) -> None:
    document = queuectl.json("show", "nobody", code=3)
    assert document["error"]["code"] == "not_found"
    assert document["error"]["message"] == "there is no job 'nobody'"
    assert document["error"]["hint"]


class TestLines:
    """A bad line is reported with its number, and no job of its batch is enqueued."""

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b'true\n\n{"command":1}\n', "line 3: command: a text is expected"),
            (b"true\n\xff\xfe\n", "line 2: not UTF-8"),
            (b'{"id":"a","command":"x"}\n{"id":"a","command":"y"}\n', "line 2: id a is given twice"),
            (b'{"id":"p","argv":["x"],"after":["q"]}\n{"id":"q","argv":["x"],"after":["p"]}\n', "wait for each other"),
            (b'[{"command":"x"}, {"command":""}]', "line 2: the command is empty"),
            (b'[{"command":"x"}', "malformed"),
            (b"a\0b\n", "line 1: command: contains a NUL byte"),
        ],
    )  # fmt: skip
    def test_a_bad_line_names_its_number(self, queuectl: CommandLine, text: bytes, words: str) -> None:
        assert queuectl("enqueue", "-", input=text, code=2) == ""
        assert words in queuectl.err
        assert queuectl.ids() == set()

    def test_keep_going_skips_and_reports_a_bad_line(self, queuectl: CommandLine) -> None:
        out = queuectl("enqueue", "-", "--keep-going", input='echo 1\n{"command":1}\necho 2\n', code=1)
        assert len(out.split()) == 2
        assert "line 2 skipped" in queuectl.err

    def test_input_may_contain_lines_arrays_and_json_jobs(self, queuectl: CommandLine) -> None:
        array = '[{"id":"a","command":"echo a"}, "echo b"]'
        assert len(queuectl("enqueue", "-", input=array).split()) == 2
        mixed = '{"id":"c","command":"echo c"}\n[ -f x ] && echo d\n'
        ids = queuectl("enqueue", "-", "--priority", "3", input=mixed).split()
        assert [queuectl.store().get([id])[id].spec.command for id in ids] == ["echo c", "[ -f x ] && echo d"]
        assert {job.priority for job in queuectl.store().get(ids).values()} == {3}


class TestIds:
    """An id that is used twice, and unique keys."""

    def test_the_same_id_with_the_same_content_is_not_an_error(self, queuectl: CommandLine) -> None:
        first = queuectl.json("enqueue", "--id", "a", "echo a")["jobs"][0]
        again = queuectl.json("enqueue", "--id", "a", "echo a")["jobs"][0]
        assert (first["existing"], again["existing"]) == (False, True)

    def test_the_same_id_with_other_content_is_a_conflict(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "echo a")
        for other in (["echo b"], ["--priority", "1", "echo a"], ["--delay", "1s", "echo a"]):
            queuectl("enqueue", "--id", "a", *other, code=4)
        assert queuectl.json("enqueue", "--id", "a", "echo b", code=4)["error"]["code"] == "conflict"

    def test_a_unique_key_is_taken_until_its_job_ends(self, queuectl: CommandLine) -> None:
        id = queuectl("enqueue", "--unique", "k", "true").strip()
        queuectl("enqueue", "--unique", "k", "true", code=4)
        assert "unique key 'k' is taken" in queuectl.err
        queuectl("cancel", id)
        queuectl("enqueue", "--unique", "k", "true")
        queuectl("retry", id, code=4)


class TestUnknownResult:
    """The reply is lost: the exit code is 75, the id is printed, and repeating is safe (guarantee G2)."""

    def test_the_id_is_printed_and_repeating_finds_the_job(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = SqliteStore.add

        def add_and_lose_the_reply(self: SqliteStore, jobs: list[Job], *more: Any) -> list[Added]:
            real(self, jobs, *more)
            raise OutcomeUnknown("the reply was lost")

        monkeypatch.setattr(SqliteStore, "add", add_and_lose_the_reply)
        id = queuectl("--patience", "0.1s", "enqueue", "echo a", code=75).strip()
        assert f"--id {id}" in queuectl.err
        monkeypatch.setattr(SqliteStore, "add", real)
        assert queuectl.json("enqueue", "--id", id, "echo a")["jobs"][0]["existing"] is True


@direct(SQLITE)
class TestInternalErrors:
    """An unexpected exception is printed like any other error, and is not swallowed."""

    @pytest.fixture(autouse=True)
    def faulty(self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        def find(*_: object) -> None:
            raise TypeError("Encoding objects of\ntype Int64 is unsupported")

        queuectl("enqueue", "true")
        monkeypatch.setattr(SqliteStore, "find", find)

    def test_an_internal_error_is_one_line_with_a_hint(self, queuectl: CommandLine) -> None:
        assert queuectl("list", code=1) == ""
        said = "queuectl: internal error: TypeError: Encoding objects of type Int64 is unsupported (this is a bug"
        assert queuectl.err.startswith(said)
        assert queuectl.err.count("\n") == 1

    def test_an_internal_error_under_json_is_a_document(self, queuectl: CommandLine) -> None:
        error = queuectl.json("list", code=1)["error"]
        assert (error["code"], "with -v" in error["hint"]) == ("internal", True)
        assert queuectl.err.count("\n") == 1

    @pytest.mark.parametrize("words", [("list", "-v"), ("list", "--verbose", "--json")])
    def test_the_option_v_prints_the_traceback(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        queuectl(*words, code=1)
        assert "Traceback" in queuectl.err
        assert "in find" in queuectl.err


class TestBadStores:
    """Databases that queuectl must not use."""

    def test_a_file_that_is_not_a_database_is_refused(self, queuectl: CommandLine) -> None:
        Path("q.db").write_bytes(b"this is not a database, " * 100)
        queuectl("--store", "sqlite:///q.db", "status", code=5)
        assert "q.db" in queuectl.err
        assert queuectl.err.count("\n") == 1

    def test_a_database_of_another_program_is_refused(self, queuectl: CommandLine) -> None:
        with sqlite3.connect("q.db") as other:
            other.execute("CREATE TABLE theirs (a)")
        queuectl("--store", "sqlite:///q.db", "status", code=5)

    def test_a_newer_schema_is_refused_with_both_versions(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--store", "sqlite:///q.db", "true")
        with sqlite3.connect("q.db") as newer:
            newer.execute("PRAGMA user_version = 999")
        queuectl("--store", "sqlite:///q.db", "status", code=5)
        assert "999" in queuectl.err

    def test_a_directory_is_refused(self, queuectl: CommandLine) -> None:
        Path("q.db").mkdir()
        queuectl("--store", "sqlite:///q.db", "status", code=5)
