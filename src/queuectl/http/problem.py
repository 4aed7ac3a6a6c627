"""Errors as HTTP answers (RFC 9457): each code has one row with its status, its exit code and its title."""

import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from queuectl import __version__
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.service.shapes import document, faults


class Code(NamedTuple):
    """One kind of error.

    retry_after  seconds after which a client may try again
    """

    status: int
    exit_code: int
    title: str
    retry_after: int | None = None


PROBLEM_JSON = "application/problem+json"

CODES: dict[str, Code] = {
    "invalid_input": Code(400, 2, "The request is not understood"),
    "unauthenticated": Code(401, 1, "Not signed in"),
    "forbidden": Code(403, 1, "Not allowed"),
    "read_only": Code(403, 1, "This server only reads"),
    "not_found": Code(404, 3, "No such thing"),
    "method": Code(405, 2, "The path does not have this method"),
    "conflict": Code(409, 4, "The state does not allow it"),
    "failed": Code(409, 1, "The command could not be carried out"),
    "unreadable": Code(409, 1, "The stored job cannot be decoded"),
    "changed": Code(412, 4, "The thing has changed"),
    "too_large": Code(413, 2, "The request is too large"),
    "unsupported_media": Code(415, 2, "The body is not JSON"),
    "wrong_host": Code(421, 1, "The request names another host"),
    "too_many": Code(429, 5, "Too many requests", retry_after=1),
    "internal": Code(500, 1, "A bug in queuectl"),
    "store_unavailable": Code(503, 5, "The store does not answer", retry_after=1),
    "draining": Code(503, 5, "The server is about to end", retry_after=5),
    "store_unusable": Code(503, 5, "The store must not be used"),
    "store_error": Code(503, 5, "The store could not carry out the call", retry_after=1),
    "unknown": Code(504, 75, "The result is unknown; repeating the request is safe"),
}


class Refusal(QueuectlError):
    """A request that the server refuses before it calls the queue.

    status   instead of the status of the code
    headers  added to the answer
    further  added to the document
    """

    def __init__(
        self,
        code: str,
        message: str,
        hint: str | None = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.code, self.exit_code = code, CODES[code].exit_code
        self.status = status or CODES[code].status
        self.headers, self.further = dict(headers or {}), dict(further or {})


class Problem(NamedTuple):
    """An error as it is sent."""

    status: int
    headers: dict[str, str]
    document: dict[str, Any]


def problem(error: QueuectlError, request_id: str) -> Problem:
    """The answer for an error. A bug is answered without its message, which may quote anything: the log has it."""
    code = CODES[error.code]
    if error.code == "internal":
        error = Refusal(
            "internal", "a bug in queuectl stopped this request", "the server's log has its traceback"
        )
    refusal = error if isinstance(error, Refusal) else None
    status = refusal.status if refusal else code.status
    headers = {} if code.retry_after is None else {"Retry-After": str(code.retry_after)}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="queuectl"'
    body = document(
        type=f"/errors/{error.code}",
        title=code.title,
        status=status,
        detail=error.message,
        instance=request_id,
        code=error.code,
        hint=error.hint,
        exit_code=error.exit_code,
    )
    body |= located(error) | faults.further(error)
    if refusal:
        return Problem(status, headers | refusal.headers, body | refusal.further)
    return Problem(status, headers, body)


def located(error: QueuectlError) -> dict[str, Any]:
    """The part of the document that says where in the body the fault is; empty if this is not known."""
    if not isinstance(error, InvalidInput) or error.pointer is None:
        return {}
    return {"errors": [{"pointer": error.pointer, "detail": error.message}]}


def raw_reply(refusal: Refusal) -> bytes:
    """The whole reply to a request that never reaches the application. The connection is closed after it."""
    found = problem(refusal, id := secrets.token_hex(8))
    content = msgspec.json.encode(found.document)
    headers = {
        "Content-Type": PROBLEM_JSON,
        "Content-Length": str(len(content)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "Queuectl-Request": id,
        "Queuectl-Version": __version__,
        **found.headers,
    }
    lines = [f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content
