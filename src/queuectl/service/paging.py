"""All pages of a query, one after another."""

from collections.abc import Iterator

from queuectl.domain.query import Filter, Found, Page
from queuectl.store.protocol import Store

BATCH = 500
"""Number of jobs that one step reads and saves, so that no call of the store takes longer than 100 ms."""


def pages(store: Store, wanted: Filter, limit: int) -> Iterator[Found]:
    """The jobs that match, newest first, `limit` a page. Jobs that are added meanwhile are left out."""
    cursor = None
    while True:
        found = store.find(wanted, Page(limit=limit, after=cursor))
        yield found
        if (cursor := found.next) is None:
            return
