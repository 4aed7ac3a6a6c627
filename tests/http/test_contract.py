"""The OpenAPI document: it is valid, it says what the server does, and its copy in the documentation is up to date."""

import json
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from factories import in_state
from http_client import Client
from queuectl.http.openapi import document
from queuectl.http.pages import WHAT_TO_DO
from queuectl.http.problem import CODES
from queuectl.http.routes import ROUTES
from queuectl.http.routes.waiting import LONGEST
from queuectl.http.schemas import SCHEMAS
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest

COPY = Path(__file__).parents[2] / "docs" / "openapi.json"


# Three libraries take more than a second to load, so only the tests that use them import them: each process of a run
# imports this file.


def test_the_document_is_valid_and_has_every_route() -> None:
    import openapi_spec_validator

    found = json.loads(json.dumps(document(ROUTES)))
    openapi_spec_validator.validate(found)
    listed = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert listed == {(route.method, route.path) for route in ROUTES}


def test_the_copy_in_the_documentation_is_up_to_date() -> None:
    assert json.loads(COPY.read_text()) == document(ROUTES), (
        "run make docs, and name the change in CHANGELOG.md"
    )


def test_the_server_answers_the_document_and_the_pages_without_a_token(
    server: Client, state: ServerState
) -> None:
    server.token = None
    assert server("GET", "/openapi.json").document == document(ROUTES)
    made = state.openapi
    assert server("GET", "/openapi.json").document == made
    assert state.openapi is made
    docs = server("GET", "/docs")
    assert docs.headers["content-security-policy"].startswith("default-src 'none'")
    assert b"/v1/jobs/{ref}/retry" in docs.body
    for code in CODES:
        shown = server("GET", f"/errors/{code}")
        assert (shown.status, CODES[code].title in shown.body.decode()) == (200, True)
    assert server("GET", "/errors/nothing").status == 404


def test_each_error_says_what_to_do() -> None:
    assert WHAT_TO_DO.keys() == CODES.keys()


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1", "Server"), ("/v1/jobs", "Jobs"), ("/v1/jobs/a", "JobDocument"), ("/v1/jobs/a/explain", "Explanation"),
     ("/v1/jobs/nobody", "Problem"), ("/v1/counts", "Counts"), ("/v1/status", "Status"), ("/v1/queues", "Queues"),
     ("/v1/queues/default", "QueueDocument"), ("/v1/workers", "Workers"), ("/v1/config", "Settings"),
     ("/v1/config/jitter", "SettingDocument"), ("/v1/doctor", "Checks"), ("/v1/tokens", "Tokens"),
     ("/v1/jobs/a/output", "Output")],
)  # fmt: skip
def test_real_documents_match_their_schemas(server: Client, queue: LocalQueue, path: str, name: str) -> None:
    import jsonschema

    queue._store.add([in_state("dead", "a"), in_state("processing", "b")])
    queue.enqueue([JobRequest(command="true", umask="022", stdin="x", timeout="5m", after=["b"])])
    answer = server("GET", path, Accept="application/json")
    jsonschema.validate(answer.document, {**SCHEMAS[name], "components": {"schemas": SCHEMAS}})
    properties = SCHEMAS[name]["properties"]
    assert answer.document.keys() <= properties.keys()


def test_every_job_has_the_keys_of_its_schema(server: Client, queue: LocalQueue) -> None:
    queue._store.add([in_state("completed", "a")])
    keys = set(server("GET", "/v1/jobs/a").document["job"])
    assert keys | {"redacted"} == set(SCHEMAS["Job"]["properties"])


OF_SCHEMATHESIS = {
    "generation": {"with-security-parameters": False},
    "checks": {
        "negative_data_rejection": {
            "expected-statuses": [400, 401, 403, 404, 405, 406, 409, 414, 415, 421, 422, 428, 429, 431, "5xx"]
        }
    },
}
"""The test sends a valid token with each request. A wrong token in the generated data would be replaced by it, and a
request that is wrong in nothing else would be right. 414, 421 and 431 are not in the usual list of refusals: the URL or
the head of a request may be too long, and its `Host` unknown."""


def waits(body: Any) -> bool:
    """Whether the server would wait for as long as this body says. A wrong time is refused, and must stay wrong."""
    timeout = body.get("timeout") if isinstance(body, dict) else None
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    return isinstance(timeout, str) or (is_number and 0 <= timeout <= LONGEST)


def as_it_is(_: Any, value: Any) -> bytes:
    """The body of a request that is no document."""
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
def examples(pytestconfig: pytest.Config) -> int:
    """The number of requests on each route; in `make proof` more."""
    return 3 if pytestconfig.getoption("circle") in ("quick", "test") else 20


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_server_answers_every_request_as_the_document_says(
    server: Client, queue: LocalQueue, examples: int, mode: str
) -> None:
    """Requests that are made from the document, right ones and wrong ones, on every route."""
    import schemathesis
    from schemathesis.core.failures import Failure, FailureGroup
    from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

    # `ignored_auth` sends requests of its own: `test_auth.py` has the matrix. `positive_data_acceptance` knows no rules
    # beyond the types: a name, a command, a time or a cursor may be a text and be refused.
    excluded = [ignored_auth, positive_data_acceptance]
    schemathesis.serializer("application/gzip")(as_it_is)
    schema = schemathesis.openapi.from_dict(
        document(ROUTES), config=schemathesis.Config.from_dict(OF_SCHEMATHESIS)
    )
    operations = {found.ok().label: found.ok() for found in schema.get_all_operations()}
    queue._store.add([in_state("dead", "a"), in_state("pending", "b")])
    url, headers = f"http://127.0.0.1:{server.port}", {"Authorization": "Bearer admin"}
    faults: list[str] = []
    for label, operation in operations.items():

        def check(case: Any) -> None:
            if waits(case.body):
                case.body["timeout"] = 0
            answer = case.call(base_url=url, headers=headers)
            if case.path == "/readyz" and answer.status_code == 503:
                return  # a probe that says "not ready" has answered, which is no fault of the server
            case.validate_response(answer, excluded_checks=excluded, headers=headers)

        strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
        chosen = settings(
            max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        try:
            chosen(given(strategy)(check))()
        except (Unsatisfiable, SkipTest):
            continue
        except (FailureGroup, Failure) as error:
            faults.append(f"{label}: {error}")
    assert not faults, "\n\n".join(faults)
