"""A request whose reply is lost is sent again: what the client reports if the repetition is refused."""

import json

import pytest

from http_client import Client
from http_cutter import cutting
from http_impostor import answering, reply
from http_remote import HTML, fault, opened
from queuectl import __version__
from queuectl.errors import InvalidInput, OutcomeUnknown
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest


def problem(status: str, code: str, exit_code: int, version: str = __version__, **headers: str) -> bytes:
    """An error of our server."""
    document = {"code": code, "detail": f"it is {code}", "hint": None, "exit_code": exit_code}
    return reply(status, json.dumps(document).encode(), Queuectl_Version=version, **headers)


LOST = b""
"""The connection is closed in place of a reply."""

REFUSALS = {
    "a revoked token": problem("401 Unauthorized", "unauthenticated", 1),
    "a lost right": problem("403 Forbidden", "forbidden", 1),
    "a server that only reads": problem("403 Forbidden", "read_only", 1),
    "another host": problem("421 Misdirected Request", "wrong_host", 1),
    "an unusable store": problem("503 Service Unavailable", "store_unusable", 5),
    "a busy server": problem("429 Too Many Requests", "too_many", 5, Retry_After="60"),
    "a bug": problem("500 Internal Server Error", "internal", 1),
    "a missing parent": problem("404 Not Found", "not_found", 3),
    "another failure": problem("409 Conflict", "failed", 1),
    "a page of a proxy": reply("404 Not Found", HTML),
    "a login of a proxy": reply("302 Found", b"", Location="https://login.example"),
}
"""Answers to a request that say nothing about an earlier one with the same content."""


class TestRefusedRepetition:
    """A reply is lost, and the same request again is refused: the first one may have been carried out all the same."""

    @pytest.mark.parametrize("name", REFUSALS)
    def test_the_result_is_unknown(self, name: str) -> None:
        with answering(LOST, REFUSALS[name]) as server:
            error = fault(server.url, lambda q: q.enqueue([JobRequest(command="echo", id="a")]))
        assert isinstance(error, OutcomeUnknown), error
        assert error.ids == ("a",)
        assert error.hint == "repeating the same command is safe"

    @pytest.mark.parametrize("name", REFUSALS)
    def test_a_refusal_without_a_lost_reply_is_the_result(self, name: str) -> None:
        with answering(REFUSALS[name]) as server:
            error = fault(server.url, lambda q: q.enqueue([JobRequest(command="echo", id="a")]))
        assert not isinstance(error, OutcomeUnknown)

    @pytest.mark.parametrize("name", REFUSALS)
    def test_a_refusal_of_a_repeated_read_is_the_result(self, name: str) -> None:
        with answering(LOST, REFUSALS[name]) as server:
            error = fault(server.url)
        assert not isinstance(error, OutcomeUnknown)

    def test_a_request_that_is_wrong_was_wrong_the_first_time_too(self) -> None:
        with answering(LOST, problem("400 Bad Request", "invalid_input", 2)) as server:
            error = fault(server.url, lambda q: q.enqueue([JobRequest(command="echo", id="a")]))
        assert type(error) is InvalidInput

    def test_a_newer_server_may_have_accepted_what_an_older_one_refuses(self) -> None:
        document = b'{"code":"invalid_input","detail":"unknown field x","hint":null,"exit_code":2}'
        older = reply("400 Bad Request", document, Queuectl_Version="0.0.9")
        with answering(LOST, older) as server:
            error = fault(server.url, lambda q: q.enqueue([JobRequest(command="echo", id="a")]))
        assert isinstance(error, OutcomeUnknown)

    def test_a_job_may_be_stored_although_the_server_only_reads_at_the_repetition(
        self, server: Client, queue: LocalQueue, state: ServerState
    ) -> None:
        with cutting(server.port) as cutter, opened(cutter.url) as remote:
            cutter.meanwhile = lambda: setattr(state, "read_only", True)
            cutter.cut(b"POST /v1/jobs ", "after the request")
            with pytest.raises(OutcomeUnknown) as raised:
                remote.enqueue([JobRequest(command="echo", id="new")])
        assert raised.value.ids == ("new",)
        assert queue.show("new").state == "pending"

    def test_a_success_that_cannot_be_read_to_its_end_is_a_lost_reply(self) -> None:
        cut = b'HTTP/1.0 201 Created\r\nQueuectl-Version: 1\r\n\r\n{"schema":1,"jo'
        with answering(cut) as proxy:
            error = fault(proxy.url, lambda q: q.enqueue([JobRequest(command="echo", id="a")]))
        assert isinstance(error, OutcomeUnknown)

    def test_a_worker_that_left_before_the_repetition_has_stopped(self) -> None:
        gone = problem("404 Not Found", "not_found", 3)
        with answering(LOST, gone) as server, opened(server.url) as remote:
            remote.stop(["w1"])
        assert len(server.requests) == 2
