"""Each route answers as the OpenAPI document says: with each error that it lists, and with each document."""

import inspect
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request

from contract.damage import SQLITE
from exported import segment
from factories import NOW, in_state
from facts import eventually
from http_client import Answer, Client
from http_server import FixedTokens, serving
from queuectl.domain.worker import Slot, Worker
from queuectl.errors import CommandFailed, OutcomeUnknown, StoreError, StoreUnavailable, StoreUnusable
from queuectl.http import openapi
from queuectl.http.call import Call, Caller
from queuectl.http.problem import Refusal
from queuectl.http.routes import ROUTES
from queuectl.http.server_state import ServerState
from queuectl.http.table import Route
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest

NAMES = {"ref": "a", "name": "mail", "id": "w1", "key": "timeout", "code": "conflict"}
"""The values of the parameters of a path. `a` is pending, `done` completed, `dead` dead, `bad` cannot be decoded."""

BODIES: dict[str, Any] = {
    "POST /v1/jobs": {"command": "true"},
    "POST /v1/resolve": {"jobs": ["a"], "dependencies": ["a:any"]},
    "POST /v1/jobs/{ref}/cancel": {"reason": "wrong"},
    "PATCH /v1/jobs/{ref}": {"priority": 3},
    "POST /v1/operations": {"verb": "hold", "where": "queue:mail"},
    "POST /v1/wait": {"ids": ["a"], "timeout": 0},
    "PATCH /v1/queues/{name}": {"paused": True, "reason": "disk full", "limit": 3},
    "POST /v1/workers/{id}/stop": {"now": True},
    "PUT /v1/config/{key}": {"value": "5m"},
    "PUT /v1/schedules/{name}": {"when": "@daily", "job": {"command": "true"}},
    "PATCH /v1/schedules/{name}": {"overlap": "allow"},
    "POST /v1/schedules": {"name": "new", "when": "@daily", "job": {"command": "true"}},
    "POST /v1/schedules/apply": {"schedule": {"new": {"when": "@daily", "command": "true"}}},
    "POST /v1/schedules/diff": {"schedule": {"mail": {"when": "@hourly", "command": "true"}}},
    "POST /v1/schedules/preview": {"when": "@daily"},
    "PUT /v1/hooks/{name}": {"on": ["failed"], "job": {"command": "cat"}},
    "POST /v1/import": segment([in_state("completed", "imported")], at=NOW),
    "POST /v1/tokens": {"name": "new", "scopes": ["view"]},
    "POST /v1/tokens/{name}/rotate": {"keep": "1h"},
}
OTHERS = {
    "POST /v1/jobs/{ref}/retry": "dead",
    "POST /v1/jobs/{ref}/release": "held",
    "DELETE /v1/jobs/{ref}": "done",
    "POST /v1/workers/{id}/forget": "w2",
}
"""The value of the parameter in a request that succeeds, if it is not the usual one."""


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


class Faults(Struct):
    """What handlers raise, and what the check of tokens raises."""

    handler: Exception | None = None
    tokens: Exception | None = None


