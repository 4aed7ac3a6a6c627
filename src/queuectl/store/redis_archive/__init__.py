"""The store with a queue in Redis and an archive for ended jobs in MongoDB."""

from queuectl.store.redis_archive.store import ArchivedStore

__all__ = ["ArchivedStore"]
