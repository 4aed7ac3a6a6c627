"""What a client asks for when it enqueues: strict JSON or flags, checked, and made into a job.

Flags, JSON documents and lines of a file all become the same `JobRequest`, so there is one set of names, ranges and
messages. The names are those of the job's fields and of the five seed systems (`scheduled_at`, `payload.command`).
"""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from queuectl.config import Settings
from queuectl.domain.dependency import parse_dependency, refuse_several
from queuectl.domain.ids import check_id
from queuectl.domain.instant import in_range
from queuectl.domain.job import Parent, Spec
from queuectl.domain.names import check_name
from queuectl.domain.quantity import parse_duration, parse_size, seconds
from queuectl.domain.retry import RetryPolicy
from queuectl.errors import InvalidInput
from queuectl.interrupt import held
from queuectl.service import mistakes
from queuectl.service.moments import read_moment

try:  # `hashlib` loads OpenSSL, which costs every short command 10 ms; this is the same function.
    from _blake2 import blake2b
except ImportError:  # pragma: no cover
    from hashlib import blake2b

COMMAND_LIMIT = 1024 * 1024
ARGUMENT_LIMIT = 131_071
"""Linux: one argument or environment entry may not be longer, its terminating NUL not counted."""

ENVIRONMENT_LIMIT = 512 * 1024
"""All variables of one job. Linux gives a program a quarter of its stack limit (of 8 MiB) for arguments and environment
together; the arguments of a job may have 1 MiB, and the worker's own environment comes on top."""
_VARIABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")

Span = float | str
"""A duration: seconds, or text like `5m`."""
Moment = str
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Code = Annotated[int, Meta(ge=0, le=255)]


class Payload(Struct, forbid_unknown_fields=True, frozen=True):
    """The seeds' way to say `command`."""

    command: str


class Backoff(Struct, forbid_unknown_fields=True, frozen=True):
    """The retry delay as the job shows it: seconds, and how it grows."""

    base: Annotated[float, Meta(ge=1, le=1000)] | UnsetType = UNSET
    factor: Span | UnsetType = UNSET
    max: Span | UnsetType = UNSET
    jitter: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET


class After(Struct, forbid_unknown_fields=True, frozen=True):
    """A parent, in the form in which jobs show it."""

    job: str
    on: str = "ok"


