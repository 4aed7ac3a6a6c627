"""What a handler gets, and what it returns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from queuectl.domain.token import Scope, grants
from queuectl.service.queue import Queue

if TYPE_CHECKING:
    from queuectl.http.server_state import ServerState


class Caller(Struct, frozen=True):
    """Who sent a request, and what the caller may do.

    name      as it is stored with a change: `token:billing`, `local:ada`
    scopes    what the caller was given; `may` knows what follows from it
    queues    the queues in which the caller may enqueue and change jobs; None for all
    token_id  the id of the token's secret; None for a caller without a token, and for the local token
    """

    name: str
    scopes: frozenset[Scope] = frozenset()
    queues: frozenset[str] | None = None
    token_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller may call a route of this scope."""
        return grants(self.scopes, scope)


NOBODY = Caller("anonymous")


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
    server: "ServerState"


class Reply(Struct, frozen=True):
    """The answer of a handler: a JSON document, or none.

    etag  identifies this version of the document; a request with the same `If-None-Match` gets 304
    """

    document: Mapping[str, Any] | None
    status: int = 200
    headers: Mapping[str, str] = {}
    etag: str | None = None
