"""The order of the checks of a request, and the form of its answer."""

from typing import Any

import pytest

from http_client import Client
from http_server import serving
from queuectl.http.auth import TokenAuthenticator
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest


def test_a_job_is_shown_with_its_version_as_etag(server: Client, queue: LocalQueue) -> None:
    [added] = queue.enqueue([JobRequest(command="true")])
    shown = server("GET", f"/v1/jobs/{added.job.id}")
    assert shown.status == 200
    assert shown.document["job"]["command"] == "true"
    assert shown.headers["etag"] == f'"{added.job.version}"'
    assert server("GET", f"/v1/jobs/{added.job.id}", If_None_Match=shown.headers["etag"]).status == 304


def test_an_unknown_job_is_a_problem_with_code_and_exit_code(server: Client) -> None:
    answer = server("GET", "/v1/jobs/nothing")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.document["code"] == "not_found"
    assert answer.document["exit_code"] == 3
    assert answer.document["instance"] == answer.headers["queuectl-request"]


def test_without_a_token_nothing_is_answered_but_versions(server: Client) -> None:
    server.token = None
    assert server("GET", "/v1/jobs").status == 401
    assert set(server("GET", "/v1").document) == {"schema", "version", "api"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/v1/jobs", {"command": "true"}), ("GET", "/v1/status", None),
     ("POST", "/v1/resolve", {"jobs": [], "dependencies": []})],
)  # fmt: skip
def test_a_request_with_a_known_token_takes_one_way_to_a_thread(
    queue: LocalQueue, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Any
) -> None:
    secret = queue.create_token("a", ["admin"]).secret
    still = TokenAuthenticator(queue, monotonic=lambda: 1000.0)
    state = ServerState(queue, still, lambda _host: True)
    with serving(state) as port:
        client = Client(port, secret)
        assert client("GET", "/v1/status").status == 200
        submitted = []
        submit = state.pool.submit
        monkeypatch.setattr(state.pool, "submit", lambda *call: submitted.append(call) or submit(*call))
        assert client(method, path, body).status < 300
    assert len(submitted) == 1


def test_a_wrong_host_is_refused_before_the_token_is_read(server: Client) -> None:
    server.token = None
    assert server("GET", "/v1/jobs", Host="evil.example").status == 421


def test_an_unknown_query_parameter_is_named_with_the_nearest(server: Client) -> None:
    answer = server("GET", "/v1/jobs?stat=dead")
    assert answer.status == 400
    assert "state" in answer.document["hint"]


def test_a_method_that_the_path_does_not_have_is_refused_with_those_it_has(server: Client) -> None:
    answer = server("PUT", "/v1/jobs")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST, GET, HEAD, OPTIONS"


def test_a_bug_is_answered_without_its_message(server: Client, state: ServerState) -> None:
    def fails() -> None:
        raise ZeroDivisionError("secret")

    state.queue = type("Broken", (), {"status": lambda self: fails()})()
    answer = server("GET", "/v1/status")
    assert answer.status == 500
    assert b"secret" not in answer.body