class FailingTokens(FixedTokens):
    """Raises the wanted error instead of a check of the token."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def caller(self, request: Request) -> Caller | None:
        if self._faults.tokens:
            raise self._faults.tokens
        return super().caller(request)


def failing(route: Route, faults: Faults) -> Route:
    """The route with a handler that raises the wanted error, if one is wanted."""
    real: Any = route.handler

    async def in_loop(call: Call) -> Any:
        if faults.handler:
            raise faults.handler
        return await real(call)

    def in_thread(call: Call) -> Any:
        if faults.handler:
            raise faults.handler
        return real(call)

    return replace(route, handler=in_loop if inspect.iscoroutinefunction(real) else in_thread)


def heartbeat(queue: LocalQueue, id: str) -> None:
    queue._store.heartbeat(
        Worker(
            id=id, name=f"name-{id}", host="h", boot_id="b", holder_pid=1, agent_pid=2, version="0", count=1,
            started_at=NOW, slots=(Slot(slot=0),),
        )
    )  # fmt: skip


class Scene(Struct):
    """A running server with jobs in several states, a worker and a token."""

    client: Client
    state: ServerState
    faults: Faults

    def send(
        self, route: Route, *, path: str | None = None, body: Any = None, query: str = "", **headers: str
    ) -> Answer:
        """Send a request to a route, with the usual values where none are given."""
        if body is None:
            body = BODIES.get(name_of(route))
        target = re.sub(r"\{(\w+)\}", lambda found: path or NAMES[found[1]], route.path)
        if isinstance(body, bytes):
            headers = {"Content_Type": "application/jsonl", **headers}
            return self.client(route.method, target + query, raw=body, **headers)
        return self.client(route.method, target + query, body, **headers)


@pytest.fixture
def scene(queue: LocalQueue, state: ServerState, tmp_path: Any) -> Iterator[Scene]:
    queue._store.add(
        [
            in_state(kind, id)  # type: ignore[arg-type]
            for id, kind in (
                ("a", "pending"), ("done", "completed"), ("dead", "dead"), ("held", "held"), ("run", "processing"),
                ("bad", "dead"),
            )
        ]
    )  # fmt: skip
    SQLITE["history: no JSON"](SimpleNamespace(path=tmp_path / "queue.db"), "bad")
    queue.enqueue([JobRequest(command="true", queue="mail")])
    queue.create_token("mail", ["view"])
    for name in ("mail", "busy"):
        queue.schedules().add(name, {"when": "@daily", "job": {"command": "true"}}, timezone="UTC")
    queue.schedules().run("busy")
    queue.set("events", "ends")
    queue.hooks().add("mail", {"on": "dead", "job": {"command": "cat"}})
    queue.operate("hold", "queue:mail", id="w1")
    heartbeat(queue, "w1")
    faults = Faults()
    state.authenticator = FailingTokens(faults)
    with serving(state, routes=[failing(route, faults) for route in ROUTES]) as port:
        yield Scene(Client(port, "admin"), state, faults)


def with_fault(error: Exception) -> Callable[[Scene, Route], Answer]:
    def provoke(scene: Scene, route: Route) -> Answer:
        scene.faults.handler = error
        try:
            return scene.send(route)
        finally:
            scene.faults.handler = None

    return provoke


def without_token(scene: Scene, route: Route) -> Answer:
    scene.client.token = None
    try:
        return scene.send(route)
    finally:
        scene.client.token = "admin"


def with_view(scene: Scene, route: Route) -> Answer:
    return scene.send(route, Authorization="Bearer view")


def too_many(scene: Scene, route: Route) -> Answer:
    scene.faults.tokens = Refusal("too_many", "too many wrong tokens")
    try:
        return scene.send(route)
    finally:
        scene.faults.tokens = None


def read_only(scene: Scene, route: Route) -> Answer:
    scene.state.read_only = True
    try:
        return scene.send(route)
    finally:
        scene.state.read_only = False


def draining(scene: Scene, route: Route) -> Answer:
    scene.state.worker_drains = True
    try:
        return scene.send(route)
    finally:
        scene.state.worker_drains = False


UNKNOWN = {
    "POST /v1/jobs": {"command": "true", "after": ["nobody"]},
    "POST /v1/resolve": {"jobs": ["nobody"]},
    "POST /v1/wait": {"batch": "nobody"},
}
"""Bodies that name what does not exist."""


def not_found(scene: Scene, route: Route) -> Answer:
    return scene.send(route, path="nobody", body=UNKNOWN.get(name_of(route)))


CONFLICTS: dict[str, tuple[str | None, Any]] = {
    "POST /v1/jobs": (None, {"id": "a", "command": "other"}),
    "POST /v1/jobs/{ref}/cancel": ("done", None),
    "POST /v1/jobs/{ref}/retry": ("a", None),
    "POST /v1/jobs/{ref}/hold": ("done", None),
    "POST /v1/jobs/{ref}/release": ("a", None),
    "PATCH /v1/jobs/{ref}": ("done", None),
    "DELETE /v1/jobs/{ref}": ("a", None),
    "POST /v1/operations": (None, {"verb": "hold", "where": "queue:mail", "expect": 7}),
    "POST /v1/wait": (None, {"ids": ["run"], "timeout": 0, "inside": {"job": "run"}}),
    "POST /v1/workers/{id}/forget": ("w1", None),
    "POST /v1/schedules": (None, {"name": "mail", "when": "@hourly", "job": {"command": "true"}}),
    "POST /v1/schedules/{name}/run": ("busy", None),
    "PUT /v1/hooks/{name}": (None, {"on": ["enqueued"], "job": {"command": "cat"}}),
    "POST /v1/tokens": (None, {"name": "mail", "scopes": ["view"]}),
    "POST /v1/import": (None, segment([in_state("completed", "a", content="other")], at=NOW)),
}
"""For each route the value in its path and its body, of a request that the state does not allow."""


def conflict(scene: Scene, route: Route) -> Answer:
    path, body = CONFLICTS[name_of(route)]
    return scene.send(route, path=path, body=body)


PROVOKE: dict[str, Callable[[Scene, Route], Answer]] = {
    "invalid_input": lambda scene, route: scene.send(route, query="?nonsense=1"),
    "unauthenticated": without_token,
    "forbidden": with_view,
    "read_only": read_only,
    "not_found": not_found,
    "conflict": conflict,
    "failed": with_fault(CommandFailed("others were faster")),
    "unreadable": lambda scene, route: scene.send(route, path="bad"),
    "changed": lambda scene, route: scene.send(route, If_Match='"99"'),
    "too_large": lambda scene, route: scene.send(route, query="?x=" + "x" * 9000),
    "unsupported_media": lambda scene, route: scene.client(
        route.method, re.sub(r"\{(\w+)\}", lambda found: NAMES[found[1]], route.path), raw=b"x", Content_Type="x/y"
    ),
    "wrong_host": lambda scene, route: scene.send(route, Host="evil.example"),
    "too_many": too_many,
    "internal": with_fault(RuntimeError("a bug")),
    "store_unavailable": with_fault(StoreUnavailable("away")),
    "store_unusable": with_fault(StoreUnusable("newer")),
    "store_error": with_fault(StoreError("odd")),
    "draining": draining,
    "unknown": with_fault(OutcomeUnknown("no reply")),
}  # fmt: skip


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_each_error_of_a_route_is_answered_with_its_code(scene: Scene, route: Route) -> None:
    listed = openapi.document(ROUTES)["components"]
    schema = {"$ref": "#/components/schemas/Problem", "components": listed}
    seen = {}
    for code in sorted({code for codes in openapi._errors(route).values() for code in codes}):
        answer = PROVOKE[code](scene, route)
        jsonschema.validate(answer.document, schema)
        assert answer.headers["content-type"] == "application/problem+json", code
        seen[code] = answer.document["code"]
    assert seen == {code: code for code in seen}


def test_every_code_is_an_error_of_some_route_or_of_a_path() -> None:
    listed = {code for route in ROUTES for codes in openapi._errors(route).values() for code in codes}
    assert PROVOKE.keys() == listed


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_the_document_of_each_route_has_its_schema(scene: Scene, queue: LocalQueue, route: Route) -> None:
    if route.path.endswith("forget"):
        heartbeat(queue, "w2")
        queue.set("heartbeat_interval", "1s")
        eventually(lambda: all(item.state == "lost" for item in queue.workers()))
    answer = scene.send(route, path=OTHERS.get(name_of(route)), Accept="application/json")
    described = openapi.document(ROUTES)
    content = described["paths"][route.path][route.method.lower()]["responses"][str(answer.status)].get(
        "content"
    )
    assert answer.status < 300
    if content is None:
        assert answer.body == b""
        return
    kind = answer.headers["content-type"].partition(";")[0]
    if kind != "application/json":
        assert kind in content
        return
    schema = content[kind]["schema"]
    jsonschema.validate(answer.document, {**schema, "components": described["components"]})
    if "$ref" in schema:
        known = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
        assert answer.document.keys() <= known.keys()
