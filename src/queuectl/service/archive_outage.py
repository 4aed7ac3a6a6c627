"""How a worker and a command continue while the archive cannot be reached.

A store with an archive keeps ended jobs in a second database. While that database is down, the queue itself works:
jobs are claimed, run and recorded. A step that needs the archive is skipped then and done later. Such a store names
the fault in `background_fault`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from queuectl.domain.job import Job
from queuectl.errors import StoreError
from queuectl.store.protocol import Store


@contextmanager
def tolerate_archive_outage(store: Store) -> Iterator[None]:
    """Skip the rest of the block if the archive cannot be reached. Re-raises the error if the queue itself is down.

    A failed verb does not say which of the two databases failed, and `background_fault` may be older than the failure
    of the queue. So the queue is pinged before the error is dropped. Otherwise a worker would treat a queue that is
    down as healthy, and would continue to renew and claim. Shown by
    `tests/worker/test_results.py::test_no_result_is_deferred_while_the_queue_cannot_be_reached`.
    """
    try:
        yield
    except StoreError:
        if store.background_fault() is None:
            raise
        ping(store)


def ping(store: Store) -> None:
    """Send a request to the queue, and none to its archive. Raises StoreError if the queue does not answer."""
    store.read_table("queues")


def get_reachable(store: Store, ids: Sequence[str]) -> dict[str, Job | None]:
    """The stored jobs by id. The value is None for an id that no job has.

    While the archive cannot be reached, jobs that only the archive has are omitted. One such job must not hide the
    other jobs, so a batch that fails is read again job by job.
    """
    whole = _get(store, ids)
    if whole or len(ids) < 2:
        return whole
    return {known: job for id in ids for known, job in _get(store, [id]).items()}


def _get(store: Store, ids: Sequence[str]) -> dict[str, Job | None]:
    with tolerate_archive_outage(store):
        jobs = store.get(ids)
        return {id: jobs.get(id) for id in ids}
    return {}
