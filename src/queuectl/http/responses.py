"""Responses as they are sent: for the reply of a handler, and for an error."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from queuectl.errors import QueuectlError
from queuectl.http.body import JSON
from queuectl.http.call import Reply, digest
from queuectl.http.problem import PROBLEM_JSON, problem


def of_reply(reply: Reply | Response, request: Request) -> Response:
    """The response for what a handler returned. An unchanged document is answered with 304."""
    if isinstance(reply, Response):
        # Without this a HEAD request would read all that the stream of a GET request sends. A subclass answers HEAD
        # itself: it has more to do at its end, such as to leave the counted streams.
        is_head = request.method == "HEAD" and type(reply) is StreamingResponse
        return Response(status_code=reply.status_code, headers=dict(reply.headers)) if is_head else reply
    headers = dict(reply.headers)
    if reply.document is None:
        return Response(status_code=reply.status, headers=headers)
    content = msgspec.json.encode(reply.document)
    etag = reply.etag or f'W/"{digest(content)}"'
    if request.method in ("GET", "HEAD"):
        headers["ETag"] = etag
        if etag in (tag.strip() for tag in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
    return Response(content, reply.status, headers, media_type=JSON)


def of_error(error: QueuectlError, id: str) -> Response:
    """The problem document for an error. `id`: the id of the request."""
    found = problem(error, id)
    return Response(
        msgspec.json.encode(found.document),
        found.status,
        found.headers,
        media_type=PROBLEM_JSON,
    )
