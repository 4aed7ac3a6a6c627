"""The query and the body of a request: read within limits, and decoded by strict rules."""

from functools import cache
from typing import Any

import msgspec
from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request

from queuectl.config import nearest
from queuectl.errors import InvalidInput
from queuectl.http import choices
from queuectl.http.problem import Refusal
from queuectl.service import mistakes

JSON = "application/json"
NUL = rb"\u0000"
"""A NUL byte as JSON writes it."""


def query_of(given: QueryParams, wanted: type[Struct]) -> Any:
    """The query parameters as an instance of their type. A list field takes a parameter that is repeated.

    Raises InvalidInput for an unknown parameter, a repeated one, and a value of another type.
    """
    is_list = _parameters(wanted)
    values: dict[str, Any] = {}
    for name in given:
        if name not in is_list:
            known = f"there are: {', '.join(is_list)}" if is_list else "this route has none"
            raise InvalidInput(f"there is no query parameter {name!r}", nearest(name, list(is_list)) or known)
        several = given.getlist(name)
        if any("\0" in value for value in several):
            raise InvalidInput(f"query parameter {name}: contains a NUL byte")
        if not is_list[name] and len(several) > 1:
            raise InvalidInput(f"the query parameter {name!r} is given twice")
        values[name] = several if is_list[name] else several[0]
    try:
        return msgspec.convert(values, wanted, strict=False)
    except msgspec.ValidationError as error:
        found = choices.explained(mistakes.explain(error, list(is_list), hint=None), error, wanted)
        raise InvalidInput(f"query parameter {found.message}", found.hint) from error


@cache
def _parameters(wanted: type[Struct]) -> dict[str, bool]:
    """The names of the query parameters, and whether each may be repeated."""
    return {field.encode_name: _is_list(field.type) for field in msgspec.structs.fields(wanted)}


def _is_list(kind: Any) -> bool:
    found = msgspec.inspect.type_info(kind)
    return isinstance(
        found.type if isinstance(found, msgspec.inspect.Metadata) else found, msgspec.inspect.ListType
    )


async def json_of(request: Request, limit: int) -> bytes:
    """The JSON of the body, not decoded. An empty body counts as `{}`."""
    raw = await read(request, limit)
    if raw:
        require(request, JSON)
    return raw or b"{}"


def require(request: Request, *types: str) -> str:
    """The media type of the body. Raises a refusal if it is not one of these."""
    given, _, rest = request.headers.get("content-type", "").lower().partition(";")
    given, charset = given.strip(), rest.partition("charset=")[2].strip('" ')
    if given in types and charset not in ("", "utf-8", "utf8"):
        raise Refusal(
            "unsupported_media", f"the body is in {charset}, not in UTF-8", f"send Content-Type: {types[0]}"
        )
    if given not in types:
        raise Refusal(
            "unsupported_media",
            f"the body is {given or 'of no type'}, not {' or '.join(types)}",
            f"send the header Content-Type: {types[0]}",
        )
    return given


async def read(request: Request, limit: int) -> bytes:
    """The whole body. Raises a refusal as soon as it is known to be longer than `limit` bytes."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large(limit)
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
    return b"".join(parts)


def too_large(limit: int) -> Refusal:
    """The refusal of a body that is too long. The connection is closed, because the rest of the body is not read."""
    return Refusal(
        "too_large",
        f"the body is longer than {limit} bytes",
        "send the jobs as JSON lines: Content-Type: application/jsonl",
        headers={"Connection": "close"},
    )


def decode(raw: bytes, wanted: Any) -> Any:
    """JSON as an instance of a type. Raises InvalidInput with the pointer of the fault."""
    mistakes.refuse_depth(raw)
    if NUL in raw.replace(rb"\\", b""):
        raise InvalidInput("the JSON contains a NUL byte", "no store can keep it in a text")
    try:
        value = msgspec.json.decode(raw, type=wanted)
    except msgspec.ValidationError as error:
        mistakes.refuse_duplicates(raw)
        found = mistakes.explain(error, _names(wanted), "GET /openapi.json has the fields")
        raise choices.explained(found, error, wanted) from error
    except msgspec.DecodeError as error:
        raise malformed(raw, error) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the JSON is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise InvalidInput("the JSON is nested too deeply") from error
    mistakes.refuse_duplicates(raw)
    return value


def malformed(raw: bytes, error: Exception) -> InvalidInput:
    """The error for malformed JSON. Its usual hint is for the command line."""
    found = mistakes.malformed(raw, error)
    found.hint = "the body is one JSON document in UTF-8"
    return found


def _names(wanted: Any) -> list[str]:
    return list(getattr(wanted, "__struct_encode_fields__", ()))
