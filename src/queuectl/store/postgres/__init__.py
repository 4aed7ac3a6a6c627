"""The store on PostgreSQL 13 or later, directly or through a pooler."""

from queuectl.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
