"""The body of a route is the document that the command prints with --json, on the same store."""

import json
from pathlib import Path
from typing import Any

import pytest

from factories import in_state
from http_client import Client
from queuectl.cli.main import main
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest

READS = {
    "status": "/v1/status",
    "list": "/v1/jobs",
    "list --state dead --sort updated": "/v1/jobs?state=dead&sort=updated",
    "show a": "/v1/jobs/a",
    "show @last": "/v1/jobs/@last",
    "explain a": "/v1/jobs/a/explain",
    "logs a": "/v1/jobs/a/output",
    "queue list": "/v1/queues",
    "worker list": "/v1/workers",
    "config list": "/v1/config",
    "config get max-retries": "/v1/config/max-retries",
    "config get store": "/v1/config/store",
    "token list": "/v1/tokens",
    "schedule list": "/v1/schedules",
    "schedule show nightly": "/v1/schedules/nightly",
    "schedule show nightly --next 2": "/v1/schedules/nightly?next=2",
    "schedule history nightly": "/v1/schedules/nightly/history",
    "hook list": "/v1/hooks",
    "hook show note": "/v1/hooks/note",
    "stats --since 2026-01-01T00:00:00Z --until 2026-01-02T00:00:00Z": (
        "/v1/stats?since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z"
    ),
    "events": "/v1/events",
    "events --since 1 --type enqueued --where state:pending": "/v1/events?since=1&type=enqueued&where=state:pending",
}
CHANGES = {
    "enqueue --id x true": ("POST", "/v1/jobs", {"id": "x", "command": "true"}),
    "queue pause mail": ("PATCH", "/v1/queues/mail", {"paused": True}),
    "queue pause mail --reason full": (
        "PATCH",
        "/v1/queues/mail",
        {"paused": True, "reason": "full"},
    ),
    "queue resume mail": ("PATCH", "/v1/queues/mail", {"paused": False}),
    "queue limit mail 3": ("PATCH", "/v1/queues/mail", {"limit": 3}),
    "schedule add nightly @daily --tz UTC --cwd / true": (
        "POST",
        "/v1/schedules",
        {"name": "nightly", "when": "@daily", "job": {"command": "true", "cwd": "/"}},
    ),
    "schedule edit nightly --overlap allow": ("PATCH", "/v1/schedules/nightly", {"overlap": "allow"}),
    "config set timeout 5m": ("PUT", "/v1/config/timeout", {"value": "5m"}),
    "config set jitter 0.5": ("PUT", "/v1/config/jitter", {"value": 0.5}),
}
MOVING = ("oldest_due_seconds", "now")
"""What differs between two calls, because time goes on."""


@pytest.fixture
def jobs(queue: LocalQueue) -> None:
    queue._store.add([in_state("dead", "a"), in_state("processing", "b")])
    queue.enqueue([JobRequest(command="true", queue="mail", env={"A": "1"}, tags=["x"])])
    queue.create_token("board", ["view"])
    given = {"when": "@daily", "job": {"command": "true", "cwd": "/"}}
    queue.schedules().add("nightly", given, timezone="UTC")
    queue.hooks().add("note", {"on": "dead", "job": {"command": "cat", "cwd": "/"}})


def printed(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    main([*words.split(), "--json", "--store", f"sqlite:///{tmp_path}/queue.db"])
    return still(json.loads(capsys.readouterr().out))


def still(document: Any) -> Any:
    """The document without what moves."""
    if isinstance(document, list):
        return [still(each) for each in document]
    if not isinstance(document, dict):
        return document
    return {key: still(value) for key, value in document.items() if key not in MOVING}


@pytest.mark.parametrize("words", READS)
@pytest.mark.usefixtures("jobs")
def test_a_read_prints_the_body_of_its_route(
    server: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    body = still(server("GET", READS[words], Accept="application/json").document)
    found = printed(words, tmp_path, capsys)
    if words == "config list" or words.endswith("store"):  # the command was given the store by a flag
        found, body = without_store(found), without_store(body)
    assert found == body


def without_store(document: Any) -> Any:
    shown = document.get("settings") or [document["setting"]]
    return [each if each["key"] != "store" else each | {"origin": ""} for each in shown]


@pytest.mark.parametrize("words", CHANGES)
@pytest.mark.usefixtures("jobs")
def test_a_change_prints_the_body_of_its_route(
    server: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    body = server(*CHANGES[words]).document
    again = server(*CHANGES[words]).document
    assert still(again if words.startswith("enqueue") else body)["schema"] == 1
    found = printed(words, tmp_path, capsys)
    assert found.keys() == body.keys()
    if not words.startswith(
        "enqueue"
    ):  # the digest of a request contains the working directory of its client
        assert found == still(again)


@pytest.mark.usefixtures("jobs")
def test_json_lines_are_the_lines_of_the_command(
    server: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main(["list", "--jsonl", "--all", "--store", f"sqlite:///{tmp_path}/queue.db"])
    printed = capsys.readouterr().out.splitlines()
    lines = server("GET", "/v1/jobs", Accept="application/jsonl").body.decode().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(line) for line in printed]


@pytest.mark.usefixtures("jobs")
def test_the_changes_of_a_file_of_schedules_are_those_of_the_command(
    server: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"command": "false", "cwd": "/"}
    file = {"schedule": {"nightly": {"when": "@hourly", "timezone": "UTC", **job}}}
    (tmp_path / "file").write_text(json.dumps(file))
    body = server("POST", "/v1/schedules/diff", file).document
    assert body["changed"]["nightly"]
    assert printed(f"schedule diff {tmp_path}/file", tmp_path, capsys) == body
    assert printed(f"schedule apply {tmp_path}/file --dry-run", tmp_path, capsys) == body
    assert server("POST", "/v1/schedules/apply", file).document == {**body, "dry_run": False}


ONE_JOB = {
    "cancel": ("POST", "b", {"reason": "wrong"}),
    "retry": ("POST", "a", {}),
    "hold": ("POST", "c", {}),
    "release": ("POST", "h", {}),
    "edit": ("PATCH", "c", {"priority": 3, "queue": "mail"}),
}
"""The method, the job and the body of each change of one job, whose route answers with the whole job."""


@pytest.mark.parametrize("verb", ONE_JOB)
@pytest.mark.usefixtures("jobs")
def test_a_change_of_a_job_answers_with_the_job_as_it_is_then_shown(
    server: Client, queue: LocalQueue, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    queue._store.add([in_state("pending", "c"), in_state("held", "h")])
    method, id, body = ONE_JOB[verb]
    answer = server(method, f"/v1/jobs/{id}" + ("" if verb == "edit" else f"/{verb}"), body)
    assert answer.document["changed"]
    assert still(answer.document["job"]) == printed(f"show {id}", tmp_path, capsys)["job"]
    assert answer.headers["etag"] == server("GET", f"/v1/jobs/{id}").headers["etag"]


@pytest.mark.usefixtures("jobs")
def test_what_is_deleted_reset_or_revoked_is_gone_for_the_command(
    server: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server("PUT", "/v1/config/jitter", {"value": 0.5})
    for path in ("/v1/jobs/a", "/v1/config/jitter", "/v1/tokens/board"):
        assert (answer := server("DELETE", path)).status == 204
        assert answer.body == b""
    assert printed("show a", tmp_path, capsys)["error"]["code"] == "not_found"
    assert printed("config get jitter", tmp_path, capsys)["setting"]["origin"] == "default"
    assert printed("token list", tmp_path, capsys)["tokens"] == []
