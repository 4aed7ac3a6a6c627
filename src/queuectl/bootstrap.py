"""The only place where concrete things meet: from a URL to a store, from a store to its workers' directory."""

import os
from typing import TYPE_CHECKING

from queuectl.errors import InvalidInput

if TYPE_CHECKING:
    from queuectl.config import Settings
    from queuectl.store.protocol import Store

SCHEMES = ("sqlite",)
TO_COME = {
    "postgres": "PostgreSQL",
    "postgresql": "PostgreSQL",
    "mongodb": "MongoDB",
    "mongodb+srv": "MongoDB",
    "redis": "Redis",
    "rediss": "Redis",
    "http": "queuectl serve",
    "https": "queuectl serve",
}


def default_url() -> str:
    """The store of a person who names none: `sqlite:///$XDG_DATA_HOME/queuectl/queue.db`."""
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return f"sqlite:///{os.path.join(base, 'queuectl', 'queue.db')}"


def open_store(
    url: str, settings: "Settings | None" = None, patience: float = 10.0, *, create: bool = True
) -> "Store":
    """The store behind a URL, created on first use. Raises InvalidInput for a scheme that is none, StoreError else.

    `patience` is how many seconds one call may wait for a busy store before it gives up. Without `create`, a store that
    is not there is unavailable.
    """
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        from queuectl.store.sqlite import SqliteStore

        if settings is None:
            return SqliteStore(sqlite_path(url), patience=patience, create=create)
        interval = settings.save_interval_ms / 1000
        mode = settings.durability
        return SqliteStore(
            sqlite_path(url), durability=mode, save_interval=interval, patience=patience, create=create
        )
    if scheme in TO_COME:
        raise InvalidInput(f"{TO_COME[scheme]} is not supported yet", "use sqlite:///path/to/queue.db")
    raise InvalidInput(
        f"unknown store scheme {scheme!r}", f"known: {', '.join(SCHEMES)}; for instance sqlite:///queue.db"
    )


def sqlite_path(url: str) -> str:
    """The file that a `sqlite:` URL names: `sqlite:////abs/olute`, `sqlite:///relative` to the working directory.

    `sqlite:///tmp/q.db` is widely written for /tmp/q.db: it is taken so when only that directory exists.
    """
    if not url.startswith("sqlite:///") or url.endswith("/"):
        raise InvalidInput(f"{url!r} names no file", "write sqlite:///path/to/queue.db")
    path, question, _ = url.removeprefix("sqlite:///").partition("?")
    if question:
        raise InvalidInput(
            f"{url!r} has options after ?", "give them as flags or variables, such as --durability"
        )
    path = os.path.expanduser(path)
    rooted = "/" + path
    if not os.path.isabs(path) and not _has_directory(path) and _has_directory(rooted):
        path = rooted
    return os.path.abspath(path)


def worker_directory(url: str) -> str:
    """Where the workers of this host keep what proves that they live: beside the database file.

    Beside it, and not under a home directory, so that all workers that share the file find each other.
    """
    return sqlite_path(url) + "-workers"


def _has_directory(path: str) -> bool:
    return os.path.isdir(os.path.dirname(path) or ".")
