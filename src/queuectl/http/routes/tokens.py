"""The routes that list, show, create, revoke and rotate tokens."""

from datetime import timedelta
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from queuectl.domain.token import Scope, Token
from queuectl.errors import NotFound
from queuectl.http.call import Call, Reply
from queuectl.http.routes.selecting import duration_of
from queuectl.http.table import NoBody, Route
from queuectl.service.shapes import document
from queuectl.service.shapes import tokens as shapes

Duration = Annotated[float | str, Meta(description="seconds, or text: 90d")]


class NewToken(Struct, frozen=True, forbid_unknown_fields=True):
    """What a new token allows. `expires`: how long it is valid; null for ever; 90 days if it is not given."""

    name: str
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    expires: Duration | UnsetType | None = UNSET
    queues: list[str] | None = None


class Rotation(Struct, frozen=True, forbid_unknown_fields=True):
    """How long the old secret stays valid; one hour if it is not given."""

    keep: Duration | UnsetType = UNSET


def list_(call: Call) -> Reply:
    """All tokens."""
    return Reply(shapes.tokens(call.queue.tokens()))


def show(call: Call) -> Reply:
    """One token."""
    return Reply(document(token=shapes.token(_named(call))))


def create(call: Call) -> Reply:
    """A new token, with its secret."""
    new: NewToken = call.body
    issued = call.queue.create_token(
        new.name,
        new.scopes,
        expires=_lifetime(new.expires),
        queues=new.queues,
        by=call.caller.name,
    )
    return Reply(
        shapes.issued(issued), 201, {"Location": f"{call.server.root}/v1/tokens/{issued.token.name}"}
    )


def rotate(call: Call) -> Reply:
    """The token, with its new secret."""
    wanted: Rotation = call.body
    keep = UNSET if wanted.keep is UNSET else duration_of(wanted.keep)
    return Reply(shapes.issued(call.queue.rotate_token(call.path["name"], keep=keep)))


def revoke(call: Call) -> Reply:
    """Delete the token."""
    call.queue.revoke_token(call.path["name"])
    return Reply(None, 204)


def _named(call: Call) -> Token:
    name = call.path["name"]
    found = next((token for token in call.queue.tokens() if token.name == name), None)
    if found is None:
        raise NotFound(f"there is no token {name!r}", "GET /v1/tokens lists the tokens")
    return found


def _lifetime(given: float | str | UnsetType | None) -> timedelta | UnsetType | None:
    return given if given is None or given is UNSET else duration_of(given)


ROUTES = (
    Route(
        method="GET",
        path="/v1/tokens",
        scope="admin",
        summary="All tokens, without their secrets",
        handler=list_,
        answers={200: "Tokens"},
    ),
    Route(
        method="POST",
        path="/v1/tokens",
        scope="admin",
        summary="A new token; only this answer has its secret",
        handler=create,
        body=NewToken,
        answers={201: "IssuedToken"},
        errors=("conflict",),
    ),
    Route(
        method="GET",
        path="/v1/tokens/{name}",
        scope="admin",
        summary="One token, without its secrets",
        handler=show,
        answers={200: "TokenDocument"},
        errors=("not_found",),
    ),
    Route(
        method="DELETE",
        path="/v1/tokens/{name}",
        scope="admin",
        summary="Revoke a token: each server refuses it within 2 s",
        handler=revoke,
        body=NoBody,
        answers={204: None},
        errors=("not_found",),
    ),
    Route(
        method="POST",
        path="/v1/tokens/{name}/rotate",
        scope="admin",
        summary="A new secret for a token; the old one stays valid for a while",
        handler=rotate,
        body=Rotation,
        answers={200: "IssuedToken"},
        errors=("not_found",),
    ),
)
