"""Turns the replies of a server that are no success into the errors of a queue."""

import re
from typing import Any

import msgspec

from queuectl import __version__, errors
from queuectl.errors import InvalidInput, QueuectlError, StoreError, StoreUnavailable, StoreUnusable
from queuectl.http.client.address import Address
from queuectl.http.client.connection import NotSent, Reply, ReplyLost, Silent
from queuectl.service.shapes.faults import fault_of

WORDS, LOOKED_AT = 80, 2000
"""Characters of a foreign answer that an error quotes, and bytes in which it looks for them."""

HINTS = {
    401: "a proxy wants a login of its own: give a URL of queuectl serve without it",
    403: "a proxy lets nobody in: give the URL of queuectl serve itself",
    404: "is the path of the URL the one of --public-url?",
    413: "a proxy limits the size of requests (nginx: client_max_body_size)",
}
"""What to do about an answer of another program, by its status."""

_BY_EXIT_CODE: dict[int, type[QueuectlError]] = {
    2: errors.InvalidInput, 3: errors.NotFound, 4: errors.Conflict, 5: errors.StoreUnavailable,
    75: errors.OutcomeUnknown,
}  # fmt: skip


def document_of(reply: Reply, url: str) -> dict[str, Any]:
    """The document of a reply of our server. Raises ReplyLost for one that a proxy has cut off, which HTTP/1.0 does not
    show; ProxyFault or StoreUnusable for an answer of another program."""
    if "queuectl-version" not in reply.headers:
        raise foreign(reply, url)
    try:
        document = msgspec.json.decode(reply.body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ReplyLost("its answer is no JSON") from None
    if not isinstance(document, dict):
        raise foreign(reply, url)
    return document


class ProxyFault(StoreUnavailable):
    """A proxy answered with 5xx, perhaps because the server restarts. The proxy may have sent the request on before."""


def unreachable(error: NotSent, address: Address) -> StoreUnavailable:
    """The error for a request that was not sent."""
    return StoreUnavailable(f"cannot reach {address.url}: {error}", "is the server running? queuectl serve")


def without_reply(error: ReplyLost, address: Address, seconds: float) -> StoreUnavailable:
    """The error for a request that was sent, and whose reply did not come in so many seconds."""
    if isinstance(error, Silent):
        return StoreUnavailable(
            f"{address.url} did not answer within {seconds:.0f} s",
            "is it the URL of queuectl serve? --patience 1m waits longer",
        )
    hint = "is it https:// instead?" if address.scheme == "http" else None
    return StoreUnavailable(f"{address.url} did not answer: {error}", hint)


def foreign(reply: Reply, url: str) -> StoreError:
    """The error for an answer that is not of queuectl: its status and its first words."""
    if 300 <= reply.status < 400:
        to = _neutral(reply.headers.get("location", "another address"))
        root, found, _ = to.partition("/v1/")
        return StoreUnusable(
            f"{url} leads to {to} ({reply.status}), and redirects are not followed",
            f"if that is the server: --store {root}" if found else "give the URL of queuectl serve itself",
        )
    words = _neutral(_text(reply.body[:LOOKED_AT].decode("utf-8", "replace")))
    said = f": {words}" if words else ""
    if reply.status in (502, 503, 504):
        return ProxyFault(
            f"the proxy at {url} reaches no server (status {reply.status}){said}",
            "is there a queuectl serve behind it?",
        )
    kind = ProxyFault if reply.status >= 500 else StoreUnusable
    hint = HINTS.get(reply.status, "is a queuectl serve there?")
    return kind(f"{url} did not answer as queuectl does (status {reply.status}){said}", hint)


def _text(page: str) -> str:
    """The title of a page of HTML, or its text; another text as it is."""
    if not page.lstrip().startswith("<"):
        return page
    title = re.search(r"<title[^>]*>([^<]+)", page, re.IGNORECASE)
    return title[1] if title else re.sub(r"<[^>]*>?", " ", page)


def error_of(reply: Reply, document: dict[str, Any], url: str) -> QueuectlError:
    """The error of a problem document."""
    code, detail, hint = document.get("code"), document.get("detail"), document.get("hint")
    if not isinstance(code, str) or not isinstance(detail, str):
        return foreign(reply, url)
    if newer := _of_another_version(reply, code, detail, url):
        return newer
    error = fault_of({**document, "message": detail, "hint": hint if isinstance(hint, str) else None})
    if type(error) is QueuectlError or (isinstance(error, errors.UnreadableJob) and "number" not in document):
        kind = _BY_EXIT_CODE.get(document.get("exit_code", 1), errors.CommandFailed)
        error = kind(error.message, error.hint)
        error.code = code
    if isinstance(error, InvalidInput):
        _locate(error, document)
    return error


def _of_another_version(reply: Reply, code: str, detail: str, url: str) -> QueuectlError | None:
    """The error for a request that the server does not know: its version or its path is another one."""
    theirs = reply.headers["queuectl-version"]
    no_route = code == "not_found" and detail.startswith("there is no path ")
    unknown = code == "invalid_input" and ("unknown field" in detail or "no query parameter" in detail)
    if no_route and theirs == __version__:
        return errors.CommandFailed(
            f"{url} is not the URL of the server: {detail}",
            "behind a proxy, give the URL that --public-url of the server has",
        )
    if not no_route and not (unknown and theirs != __version__):
        return None
    return errors.CommandFailed(
        f"the server is queuectl {theirs}, this is {__version__}: {detail}",
        "use the same version on both sides",
    )


def _locate(error: InvalidInput, document: dict[str, Any]) -> None:
    """Set the position of the wrong item, which the pointer `/jobs/3/priority` tells."""
    for each in document.get("errors") or ():
        pointer = each.get("pointer")
        if isinstance(pointer, str):
            error.pointer = pointer
            parts = pointer.split("/")
            if parts[:2] == ["", "jobs"] and len(parts) > 2 and parts[2].isdecimal():
                error.index = int(parts[2])
            return


def _neutral(text: str) -> str:
    """A foreign text in one line, without control characters, cut."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= WORDS else f"{line[:WORDS]}…"
