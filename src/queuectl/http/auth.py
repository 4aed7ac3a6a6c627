"""Finds out who sends a request: by a token of the store, or by the local token of this server.

The tokens of the store are read at most once a second: a request costs no call of the store, and a revoked token is
refused within 2 s on every server. A token that is unknown is looked up again at once: it may be a new one.
"""

import hmac
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from getpass import getuser
from os import geteuid
from typing import NamedTuple, NoReturn, Protocol

from starlette.requests import Request

from queuectl.clock import boottime
from queuectl.domain.token import SCOPES, Secret, Token, digest, secret_id
from queuectl.errors import StoreError, Unauthenticated
from queuectl.http.caller import Caller
from queuectl.http.guessing import Guessing, address_key
from queuectl.http.problem import Refusal

log = logging.getLogger("queuectl.auth")

FRESH = 1.0
"""Seconds for which the tokens that were read are used."""

UNIX = "unix"
"""The peer of a request through a Unix socket."""


class TokenSource(Protocol):
    """What is needed of the queue."""

    def now(self) -> datetime:
        """The store's clock."""

    def tokens(self) -> Sequence[Token]:
        """All tokens."""

    def note_token_use(self, name: str, at: datetime) -> None:
        """Store the hour in which a token was used."""


class Match(NamedTuple):
    """A token with the one of its secrets that has an id."""

    token: Token
    secret: Secret


class KnownTokens:
    """The tokens of the store, as they were a short time ago. Safe to use from several threads."""

    def __init__(self, source: TokenSource, monotonic: Callable[[], float]) -> None:
        self._source, self._monotonic = source, monotonic
        self._lock = threading.Lock()
        self._by_id: dict[str, Match] = {}
        self._read_at = self._failed_at = float("-inf")
        self._failure: StoreError | None = None
        self._now: datetime | None = None

    def find(self, id: str, *, again: bool) -> Match | None:
        """The token with this id of a secret. `again`: read the tokens once more if it is unknown."""
        started = self._monotonic()
        self._refresh(started - FRESH)
        if id not in self._by_id and again:
            self._refresh(started)
        return self._by_id.get(id)

    def fresh(self, id: str) -> Match | None:
        """The token with this id of a secret, if they need not be read again. It calls no store and never waits."""
        # `_refresh` sets the tokens before the time of their reading: what follows is at least as new as that time.
        return self._by_id.get(id) if self._read_at >= self._monotonic() - FRESH else None

    def now(self) -> datetime:
        """The time of the store's clock, without a call of the store. The tokens must have been read before."""
        if self._now is None:
            raise RuntimeError("the tokens were not read yet")
        return self._now + timedelta(seconds=self._monotonic() - self._read_at)

    def _refresh(self, since: float) -> None:
        """Read the tokens, unless a reading that began at `since` or later has succeeded.

        Requests that have waited here for a reading that failed get its error: each of them would wait as long.
        """
        arrived = self._monotonic()
        with self._lock:
            if self._read_at >= since:
                return
            if self._failure is not None and self._failed_at > arrived:
                raise self._failure
            began = self._monotonic()
            try:
                now, found = self._source.now(), self._source.tokens()
            except StoreError as error:
                self._failed_at, self._failure = self._monotonic(), error
                raise
            self._by_id = {secret.id: Match(token, secret) for token in found for secret in token.secrets}
            self._read_at, self._now, self._failure = began, now, None


