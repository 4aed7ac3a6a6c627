"""The store for many hosts: PostgreSQL 13 or later, directly or behind a pooler."""

from queuectl.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
