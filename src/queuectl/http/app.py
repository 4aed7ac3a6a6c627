"""The ASGI application: each request is matched with a row of the route table, authorized, decoded, and handled.

The order of the checks is fixed: host, bound of the client, path, method, read-only, token, scope, query, body. A
request that fails one of them reaches none of the later ones, and never a handler.
"""

import asyncio
import inspect
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from queuectl import __version__
from queuectl.domain.event import Actor
from queuectl.domain.token import SCOPES
from queuectl.errors import (
    Changed,
    Forbidden,
    InternalError,
    QueuectlError,
    Unauthenticated,
)
from queuectl.http import audit, body, compression, responses
from queuectl.http.auth import user_name
from queuectl.http.call import Call, Reply
from queuectl.http.caller import Caller
from queuectl.http.problem import Refusal
from queuectl.http.restricted_queue import restricted
from queuectl.http.server_state import ServerState
from queuectl.http.table import PROBES, Route
from queuectl.http.threads import in_thread, in_time
from queuectl.service.local_queue import LocalQueue
from queuectl.service.queue import Queue

log = logging.getLogger("queuectl.http")
access = logging.getLogger("queuectl.http.access")

DECODED_AT_ONCE = 16 * 1024
"""Bytes of a body that is decoded in the event loop: this takes less than the way to a thread and back."""


def application(state: ServerState, routes: Sequence[Route]) -> ASGIApp:
    """The application that answers these routes."""
    state.routes = routes
    by_path = defaultdict[str, dict[str, Route]](dict)
    for route in routes:
        by_path[route.path][route.method] = route
    # Starlette limits the methods of an endpoint that is a function. An object gets every method, also an unknown one.
    paths = [StarletteRoute(path, _Endpoint(state, rows)) for path, rows in by_path.items()]
    # No redirects to a path with a slash at its end: they would be sent before the check of `Host`, and repeat it.
    return Router(paths, redirect_slashes=False, default=_Endpoint(state, {}))


