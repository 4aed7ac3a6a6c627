"""Tokens: what the holder of a secret may do, until when, and in which queues.

A secret is `qctl_<8>_<43>`: a fixed beginning, by which scanners find secrets, an id that may be shown, and 256 random
bits. Only the SHA-256 of the secret is stored. That is enough for 256 random bits: a slow hash protects short secrets.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.names import check_name
from queuectl.errors import InvalidInput

Scope = Literal["view", "operate", "enqueue", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_CONTAINS: dict[Scope, frozenset[Scope]] = {
    "view": frozenset(("view",)),
    "operate": frozenset(("view", "operate")),
    "enqueue": frozenset(("view", "enqueue")),
    "admin": frozenset(SCOPES),
}

LIFETIME = timedelta(days=90)
"""How long a new token is valid if nothing else is given."""
KEEP = timedelta(hours=1)
"""How long the old secret of a rotated token stays valid if nothing else is given."""
RANDOM_BYTES = 5 + 32
"""How many random bytes `make_secret` takes: for the id and for the secret part."""

_FORM = re.compile(r"qctl_([a-z2-7]{8})_[A-Za-z0-9_-]{43}")


def grants(given: Collection[Scope], wanted: Scope) -> bool:
    """Whether one of the given scopes contains the wanted scope."""
    return any(wanted in _CONTAINS[scope] for scope in given)


class Secret(Struct, frozen=True):
    """One secret of a token, without the secret itself.

    id      the part that may be shown and logged
    digest  the SHA-256 of the whole secret, in hexadecimal; empty if a server describes the token
    until   an earlier secret of a rotated token is valid until then; None for the newest one
    """

    id: str
    digest: str = ""
    until: datetime | None = None

    def is_of(self, text: str) -> bool:
        """Whether this is the secret. The time that the comparison takes tells nothing about the digest."""
        return hmac.compare_digest(self.digest.encode(), digest(text).encode())


class Token(Struct, frozen=True, kw_only=True):
    """An entry of the shared table `tokens`.

    queues      the queues in which the holder may enqueue and change jobs; None for all
    issued_at   when the newest secret was made
    expires_at  from then on no secret is valid; None for never
    last_used   to the hour; None if it was not used
    secrets     the newest first
    """

    name: str
    scopes: tuple[Scope, ...]
    queues: tuple[str, ...] | None = None
    created_by: str
    created_at: datetime
    issued_at: datetime
    expires_at: datetime | None
    last_used: datetime | None = None
    secrets: tuple[Secret, ...] = ()

    @property
    def lifetime(self) -> timedelta | None:
        """How long a secret of this token is valid after it was made."""
        return None if self.expires_at is None else self.expires_at - self.issued_at

    def has_expired(self, secret: Secret, now: datetime) -> bool:
        """Whether this secret of the token is no longer valid."""
        ends = [at for at in (self.expires_at, secret.until) if at is not None]
        return any(at <= now for at in ends)


class Issued(NamedTuple):
    """A token with its new secret, which is shown once and stored nowhere."""

    token: Token
    secret: str


class Grant(NamedTuple):
    """What a new token allows."""

    scopes: tuple[Scope, ...]
    queues: tuple[str, ...] | None


def grant(scopes: Sequence[str], queues: Sequence[str] | None) -> Grant:
    """The scopes in their fixed order and the queues, each once. Raises InvalidInput if they do not fit together."""
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise InvalidInput(f"there is no scope {unknown[0]!r}", f"the scopes are {', '.join(SCOPES)}")
    wanted = tuple(scope for scope in SCOPES if scope in scopes)
    if not wanted:
        raise InvalidInput("a token needs at least one scope", f"the scopes are {', '.join(SCOPES)}")
    if queues is None:
        return Grant(wanted, None)
    if not queues:
        raise InvalidInput("a token for no queue allows nothing", "leave out the queues: then it is for all")
    if "admin" in wanted:
        raise InvalidInput("a token with the scope admin is for all queues", "leave out the queues")
    if wanted == ("view",):
        raise InvalidInput(
            "queues limit the scopes enqueue and operate", "name one of these scopes, or no queue"
        )
    return Grant(wanted, tuple(dict.fromkeys(queues)))


def make_secret(random: bytes) -> str:
    """A new secret from `RANDOM_BYTES` random bytes."""
    id, rest = base64.b32encode(random[:5]).decode().lower(), base64.urlsafe_b64encode(random[5:])
    return f"qctl_{id}_{rest.decode().rstrip('=')}"


def secret_id(text: str) -> str | None:
    """The id in a text that has the form of a secret; None for another text."""
    found = _FORM.fullmatch(text)
    return found and found[1]


def digest(text: str) -> str:
    """The digest of a secret. It is stored instead of the secret."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def issue(
    name: str, given: Grant, *, expires: timedelta | None, by: str, now: datetime, random: bytes
) -> Issued:
    """A new token. Raises InvalidInput."""
    if expires is not None and not expires:
        raise InvalidInput("a token that expires at once is of no use", "for example 90d, or none")
    secret = make_secret(random)
    token = Token(
        name=check_name("token", name),
        scopes=given.scopes,
        queues=given.queues,
        created_by=by,
        created_at=now,
        issued_at=now,
        expires_at=None if expires is None else now + expires,
        secrets=(_described(secret),),
    )
    return Issued(token, secret)


def rotate(token: Token, *, keep: timedelta, now: datetime, random: bytes) -> Issued:
    """The token with a new secret, which is valid for as long as the first one was when it was new.

    Earlier secrets stay valid for `keep`, at most until they expire anyway.
    """
    secret, last = make_secret(random), now + keep
    ends = [replace(each, until=_earliest(each.until, token.expires_at, last)) for each in token.secrets]
    kept = [each for each in ends if each.until is not None and each.until > now]
    expires_at = None if token.lifetime is None else now + token.lifetime
    changed = replace(token, issued_at=now, expires_at=expires_at, secrets=(_described(secret), *kept))
    return Issued(changed, secret)


def used(token: Token, now: datetime) -> Token:
    """The token as used in this hour; the same token if that is noted already."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    return (
        token if token.last_used is not None and token.last_used >= hour else replace(token, last_used=hour)
    )


def entry(token: Token) -> dict[str, Any]:
    """The token as an entry of the shared table. The key of the entry is the name."""
    value: dict[str, Any] = msgspec.to_builtins(token)
    del value["name"]
    return value


def token_of(name: str, value: dict[str, Any]) -> Token | None:
    """The token of an entry; None if the entry is damaged, so that nobody gets in by it."""
    try:
        return msgspec.convert({**value, "name": name}, Token)
    except msgspec.ValidationError:
        return None


def _described(secret: str) -> Secret:
    return Secret(secret_id(secret) or "", digest(secret))


def _earliest(*instants: datetime | None) -> datetime:
    return min(at for at in instants if at is not None)
