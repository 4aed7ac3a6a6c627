"""Encodes documents as JSON text."""

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def to_json(document: Any) -> str:
    """A document as one line of JSON."""
    return _encode(document).decode()


def to_pretty_json(document: Any) -> str:
    """Indented JSON, for documents that people read."""
    return msgspec.json.format(_encode(document), indent=2).decode()
