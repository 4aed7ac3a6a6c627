"""A queue in Redis whose finished jobs go to MongoDB."""

from queuectl.store.redis_archive.store import ArchivedStore

__all__ = ["ArchivedStore"]
