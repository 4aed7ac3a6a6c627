"""Converts a value to its JSON object and back: a list of keys, and a form for types that JSON lacks."""

import base64
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from types import UnionType
from typing import Any, Generic, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from queuectl.domain.instant import format_instant
from queuectl.interrupt import held

T = TypeVar("T", bound=Struct)
V = TypeVar("V")
SCHEMA = 1


def document(**body: Any) -> dict[str, Any]:
    """A JSON document with its schema number."""
    return {"schema": SCHEMA, **body}


class Form(NamedTuple):
    """How a value that is not null is written in JSON, and how it is read. `build` reads what `decode` returns."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any] = lambda shown: shown


class Record(Generic[T]):
    """The JSON object of a struct, in both directions.

    parts  the struct under "", and structs inside it under their paths, if the object has their fields too
    keys   the keys of the object, in order; each is the name of a field of the first part that has one
    names  fields that are named differently from their keys
    forms  the forms of keys whose values need another form than the type of the field says
    """

    def __init__(
        self,
        parts: type[T] | Mapping[str, type[Struct]],
        keys: str,
        names: Mapping[str, str] | None = None,
        **forms: Form,
    ) -> None:
        self._parts = parts if isinstance(parts, Mapping) else {"": parts}
        self._kind: Any = self._parts[""]
        self._names = {key: (names or {}).get(key, key) for key in keys.split()}
        owners = [self._owner(name) for name in self._names.values()]
        self._values = attrgetter(*(path for path, _ in owners))
        by_type = ((key, _form_of(kind)) for key, (_, kind) in zip(self._names, owners, strict=True))
        self._forms = {key: form for key, form in by_type if form} | forms
        self._encoders = [(key, form.encode) for key, form in self._forms.items()]

    @property
    def keys(self) -> list[str]:
        """The keys of the object, in order."""
        return list(self._names)

    @property
    def types(self) -> dict[str, Any]:
        """The keys of the object with the types of their fields."""
        return {key: self._owner(name)[1] for key, name in self._names.items()}

    def _owner(self, name: str) -> tuple[str, Any]:
        """The path of a field from the value, and its type."""
        path, part = next(item for item in self._parts.items() if name in item[1].__struct_fields__)
        return f"{path}.{name}".lstrip("."), part.__annotations__[name]

    def encode(self, value: T) -> dict[str, Any]:
        """The JSON object of a value."""
        shown = dict(zip(self._names, self._values(value), strict=True))
        for key, encode in self._encoders:
            if (found := shown[key]) is not None:
                shown[key] = encode(found)
        return shown

    def decode(self, document: Mapping[str, Any]) -> T:
        """The value of a JSON object. Raises msgspec.ValidationError if the object is none of this kind."""
        found: T = build(self._with_parts("", self.fields(document)), self._kind)
        return found

    def fields(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of all parts. A missing key is omitted, so that the default of the struct is used."""
        fields = {name: document[key] for key, name in self._names.items() if key in document}
        for key, form in self._forms.items():
            if (shown := document.get(key)) is not None:
                fields[self._names[key]] = form.decode(shown)
        return fields

    def _with_parts(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields with the parts of a part. Every part gets all fields, and takes those that it has."""
        inner = {}
        for part in self._parts:
            above, _, name = part.rpartition(".")
            if part and above == path:
                inner[name] = self._with_parts(part, {**fields, **fields.get(name, {})})
        return {**fields, **inner}

    @property
    def one(self) -> Form:
        """As a value in another object."""
        return Form(self.encode, self.decode)

    @property
    def many(self) -> Form:
        """As a list in another object."""
        return Form(
            lambda values: [self.encode(value) for value in values],
            lambda shown: [self.decode(each) for each in shown],
        )


def build(fields: Mapping[str, Any], kind: type[V]) -> V:
    """A value from its fields; fields that it does not have are ignored. Raises msgspec.ValidationError."""
    with held():  # msgspec builds its types at the first call
        return msgspec.convert(fields, kind)


def instant(at: datetime | None) -> str | None:
    """A time as RFC 3339 text."""
    return None if at is None else format_instant(at)


def seconds(duration: timedelta) -> float | int:
    """A duration as a number of seconds, without a fraction where there is none."""
    number = duration.total_seconds()
    return int(number) if number == int(number) else number


def _text_or_base64(data: bytes) -> str | Mapping[str, str]:
    """Bytes as text where they are UTF-8, else as `{"base64": …}`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes_of(shown: str | Mapping[str, str]) -> bytes:
    return shown.encode() if isinstance(shown, str) else base64.b64decode(shown["base64"])


OCTAL = Form(lambda mask: f"{mask:03o}", lambda shown: int(shown, 8))
_BY_TYPE: dict[Any, Form] = {
    datetime: Form(format_instant),
    timedelta: Form(seconds, lambda number: timedelta(seconds=number)),
    tuple: Form(list),
    bytes: Form(_text_or_base64, _bytes_of),
}


def _form_of(annotation: Any) -> Form | None:
    """The form of values of a type, or of the first type of a union that has one."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((_BY_TYPE[kind] for each in kinds if (kind := get_origin(each) or each) in _BY_TYPE), None)
