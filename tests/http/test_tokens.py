"""The routes of tokens, the audit log of changes, and what a caller without `enqueue` sees of a job."""

import json
import logging
from collections.abc import Iterator

import pytest

from http_client import Client
from http_server import serving
from queuectl.domain.token import make_secret
from queuectl.http.auth import TokenAuthenticator
from queuectl.http.caller import Caller
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest

LOCAL = make_secret(b"\7" * 37)


@pytest.fixture
def client(queue: LocalQueue) -> Iterator[Client]:
    """A client with the local token of a server that knows the tokens of the store."""
    state = ServerState(
        queue, TokenAuthenticator(queue, local=LOCAL), lambda host: host.startswith("127.0.0.1:")
    )
    with serving(state) as port:
        yield Client(port, LOCAL)


def make(client: Client, name: str, *scopes: str, **given: object) -> Client:
    """A client with a new token."""
    made = client("POST", "/v1/tokens", {"name": name, "scopes": scopes, **given})
    assert made.status == 201, made
    return Client(client.port, made.document["secret"])


class TestRoutes:
    def test_a_token_is_made_used_rotated_and_revoked(self, client: Client) -> None:
        made = client("POST", "/v1/tokens", {"name": "ci", "scopes": ["view"], "expires": "7d"})
        assert (made.status, made.headers["location"]) == (201, "/v1/tokens/ci")
        ci = Client(client.port, made.document["secret"])
        assert ci("GET", "/v1/jobs").status == 200
        assert ci("GET", "/v1").document["scopes"] == ["view"]
        rotated = client("POST", "/v1/tokens/ci/rotate", {"keep": 0})
        assert rotated.status == 200
        assert ci("GET", "/v1/jobs").status in (200, 401)  # the server reads the tokens once a second
        assert Client(client.port, rotated.document["secret"])("GET", "/v1/jobs").status == 200
        assert client("DELETE", "/v1/tokens/ci").status == 204
        assert client("GET", "/v1/tokens/ci").status == 404
        assert client("DELETE", "/v1/tokens/ci").status == 404

    def test_no_answer_but_that_of_post_has_a_secret(self, client: Client) -> None:
        made = client(
            "POST", "/v1/tokens", {"name": "ci", "scopes": ["view", "enqueue"], "queues": ["a"]}
        ).document
        listed, shown = client("GET", "/v1/tokens"), client("GET", "/v1/tokens/ci")
        assert listed.document["tokens"] == [made["token"]]
        assert shown.document == {"schema": 1, "token": made["token"]}
        for answer in (listed, shown):
            assert made["secret"][14:].encode() not in answer.body
            assert b"digest" not in answer.body

    def test_the_creator_is_the_caller(self, client: Client) -> None:
        root = make(client, "root", "admin", expires=None)
        assert make(root, "a", "view").token
        tokens = client("GET", "/v1/tokens").document["tokens"]
        assert tokens[0]["created_by"] == "token:root"
        assert tokens[1]["created_by"].startswith("local:")
        assert tokens[1]["expires_at"] is None

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({}, 400),
            ({"name": "a", "scopes": []}, 400),
            ({"name": "a", "scopes": ["root"]}, 400),
            ({"name": "a b", "scopes": ["view"]}, 400),
            ({"name": "a", "scopes": ["view"], "expires": "soon"}, 400),
            ({"name": "a", "scopes": ["view"], "expires": -1}, 400),
            ({"name": "a", "scopes": ["view"], "secret": "x"}, 400),
            ({"name": "a", "scopes": ["admin"], "queues": ["q"]}, 400),
            ({"name": "taken", "scopes": ["view"]}, 409),
        ],
        ids=str,
    )
    def test_what_is_not_understood_is_refused(
        self, client: Client, body: dict[str, object], status: int
    ) -> None:
        make(client, "taken", "view")
        assert client("POST", "/v1/tokens", body).status == status
        assert len(client("GET", "/v1/tokens").document["tokens"]) == 1

    def test_a_token_without_admin_sees_no_tokens(self, client: Client) -> None:
        for scope in ("view", "operate", "enqueue"):
            answer = make(client, scope, scope)("GET", "/v1/tokens")
            assert (answer.status, answer.document["code"]) == (403, "forbidden")


