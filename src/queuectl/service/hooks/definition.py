"""Checks what a person says about a hook. Every field is checked, and named if it is wrong.

No message repeats a value that may be a secret: somebody may have given the secret instead of a reference to it.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from queuectl.config import Settings, nearest
from queuectl.domain.event import Kind
from queuectl.domain.hook import FIELDS, Definition, check_hook_name, definition_of
from queuectl.domain.instant import EARLIEST
from queuectl.domain.quantity import format_duration, parse_duration, seconds
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput
from queuectl.service.events import kinds_of
from queuectl.service.schedules import template

OF_THE_HOOK = frozenset(
    (
        "id", "run_at", "scheduled_at", "delay", "unique_key", "after", "after_failure", "hold", "queue", "stdin",
        "schedule", "instant",
    )
)  # fmt: skip
"""Keys of a job that its hook sets, or that make no sense for it."""
OF_A_REQUEST = ("secret", "headers", "timeout", "proxy")
"""Fields that belong to a URL."""
LONGEST_TIMEOUT = timedelta(minutes=10)
SECRET_HEADERS = frozenset(("authorization", "proxy-authorization", "cookie"))
OWN_HEADERS = frozenset(("host", "content-type", "content-length", "transfer-encoding", "connection"))
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


def is_reference(text: str) -> bool:
    """Whether a text is a reference to a value on the host of a worker: `env:NAME`, `file:/PATH`."""
    return _REFERENCE.fullmatch(text) is not None


def define(given: Mapping[str, Any], *, settings: Settings, cwd: str | None) -> Definition:
    """The definition in these fields; None stands for a field that is not given. Raises InvalidInput.

    The template is completed with the working directory and the policy of this client.
    """
    found = {name: value for name, value in given.items() if value not in (None, {}, [])}
    if unknown := found.keys() - set(FIELDS):
        raise _wrong(min(unknown), "a hook has no such field", f"the fields are {', '.join(FIELDS)}")
    if "on" not in found:
        raise _wrong("on", "is missing", "name events: dead,failed")
    if ("job" in found) == ("url" in found):
        raise InvalidInput("a hook has either a command or a URL", "give one of the two")
    if "job" in found and (wrong := [name for name in OF_A_REQUEST if name in found]):
        raise _wrong(wrong[0], "belongs to a URL", "leave it out, or give a URL instead of a command")
    made = Definition(**{name: _CHECKS[name](value) for name, value in found.items()})
    return made if made.job is None else _completed(made, settings, cwd)


def fields_shown(hook: Definition) -> dict[str, Any]:
    """The fields that are set, as JSON values. `define` reads them as the same definition."""
    found = {name: value for name, value in definition_of(hook).items() if value not in (None, {})}
    found["on"] = [kind.removeprefix("job.") for kind in hook.on]
    if hook.url is None:
        del found["timeout"]
    else:
        found["timeout"] = format_duration(hook.timeout)
    return found


def _completed(made: Definition, settings: Settings, cwd: str | None) -> Definition:
    job = dict(made.job or {})
    return Definition(on=made.on, where=made.where, job=template.completed(job, settings, cwd))


def _on(value: Any) -> tuple[Kind, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise _wrong("on", "is not a list of events", "for example: dead,failed")
    return tuple(sorted(kinds_of(",".join(value))))


def _where(value: Any) -> str:
    parse(_text("where", value), EARLIEST)
    return str(value)


def _job(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong("job", "is not an object", "give the keys of an enqueue, such as command and timeout")
    if wrong := value.keys() & OF_THE_HOOK:
        raise _wrong(f"job.{min(wrong)}", "is set by the hook", "leave it out")
    return dict(value)


def _url(value: Any) -> str:
    return _address("url", _text("url", value), ("http", "https"), may_refer=True)


def _proxy(value: Any) -> str:
    return _address("proxy", _text("proxy", value), ("http",), may_refer=False)


def _address(field: str, text: str, schemes: tuple[str, ...], *, may_refer: bool) -> str:
    if may_refer and is_reference(text):
        return text
    hint = f"for example: {schemes[-1]}://example.org/" + (" or env:NAME" if may_refer else "")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise _wrong(field, "is not a URL", hint) from None
    if parts.scheme not in schemes or not parts.hostname or not text.isascii() or not text.isprintable():
        raise _wrong(field, "is not a URL", hint)
    if " " in text or parts.fragment or "@" in parts.netloc:
        what = "contains a password" if "@" in parts.netloc else "is not a URL"
        raise _wrong(field, what, "give the password as a header with a reference, or the URL as env:NAME")
    return text


def _secret(value: Any) -> str:
    if not isinstance(value, str) or not is_reference(value):
        raise _wrong(
            "secret", "is not a reference", "env:NAME or file:/PATH, which the delivering worker resolves"
        )
    return value


def _headers(value: Any) -> dict[str, str]:
    """The headers, given as an object or as lines `NAME: VALUE`."""
    if isinstance(value, list | tuple):
        value = dict(_split(line) for line in value)
    if not isinstance(value, Mapping):
        raise _wrong("headers", "is not an object", 'for example: {"X-Source": "queuectl"}')
    return {name: _header(name, text) for name, text in value.items()}


def _split(line: Any) -> tuple[str, str]:
    name, colon, text = _text("headers", line).partition(":")
    if not colon:
        raise _wrong("headers", "a header has no colon", "for example: X-Source:queuectl")
    return name.strip(), text.strip()


def _header(name: Any, text: Any) -> str:
    if not isinstance(name, str) or not _HEADER.fullmatch(name):
        raise _wrong("headers", "a name is not allowed", "for example: X-Source:queuectl")
    if name.lower() in OWN_HEADERS or name.lower().startswith("webhook-"):
        raise _wrong(f"headers.{name}", "is set by the delivery", "leave it out")
    if not isinstance(text, str) or not (text.isascii() and text.isprintable() and text.strip()):
        raise _wrong(f"headers.{name}", "the value is not printable ASCII", "or give a reference: env:NAME")
    if name.lower() in SECRET_HEADERS and not is_reference(text):
        raise _wrong(
            f"headers.{name}", "would be stored as it is", f"give a reference: {name}:env:NAME or file:/PATH"
        )
    return text


def _timeout(value: Any) -> timedelta:
    try:
        found = value if isinstance(value, timedelta) else _duration(value)
    except InvalidInput as error:
        raise _wrong("timeout", error.message, error.hint) from error
    if not timedelta(0) < found <= LONGEST_TIMEOUT:
        raise _wrong("timeout", f"{value} is out of range", f"at most {format_duration(LONGEST_TIMEOUT)}")
    return found


def _duration(value: Any) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidInput(f"{value!r} is not a duration", "write seconds, or units: 90, 5m")
    return parse_duration(value) if isinstance(value, str) else seconds(value)


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _wrong(field, "is not a text")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "on": _on,
    "where": _where,
    "job": _job,
    "url": _url,
    "secret": _secret,
    "headers": _headers,
    "timeout": _timeout,
    "proxy": _proxy,
}


def _wrong(field: str, what: str, hint: str | None = None) -> InvalidInput:
    error = InvalidInput(f"{field}: {what}", hint)
    error.pointer = f"/{field.replace('.', '/')}"
    return error


def named_definitions(
    document: Mapping[str, Any], *, settings: Settings, cwd: str | None
) -> dict[str, Definition]:
    """The hooks of a file, all checked: tables `[hook.NAME]`, in which every other key belongs to the job."""
    if unknown := document.keys() - {"hook"}:
        raise InvalidInput(f"{min(unknown)}: a file of hooks has no such key", "it has [hook.NAME]")
    tables = document.get("hook") or {}
    if not isinstance(tables, Mapping):
        raise InvalidInput("hook: is not a table of hooks", "write [hook.NAME]")
    return {name: _named(name, table, settings, cwd) for name, table in tables.items()}


def _named(name: str, table: Any, settings: Settings, cwd: str | None) -> Definition:
    try:
        check_hook_name(name)
        if not isinstance(table, Mapping):
            raise InvalidInput("is not a table", f"write [hook.{name}]")
        return define(_fields(table), settings=settings, cwd=cwd)
    except InvalidInput as error:
        raise InvalidInput(f"hook.{name[:80]}: {error.message}", error.hint) from error


def _fields(table: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in table.items() if name in FIELDS}
    rest = {name: value for name, value in table.items() if name not in FIELDS}
    if "url" in own:
        if rest:
            raise _wrong(
                min(rest), "belongs to a command, and this hook has a URL", nearest(min(rest), list(FIELDS))
            )
        return own
    if "timeout" in own:
        rest["timeout"] = own.pop("timeout")
    return own | {"job": {**rest, **(own.get("job") or {})}} if rest else own
