"""The audit log: one JSON line of the logger `queuectl.audit` for each request to change something, also a refused one.

It has no bodies: a job may have secrets in its variables.
"""

import logging
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from queuectl.domain.instant import format_instant
from queuectl.http.auth import peer_of
from queuectl.http.caller import Caller
from queuectl.http.table import Route

log = logging.getLogger("queuectl.audit")


def record(request: Request, route: Route, response: Response, *, result: str, id: str) -> None:
    """Write the line of one request. `result` is `ok` or the code of the error.

    `by` is null if the caller is not known, `target` if the path names nothing and the answer has no location.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    target = "/".join(str(part) for part in request.path_params.values())
    line = {
        "at": format_instant(datetime.now(UTC)),
        "by": caller.name if caller else None,
        "via": "http",
        "peer": peer_of(request),
        "method": request.method,
        "route": route.path,
        "target": target or response.headers.get("location"),
        "result": result,
        "request": id,
    }
    log.info("%s", msgspec.json.encode(line).decode())