class TokenAuthenticator:
    """The `Authenticator` of a server.

    local       the local token of this server; None if it has none
    notes_uses  store when a token was used; not on a server that only reads
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        local: str | None = None,
        notes_uses: bool = True,
        guessing: Guessing | None = None,
        monotonic: Callable[[], float] = boottime,
    ) -> None:
        self._source, self._notes_uses = source, notes_uses
        self._local = None if local is None else digest(local)
        self._user = Caller(f"local:{user_name()}", frozenset(SCOPES))
        self._known = KnownTokens(source, monotonic)
        self._noted: dict[str, datetime] = {}
        self.guessing = guessing or Guessing(monotonic)

    def known_caller(self, request: Request) -> Caller | None:
        """The caller of most requests: one with a valid token that was read a short time ago.

        None if this takes a call of the store, or if the token is missing or wrong: `caller` knows more.
        """
        given = request.headers.getlist("authorization")
        scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        text = text.strip()
        if scheme.lower() != "bearer":
            return None
        if self._is_local(text):
            return self._user
        id = secret_id(text)
        found = self._known.fresh(id) if id else None
        if found is None or not found.secret.is_of(text):
            return None
        now = self._known.now()
        if found.token.has_expired(found.secret, now) or self._is_use_new(found.token, now):
            return None
        return _caller_of(found)

    def caller(self, request: Request) -> Caller | None:
        """The caller; None if the request has no token. Raises Unauthenticated for a wrong one, or a refusal."""
        given = request.headers.getlist("authorization")
        if not given:
            return None
        peer = peer_of(request)
        scheme, _, text = given[0].partition(" ")
        text = text.strip()
        if len(given) > 1 or scheme.lower() != "bearer":
            self._refuse(peer, None, "the header Authorization is not: Bearer TOKEN")
        if self._is_local(text):
            return self._user
        id = secret_id(text)
        if id is None:
            self._refuse(peer, None, "this is not a token of queuectl")
        return self._holder(peer, id, text)

    def _holder(self, peer: str, id: str, text: str) -> Caller:
        found = self._known.find(id, again=not self.guessing.wait(address_key(peer)))
        if found is None or not found.secret.is_of(text):
            self._refuse(peer, id, "the token is not known")
        token, now = found.token, self._known.now()
        if token.has_expired(found.secret, now):
            self.guessing.note()  # the caller has the secret, so this is no guess
            log.warning("refused a token of peer %s: token %s (%s) has expired", peer, id, token.name)
            raise Unauthenticated("the token has expired", f"queuectl token rotate {token.name}")
        self._note_use(token, now)
        return _caller_of(found)

    def _is_local(self, text: str) -> bool:
        return self._local is not None and hmac.compare_digest(digest(text), self._local)

    def admits(self, caller: Caller) -> bool:
        """Whether a caller of an earlier request may still come in. A stream asks it every few seconds."""
        if caller.token_id is None:
            return True
        found = self._known.find(caller.token_id, again=False)
        return found is not None and not found.token.has_expired(found.secret, self._known.now())

    def _is_use_new(self, token: Token, now: datetime) -> bool:
        """Whether this is the first use of the token in this hour, as far as this server knows."""
        hour = _hour(now)
        is_known = token.last_used is not None and token.last_used >= hour
        return not is_known and self._notes_uses and self._noted.get(token.name) != hour

    def _note_use(self, token: Token, now: datetime) -> None:
        """Store the hour of the use: one write in an hour for each token, by the first request of the hour."""
        if self._is_use_new(token, now):
            self._noted[token.name] = _hour(now)
            self._source.note_token_use(token.name, now)

    def _refuse(self, peer: str, id: str | None, why: str) -> NoReturn:
        keys = [address_key(peer), *([f"token {id}"] if id else [])]
        wait = self.guessing.wait(*keys)
        self.guessing.note(*keys)
        log.warning("refused a token of peer %s: token %s: %s", peer, id or "without an id", why)
        if wait:
            seconds = str(int(wait) + 1)
            raise Refusal(
                "too_many", f"too many wrong tokens; wait {seconds} s", headers={"Retry-After": seconds}
            )
        raise Unauthenticated(
            why,
            "with the store itself as --store, not this server, for example: "
            "queuectl token create board --scope view",
        )


def peer_of(request: Request) -> str:
    """The address of the client, or the word for a Unix socket."""
    return request.client.host if request.client else UNIX


def user_name() -> str:
    """The name of the user of this process, or the number if it has no name, as in many containers."""
    with suppress(KeyError, OSError):
        return getuser()
    return str(geteuid())


def _caller_of(found: Match) -> Caller:
    token = found.token
    queues = None if token.queues is None else frozenset(token.queues)
    return Caller(f"token:{token.name}", frozenset(token.scopes), queues, token_id=found.secret.id)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