class TestWrongTokens:
    def test_the_answer_names_the_scheme_and_not_the_token(self, client: Client) -> None:
        stranger = Client(client.port, "qctl_aaaaaaaa_" + "x" * 43)
        answer = stranger("GET", "/v1/jobs")
        assert (answer.status, answer.document["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="queuectl"'
        assert b"x" * 43 not in answer.body

    def test_too_many_are_answered_with_429_and_a_right_one_still_works(self, client: Client) -> None:
        stranger = Client(client.port, "guess")
        statuses = [stranger("GET", "/v1/jobs").status for _ in range(11)]
        assert statuses == [401] * 10 + [429]
        answer = stranger("GET", "/v1")
        assert (answer.status, answer.document["code"]) == (429, "too_many")
        assert 0 < int(answer.headers["retry-after"]) <= 61
        assert client("GET", "/v1/jobs").status == 200


class TestRedaction:
    """Variables and standard input are shown only to callers who may enqueue, who could print them by a job."""

    @pytest.fixture(autouse=True)
    def job(self, queue: LocalQueue) -> None:
        queue.enqueue([JobRequest(id="j", command="true", env={"KEY": "canary-1"}, stdin="canary-2")])

    @pytest.mark.parametrize("scopes", [["view"], ["operate"], ["view", "operate"]], ids=str)
    @pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/j"])
    def test_without_enqueue_they_are_null(self, client: Client, scopes: list[str], path: str) -> None:
        answer = make(client, "a", *scopes)("GET", path)
        job = answer.document["job"] if path.endswith("/j") else answer.document["jobs"][0]
        assert [job["env"], job["stdin"], job["redacted"]] == [None, None, ["env", "stdin"]]
        assert b"canary" not in answer.body

    @pytest.mark.parametrize("scope", ["enqueue", "admin"])
    def test_with_enqueue_they_are_shown(self, client: Client, scope: str) -> None:
        job = make(client, "a", scope)("GET", "/v1/jobs/j").document["job"]
        assert (job["env"], job["stdin"]) == ({"KEY": "canary-1"}, "canary-2")
        assert "redacted" not in job


class TestAnonymous:
    """`--anonymous view`: a request without a token has the scope `view`; everything else is as before."""

    @pytest.fixture
    def stranger(self, queue: LocalQueue) -> Iterator[Client]:
        queue.enqueue([JobRequest(id="j", command="true", env={"KEY": "canary"})])
        viewer = Caller("anonymous", frozenset(("view",)))
        state = ServerState(queue, TokenAuthenticator(queue), lambda _host: True, anonymous=viewer)
        with serving(state) as port:
            yield Client(port, None)

    def test_it_sees_what_view_may_see_and_no_more(self, stranger: Client) -> None:
        assert stranger("GET", "/v1/jobs/j").document["job"]["env"] is None
        assert stranger("GET", "/v1").document["scopes"] == ["view"]
        for method, path in (("GET", "/v1/tokens"), ("POST", "/v1/tokens"), ("DELETE", "/v1/tokens/x")):
            assert stranger(method, path).status == 401

    def test_a_wrong_token_is_not_taken_for_none(self, stranger: Client) -> None:
        stranger.token = LOCAL
        assert stranger("GET", "/v1/jobs").status == 401


class TestAudit:
    """Each request to change something is one line of JSON."""

    @pytest.fixture
    def lines(self, caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, object]]]:
        class Lines(list[dict[str, object]]):
            def read(self) -> "Lines":
                found = [record for record in caplog.records if record.name == "queuectl.audit"]
                self[:] = [json.loads(record.getMessage()) for record in found]
                return self

        with caplog.at_level(logging.INFO, "queuectl.audit"):
            yield Lines()

    def test_a_change_is_told_with_all_keys(self, client: Client, lines: "list[dict[str, object]]") -> None:
        answer = client("POST", "/v1/tokens", {"name": "ci", "scopes": ["view"]})
        [line] = lines.read()  # type: ignore[attr-defined]
        assert " ".join(line) == "at by via peer method route target result request"
        assert line["by"].startswith("local:")
        assert {key: line[key] for key in ("via", "peer", "method", "route", "target", "result")} == {
            "via": "http", "peer": "127.0.0.1", "method": "POST", "route": "/v1/tokens", "target": "/v1/tokens/ci",
            "result": "ok",
        }  # fmt: skip
        assert line["request"] == answer.headers["queuectl-request"]
        assert answer.document["secret"] not in str(line)

    def test_a_refused_change_is_told_with_its_reason(
        self, client: Client, lines: "list[dict[str, object]]"
    ) -> None:
        view = make(client, "wall", "view")
        view("DELETE", "/v1/tokens/wall")
        view.token = None
        view("DELETE", "/v1/tokens/wall")
        view.token = "x"
        view("DELETE", "/v1/tokens/wall%0a%7b%7d")
        client("DELETE", "/v1/tokens/none")
        told = [(line["by"], line["target"], line["result"]) for line in lines.read()[1:]]  # type: ignore[attr-defined]
        assert told[:3] == [
            ("token:wall", "wall", "forbidden"),
            ("anonymous", "wall", "unauthenticated"),
            (None, "wall\n{}", "unauthenticated"),
        ]
        assert told[3][2] == "not_found"

    def test_a_look_is_not_told(self, client: Client, lines: "list[dict[str, object]]") -> None:
        client("GET", "/v1/tokens")
        client("HEAD", "/v1/tokens")
        client("OPTIONS", "/v1/tokens")
        assert lines.read() == []  # type: ignore[attr-defined]
