"""What the routes are and what an error means: for programs and for people, without a token."""

from starlette.responses import HTMLResponse, Response

from queuectl.errors import NotFound
from queuectl.http import openapi, pages
from queuectl.http.call import Call, Reply
from queuectl.http.table import Route


def described(call: Call) -> Reply:
    """The OpenAPI document."""
    server = call.server
    if (
        server.openapi is None
    ):  # it takes many milliseconds to make, and anybody may ask for it without a token
        server.openapi = openapi.document(server.routes)
    return Reply(server.openapi)


def docs(call: Call) -> Response:
    """The routes as a page."""
    return HTMLResponse(pages.about_routes(call.server.routes, call.server.root), headers=pages.HEADERS)


def error(call: Call) -> Response:
    """The page about one code of an error."""
    found = pages.about_error(call.path["code"])
    if found is None:
        raise NotFound(f"there is no error {call.path['code']!r}", "GET /docs lists the errors")
    return HTMLResponse(found, headers=pages.HEADERS)


ROUTES = (
    Route(
        method="GET",
        path="/openapi.json",
        scope=None,
        summary="This document (OpenAPI 3.1)",
        handler=described,
        answers={200: "openapi"},
    ),
    Route(
        method="GET",
        path="/docs",
        scope=None,
        summary="The routes as a page",
        handler=docs,
        answers={200: "page"},
    ),
    Route(
        method="GET",
        path="/errors/{code}",
        scope=None,
        summary="What an error means, and what to do",
        handler=error,
        answers={200: "page"},
        errors=("not_found",),
    ),
)
