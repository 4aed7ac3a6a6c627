"""A request as a handler gets it, and the reply that a handler returns."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from queuectl.http.caller import Caller
from queuectl.http.server_state import ServerState
from queuectl.service.queue import Queue


class Call(Struct, frozen=True):
    """One request, checked: the route exists, the caller may call it, query and body have their types.

    path     the values of the path's parameters
    query    an instance of the route's query type
    body     an instance of the route's body type; None if the route has none; the request if the handler reads it
    headers  by name in lower case
    id       the id of the request, which is in the reply and in the log
    server   what all requests share; a stream ends when `server.ending` is set
    """

    queue: Queue
    caller: Caller
    path: Mapping[str, str]
    query: Any
    body: Any
    headers: Mapping[str, str]
    id: str
    server: ServerState


def digest(content: bytes) -> str:
    """A short digest, for a tag."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def weak_tag(document: Mapping[str, Any]) -> str:
    """The tag of a document that has no version."""
    return f'W/"{digest(msgspec.json.encode(document))}"'


class Reply(Struct, frozen=True):
    """The answer of a handler: a JSON document, or none.

    etag  identifies this version of the document; a request with the same `If-None-Match` gets 304
    """

    document: Mapping[str, Any] | None
    status: int = 200
    headers: Mapping[str, str] = {}
    etag: str | None = None
