"""Health of the server and of the store behind it, and the metrics. No route here calls the store."""

from typing import Any

from msgspec import Struct
from starlette.responses import PlainTextResponse, Response

from queuectl.http.call import Call, Reply
from queuectl.http.health import Result
from queuectl.http.table import Route
from queuectl.service.shapes import document

NAMED = 3
"""At most this many queues are named in one sentence."""


class Readiness(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of `/readyz`. `consumption`: due jobs that no worker takes count as not ready."""

    consumption: bool = False


async def healthz(_call: Call) -> Response:
    """The event loop runs. Nothing else is asked, so that a probe costs nothing."""
    return PlainTextResponse("ok")


async def readyz(call: Call) -> Reply:
    """Whether requests can be answered: the store answers, and the server is not about to end.

    Consumption counts only on request: a balancer must not close the door for new jobs because no worker runs.
    """
    checks = _checks(call.server.health.newest, draining=call.server.draining)
    ready = all(check["ok"] for name, check in checks.items() if name != "consumption")
    if call.query.consumption:
        ready = ready and checks["consumption"]["ok"]
    return Reply(document(ready=ready, checks=checks), 200 if ready else 503)


def _checks(result: Result, *, draining: bool) -> dict[str, dict[str, Any]]:
    answers = result.vitals is not None
    why = _unconsumed(result)
    return {
        "store": {
            "ok": answers or not result.is_usable,
            "ms": round(1000 * result.seconds, 1) if answers else None,
        },
        "schema": {"ok": result.is_usable},
        "draining": {"ok": not draining},
        "consumption": {"ok": why is None, "why": why},
    }


def _unconsumed(result: Result) -> str | None:
    """Why due jobs are not consumed, in one sentence; None if they are."""
    if result.vitals is None:
        return "not known: the store does not answer"
    found = result.vitals.unconsumed
    more = [f"and {len(found) - NAMED} more queues"] if len(found) > NAMED else []
    return "; ".join([*found[:NAMED], *more]) or None


def metrics(call: Call) -> Response:
    """The metrics, from the newest probe of the store."""
    server = call.server
    accepted = call.headers.get("accept", "")
    text, kind = server.metrics.text(server.health.newest, accepted, server.streams.count())
    return Response(text, media_type=None, headers={"Content-Type": kind})


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
        query=Readiness,
        answers={200: "Readiness", 503: "Readiness"},
    ),
    Route(
        method="GET",
        path="/metrics",
        scope="view",
        summary="Metrics for Prometheus",
        handler=metrics,
        answers={200: "text"},
    ),
)
