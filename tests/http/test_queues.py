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


def test_the_reason_of_a_pause_is_stored_and_shown(server: Client, queue: LocalQueue) -> None:
    queue.enqueue([JobRequest(id="a", command="true", queue="mail")])
    answer = server("PATCH", "/v1/queues/mail", {"paused": True, "reason": "disk full"})
    assert answer.document["queue"]["reason"] == "disk full"
    assert server("GET", "/v1/queues").document["queues"][0]["reason"] == "disk full"
    status = server("GET", "/v1/status").document
    assert status["queues"][0]["reason"] == "disk full"
    assert "queue mail is paused (disk full)" in status["attention"][0]["text"]
    explained = server("GET", "/v1/jobs/a/explain").document
    assert "queue mail is paused (disk full): queuectl queue resume mail" in explained["next"]
    waited = server("POST", "/v1/wait", {"ids": ["a"], "timeout": 0}).document
    assert "queue mail is paused (disk full): queuectl queue resume mail" in waited["obstacles"]
    assert server("PATCH", "/v1/queues/mail", {"paused": False}).document["queue"]["reason"] is None


def test_a_queue_is_changed_only_in_the_version_of_if_match(server: Client, queue: LocalQueue) -> None:
    queue.enqueue([JobRequest(command="true", queue="mail")])
    first = server("GET", "/v1/queues/mail").headers["etag"]
    assert first.startswith('"0-')
    queue.enqueue([JobRequest(command="true", queue="mail")])
    assert server("GET", "/v1/queues/mail", If_None_Match=first).status == 200
    changed = server("PATCH", "/v1/queues/mail", {"paused": True}, If_Match=first)
    assert changed.status == 200
    assert changed.headers["etag"].startswith('"1-')
    refused = server("PATCH", "/v1/queues/mail", {"paused": False, "limit": 1}, If_Match=first)
    assert (refused.status, refused.document["code"]) == (412, "changed")
    assert server("GET", "/v1/queues/mail").document == changed.document
    assert server("GET", "/v1/queues/mail", If_None_Match=changed.headers["etag"]).status == 304
    assert server("PATCH", "/v1/queues/mail", {"paused": False, "limit": 1}, If_Match='"1"').status == 200


def test_a_status_that_only_grew_older_is_the_same(server: Client, queue: LocalQueue) -> None:
    queue.enqueue([JobRequest(command="true")])
    first = server("GET", "/v1/status")
    again = server("GET", "/v1/status", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    queue.enqueue([JobRequest(command="true")])
    assert server("GET", "/v1/status", If_None_Match=first.headers["etag"]).status == 200


BODIES = [
    {},
    {"limit": 0},
    {"limit": "2"},
    {"paused": None},
    {"pause": True},
    {"reason": "x"},
    {"paused": False, "reason": "x"},
    {"paused": True, "reason": 1},
    {"paused": True, "reason": "x" * 10_001},
]


@pytest.mark.parametrize("body", BODIES)
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
