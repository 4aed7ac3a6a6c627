"""The values that a field of a request allows, for the error about another value."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from queuectl.config import nearest
from queuectl.errors import InvalidInput


def explained(error: InvalidInput, wrong: msgspec.ValidationError, wanted: Any) -> InvalidInput:
    """The error; if it is about an enumeration of the type `wanted`, with the values that the field allows."""
    what, _, where = str(wrong).partition(" - at `$")
    if not what.startswith("Invalid enum value "):
        return error
    position = where.rstrip("`").lstrip(".")
    value = what.removeprefix("Invalid enum value ").strip("'")
    values = _values(wanted, position.partition(".")[0].partition("[")[0])
    if not values:
        return error
    found = InvalidInput(f"{position}: {value!r} is none of {', '.join(values)}", nearest(value, values))
    found.pointer = error.pointer
    return found


def _values(wanted: Any, name: str) -> list[str]:
    return [
        str(value)
        for field in msgspec.structs.fields(wanted)
        if field.encode_name == name
        for value in _literals(inspect.type_info(field.type))
    ]


def _literals(kind: inspect.Type) -> Iterator[Any]:
    """The values of the enumerations in a type."""
    if isinstance(kind, inspect.LiteralType):
        yield from kind.values
    elif isinstance(kind, inspect.Metadata):
        yield from _literals(kind.type)
    elif isinstance(kind, inspect.CollectionType):
        yield from _literals(kind.item_type)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _literals(each)
