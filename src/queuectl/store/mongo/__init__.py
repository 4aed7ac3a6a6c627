"""The store on MongoDB 5.0 or later."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queuectl.store.mongo.store import MongoStore

__all__ = ["MongoStore"]


def __getattr__(name: str) -> Any:
    """Load the store at its first use, so that parsing a URL does not load the driver."""
    if name == "MongoStore":
        from queuectl.store.mongo.store import MongoStore

        return MongoStore
    raise AttributeError(name)
