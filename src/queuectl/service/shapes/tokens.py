"""The documents of tokens. Few commands need them, and `domain.token` loads `hashlib`: a module of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from queuectl.domain.token import Issued, Secret, Token
from queuectl.service.shapes.record import Record, document

TOKEN = Record(
    Token,
    "name scopes queues created_by created_at issued_at expires_at last_used secret_ids",
    {"secret_ids": "secrets"},
    secret_ids=Record(Secret, "id until").many,
)
"""`secret_ids` are the parts of the secrets that a server logs; digests are shown nowhere."""

token, token_of = TOKEN.encode, TOKEN.decode


def tokens(found: Sequence[Token]) -> dict[str, Any]:
    """The document of all tokens."""
    return document(tokens=TOKEN.many.encode(found))


def tokens_of(document: Mapping[str, Any]) -> Sequence[Token]:
    """All tokens, from their document."""
    found: Sequence[Token] = TOKEN.many.decode(document["tokens"])
    return found


def issued(issued: Issued) -> dict[str, Any]:
    """A token with its new secret: the only document that has it."""
    return document(token=token(issued.token), secret=issued.secret)


def issued_of(document: Mapping[str, Any]) -> Issued:
    """A token with its new secret, from their document."""
    return Issued(token_of(document["token"]), document["secret"])
