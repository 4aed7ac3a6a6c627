"""The store on MongoDB: standalone servers and replica sets."""

from queuectl.store.mongo.store import MongoStore

__all__ = ["MongoStore"]
