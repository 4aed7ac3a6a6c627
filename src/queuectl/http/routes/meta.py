"""What this server is: its version, its store, and what the caller may do."""

from queuectl import __version__
from queuectl.domain.token import SCOPES
from queuectl.http.call import Call, Reply
from queuectl.http.routes.jobs import MANY
from queuectl.http.routes.waiting import LONGEST
from queuectl.http.table import Route
from queuectl.service.shapes.diagnosis import checks
from queuectl.service.shapes.record import document, instant


def root(call: Call) -> Reply:
    """Answer the versions. A caller with a scope also gets the store, its clock, and the caller's scopes."""
    found = document(version=__version__, api=1)
    if not call.caller.scopes:
        return Reply(found)
    server, limits = call.server, call.server.limits
    return Reply(
        found
        | {
            "store": {"durability": call.queue.describe().durability},
            "now": instant(call.queue.now()),
            "scopes": [scope for scope in SCOPES if call.caller.may(scope)],
            "read_only": server.read_only,
            "draining": server.draining,
            "limits": {
                "body": limits.body,
                "bulk": limits.bulk,
                "timeout": limits.timeout,
                "jobs": MANY,
                "wait": LONGEST,
            },
        }
    )


def doctor(call: Call) -> Reply:
    """Whether the store, its settings, its workers and its queues are in order."""
    return Reply(checks(call.queue.doctor()))


ROUTES = (
    Route(
        method="GET",
        path="/v1",
        scope=None,
        summary="Versions; with a token also the store and what the token may do",
        handler=root,
        answers={200: "Server"},
    ),
    Route(
        method="GET",
        path="/v1/doctor",
        scope="admin",
        summary="Whether the store, its settings, its workers and its queues are in order",
        handler=doctor,
        answers={200: "Checks"},
    ),
)
