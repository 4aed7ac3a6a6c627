"""Health of the server: whether it runs, and whether it can do its work."""

from starlette.responses import PlainTextResponse, Response

from queuectl.http.call import Call, Reply
from queuectl.http.table import Route
from queuectl.service.shapes import document


async def healthz(_call: Call) -> Response:
    """The event loop runs. Nothing else is asked, so that a probe costs nothing."""
    return PlainTextResponse("ok\n")


async def readyz(call: Call) -> Reply:
    """Whether requests can be answered: the store was reached, and the server is not about to end."""
    checks = {"store": {"ok": call.server.fault is None}, "draining": {"ok": not call.server.draining}}
    ready = all(check["ok"] for check in checks.values())
    return Reply(document(ready=ready, checks=checks), 200 if ready else 503)


ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        scope=None,
        summary="Whether the server runs",
        handler=healthz,
        answers={200: "text"},
    ),
    Route(
        method="GET",
        path="/readyz",
        scope=None,
        summary="Whether the server can answer requests",
        handler=readyz,
        answers={200: "Readiness", 503: "Readiness"},
    ),
)
