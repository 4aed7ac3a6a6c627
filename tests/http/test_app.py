"""The order of the checks of a request, and the form of its answer."""

import gzip
from typing import Any

import pytest

from http_client import Client
from http_server import serving
from queuectl.http.auth import TokenAuthenticator
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.store.protocol import Swap


def test_a_job_is_shown_with_its_version_as_etag(server: Client, queue: LocalQueue) -> None:
    [added] = queue.enqueue([JobRequest(command="true")])
    shown = server("GET", f"/v1/jobs/{added.job.id}")
    assert shown.status == 200
    assert shown.document["job"]["command"] == "true"
    assert shown.headers["etag"] == f'"{added.job.version}"'
    assert server("GET", f"/v1/jobs/{added.job.id}", If_None_Match=shown.headers["etag"]).status == 304


def test_the_path_of_a_browser_without_a_page_names_the_page_about_the_paths(server: Client) -> None:
    assert "GET /docs" in server("GET", "/").document["hint"]
    assert server("GET", "/docs").status == 200


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


def test_a_long_answer_is_compressed_for_a_client_that_accepts_gzip(
    server: Client, queue: LocalQueue
) -> None:
    assert "content-encoding" not in server("GET", "/v1/jobs", Accept_Encoding="gzip").headers
    queue.enqueue([JobRequest(command="true") for _ in range(20)])
    plain = server("GET", "/v1/jobs")
    packed = server("GET", "/v1/jobs", Accept_Encoding="br, gzip;q=0.5")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert len(packed.body) == int(packed.headers["content-length"]) < len(plain.body) / 3
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["etag"] == plain.headers["etag"]
    for other in ("br", "gzip;q=0", "gzip; q=0.0"):
        assert "content-encoding" not in server("GET", "/v1/jobs", Accept_Encoding=other).headers
    lines = server("GET", "/v1/jobs", Accept="application/jsonl", Accept_Encoding="gzip")
    assert "content-encoding" not in lines.headers
    page = server("GET", "/docs", Accept_Encoding="gzip")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert gzip.decompress(page.body).startswith(b"<!doctype html>")


def test_a_tilde_in_a_path_is_a_slash_in_the_name(server: Client, queue: LocalQueue) -> None:
    queue._store.swap([Swap("queues", "eu/mail", {"paused": True}, 0)])
    assert server("GET", "/v1/queues/eu~mail").document["queue"]["name"] == "eu/mail"
    assert server("PATCH", "/v1/queues/eu~mail", {"paused": False}).document["queue"]["paused"] is False
    assert server("GET", "/v1/jobs/a~b").document["detail"] == "there is no job 'a/b'"


def test_a_body_that_is_not_in_utf_8_is_refused_by_its_charset(server: Client) -> None:
    for charset, status in (("utf-8", 201), ('"UTF-8"', 201), ("latin1", 415), ("utf-16", 415)):
        kind = f"application/json; charset={charset}"
        answer = server("POST", "/v1/jobs", raw=b'{"command": "true"}', Content_Type=kind)
        assert answer.status == status, charset


def test_the_hint_of_a_wrong_type_names_the_description_of_the_api(server: Client) -> None:
    answer = server("PATCH", "/v1/queues/mail", {"paused": "yes"})
    assert answer.document["errors"] == [
        {"pointer": "/paused", "detail": "paused: true or false is expected, not a text"}
    ]
    assert answer.document["hint"] == "GET /openapi.json has the fields"


def test_the_error_of_an_enumeration_names_its_values(server: Client) -> None:
    answer = server("POST", "/v1/tokens", {"name": "a", "scopes": ["view", "operat"]})
    assert answer.document["errors"] == [
        {"pointer": "/scopes/1", "detail": "scopes[1]: 'operat' is none of admin, enqueue, operate, view"}
    ]
    assert answer.document["hint"] == "did you mean operate?"
    answer = server("GET", "/v1/jobs?sort=creatd")
    assert answer.document["detail"].startswith("query parameter sort: 'creatd' is none of created, ")
    assert answer.document["hint"] == "did you mean created?"


def test_a_wrong_time_of_a_job_is_reported_with_its_field(server: Client) -> None:
    for field in ("run_at", "scheduled_at"):
        answer = server("POST", "/v1/jobs", {"command": "true", field: "tomorrow"})
        assert answer.document["detail"] == f"{field}: 'tomorrow' is not a time"
    queued = server("POST", "/v1/jobs", {"command": "true", "id": "later"})
    assert queued.status == 201
    answer = server("PATCH", "/v1/jobs/later", {"run_at": "tomorrow"})
    assert answer.document["errors"] == [{"pointer": "/run_at", "detail": "run_at: 'tomorrow' is not a time"}]


def test_the_hint_about_an_unknown_name_says_where_the_names_are(server: Client) -> None:
    answer = server("POST", "/v1/resolve", {"xyz": ["1"]})
    assert answer.document["hint"] == "GET /openapi.json has the fields"
    answer = server("GET", "/v1/jobs/1/output?xyz=1")
    assert answer.document["hint"].startswith("there are: attempt, ")
    assert server("GET", "/v1/status?xyz=1").document["hint"] == "this route has none"
