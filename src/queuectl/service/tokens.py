"""Tokens in the store: list, create, revoke, rotate, and note that one was used."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec import UNSET, UnsetType

from queuectl.domain import token as tokens
from queuectl.domain.token import Issued, Token
from queuectl.errors import CommandFailed, Conflict, NotFound, OutcomeUnknown, StoreError
from queuectl.service.changing import TRIES
from queuectl.service.commands import known_queue
from queuectl.store.protocol import Entry, Store, Swap

Random = Callable[[int], bytes]
"""Returns so many random bytes."""


def all_of(store: Store) -> list[Token]:
    """All tokens by name. A damaged entry is left out: its token lets nobody in."""
    found = (tokens.token_of(name, entry.value) for name, entry in sorted(store.read_table("tokens").items()))
    return [token for token in found if token is not None]


def create(
    store: Store,
    name: str,
    scopes: Sequence[str],
    *,
    expires: timedelta | UnsetType | None,
    queues: Sequence[str] | None,
    by: str,
    random: Random,
) -> Issued:
    """Store a new token. Raises InvalidInput; Conflict if there is one of this name."""
    given = tokens.grant(scopes, queues)
    for queue in given.queues or ():
        known_queue(store, queue)
    new = random(tokens.RANDOM_BYTES)
    lifetime = tokens.LIFETIME if expires is UNSET else expires
    issued = tokens.issue(name, given, expires=lifetime, by=by, now=store.now(), random=new)
    if not store.swap([Swap("tokens", name, tokens.entry(issued.token), 0)])[0]:
        raise Conflict(f"there is a token {name}", f"queuectl token rotate {name} gives it a new secret")
    return issued


def revoke(store: Store, name: str) -> None:
    """Delete a token, damaged or not. Raises NotFound."""
    for _ in range(TRIES):
        if store.swap([Swap("tokens", name, None, _entry(store, name).version)])[0]:
            return
    raise _overtaken(name)


def rotate(store: Store, name: str, *, keep: timedelta | UnsetType, random: Random) -> Issued:
    """Give a token a new secret; the old one stays valid for `keep`. Raises NotFound."""
    new, kept = random(tokens.RANDOM_BYTES), tokens.KEEP if keep is UNSET else keep
    for _ in range(TRIES):
        entry = _entry(store, name)
        token = tokens.token_of(name, entry.value)
        if token is None:
            raise CommandFailed(
                f"token {name} is damaged in the store", f"queuectl token revoke {name}, then create it again"
            )
        issued = tokens.rotate(token, keep=kept, now=store.now(), random=new)
        if store.swap([Swap("tokens", name, tokens.entry(issued.token), entry.version)])[0]:
            return issued
    raise _overtaken(name)


def note_use(store: Store, name: str, at: datetime) -> None:
    """Store the hour in which a token was used, unless it is stored already. A failed write is not repeated.

    The write gives way to every other change of the token: it must not restore a token that was revoked meanwhile.
    """
    with suppress(StoreError, OutcomeUnknown):
        entry = store.read_table("tokens").get(name, Entry({}, 0))
        token = tokens.token_of(name, entry.value)
        if token is None or (noted := tokens.used(token, at)) == token:
            return
        store.swap([Swap("tokens", name, tokens.entry(noted), entry.version)])


def _entry(store: Store, name: str) -> Entry:
    entry = store.read_table("tokens").get(name)
    if entry is None:
        raise NotFound(f"there is no token {name!r}", "queuectl token list shows the tokens")
    return entry


def _overtaken(name: str) -> CommandFailed:
    return CommandFailed(f"token {name} is being changed by others", "run the same command again")
