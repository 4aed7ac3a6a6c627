"""The output of a job as bytes and as a document: ranges, streams, lines, headers, and bytes until the end."""

import json
from collections.abc import Callable

import pytest

from cli.acting import Actor
from facts import eventually
from http_client import Answer, Client
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest

Get = Callable[..., Answer]


@pytest.fixture
def actor(queue: LocalQueue) -> Actor:
    return Actor(queue._store)


@pytest.fixture
def id(queue: LocalQueue) -> str:
    queue.enqueue([JobRequest(id="a", command="x", max_retries=0)])
    return "a"


@pytest.fixture
def get(server: Client) -> Get:
    def get(query: str = "", accept: str = "*/*", ref: str = "a") -> Answer:
        return server("GET", f"/v1/jobs/{ref}/output{query}", Accept=accept)

    return get


def places(answer: Answer) -> dict[str, str]:
    """The headers that say where the bytes are, without their common beginning."""
    return {k.removeprefix("queuectl-"): v for k, v in answer.headers.items() if k.startswith("queuectl-")} | {
        "request": "", "version": ""
    }  # fmt: skip


class TestBytes:
    def test_nothing_is_changed(self, get: Get, actor: Actor, id: str) -> None:
        data = bytes(range(256)) + b"\r\n<script>"
        actor.runs(id, data)
        answer = get()
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert places(answer) == {
            "attempt": "1", "from": "0", "to": "266", "total": "266", "complete": "true", "request": "", "version": ""
        }  # fmt: skip

    def test_what_is_not_kept_is_named(self, get: Get, actor: Actor, id: str) -> None:
        actor.take(id)
        actor.prints(id, b"head")
        actor.prints(id, b"tail", skip=10)
        answer = get()
        assert answer.body == b"headtail"
        assert answer.headers["queuectl-omitted"] == "4-13"
        assert (answer.headers["queuectl-total"], answer.headers["queuectl-complete"]) == ("18", "false")

    @pytest.mark.parametrize(
        ("query", "body", "start", "end"),
        [
            ("?from=2", b"cdef", "2", "6"),
            ("?from=2&to=4", b"cd", "2", "4"),
            ("?to=99", b"abcdef", "0", "6"),
            ("?from=9", b"", "6", "6"),
            ("?from=4&to=2", b"", "2", "2"),
        ],
    )
    def test_a_range(
        self, get: Get, actor: Actor, id: str, query: str, body: bytes, start: str, end: str
    ) -> None:
        actor.runs(id, b"abc", b"def")
        answer = get(query)
        assert answer.body == body
        assert (answer.headers["queuectl-from"], answer.headers["queuectl-to"]) == (start, end)

    def test_the_last_lines(self, get: Get, actor: Actor, id: str) -> None:
        actor.runs(id, b"one\ntwo\nthree\n")
        answer = get("?tail=2")
        assert answer.body == b"two\nthree\n"
        assert answer.headers["queuectl-from"] == "4"

    def test_an_earlier_attempt(self, get: Get, actor: Actor, queue: LocalQueue) -> None:
        queue.enqueue([JobRequest(id="a", command="x", max_retries=3)])
        for text in (b"first", b"second"):
            actor.runs("a", text, exit_code=1)
        assert get("?attempt=1").body == b"first"
        assert get().body == b"second"
        assert get("?attempt=3").status == 404

    def test_one_stream_of_a_job_that_keeps_them_apart(
        self, get: Get, actor: Actor, queue: LocalQueue
    ) -> None:
        queue.enqueue([JobRequest(id="a", command="x", split=True)])
        actor.take("a")
        actor.prints("a", b"out", stream=1)
        actor.prints("a", b"err", stream=2)
        assert get("?stream=stderr").body == b"err"

    def test_a_job_that_has_not_run(self, get: Get, id: str) -> None:
        answer = get(ref=id)
        assert (answer.status, answer.body) == (200, b"")
        assert places(answer) == {
            "from": "0", "to": "0", "total": "0", "complete": "false", "request": "", "version": ""
        }  # fmt: skip

    def test_bytes_that_are_followed_end_with_the_job(self, get: Get, actor: Actor, id: str) -> None:
        actor.runs(id, b"abc", b"def")
        answer = get("?follow=1&from=2")
        assert answer.body == b"cdef"
        assert answer.headers["transfer-encoding"] == "chunked"


class TestDocument:
    def test_it_is_that_of_the_command(self, get: Get, actor: Actor, id: str) -> None:
        actor.take(id)
        actor.prints(id, b"text\n")
        actor.prints(id, b"\xff", skip=2)
        answer = get(accept="application/json")
        assert answer.document == {
            "schema": 1,
            "job": "a",
            "attempt": 1,
            "attempt_id": "a-1",
            "bytes": 8,
            "pieces": [
                {"stream": "combined", "text": "text\n"},
                {"omitted": 2},
                {"stream": "combined", "base64": "/w=="},
            ],
        }

    def test_a_part_of_it(self, get: Get, actor: Actor, id: str) -> None:
        actor.runs(id, b"one\ntwo\n")
        answer = get("?from=4&to=6", "application/json")
        assert answer.document["pieces"] == [{"stream": "combined", "text": "tw"}]
        assert get("?tail=1", "application/json").document["pieces"][0]["text"] == "two\n"


@pytest.mark.parametrize(
    ("query", "accept", "words"),
    [
        ("?stream=stderr", "*/*", "not stored separately"),
        ("?stream=other", "*/*", "stream"),
        ("?from=-1", "*/*", "from"),
        ("?tail=0", "*/*", "tail"),
        ("?follow=1", "application/json", "one JSON document"),
        ("?follow=1&tail=3", "*/*", "exclude"),
        ("?to=3", "text/event-stream", "exclude"),
        ("?stream=stdout", "text/event-stream", "not stored separately"),
    ],
)
def test_what_makes_no_sense_is_refused(get: Get, id: str, query: str, accept: str, words: str) -> None:
    answer = get(query, accept, ref=id)
    assert answer.status == 400
    assert words in json.dumps(answer.document)


def test_an_unknown_job_is_a_problem_in_every_form(get: Get) -> None:
    for accept in ("*/*", "application/json", "text/event-stream"):
        assert get(accept=accept, ref="nothing").status == 404


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "text/event-stream"),
        ("application/json", "application/json"),
        ("*/*", "application/octet"),
    ],
)
def test_head_answers_without_content(server: Client, id: str, accept: str, kind: str) -> None:
    answer = server("HEAD", f"/v1/jobs/{id}/output", Accept=accept)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"].startswith(kind)


def test_head_requests_leave_no_stream_behind(server: Client, state: ServerState, queue: LocalQueue) -> None:
    [added] = queue.enqueue([JobRequest(command="true")])
    for _ in range(3):
        answer = server("HEAD", f"/v1/jobs/{added.job.id}/output", Accept="text/event-stream")
        assert answer.status == 200
    eventually(lambda: len(state.streams) == 0)
