"""The route table: one row for each route, in a file per noun. Nothing else can be called over HTTP."""

from queuectl.http.routes import (
    changes,
    documentation,
    enqueue,
    events,
    health,
    hooks,
    jobs,
    meta,
    operations,
    output,
    queues,
    schedules,
    settings,
    stats,
    tokens,
    transfer,
    waiting,
    workers,
)
from queuectl.http.table import checked

ROUTES = checked(
    meta.ROUTES,
    health.ROUTES,
    enqueue.ROUTES,
    jobs.ROUTES,
    changes.ROUTES,
    operations.ROUTES,
    output.ROUTES,
    events.ROUTES,
    waiting.ROUTES,
    queues.ROUTES,
    workers.ROUTES,
    settings.ROUTES,
    stats.ROUTES,
    schedules.ROUTES,
    hooks.ROUTES,
    tokens.ROUTES,
    transfer.ROUTES,
    documentation.ROUTES,
)