class _Endpoint:
    """One path with its routes, by method. Without routes: an unknown path, which is answered with 404."""

    def __init__(self, state: ServerState, routes: dict[str, Route]) -> None:
        self._state, self._routes = state, routes
        self._path = next((route.path for route in routes.values()), None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self.answer(request)
        try:
            await response(scope, receive, send)
        except QueuectlError as error:  # the status is sent: uvicorn cuts off a body that does not end
            log.warning("request %s was cut off: %s", response.headers["Queuectl-Request"], error.message)

    async def answer(self, request: Request) -> Response:
        """The answer to one request, noted in the logs."""
        id, start = secrets.token_hex(8), time.perf_counter()
        response, result = await self._answered(request, id)
        if (route := self._routes.get(request.method)) and route.changes:
            audit.record(request, route, response, result=result, id=id)
        response.headers["Queuectl-Request"] = id
        response.headers["Queuectl-Version"] = __version__
        response.headers.setdefault("Cache-Control", "no-store")
        seconds = time.perf_counter() - start
        self._state.metrics.note_request(self._path, response.status_code, seconds)
        if self._state.access_log:
            _log_access(request, response, id, seconds)
        return response

    async def _answered(self, request: Request, id: str) -> tuple[Response, str]:
        """The answer, and `ok` or the code of the error. Every error becomes a problem document."""
        try:
            return await self._handled(request, id), "ok"
        except QueuectlError as error:
            return responses.of_error(error, id), error.code
        except asyncio.CancelledError:  # by the end of the server, before anything was changed
            refusal = Refusal("draining", "the server ends")
            return responses.of_error(refusal, id), refusal.code
        except ClientDisconnect:  # before its body was complete: nobody reads the reply
            return Response(status_code=400), "disconnected"
        except Exception as error:
            log.exception("request %s: %s %s", id, request.method, request.url.path)
            return responses.of_error(InternalError(error), id), InternalError.code

    async def _handled(self, request: Request, id: str) -> Response:
        if request.url.path.removeprefix(self._state.root) not in PROBES:
            self._check_host(request)
            _check_bound(request)
        if not self._routes:
            raise Refusal(
                "not_found",
                f"there is no path {request.url.path}",
                "GET /docs is a page about the paths, which begin with /v1; GET /openapi.json lists them",
                status=404,
            )
        allowed = self._allowed()
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join(allowed)})
        route = self._routes.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            raise Refusal(
                "method",
                f"{request.url.path} does not have {request.method}",
                f"it has {', '.join(allowed)}",
                headers={"Allow": ", ".join(allowed)},
            )
        if route.changes and self._state.read_only:
            raise Refusal("read_only", "this server only reads")
        call = await self._call(request, route, id)
        response = responses.of_reply(await self._run(route, call), request)
        if compression.is_wanted(request, response):
            return await in_thread(self._state, compression.compressed, response)  # type: ignore[no-any-return]
        return response

    def _allowed(self) -> list[str]:
        head = ["HEAD"] if "GET" in self._routes else []
        return [*self._routes, *head, "OPTIONS"]

    def _check_host(self, request: Request) -> None:
        host = request.headers.get("host", "").lower()
        if not self._state.accepts_host(host):
            raise Refusal(
                "wrong_host",
                f"this server is not {host}",
                "for example: queuectl serve --allow-host queue.example.org",
            )

    async def _call(self, request: Request, route: Route, id: str) -> Call:
        caller = request.state.caller = await self._caller(request, route)
        self._check_scope(caller, route)
        query = body.query_of(request.query_params, route.query)
        if route.changes and "changed" not in route.errors:
            _refuse_version(request)
        document: Any = request if route.raw_body else None
        if route.body is not None and not route.raw_body:
            raw = await body.json_of(request, self._state.limits.body)
            document = await self._decoded(raw, route)
        headers = dict(request.headers)
        acting = _acting(self._state.queue, caller) if route.changes else self._state.queue
        queue = restricted(acting, caller)
        # A proxy may refuse or decode %2F, so a slash in a name is written ~, which is in no name.
        path = {name: value.replace("~", "/") for name, value in request.path_params.items()}
        return Call(queue, caller, path, query, document, headers, id, self._state)

    async def _decoded(self, raw: bytes, route: Route) -> Any:
        """The document of the body. To decode a large one takes seconds, in which the loop has to answer others."""
        if len(raw) <= DECODED_AT_ONCE:
            return body.decode(raw, route.body)
        return await in_time(self._state, body.decode, raw, route.body)

    async def _caller(self, request: Request, route: Route) -> Caller:
        """The caller. Raises Unauthenticated. A probe needs no token, and must not wait for the store."""
        if route.path in PROBES:
            return self._state.anonymous
        authenticator = self._state.authenticator
        found = authenticator.known_caller(request)
        if found is None and "authorization" in request.headers:
            found = await in_time(self._state, authenticator.caller, request)
        return found or _user(request) or self._state.anonymous

    def _check_scope(self, caller: Caller, route: Route) -> None:
        """Raise Unauthenticated or Forbidden unless the caller may call this route."""
        if route.scope is None or caller.may(route.scope):
            return
        if caller is self._state.anonymous:
            raise Unauthenticated("this route needs a token", "send the header Authorization: Bearer TOKEN")
        raise Forbidden(f"{caller.name} may not do this", f"it needs a token with the scope {route.scope}")

    async def _run(self, route: Route, call: Call) -> Reply | Response:
        found: Reply | Response
        if inspect.iscoroutinefunction(route.handler):
            found = await route.handler(call)
        else:
            found = await in_time(self._state, route.handler, call, changes=route.changes)
        return found


def _user(request: Request) -> Caller | None:
    """The user of this process, who alone may open our Unix socket; None for a TCP connection.

    A request that a proxy passes on to the socket comes from somebody else.
    """
    server = request.scope.get("server")
    passed_on = any(name in request.headers for name in ("x-forwarded-for", "forwarded", "via"))
    if not server or server[1] is not None or passed_on:
        return None
    return Caller(f"local:{user_name()}", frozenset(SCOPES))


def _acting(queue: Queue, caller: Caller) -> Queue:
    """The queue whose changes are told with this caller."""
    return queue.acting(Actor(caller.name, "http")) if isinstance(queue, LocalQueue) else queue


def _check_bound(request: Request) -> None:
    """Refuse a request of a client of a proxy that has too many running ones."""
    if request.scope.get("state", {}).get("is_beyond_bound"):
        raise Refusal("too_many", "too many requests of this client are running")


def _refuse_version(request: Request) -> None:
    """Raise Changed if a request expects a version of what has none, because it must not be carried out regardless."""
    if request.headers.get("if-match", "*").strip() != "*":
        raise Changed("If-Match: what this route changes has no version", "leave out the header")


def _log_access(request: Request, response: Response, id: str, seconds: float) -> None:
    peer = request.client.host if request.client else "local"
    path = quote(request.scope["path"])  # escapes line ends: a path must not write lines of the log
    took = f"{seconds * 1000:.1f} ms"
    access.info("%s %s %s %s %s %s", peer, request.method, path, response.status_code, took, id)
