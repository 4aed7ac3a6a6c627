"""The routes that list, stop, reload and forget workers, and show the claims of a silent worker."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from msgspec import Struct

from queuectl.errors import NotFound
from queuectl.http.call import Call, Reply
from queuectl.http.redaction import redacted
from queuectl.http.routes.selecting import preferred_wait
from queuectl.http.table import NoBody, Route
from queuectl.http.threads import in_time
from queuectl.service import registry, shapes
from queuectl.service.shapes.record import document
from queuectl.service.worker_status import WorkerStatus

ALL = "@all"
AGAIN = 0.2
"""Seconds between two reads of the registry."""


class Stop(Struct, frozen=True, forbid_unknown_fields=True):
    """`now`: end the running commands, and give their jobs back."""

    now: bool = False


def list_(call: Call) -> Reply:
    """All workers with what they run."""
    return Reply(shapes.all_workers(call.queue.workers(with_jobs=True)))


def show(call: Call) -> Reply:
    """One worker."""
    return Reply(document(worker=shapes.worker(_one(call, with_jobs=True))))


async def stop(call: Call) -> Reply:
    """Instruct workers to finish and leave. With `Prefer: wait=N` the answer comes when they have left."""
    chosen = await in_time(call.server, _chosen, call)
    ids = [item.worker.id for item in chosen]
    await in_time(call.server, lambda: call.queue.stop(ids, at_once=call.body.now), changes=True)
    wait = preferred_wait(call)
    found = await _await_end(call, ids, monotonic() + (wait or 0.0))
    shown = [{"id": id, "state": found.get(id, "gone")} for id in ids]
    headers = {} if wait is None else {"Preference-Applied": f"wait={wait:g}"}
    is_gone = all(each["state"] == "gone" for each in shown)
    return Reply(document(workers=shown), 200 if is_gone else 202, headers)


async def _await_end(call: Call, ids: Sequence[str], deadline: float) -> dict[str, str]:
    """Wait until only lost workers are still registered, or the time is over. Returns the state of each that is."""
    while True:
        listed: Sequence[WorkerStatus] = await in_time(call.server, call.queue.workers)
        found = {item.worker.id: item.state for item in listed if item.worker.id in ids}
        left = deadline - monotonic()
        if left <= 0 or call.server.ending.is_set() or not any(state != "lost" for state in found.values()):
            return found
        with suppress(TimeoutError):
            await asyncio.wait_for(call.server.ending.wait(), min(left, AGAIN))


def reload(call: Call) -> Reply:
    """Instruct workers to start an agent of the installed version."""
    chosen = [item for item in _chosen(call) if item.state != "lost"]
    call.queue.reload([item.worker.id for item in chosen])
    return Reply(document(workers=[{"id": item.worker.id, "state": item.state} for item in chosen]), 202)


def claims(call: Call) -> Reply:
    """The jobs that a worker has claimed, and when they are taken back if it does not answer."""
    shown = shapes.silence(call.queue.silence(_one(call)), complete=True)
    return Reply(document(**_redacted(call, shown)))


def forget(call: Call) -> Reply:
    """Remove a lost worker, and take back its jobs whose leases have expired."""
    found = shapes.forgotten([call.queue.forget(_one(call, lost=True))], complete=True)
    found["claims"] = [_redacted(call, each) for each in found["claims"]]
    found["jobs"] = [redacted(call.caller, job["queue"], job) for job in found["jobs"]]
    return Reply(found)


def _redacted(call: Call, silence: dict[str, Any]) -> dict[str, Any]:
    return silence | {"claims": [redacted(call.caller, job["queue"], job) for job in silence["claims"]]}


def _chosen(call: Call) -> Sequence[WorkerStatus]:
    found = call.queue.workers()
    return found if call.path["id"] == ALL else registry.chosen(found, [call.path["id"]])


def _one(call: Call, *, with_jobs: bool = False, lost: bool = False) -> WorkerStatus:
    found = registry.chosen(call.queue.workers(with_jobs=with_jobs), [call.path["id"]], lost=lost)
    if len(found) > 1:
        hint = f"name one by its id: {', '.join(item.worker.id for item in found)}"
        raise NotFound(f"{len(found)} workers are called {call.path['id']!r}", hint)
    return found[0]


ROUTES = (
    Route(
        method="GET",
        path="/v1/workers",
        scope="view",
        summary="All workers with what they run",
        handler=list_,
        answers={200: "Workers"},
    ),
    Route(
        method="GET",
        path="/v1/workers/{id}",
        scope="view",
        summary="One worker, by id, name or NAME@HOST",
        handler=show,
        answers={200: "WorkerDocument"},
        errors=("not_found",),
    ),
    Route(
        method="POST",
        path="/v1/workers/{id}/stop",
        scope="operate",
        summary="Let a worker finish its commands and leave; @all for all workers",
        handler=stop,
        body=Stop,
        answers={200: "WorkerStates", 202: "WorkerStates"},
        errors=("not_found",),
    ),
    Route(
        method="POST",
        path="/v1/workers/{id}/reload",
        scope="admin",
        summary="Let a worker change to the installed version while its commands run on; @all for all workers",
        handler=reload,
        body=NoBody,
        answers={202: "WorkerStates"},
        errors=("not_found",),
    ),
    Route(
        method="GET",
        path="/v1/workers/{id}/claims",
        scope="view",
        summary="The jobs that a worker has claimed",
        handler=claims,
        answers={200: "Claims"},
        errors=("not_found",),
    ),
    Route(
        method="POST",
        path="/v1/workers/{id}/forget",
        scope="operate",
        summary="Remove a lost worker whose host no longer exists",
        handler=forget,
        body=NoBody,
        answers={200: "Forgotten"},
        errors=("not_found", "conflict"),
    ),
)
