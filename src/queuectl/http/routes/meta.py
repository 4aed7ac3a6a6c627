"""What this server is: its version, its store, and what the caller may do."""

from queuectl import __version__
from queuectl.domain.token import SCOPES
from queuectl.http.call import Call, Reply
from queuectl.http.table import Route
from queuectl.service.shapes import document, instant


def root(call: Call) -> Reply:
    """The versions; for a caller with a token also the store, its clock, and the caller's scopes."""
    found = document(version=__version__, api=1)
    if call.caller is call.server.anonymous:
        return Reply(found)
    scopes = [scope for scope in SCOPES if call.caller.may(scope)]
    store = {"durability": call.queue.describe().durability}
    return Reply(found | {"store": store, "now": instant(call.queue.now()), "scopes": scopes})


ROUTES = (
    Route(
        method="GET",
        path="/v1",
        scope=None,
        summary="Versions; with a token also the store and what the token may do",
        handler=root,
        answers={200: "Server"},
    ),
)
