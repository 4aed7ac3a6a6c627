"""The route table: one row for each route, in a file per noun. Nothing else can be called over HTTP."""

from queuectl.http.routes import health, jobs, meta, output, queues, tokens
from queuectl.http.table import checked

ROUTES = checked(meta.ROUTES, health.ROUTES, jobs.ROUTES, output.ROUTES, queues.ROUTES, tokens.ROUTES)
