"""Tokens over HTTP."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec import UNSET, UnsetType

from queuectl.domain.token import Issued, Token, grant
from queuectl.errors import OutcomeUnknown
from queuectl.http.client.channel import Answer, Channel, part
from queuectl.http.client.decoding import understood
from queuectl.service.shapes import tokens as shapes


def all_of(channel: Channel) -> Sequence[Token]:
    """All tokens."""
    document = channel.read("/v1/tokens")
    with understood(channel):
        return shapes.tokens_of(document)


def create(
    channel: Channel,
    name: str,
    scopes: Sequence[str],
    expires: timedelta | UnsetType | None,
    queues: Sequence[str] | None,
) -> Issued:
    """A new token. If a reply with a secret is lost, nothing shows the secret again."""
    grant(scopes, queues)  # raises what a store itself raises
    body: dict[str, object] = {
        "name": name,
        "scopes": list(scopes),
        "queues": None if queues is None else list(queues),
    }
    if expires is not UNSET:
        body["expires"] = None if expires is None else expires.total_seconds()
    answer = channel.call("POST", "/v1/tokens", body=body, handled=(409,))
    if answer.refused and answer.repeated:
        raise OutcomeUnknown(
            f"the reply with the secret of token {name} is lost",
            f"queuectl token rotate {name} gives it a new one",
        )
    if answer.refused:
        raise answer.refused
    return _issued(channel, answer)


def revoke(channel: Channel, name: str) -> None:
    """Delete a token. A repeated request finds no token any more."""
    answer = channel.call("DELETE", f"/v1/tokens/{part(name)}", handled=(404,))
    if answer.refused and not answer.repeated:
        raise answer.refused


def rotate(channel: Channel, name: str, keep: timedelta | UnsetType) -> Issued:
    """A new secret for a token."""
    body = {} if keep is UNSET else {"keep": keep.total_seconds()}
    return _issued(channel, channel.call("POST", f"/v1/tokens/{part(name)}/rotate", body=body))


def _issued(channel: Channel, answer: Answer) -> Issued:
    with understood(channel):
        return shapes.issued_of(answer.document)
