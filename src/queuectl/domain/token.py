"""The scopes of a token: the requests that it allows."""

from collections.abc import Collection
from typing import Literal

Scope = Literal["view", "operate", "enqueue", "admin"]
SCOPES: tuple[Scope, ...] = ("view", "operate", "enqueue", "admin")

_CONTAINS: dict[Scope, frozenset[Scope]] = {
    "view": frozenset(("view",)),
    "operate": frozenset(("view", "operate")),
    "enqueue": frozenset(("view", "enqueue")),
    "admin": frozenset(SCOPES),
}


def grants(given: Collection[Scope], wanted: Scope) -> bool:
    """Whether one of the given scopes contains the wanted scope."""
    return any(wanted in _CONTAINS[scope] for scope in given)
