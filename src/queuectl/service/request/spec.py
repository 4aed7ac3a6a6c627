"""Turns a request into the spec of a job: adds defaults, and computes a digest of the request."""

import os
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from queuectl.config import Settings
from queuectl.domain.instant import in_range
from queuectl.domain.job import Parent, Spec
from queuectl.domain.names import check_name
from queuectl.domain.retry import RetryPolicy
from queuectl.errors import InvalidInput
from queuectl.service.request import checks
from queuectl.service.request.fields import After, Backoff, JobRequest, text_of
from queuectl.service.times import time_of

try:  # `hashlib` loads OpenSSL, which costs every short command 10 ms. This module has the same function.
    from _blake2 import blake2b
except ImportError:  # pragma: no cover
    from hashlib import blake2b

_encoder = msgspec.json.Encoder(order="deterministic")


class Defaults(Struct, frozen=True):
    """The values that complete a request: the effective settings, and the working directory of the client."""

    settings: Settings
    cwd: str | None

    def retry(self) -> RetryPolicy:
        """The retry policy of a request that sets no part of it."""
        s = self.settings
        return RetryPolicy(
            max_retries=s.max_retries,
            max_losses=s.max_losses,
            base=s.backoff_base,
            factor=timedelta(milliseconds=s.backoff_factor_ms),
            longest=s.backoff_max,
            jitter=s.jitter,
        )


def working_directory() -> str | None:
    """The working directory of this process, or None if it was deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def content_of(request: JobRequest, cwd: str | None) -> str:
    """The digest that decides whether two requests with one id are the same: all given fields except the id.

    A working directory counts as it is at last: a client of a server names what is a default without a server.
    """
    stdin = text_of(request)
    if stdin is not None and not checks.is_text(stdin):
        stdin = f"bytes {checks.bytes_of(stdin).hex()}"
    asked = msgspec.structs.replace(request, id=None, stdin=stdin, cwd=None)
    given = _encoder.encode([asked, os.path.join(cwd or "", request.cwd) if request.cwd else cwd])
    return str(blake2b(given, digest_size=16).hexdigest())


def policy_key(request: JobRequest) -> bytes | None:
    """A key that is equal for requests whose specs differ only in the command; None if the request has no key.

    Flags can contain bytes that are not text. Such a request has no key, and `spec_of` names the field.
    """
    try:
        return _encoder.encode(msgspec.structs.replace(request, **_APART))
    except UnicodeEncodeError:
        return None


_APART: dict[str, Any] = dict.fromkeys(
    ("id", "command", "argv", "payload", "queue", "priority", "run_at", "scheduled_at", "delay", "hold")
)


def spec_of(request: JobRequest, defaults: Defaults) -> Spec:
    """The complete spec. Raises InvalidInput for faults that the types of the fields do not catch."""
    command, argv = command_of(request)
    settings = defaults.settings
    return Spec(
        command=command,
        argv=argv,
        shell=checks.shell_of(request.shell),
        cwd=checks.cwd_of(request.cwd, defaults.cwd),
        env=checks.env_of(request.env),
        umask=checks.umask_of(request.umask),
        stdin=checks.stdin_of(text_of(request)),
        timeout=checks.timeout_of(request.timeout) if request.timeout is not None else settings.timeout,
        kill_grace=checks.duration_of("kill_grace", request.kill_grace, settings.kill_grace),
        retry=_retry_of(request, defaults.retry()),
        output_limit=checks.output_limit_of(request.output_limit, settings.output_limit),
        split=bool(request.split),
        allow_detached=bool(request.allow_detached),
        unique_key=checks.check_text("unique_key", request.unique_key),
        after=tuple(_parent_of(item) for item in request.after or ()),
        after_failure=checks.after_failure_of(request.after_failure),
        batch=None if request.batch is None else check_name("batch", request.batch),
        tags=tuple(check_name("tag", tag) for tag in request.tags or ()),
        meta=checks.meta_of(request.meta),
        boost=settings.priority_boost,
        content=content_of(request, defaults.cwd),
        label=checks.check_text("label", request.label),
    )


def start_of(request: JobRequest, now: datetime) -> datetime:
    """The earliest start that a request sets; `now` if it sets none. Raises InvalidInput."""
    if request.run_at is None and request.scheduled_at is None and request.delay is None:
        return now
    given = [name for name in ("run_at", "scheduled_at", "delay") if getattr(request, name) is not None]
    if len(given) > 1:
        raise InvalidInput(f"{given[0]} and {given[1]} say the same thing twice", "give one of them")
    if request.delay is not None:
        return in_range(now + checks.duration_of("delay", request.delay, timedelta(0)))
    return time_of(given[0], request.run_at or request.scheduled_at or "", now)


def command_of(request: JobRequest) -> tuple[str | None, tuple[str, ...] | None]:
    """The shell command or the argument list; exactly one of the two. Raises InvalidInput."""
    if request.command is not None and request.argv is None and request.payload is None:
        return checks.check_command(request.command), None
    given = [name for name in ("command", "argv", "payload") if getattr(request, name) is not None]
    if len(given) != 1:
        wrong = " and ".join(given) + " are both given" if given else "there is no command"
        raise InvalidInput(wrong, "give one of command (for a shell) and argv (without one)")
    if request.argv is not None:
        return None, checks.argv_of(request.argv)
    command = request.payload.command if request.payload else request.command or ""
    return checks.check_command(command), None


def _parent_of(item: str | After) -> Parent:
    return checks.parent(item.job, item.on) if isinstance(item, After) else checks.parent_of(item)


def _retry_of(request: JobRequest, base: RetryPolicy) -> RetryPolicy:
    backoff = request.backoff or Backoff()
    if request.retries is not None and request.max_retries is not None:
        raise InvalidInput("retries and max_retries say the same thing twice", "give one of them")
    return RetryPolicy(
        max_retries=_first(request.max_retries, request.retries, base.max_retries),
        max_losses=base.max_losses,
        base=_first(request.backoff_base, backoff.base, base.base),
        factor=checks.duration_of(
            "backoff_factor", _first(request.backoff_factor, backoff.factor, None), base.factor
        ),
        longest=checks.duration_of(
            "backoff_max", _first(request.backoff_max, backoff.max, None), base.longest
        ),
        jitter=_first(request.jitter, backoff.jitter, base.jitter),
        no_retry_codes=tuple(request.no_retry_codes or ()),
    )


def _first(*values: Any) -> Any:
    """The first of these values that was given."""
    return next((value for value in values if value is not None and value is not UNSET), None)
