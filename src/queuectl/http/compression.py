"""Compresses answers for clients that accept gzip. Streams stay as they are: each part must arrive at once."""

import gzip

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

SMALLEST = 1024
"""Bytes of the smallest body that is worth the work."""
LEVEL = 1
"""JSON shrinks to a tenth already at this level; the higher ones take several times as long."""


def is_wanted(request: Request, response: Response) -> bool:
    """Whether to compress the body of this answer."""
    if isinstance(response, StreamingResponse) or len(response.body) < SMALLEST:
        return False
    return is_accepted(request.headers.get("accept-encoding", ""))


def is_accepted(encodings: str) -> bool:
    """Whether the value of `Accept-Encoding` names gzip."""
    offers = (each.partition(";") for each in encodings.lower().split(","))
    return any(name.strip() == "gzip" and not _is_zero(weight) for name, _, weight in offers)


def compressed(response: Response) -> Response:
    """The answer with a compressed body. To be called in a thread: a large body takes a while."""
    content = gzip.compress(bytes(response.body), LEVEL, mtime=0)
    headers = dict(response.headers) | {
        "content-encoding": "gzip",
        "content-length": str(len(content)),
        "vary": "Accept-Encoding",
    }
    return Response(content, response.status_code, headers)


def _is_zero(weight: str) -> bool:
    """Whether `q=0` excludes an encoding."""
    name, _, value = weight.strip().partition("=")
    return name == "q" and value.strip("0. ") == ""
