"""The fields of a request to enqueue: one row per field with its name, type, check, flags and help.

Flags, JSON documents and lines of a file all become the same `JobRequest`, so there is one set of names, ranges and
messages. The command line makes its options from the rows. The order of the rows is part of the content digest
(`spec.content_of`): add new fields at the end.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from queuectl.config import OPTIONS
from queuectl.domain.job import LONGEST_LABEL
from queuectl.errors import InvalidInput
from queuectl.interrupt import held
from queuectl.service import mistakes
from queuectl.service.request.checks import check_text

Duration = float | str
"""A number of seconds, or text such as `5m`."""
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Code = Annotated[int, Meta(ge=0, le=255)]
Retries = Annotated[int, Meta(ge=-1, le=1_000_000)]
Base = Annotated[float, Meta(ge=1, le=1000)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Flag(NamedTuple):
    """How the command line sets a field.

    names    its flags; the first is the one in messages
    metavar  the name of the value in the help; empty for a switch
    help     the help text
    kind     how the text is parsed: `text`, `whole`, `real`, `codes`, `path` or `json`
    many     it can be given several times
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    kind: str = "text"
    many: bool = False


class Payload(Struct, forbid_unknown_fields=True, frozen=True):
    """Another way to write `command`: `{"payload": {"command": …}}`."""

    command: str


class Bytes(Struct, forbid_unknown_fields=True, frozen=True):
    """Bytes that are not text, in the form in which a job shows them."""

    base64: str


class Backoff(Struct, forbid_unknown_fields=True, frozen=True):
    """The retry delay, in the form in which a job shows it."""

    base: Base | UnsetType = UNSET
    factor: Duration | UnsetType = UNSET
    max: Duration | UnsetType = UNSET
    jitter: Share | UnsetType = UNSET


class After(Struct, forbid_unknown_fields=True, frozen=True):
    """A parent, in the form in which a job shows it."""

    job: str
    on: str = "ok"


class JobRequest(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """One job as a client requests it. Only a command or arguments are required. A null field counts as not given."""

    id: Annotated[
        str | None, Flag(("--id",), "ID", "the job's id (default: a new one of time and random bits)")
    ] = None
    command: str | None = None
    argv: Annotated[list[str], Meta(min_length=1, max_length=100_000)] | None = None
    payload: Payload | None = None
    queue: Annotated[Name | None, Flag(("--queue", "-Q"), "QUEUE", "the queue (default: default)")] = None
    priority: Annotated[
        Annotated[int, Meta(ge=-1000, le=1000)] | None,
        Flag(
            ("--priority", "-p"),
            "N",
            "-1000 to 1000, higher first; one point is worth an hour of waiting",
            "whole",
        ),
    ] = None
    run_at: Annotated[
        str | None, Flag(("--at",), "T", "not before this time: 10:30, 2026-11-22T15:00:00Z, @EPOCH or now")
    ] = None
    scheduled_at: str | None = None
    delay: Annotated[
        Duration | None, Flag(("--delay", "--in"), "D", "not before this much time has passed")
    ] = None
    max_retries: Annotated[
        Retries | None, Flag(("--max-retries", "--retries"), "N", OPTIONS["max_retries"].help, "whole")
    ] = None
    no_retry_codes: Annotated[
        Annotated[list[Code], Meta(max_length=256)] | None,
        Flag(("--no-retry-on",), "CODES", "exit codes after which a job is not retried: 2,64", "codes"),
    ] = None
    backoff: Backoff | None = None
    backoff_base: Annotated[
        Base | None, Flag(("--backoff-base",), "X", OPTIONS["backoff_base"].help, "real")
    ] = None
    backoff_factor: Annotated[
        Duration | None, Flag(("--backoff-factor",), "D", "the factor of the retry delay, a duration")
    ] = None
    backoff_max: Annotated[Duration | None, Flag(("--backoff-max",), "D", OPTIONS["backoff_max"].help)] = None
    jitter: Annotated[
        Share | None, Flag(("--jitter",), "SHARE", f"0 to 1: {OPTIONS['jitter'].help}", "real")
    ] = None
    timeout: Annotated[Duration | None, Flag(("--timeout",), "D", "end the command after this time")] = None
    kill_grace: Annotated[Duration | None, Flag(("--kill-grace",), "D", OPTIONS["kill_grace"].help)] = None
    cwd: Annotated[str | None, Flag(("--cwd",), "DIR", "its working directory (default: here)", "path")] = (
        None
    )
    env: dict[str, str] | None = None
    umask: Annotated[int | str | None, Flag(("--umask",), "MASK", "its file mode mask: 022")] = None
    stdin: str | Bytes | None = None
    shell: Annotated[
        str | None, Flag(("--shell",), "SHELL", "run it with this shell instead of /bin/sh: 'bash -e'")
    ] = None
    unique_key: Annotated[
        Name | None,
        Flag(("--unique",), "KEY", "refuse the job while another job with this key has not ended"),
    ] = None
    after: Annotated[
        Annotated[list[str | After], Meta(max_length=10_000)] | None,
        Flag(
            ("--after",),
            "ID[:ok|any|failed]",
            "wait for this job to end well (ok), at all (any), badly (failed)",
            many=True,
        ),
    ] = None
    after_failure: Annotated[
        str | None,
        Flag(("--after-failure",), "WHAT", "if a parent does not end as wanted: cancel (default) or hold"),
    ] = None
    batch: Annotated[Name | None, Flag(("--batch",), "NAME", "name of a group of jobs")] = None
    tags: Annotated[
        Annotated[list[Name], Meta(max_length=100)] | None,
        Flag(("--tag",), "T", "a word by which to find the job", many=True),
    ] = None
    meta: Annotated[
        dict[str, Any] | None, Flag(("--meta",), "JSON", "a small JSON object to store with the job", "json")
    ] = None
    hold: Annotated[bool | None, Flag(("--hold",), "", "do not start before `queuectl release`")] = None
    output_limit: Annotated[
        int | str | None,
        Flag(("--output-limit",), "SIZE", "stored output per attempt, head and tail halves: 1MiB"),
    ] = None
    split: Annotated[
        bool | None, Flag(("--split",), "", "store stdout and stderr separately (their order is lost)")
    ] = None
    allow_detached: Annotated[
        bool | None,
        Flag(("--allow-detached",), "", "do not end the processes that the command leaves running"),
    ] = None
    retries: Retries | None = None
    label: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LONGEST_LABEL)] | None,
        Flag(("--label",), "LABEL", "the name under which `stats` counts it (default: its program)"),
    ] = None