class JobRequest(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """One job as asked for. Everything is optional but something to run; null is the same as not given."""

    id: str | None = None
    command: str | None = None
    argv: Annotated[list[str], Meta(min_length=1, max_length=100_000)] | None = None
    payload: Payload | None = None
    queue: Name | None = None
    priority: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    run_at: Moment | None = None
    scheduled_at: Moment | None = None
    delay: Span | None = None
    max_retries: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    no_retry_codes: Annotated[list[Code], Meta(max_length=256)] | None = None
    backoff: Backoff | None = None
    backoff_base: Annotated[float, Meta(ge=1, le=1000)] | None = None
    backoff_factor: Span | None = None
    backoff_max: Span | None = None
    jitter: Annotated[float, Meta(ge=0, le=1)] | None = None
    timeout: Span | None = None
    kill_grace: Span | None = None
    cwd: str | None = None
    env: dict[str, str] | None = None
    umask: int | str | None = None
    stdin: str | None = None
    shell: str | None = None
    unique_key: Name | None = None
    after: Annotated[list[str | After], Meta(max_length=10_000)] | None = None
    after_failure: str | None = None
    batch: Name | None = None
    tags: Annotated[list[Name], Meta(max_length=100)] | None = None
    meta: dict[str, Any] | None = None
    hold: bool | None = None
    output_limit: int | str | None = None
    split: bool | None = None
    allow_detached: bool | None = None


class Defaults(Struct, frozen=True):
    """What a request is completed with: the settings in force, and the client's working directory."""

    settings: Settings
    cwd: str | None

    def retry(self) -> RetryPolicy:
        """The retry policy of a request that says nothing about it."""
        s = self.settings
        return RetryPolicy(
            max_retries=s.max_retries,
            max_losses=s.max_losses,
            base=s.backoff_base,
            factor=timedelta(milliseconds=s.backoff_factor_ms),
            longest=s.backoff_max,
            jitter=s.jitter,
        )


_FIELDS = list(JobRequest.__struct_fields__)
_TEXTS = ("queue", "run_at", "scheduled_at", "delay")
"""Fields that flags may fill with bytes that are no text, and that nothing else looks at before the digest is made."""
_encoder = msgspec.json.Encoder(order="deterministic")


@cache
def _decoder() -> msgspec.json.Decoder[JobRequest]:
    """Made when first needed: it costs a millisecond, and most single commands are no JSON."""
    with held():
        return msgspec.json.Decoder(JobRequest)


def decode_request(text: str | bytes) -> JobRequest:
    """A JSON document as a request. Raises InvalidInput: malformed (and where), unknown, double, out of range."""
    try:
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise InvalidInput(f"the JSON is not valid UTF-8 (character {error.start})") from error
    mistakes.refuse_depth(raw)
    try:
        request = _decoder().decode(raw)
    except msgspec.ValidationError as error:
        mistakes.refuse_duplicates(raw)
        raise mistakes.explain(error, _FIELDS) from error
    except msgspec.DecodeError as error:
        raise mistakes.malformed(raw, error) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the JSON is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise InvalidInput("the JSON is nested too deeply") from error
    mistakes.refuse_duplicates(raw)
    return request


def convert_request(fields: Mapping[str, Any]) -> JobRequest:
    """A mapping of fields as a request, by the same rules."""
    try:
        with held():  # it builds its types the first time
            request = msgspec.convert(fields, JobRequest)
    except msgspec.ValidationError as error:
        raise mistakes.explain(error, _FIELDS) from error
    for name in _TEXTS:
        _clean(name, getattr(request, name))
    return request


def content_of(request: JobRequest, cwd: str | None) -> str:
    """The digest that tells whether the same id asks for the same job: all that was given, but not the id."""
    stdin = request.stdin
    if stdin is not None and not _is_text(stdin):
        stdin = f"bytes {_bytes_of(stdin).hex()}"
    asked = msgspec.structs.replace(request, id=None, stdin=stdin)
    given = _encoder.encode([asked, request.cwd or cwd])
    return str(blake2b(given, digest_size=16).hexdigest())


def policy_key(request: JobRequest) -> bytes | None:
    """What two requests have in common whose specs differ in nothing but the command; None: compare nothing.

    Flags can bring bytes that are no text. They have no key, and `spec_of` says which field holds them.
    """
    try:
        return _encoder.encode(msgspec.structs.replace(request, **_APART))
    except UnicodeEncodeError:
        return None


_APART: dict[str, Any] = dict.fromkeys(
    ("id", "command", "argv", "payload", "queue", "priority", "run_at", "scheduled_at", "delay", "hold")
)


def spec_of(request: JobRequest, defaults: Defaults) -> Spec:
    """What to run and how, complete. Raises InvalidInput for what no field's type could catch."""
    command, argv = command_of(request)
    settings = defaults.settings
    return Spec(
        command=command,
        argv=argv,
        shell=_shell_of(request.shell),
        cwd=_cwd_of(request.cwd, defaults.cwd),
        env=_env_of(request.env),
        umask=_umask_of(request.umask),
        stdin=_stdin_of(request.stdin),
        timeout=_limit_of(request.timeout) if request.timeout is not None else settings.timeout,
        kill_grace=_span("kill_grace", request.kill_grace, settings.kill_grace),
        retry=_retry_of(request, defaults.retry()),
        output_limit=_output_limit_of(request.output_limit, settings.output_limit),
        split=bool(request.split),
        allow_detached=bool(request.allow_detached),
        unique_key=_clean("unique_key", request.unique_key),
        after=tuple(_parent_of(item) for item in request.after or ()),
        after_failure=_after_failure_of(request.after_failure),
        batch=None if request.batch is None else check_name("batch", request.batch),
        tags=tuple(check_name("tag", tag) for tag in request.tags or ()),
        meta=_meta_of(request.meta),
        boost=settings.priority_boost,
        content=content_of(request, defaults.cwd),
    )


def start_of(request: JobRequest, now: datetime) -> datetime:
    """The earliest start that a request asks for."""
    if request.run_at is None and request.scheduled_at is None and request.delay is None:
        return now
    given = [name for name in ("run_at", "scheduled_at", "delay") if getattr(request, name) is not None]
    if len(given) > 1:
        raise InvalidInput(f"{given[0]} and {given[1]} say the same thing twice", "give one of them")
    if request.delay is not None:
        return in_range(now + _span("delay", request.delay, timedelta(0)))
    return read_moment(request.run_at or request.scheduled_at or "", now).moment


def command_of(request: JobRequest) -> tuple[str | None, tuple[str, ...] | None]:
    """The shell command or the argument list; exactly one of the two. Raises InvalidInput."""
    if request.command is not None and request.argv is None and request.payload is None:
        return check_command(request.command), None
    given = [name for name in ("command", "argv", "payload") if getattr(request, name) is not None]
    if len(given) != 1:
        wrong = " and ".join(given) + " are both given" if given else "there is no command"
        raise InvalidInput(wrong, "give one of command (for a shell) and argv (without one)")
    if request.argv is not None:
        return None, _argv_of(request.argv)
    command = request.payload.command if request.payload else request.command or ""
    return check_command(command), None


def check_command(command: str) -> str:
    """The command itself, if a shell can be given it. Raises InvalidInput."""
    if not command.strip():
        raise InvalidInput("the command is empty")
    size = len(_utf8("command", command))
    if size > COMMAND_LIMIT:
        raise InvalidInput(
            f"the command has {size} bytes, more than {COMMAND_LIMIT}", "put it into a file and run that"
        )
    return command


def _argv_of(argv: list[str]) -> tuple[str, ...]:
    if not argv[0].strip():
        raise InvalidInput("the command is empty")
    sizes = [len(_utf8("argv", word)) for word in argv]
    if sum(sizes) > COMMAND_LIMIT:
        raise InvalidInput(f"the arguments have {sum(sizes)} bytes, more than {COMMAND_LIMIT}")
    if max(sizes) > ARGUMENT_LIMIT:
        raise InvalidInput(f"one argument has {max(sizes)} bytes; the system allows {ARGUMENT_LIMIT}")
    return tuple(argv)


def _shell_of(shell: str | None) -> str | None:
    if shell is not None and not shell.strip():
        raise InvalidInput("shell: may not be empty", "leave it out for /bin/sh")
    return _clean("shell", shell)


def _cwd_of(asked: str | None, here: str | None) -> str | None:
    """A relative directory is meant from where the client stands, not from where a worker happens to."""
    return _clean("cwd", os.path.join(here or "", asked) if asked else here)


def _env_of(env: dict[str, str] | None) -> dict[str, str]:
    total = 0
    for name, value in (env or {}).items():
        if not name or not _VARIABLE.issuperset(name) or name[0] in "0123456789":
            raise InvalidInput(
                f"env: {_cut(name)!r} is not a variable's name",
                "letters, digits and _, no digit first: sh passes no other on to its commands",
            )
        size = len(name) + len(_utf8(f"env {name[:40]}", value)) + 1
        if size >= ARGUMENT_LIMIT:
            raise InvalidInput(f"env: {_cut(name)} is longer than the system allows ({ARGUMENT_LIMIT} bytes)")
        total += size
    if total > ENVIRONMENT_LIMIT:
        raise InvalidInput(
            f"env: the variables have {total} bytes, more than {ENVIRONMENT_LIMIT}",
            "put them into a file that the command reads",
        )
    return env or {}


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"


def _umask_of(umask: int | str | None) -> int | None:
    if umask is None:
        return None
    try:
        value = int(umask, 8) if isinstance(umask, str) else umask
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        raise InvalidInput(f"umask: {umask!r} is not a mask", 'write it as octal text: "022"')
    return value


def _stdin_of(text: str | None) -> bytes | None:
    if text is None:
        return None
    data = _bytes_of(text)
    if len(data) > COMMAND_LIMIT:
        raise InvalidInput(f"stdin has {len(data)} bytes, more than {COMMAND_LIMIT}")
    return data


def _bytes_of(text: str) -> bytes:
    """Bytes that are not UTF-8 come as lone surrogates."""
    return text.encode("utf-8", "surrogateescape")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _limit_of(value: Span) -> timedelta | None:
    if isinstance(value, str) and value.strip().lower() == "none":
        return None
    limit = _span("timeout", value, timedelta(0))
    if not limit:
        raise InvalidInput("timeout: 0 would end the command before it starts", "leave it out for no limit")
    return limit


def _output_limit_of(value: int | str | None, default: int) -> int:
    if value is None:
        return default
    size = parse_size(value) if isinstance(value, str) else value
    if not 0 <= size <= 1024**3:
        raise InvalidInput(f"output_limit: {value} is out of range", "from 0 to 1GiB")
    return size


def _retry_of(request: JobRequest, base: RetryPolicy) -> RetryPolicy:
    backoff = request.backoff or Backoff()
    return RetryPolicy(
        max_retries=base.max_retries if request.max_retries is None else request.max_retries,
        max_losses=base.max_losses,
        base=_first(request.backoff_base, backoff.base, base.base),
        factor=_span("backoff_factor", _first(request.backoff_factor, backoff.factor, None), base.factor),
        longest=_span("backoff_max", _first(request.backoff_max, backoff.max, None), base.longest),
        jitter=_first(request.jitter, backoff.jitter, base.jitter),
        no_retry_codes=tuple(request.no_retry_codes or ()),
    )


def _parent_of(item: str | After) -> Parent:
    if isinstance(item, str):
        refuse_several(item)
    job, on = (item.job, item.on) if isinstance(item, After) else parse_dependency(item)
    if on not in ("ok", "any", "failed"):
        raise InvalidInput(f"after: {on!r} is not ok, any or failed")
    return Parent(check_id(job), on)  # type: ignore[arg-type]


def _after_failure_of(value: str | None) -> Any:
    if value not in (None, "cancel", "hold"):
        raise InvalidInput(f"after_failure: {value!r} is not cancel or hold")
    return value or "cancel"


def _meta_of(meta: dict[str, Any] | None) -> dict[str, Any]:
    text = _encoder.encode(meta) if meta else b""
    if len(text) > 16 * 1024:
        raise InvalidInput("meta has more than 16 KiB")
    if b"\\u0000" in text.replace(b"\\\\", b""):  # no store that knows JSON can hold it
        raise InvalidInput("meta: contains a NUL byte")
    return meta or {}


def _first(*values: Any) -> Any:
    """The first value that was given."""
    return next((value for value in values if value is not None and value is not UNSET), None)


def _span(field: str, value: Span | None, default: timedelta) -> timedelta:
    if value is None:
        return default
    try:
        return parse_duration(value) if isinstance(value, str) else seconds(value)
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error.message}", error.hint) from error


def _clean(field: str, value: str | None) -> str | None:
    if isinstance(value, str):
        _utf8(field, value)
    return value


def _utf8(field: str, value: str) -> bytes:
    """The bytes of a text that every store and every program can hold."""
    if "\0" in value:
        raise InvalidInput(f"{field}: contains a NUL byte")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{field}: not valid UTF-8 (character {error.start})") from error
