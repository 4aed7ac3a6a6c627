"""The route table: one row for each route, in a file per noun. Nothing else can be called over HTTP."""

from queuectl.http.routes import jobs, meta, queues
from queuectl.http.table import Route

ROUTES: tuple[Route, ...] = (*meta.ROUTES, *jobs.ROUTES, *queues.ROUTES)
