"""Going on where only what is past is out of reach: a store whose archive is away says so by its `trouble`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from queuectl.domain.job import Job
from queuectl.errors import StoreError
from queuectl.store.protocol import Store


@contextmanager
def past_may_be_away(store: Store) -> Iterator[None]:
    """Leave undone what needs an archive that is away: that is no reason to take the queue for lost."""
    try:
        yield
    except StoreError:
        if store.background_fault() is None:
            raise
        store.pending_instruction(
            ""
        )  # a question that needs the queue alone: if that is away as well, this says so


def look_up(store: Store, ids: Sequence[str]) -> dict[str, Job | None]:
    """What has become of these jobs; None where there is none. Those are left out that only the archive knows of."""
    whole = _look_up(store, ids)
    if whole or len(ids) < 2:
        return whole
    return {known: job for id in ids for known, job in _look_up(store, [id]).items()}


def _look_up(store: Store, ids: Sequence[str]) -> dict[str, Job | None]:
    with past_may_be_away(store):
        jobs = store.get(ids)
        return {id: jobs.get(id) for id in ids}
    return {}
