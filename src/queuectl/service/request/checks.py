"""The checks of single fields of a request, in addition to their types. All raise InvalidInput."""

import os
from datetime import timedelta
from typing import Any

import msgspec

from queuectl.domain.dependency import parse_dependency, refuse_several
from queuectl.domain.ids import check_id
from queuectl.domain.job import Parent
from queuectl.domain.quantity import parse_duration, parse_size, seconds
from queuectl.errors import InvalidInput

COMMAND_LIMIT = 1024 * 1024
ARGUMENT_LIMIT = 131_071
"""The length of the longest argument or environment entry on Linux, without its terminating NUL."""

ENVIRONMENT_LIMIT = 512 * 1024
"""All variables of one job. Linux gives a program a quarter of its stack limit (of 8 MiB) for arguments and environment
together; the arguments of a job may have 1 MiB, and the environment of the worker is added."""
_VARIABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


def check_command(command: str) -> str:
    """Return the command if a shell can run it."""
    if not command.strip():
        raise InvalidInput("the command is empty")
    size = len(_utf8("command", command))
    if size > COMMAND_LIMIT:
        raise InvalidInput(
            f"the command has {size} bytes, more than {COMMAND_LIMIT}", "put it into a file and run the file"
        )
    return command


def argv_of(argv: list[str]) -> tuple[str, ...]:
    """Check and return the arguments of a program that runs without a shell."""
    if not argv[0].strip():
        raise InvalidInput("the command is empty")
    sizes = [len(_utf8("argv", word)) for word in argv]
    if sum(sizes) > COMMAND_LIMIT:
        raise InvalidInput(f"the arguments have {sum(sizes)} bytes, more than {COMMAND_LIMIT}")
    if max(sizes) > ARGUMENT_LIMIT:
        raise InvalidInput(f"one argument has {max(sizes)} bytes; the system allows {ARGUMENT_LIMIT}")
    return tuple(argv)


def shell_of(shell: str | None) -> str | None:
    """Check the shell and its options, and return them as words."""
    if shell is not None and not shell.strip():
        raise InvalidInput("shell: may not be empty", "leave it out for /bin/sh")
    return check_text("shell", shell)


def cwd_of(asked: str | None, here: str | None) -> str | None:
    """The working directory. A relative one is relative to the directory of the client, not to that of a worker."""
    return check_text("cwd", os.path.join(here or "", asked) if asked else here)


def env_of(env: dict[str, str] | None) -> dict[str, str]:
    """Check and return the environment variables of the command."""
    total = 0
    for name, value in (env or {}).items():
        if not name or not _VARIABLE.issuperset(name) or name[0] in "0123456789":
            raise InvalidInput(
                f"env: {_cut(name)!r} is not a variable's name",
                "use letters, digits and _, not a digit first: sh does not pass other names to its commands",
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


def umask_of(umask: int | str | None) -> int | None:
    """The file mode mask, from a number or octal text."""
    if umask is None:
        return None
    try:
        value = int(umask, 8) if isinstance(umask, str) else umask
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        raise InvalidInput(f"umask: {umask!r} is not a mask", 'write it as octal text: "022"')
    return value


def stdin_of(text: str | None) -> bytes | None:
    """Check the standard input of the command, and return it as bytes."""
    if text is None:
        return None
    data = bytes_of(text)
    if len(data) > COMMAND_LIMIT:
        raise InvalidInput(f"stdin has {len(data)} bytes, more than {COMMAND_LIMIT}")
    return data


def bytes_of(text: str) -> bytes:
    """The bytes of a text in which bytes that are not UTF-8 are lone surrogates."""
    return text.encode("utf-8", "surrogateescape")


def is_text(text: str) -> bool:
    """Whether a text contains no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def timeout_of(value: float | str) -> timedelta | None:
    """The time limit of the command. None for the word `none`."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return None
    limit = duration_of("timeout", value, timedelta(0))
    if not limit:
        raise InvalidInput("timeout: 0 would end the command before it starts", "leave it out for no limit")
    return limit


def output_limit_of(value: int | str | None, default: int) -> int:
    """Check and return the number of bytes of output to store."""
    if value is None:
        return default
    size = parse_size(value) if isinstance(value, str) else value
    if not 0 <= size <= 1024**3:
        raise InvalidInput(f"output_limit: {value} is out of range", "from 0 to 1GiB")
    return size


def parent_of(text: str) -> Parent:
    """A parent written as `ID` or `ID:any`."""
    refuse_several(text)
    return parent(*parse_dependency(text))


def parent(job: str, on: str) -> Parent:
    """A parent, with the wanted ending."""
    if on not in ("ok", "any", "failed"):
        raise InvalidInput(f"after: {on!r} is not ok, any or failed")
    return Parent(check_id(job), on)  # type: ignore[arg-type]


def after_failure_of(value: str | None) -> Any:
    """Check and return what happens to the job if a parent does not end as wanted."""
    if value not in (None, "cancel", "hold"):
        raise InvalidInput(f"after_failure: {value!r} is not cancel or hold")
    return value or "cancel"


def meta_of(meta: dict[str, Any] | None) -> dict[str, Any]:
    """Check `meta` and return it ({} for None). Raises InvalidInput if it is too long or a store cannot keep it."""
    text = msgspec.json.encode(meta) if meta else b""
    if len(text) > 16 * 1024:
        raise InvalidInput("meta has more than 16 KiB")
    if b"\\u0000" in text.replace(b"\\\\", b""):  # stores with a JSON type refuse NUL
        raise InvalidInput("meta: contains a NUL byte")
    return meta or {}


def duration_of(field: str, value: float | str | None, default: timedelta) -> timedelta:
    """The duration that a field sets, or the default."""
    if value is None:
        return default
    try:
        return parse_duration(value) if isinstance(value, str) else seconds(value)
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error.message}", error.hint) from error


def check_text(field: str, value: str | None) -> str | None:
    """Return the text if every store can keep it and every program can receive it."""
    if isinstance(value, str):
        _utf8(field, value)
    return value


def _utf8(field: str, value: str) -> bytes:
    """The UTF-8 bytes of a text. Raises InvalidInput for NUL or lone surrogates."""
    if "\0" in value:
        raise InvalidInput(f"{field}: contains a NUL byte")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{field}: not valid UTF-8 (character {error.start})") from error
