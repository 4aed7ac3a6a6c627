"""Going on where only what is past is out of reach: a store whose archive is away says so by its `trouble`."""

from collections.abc import Iterator
from contextlib import contextmanager

from queuectl.errors import StoreError
from queuectl.store.protocol import Store


@contextmanager
def past_may_be_away(store: Store) -> Iterator[None]:
    """Leave undone what needs an archive that is away: that is no reason to take the queue for lost."""
    try:
        yield
    except StoreError:
        if store.trouble() is None:
            raise
