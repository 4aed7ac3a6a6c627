"""A queue in Redis whose finished jobs go to MongoDB."""

from queuectl.store.archived.store import ArchivedStore

__all__ = ["ArchivedStore"]
