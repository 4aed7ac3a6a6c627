"""The type of a row of the route table. `routes/` has the rows, a file per noun."""

from collections.abc import Awaitable, Callable, Iterable
from itertools import chain
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from queuectl.domain.token import SCOPES, Scope
from queuectl.http.call import Call, Reply

PROBES = ("/healthz", "/readyz")
"""Paths that any `Host` may ask for, and that are answered while the server is full.

Their answers contain no information about the queue.
"""

OPEN = frozenset((*PROBES, "/v1", "/openapi.json", "/docs", "/errors/{code}"))
"""Paths that are answered without a token, for GET alone."""

Handler = Callable[[Call], Reply | Response | Awaitable[Reply | Response]]
"""A handler that is a coroutine function runs in the event loop; any other one runs in a thread, with a deadline."""


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A route without query parameters."""


class NoBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A request that changes something and needs no more words: an empty body, or `{}`."""


class Route(Struct, frozen=True, kw_only=True):
    """One route. Dispatch, authorization, the OpenAPI document and the tests follow this row.

    path      below the server's root path; `{ref}` stands for a part without a slash
    scope     what the caller needs; None: no token is needed
    handler   carries out the request
    query     the type of the query parameters
    body      the type of the JSON body; None: the request has no body
    answers   for each status of success, the name of the document in `openapi.py` (None: no body)
    errors    the codes of the errors that are special to this route
    reads     a POST that changes nothing
    raw_body  the handler reads the body itself, as a stream of bytes; `body`: its types for the document
    """

    method: str
    path: str
    scope: Scope | None
    summary: str
    handler: Handler
    query: type[Struct] = NoQuery
    body: Any = None
    answers: dict[int, str | None]
    errors: tuple[str, ...] = ()
    reads: bool = False
    raw_body: bool = False

    @property
    def changes(self) -> bool:
        """Whether the route may change something: a read-only server refuses it."""
        return self.method != "GET" and not self.reads


def action(
    path: str, summary: str, handler: Handler, body: Any = NoBody, *, answer: str, errors: tuple[str, ...]
) -> Route:
    """A POST that changes one thing and answers with a document. The caller needs the scope `operate`."""
    return Route(
        method="POST",
        path=path,
        scope="operate",
        summary=summary,
        handler=handler,
        body=body,
        answers={200: answer},
        errors=errors,
    )


def checked(*groups: Iterable[Route]) -> tuple[Route, ...]:
    """The rows of all groups. Raises ValueError, at import, for a row that would let in more callers than intended."""
    routes = tuple(chain.from_iterable(groups))
    for route in routes:
        name = f"{route.method} {route.path}"
        if route.scope is None and not (route.path in OPEN and route.method == "GET"):
            raise ValueError(f"{name} has no scope")
        if route.scope is not None and route.scope not in SCOPES:
            raise ValueError(f"{name} has the unknown scope {route.scope}")
        if route.changes and route.scope == "view":
            raise ValueError(f"{name} changes something with the scope view")
    return routes
