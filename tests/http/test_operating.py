"""Commands with a filter through a server: one operation, whose id the client makes."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import CommandLine, enter, front_door, through  # noqa: F401  a fixture
from facts import eventually
from http_process import Home
from http_remote import opened
from queuectl.cli import act
from queuectl.domain.instant import format_instant
from queuectl.domain.query import Filter
from queuectl.http.client import purging
from queuectl.http.server_state import ServerState
from queuectl.service import paging
from queuectl.store.sqlite import SqliteStore


@pytest.fixture
def line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    front_door: ServerState,  # noqa: F811
) -> Iterator[CommandLine]:
    enter(tmp_path, monkeypatch)
    monkeypatch.setattr(paging, "BATCH", 10)
    monkeypatch.setattr(act, "FEW", 5)
    line = CommandLine(tmp_path, capsys, monkeypatch)
    line("doctor", "--create")
    with through(front_door, line, monkeypatch):
        line(
            "enqueue",
            "-",
            input="".join(f'{{"id":"j{n}","command":"x","max_retries":0}}\n' for n in range(30)),
        )
        yield line


def operations(line: CommandLine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = line.json("operation", "list")["operations"]
    return found


def test_a_filter_is_one_operation_with_sums(line: CommandLine) -> None:
    assert line("cancel", "--all", "--yes") == ""
    assert line.err == "30 cancelled\n"
    [operation] = operations(line)
    assert (operation["verb"], operation["where"], operation["changed"]) == ("cancel", "number:>0", 30)
    assert line("operation", "wait", operation["id"]) == ""
    assert line.err == "30 cancelled\n"


@pytest.mark.parametrize(
    ("words", "deleted"),
    [
        (("dlq", "purge"), 0),
        (("purge", "--older-than", "0"), 20),
        (("purge", "--older-than", "1h"), 0),
        (("purge", "--older-than", "0", "--where", "number:1-5"), 5),
        (("purge", "--older-than", "0", "--where", "queue:default id:j1* since:1h"), 11),
        (("purge", "--older-than", "0", "--where", "queue:mail"), 0),
        (("purge", "--older-than", "0", "--where", "tag:a batch:b"), 0),
    ],
)
def test_a_purge_is_one_operation(line: CommandLine, words: tuple[str, ...], deleted: int) -> None:
    line("cancel", "--where", "number:1-20", "--yes")
    assert line(*words, "--yes") == f"purged {deleted}\n"
    assert line.err == ""
    newest = operations(line)[0]
    assert (newest["verb"], newest["changed"], newest["refused_count"]) == ("delete", deleted, 0)
    assert len(line.json("list", "--all")["jobs"]) == 30 - deleted


def test_what_ended_before_a_time_is_exported_then_purged(line: CommandLine) -> None:
    line("cancel", "--where", "number:1-20", "--yes")
    then = f"state:cancelled older:{format_instant(datetime.now(UTC))}"
    line("export", "--where", then, "old.jsonl")
    line("cancel", "--where", "number:21", "--yes")
    line("retry", "j0")
    line("cancel", "j0")
    assert line("purge", "--older-than", "0", "--where", then, "--yes") == "purged 19\n"
    assert len(line.json("list", "--all")["jobs"]) == 11


def test_a_purge_that_is_given_up_stops_its_operation(
    line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    front_door: ServerState,  # noqa: F811
) -> None:
    monkeypatch.setattr(purging, "TURN", timedelta(0))
    line("cancel", "--all", "--yes")
    monkeypatch.setattr(front_door.carrier, "begin", lambda *_: None)  # the operation stays at its begin
    with opened(front_door.public_url) as remote:
        steps = remote.purge(Filter())
        assert next(iter(steps)) == 0
        steps.close()
    assert operations(line)[0]["state"] == "stopped"
    assert len(line.json("list", "--all")["jobs"]) == 30


def test_the_document_has_the_keys_of_a_command_on_a_store(line: CommandLine) -> None:
    document = line.json("hold", "--where", "number:>20", "--yes")
    [operation] = operations(line)
    assert document == {
        "schema": 1, "matched": 10, "changed": 10, "unchanged": 0, "refused": [], "refused_count": 0, "resume": None,
        "operation": operation["id"],
    }  # fmt: skip


def test_all_refused_is_a_failure(line: CommandLine) -> None:
    document = line.json("release", "--where", "number:>0", "--yes", code=4)
    assert (document["refused_count"], len(document["refused"]), document["changed"]) == (30, 20, 0)
    assert document["error"]["code"] == "conflict"
    line("release", "--where", "number:>0", "--yes", code=4)
    assert line.err.splitlines()[5:] == ["queuectl: and 25 more", "30 refused"]


def test_ctrl_c_stops_the_operation_after_its_step(
    line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    front_door: ServerState,  # noqa: F811
) -> None:
    monkeypatch.setattr(paging, "BATCH", 5)
    real, calls = SqliteStore.save, list[int]()

    def save(store: SqliteStore, jobs: Any, *events: Any) -> Any:
        calls.append(len(jobs))
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        if len(calls) == 3:
            eventually(lambda: [each.state for each in front_door.queue.operations()] == ["stopped"])
        return real(store, jobs, *events)

    monkeypatch.setattr(SqliteStore, "save", save)
    document = line.json("cancel", "--all", "--yes", code=130)
    assert (document["changed"], document["resume"], document["interrupted"]) == (15, 15, True)
    assert line.err == (
        "queuectl: interrupted: 15 cancelled; the other jobs are unchanged, "
        "repeat the command to continue, or add --resume 15\n"
    )
    assert line.store().counts(Filter()).states() == {"pending": 15, "cancelled": 15}


def test_background_prints_the_id_and_does_not_wait(line: CommandLine) -> None:
    id = line("hold", "--where", "number:<11", "--background", "--yes").strip()
    assert line.err == ""
    line("operation", "wait", id, "--timeout", "1m")
    assert line.err == "10 held\n"
    shown = line("operation", "show", id)
    assert "state done" in shown.splitlines()
    line("operation", "cancel", id, code=4)
    assert "had already ended" in line.err


def test_five_thousand_jobs_survive_a_restart_of_the_server(home: Home) -> None:
    home.run_cli("enqueue", "--file", str(_jobs(home, 5000)), "-q")
    server = home.serve("--port", "0")
    store = f"http://127.0.0.1:{server.port}"
    begun = home.run_cli(
        "--store", store, "hold", "--where", "state:pending", "--background", "--yes"
    ).stdout.strip()
    server.process.kill()
    server.process.wait()
    again = home.serve("--port", "0")
    store = f"http://127.0.0.1:{again.port}"
    home.run_cli("--store", store, "operation", "wait", begun, "--timeout", "2m")
    assert home.run_cli("status", "--json").stdout.count('"held":5000') >= 1
    document = home.run_cli("--store", store, "cancel", "--where", "state:held", "--yes", "--json").stdout
    assert '"changed":5000' in document
    assert again.end() == 0


def _jobs(home: Home, count: int) -> Path:
    path = home.root / "jobs"
    path.write_text("x\n" * count)
    return path


def test_nothing_is_sent_for_a_dry_run(line: CommandLine) -> None:
    assert line.json("cancel", "--all", "--dry-run")["matched"] == 30
    assert operations(line) == []
    assert line.store().counts(Filter()).states() == {"pending": 30}