def flags() -> Iterator[tuple[str, Flag]]:
    """The fields that the command line sets by a flag, in the order of the rows."""
    for name, annotation in JobRequest.__annotations__.items():
        for each in getattr(annotation, "__metadata__", ()):
            if isinstance(each, Flag):
                yield name, each


_FIELDS = list(JobRequest.__struct_fields__)
_TEXTS = ("queue", "run_at", "scheduled_at", "delay")
"""Fields that flags may fill with bytes that are not text. No other check finds this before the digest is made."""


@cache
def _decoder() -> msgspec.json.Decoder[JobRequest]:
    """The decoder for requests. Built at the first use: this takes a millisecond, and most commands are not JSON."""
    with held():
        return msgspec.json.Decoder(JobRequest)


def decode_request(text: str | bytes) -> JobRequest:
    """Decode a request from JSON. Raises InvalidInput for malformed JSON, unknown or repeated fields, bad values."""
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
    return _with_text(request)


def convert_request(fields: Mapping[str, Any]) -> JobRequest:
    """Convert a mapping of fields to a request. The rules are the same as for JSON."""
    try:
        with held():  # because msgspec builds its types at the first call
            request = msgspec.convert(fields, JobRequest)
    except msgspec.ValidationError as error:
        raise mistakes.explain(error, _FIELDS) from error
    for name in _TEXTS:
        check_text(name, getattr(request, name))
    return _with_text(request)


def text_of(request: JobRequest) -> str | None:
    """The standard input of a request that was decoded or converted."""
    assert not isinstance(request.stdin, Bytes)
    return request.stdin


def _with_text(request: JobRequest) -> JobRequest:
    """The request with its standard input as text, in which bytes that are not UTF-8 are lone surrogates."""
    if not isinstance(request.stdin, Bytes):
        return request
    from binascii import Error, a2b_base64

    try:
        data = a2b_base64(request.stdin.base64, strict_mode=True)
    except (Error, ValueError) as error:
        raise InvalidInput(f"stdin: not base64: {error}") from error
    return msgspec.structs.replace(request, stdin=data.decode("utf-8", "surrogateescape"))
