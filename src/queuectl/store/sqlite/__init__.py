"""The default store: everything in one SQLite file."""

from queuectl.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
