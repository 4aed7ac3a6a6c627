"""Describes errors in a JSON document for a person: the position, the field, and the nearest valid name."""

from typing import Any

import msgspec

from queuectl.config import nearest
from queuectl.errors import InvalidInput

DEPTH = 64
"""Maximum nesting of JSON input. Deeper nesting has no use, and every reader would have to support it."""


def refuse_depth(raw: bytes) -> None:
    """Refuse JSON that is nested too deeply, before any parser reads it. A document with few brackets needs no scan."""
    if raw.count(b"{") + raw.count(b"[") <= DEPTH:
        return
    depth, text = 0, False
    at = iter(raw)
    for byte in at:
        if text:
            if byte == 0x5C:  # after a backslash the next byte does not end the string
                next(at, None)
            text = byte != 0x22
        elif byte == 0x22:
            text = True
        elif byte in b"{[":
            depth += 1
            if depth > DEPTH:
                raise InvalidInput(f"the JSON is nested too deeply: more than {DEPTH} levels")
        elif byte in b"}]":
            depth -= 1


def refuse_duplicates(raw: bytes) -> None:
    """Refuse JSON with the same key twice, because every parser here would hide that mistake.

    The cheap check comes first: if there are no more colons than the parsed object has keys, no key was dropped.
    """
    try:
        keys = len(msgspec.json.decode(raw))
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError):
        return
    if raw.count(b":") != keys:
        import json

        json.loads(raw, object_pairs_hook=_unique)


def malformed(raw: bytes, error: Exception) -> InvalidInput:
    """The error for malformed JSON, with line and column from `json`: msgspec does not report them."""
    import json

    hint = "for a command of the shell that begins with {, for example: queuectl enqueue -- sh -c '{ ls; }'"
    try:
        json.loads(raw, parse_constant=_no_constant)
    except json.JSONDecodeError as found:
        return InvalidInput(f"malformed JSON at line {found.lineno}, column {found.colno}: {found.msg}", hint)
    except (UnicodeDecodeError, InvalidInput, RecursionError, ValueError) as found:
        return found if isinstance(found, InvalidInput) else InvalidInput(f"malformed JSON: {found}", hint)
    return InvalidInput(
        f"the JSON contains text that cannot be stored: {error} (or half of a surrogate pair)"
    )


def explain(
    error: msgspec.ValidationError,
    fields: list[str],
    hint: str | None = "queuectl enqueue --help names the fields",
) -> InvalidInput:
    """The error for a wrong field, in the words of queuectl, with the nearest valid name and the JSON pointer."""
    text = str(error)
    what, _, where = text.partition(" - at `")
    position = where.rstrip("`").removeprefix("$").lstrip(".")
    if "unknown field" in what:
        name = what.split("`")[1]
        found = InvalidInput(
            f"{position + ': ' if position else ''}there is no field {name!r}", nearest(name, fields) or hint
        )
        found.pointer = f"{pointer(position)}/{_escaped(name)}"
        return found
    sentence = _in_words(what)
    found = InvalidInput(f"{position}: {sentence}" if position else sentence, hint)
    found.pointer = pointer(position)
    return found


def pointer(position: str) -> str:
    """The JSON pointer for a position in the form of msgspec, such as `jobs[3].tags[0]`."""
    words = position.replace("[", ".").replace("]", "").split(".") if position else []
    return "".join(f"/{_escaped(word)}" for word in words)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise InvalidInput(f"the key {key!r} is given twice")
        seen[key] = value
    return seen


def _no_constant(name: str) -> Any:
    raise InvalidInput(f"{name} is not JSON", "numbers are finite; leave the field out instead")


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
_BOUNDS = (
    ("of length >= 1", "may not be empty"),
    ("of length <= ", "is longer than "),
    ("<= ", "may be at most "),
    (">= ", "must be at least "),
)


def _in_words(what: str) -> str:
    """A message of msgspec about a type or a bound, in the words of queuectl."""
    expected, _, got = what.replace("`", "").removeprefix("Expected ").partition(", got ")
    for sign, words in _BOUNDS:
        if sign in expected:
            return words + expected.partition(sign)[2]
    if not got:
        return what[0].lower() + what[1:]
    kinds = [_WORDS.get(kind, kind) for kind in expected.split(" | ") if kind != "null"]
    return f"{' or '.join(kinds)} is expected, not {_WORDS.get(got, got)}"
