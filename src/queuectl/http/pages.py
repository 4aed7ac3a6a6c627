"""Pages for people that need no token: what the routes are, and what an error means."""

from collections.abc import Sequence
from html import escape

from queuectl import __version__
from queuectl.http.problem import CODES
from queuectl.http.table import Route

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

WHAT_TO_DO = {
    "invalid_input": "Read detail, hint and errors: they name the field. Nothing was changed.",
    "unauthenticated": "Send the header Authorization: Bearer TOKEN. A new one, for example: "
    "queuectl token create board --scope view",
    "forbidden": "Use a token with the scope, and for the queue, that the route needs.",
    "read_only": "Use a server that was started without --read-only.",
    "not_found": "Look at the list of such things: it may have been deleted.",
    "method": "The header Allow names the methods of the path.",
    "conflict": "Read detail: the state of the thing, its id or its key does not allow the request.",
    "failed": "Send the request again; if it fails again, queuectl doctor looks at the store.",
    "unreadable": "A person edited the job, or a disk damaged it. DELETE deletes it for good.",
    "changed": "Read the thing again, and decide again.",
    "too_large": "Send less at once, or the jobs as JSON lines (application/jsonl).",
    "unsupported_media": "Send the header Content-Type: application/json.",
    "wrong_host": "Start the server with its other name, for example: queuectl serve --allow-host queue.example.org",
    "too_many": "Wait for as long as the header Retry-After says.",
    "internal": "This is a bug in queuectl. The log of the server has the traceback, under the id of the request.",
    "store_unavailable": "The store does not answer. Nothing was changed. Wait for as long as Retry-After says.",
    "draining": "The server is about to end. Send the request again when the next one answers.",
    "store_unusable": "The store must not be used. queuectl doctor says why.",
    "store_error": "The store could not carry out the call. Nothing was changed. Try again.",
    "unknown": "The reply of the store was lost. Send the same request again: with the same ids that is safe.",
}
"""What to do about an error, by its code."""


def page(title: str, body: str) -> str:
    """A whole page. `body` is HTML."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)} – queuectl</title>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{body}</body></html>\n'


def about_error(code: str) -> str | None:
    """The page about an error; None for an unknown code."""
    if code not in CODES:
        return None
    row = CODES[code]
    facts = f"<p>Status {row.status}, exit code {row.exit_code}, code <code>{escape(code)}</code>.</p>"
    return page(row.title, f"<p>{escape(WHAT_TO_DO[code])}</p>{facts}")


def about_routes(routes: Sequence[Route], root: str) -> str:
    """The page about all routes."""
    rows = "".join(
        f"<tr><td>{route.method}</td><td><code>{escape(route.path)}</code></td><td>{route.scope or '–'}</td>"
        f"<td>{escape(route.summary)}</td></tr>"
        for route in routes
    )
    codes = "".join(
        f'<tr><td><a href="{escape(root)}/errors/{code}"><code>{code}</code></a></td><td>{row.status}</td>'
        f"<td>{escape(row.title)}</td></tr>"
        for code, row in CODES.items()
    )
    heads = ("method", "path", "scope", "what it does")
    return page(
        f"The HTTP API of queuectl {__version__}",
        f'<p><a href="{escape(root)}/openapi.json">openapi.json</a> has the types.</p>'
        f"<h2>Routes</h2>{_table(heads, rows)}<h2>Errors</h2>{_table(('code', 'status', 'meaning'), codes)}",
    )


def _table(heads: Sequence[str], rows: str) -> str:
    shown = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return f"<table><thead><tr>{shown}</tr></thead><tbody>{rows}</tbody></table>"
