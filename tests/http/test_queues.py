"""Queues, the status, and what the server says about itself."""

import pytest

from http_client import Client
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest


def test_a_queue_is_paused_limited_and_resumed(server: Client, queue: LocalQueue) -> None:
    queue.enqueue([JobRequest(command="true", queue="mail")])
    answer = server("PATCH", "/v1/queues/mail", {"paused": True, "limit": 2})
    assert answer.status == 200
    assert (answer.document["queue"]["paused"], answer.document["queue"]["limit"]) == (True, 2)
    assert server("GET", "/v1/queues/mail").document == answer.document
    answer = server("PATCH", "/v1/queues/mail", {"paused": False, "limit": None})
    assert (answer.document["queue"]["paused"], answer.document["queue"]["limit"]) == (False, None)


def test_what_is_not_given_stays(server: Client) -> None:
    server("PATCH", "/v1/queues/mail", {"limit": 2})
    assert server("PATCH", "/v1/queues/mail", {"paused": True}).document["queue"]["limit"] == 2


@pytest.mark.parametrize("body", [{}, {"limit": 0}, {"limit": "2"}, {"paused": None}, {"pause": True}])
def test_a_change_that_is_none_is_refused(server: Client, body: object) -> None:
    assert server("PATCH", "/v1/queues/mail", body).status == 400


def test_a_name_that_no_queue_may_have_is_refused(server: Client) -> None:
    assert server("PATCH", "/v1/queues/a%20b", {"paused": True}).status == 400


def test_an_unknown_queue_is_not_found(server: Client) -> None:
    assert server("GET", "/v1/queues/mail").status == 404


def test_the_status_names_the_queues(server: Client, queue: LocalQueue) -> None:
    queue.enqueue([JobRequest(command="true", queue="mail")])
    assert server("GET", "/v1/status").document["queues"][0]["name"] == "mail"


def test_the_server_says_what_a_token_may_do(server: Client) -> None:
    server.token = "operate"
    found = server("GET", "/v1").document
    assert found["scopes"] == ["view", "operate"]
    assert (found["read_only"], found["draining"], found["limits"]["jobs"]) == (False, False, 1000)


def test_the_doctor_looks_at_the_store(server: Client) -> None:
    found = server("GET", "/v1/doctor").document
    assert found["ok"]
    assert "store" in [check["name"] for check in found["checks"]]
