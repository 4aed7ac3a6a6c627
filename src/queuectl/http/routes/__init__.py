"""The route table: one row for each route, in a file per noun. Nothing else can be called over HTTP."""

from queuectl.http.routes import health, jobs, meta, queues
from queuectl.http.table import Route

ROUTES: tuple[Route, ...] = (*meta.ROUTES, *health.ROUTES, *jobs.ROUTES, *queues.ROUTES)
