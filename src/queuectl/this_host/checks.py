"""The checks of a store and of this host: versions, settings, the files of its workers, and what dead workers left."""

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from queuectl import __version__, bootstrap, trust
from queuectl.errors import StoreUnusable
from queuectl.service.doctor import Check
from queuectl.service.queue import Queue
from queuectl.worker.host import process_table
from queuectl.worker.host.liveness import dead_workers


def diagnosis(queue: Queue, url: str) -> Sequence[Check]:
    """The results of all checks. `url` is that of the store or the server; the workers of a server are elsewhere."""
    found = [*_versions(), *_settings(queue), *queue.doctor()]
    is_elsewhere = queue.absent or bootstrap.is_server(url)
    return found if is_elsewhere else [*found, *_leftovers(url)]


def _versions() -> Iterator[Check]:
    yield Check(
        "queuectl",
        True,
        f"{__version__} on Python {platform.python_version()}, {platform.system()} {platform.release()}",
    )
    missing = process_table.missing()
    detail = (
        f"without {', '.join(missing)}: process groups only"
        if missing
        else "process trees, also processes that leave the group"
    )
    yield Check("supervision", True, detail)


def _settings(queue: Queue) -> Iterator[Check]:
    settings = queue.settings()
    own = [key for key, origin in settings.origins.items() if origin != "default"]
    said = ", ".join(f"{key}={settings.text(key)}" for key in own if key != "store") or "all defaults"
    yield Check("settings", True, said)


def _leftovers(url: str) -> Iterator[Check]:
    yield from _database_file(url)
    directory = bootstrap.worker_directory(url)
    if not os.path.lexists(directory):
        return
    try:
        trust.check_private(directory)
    except trust.Untrusted as error:
        yield Check("worker files", False, error.message, error.hint)
        return
    yield Check("worker files", True, f"{directory}, mode 700")
    for dead in dead_workers(Path(directory)):
        with dead:
            how = "has left results behind" if dead.has_results else "was killed"
            count = len(dead.attempts)
            attempts = "1 attempt" if count == 1 else f"{count} attempts"
            detail = f"worker {dead.name} {how}; its record names {attempts}"
            yield Check("leftover", False, detail, "the next queuectl worker start cleans up")


def _database_file(url: str) -> Iterator[Check]:
    """Check whether other users may write to the database file, which prevents the start of a worker."""
    try:
        bootstrap.refuse_shared(url)
    except StoreUnusable as error:
        yield Check("database file", False, error.message, error.hint)
