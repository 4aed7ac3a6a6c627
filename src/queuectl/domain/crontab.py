"""Reads a crontab as cron reads it, and writes it as a file of schedules.

Variables hold for the lines below them. `SHELL` and `CRON_TZ` become the shell and the time zone; other variables
become `env`. Commands run in the home directory, as under cron. The first `%` that no backslash escapes begins the
standard input, and further ones are line ends. `@reboot` and `MAILTO` become comments that name what does the same.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from queuectl.domain.schedule_definition import define
from queuectl.domain.schedule_file import FileEntry, write_table
from queuectl.errors import InvalidInput

LINES = 100_000
_VARIABLE = re.compile(r"""\s*(["']?)([A-Za-z_][A-Za-z0-9_]*)\1\s*=\s*(.*?)\s*""", re.DOTALL)
_LINE = re.compile(r"\s*(@[A-Za-z_]+|(?:[^\s@#]\S*\s+){4}\S+)\s+(\S.*?)\s*")
_OTHER_NAMES = {"@annually": "@yearly"}
_PERCENT = re.compile(r"\\.|%|\\", re.DOTALL)
_WORD = re.compile(r"[^\s;|&<>()\"'`$\[\]{}]+")
_CHANGE_OF_DIRECTORY = re.compile(r"^\s*cd\s+\S+\s*(&&|;)")
_REDIRECTION = re.compile(r"\d*(>>|[<>])(&\d|\s*[^\s;|&<>]+)")
_WRAPPERS = frozenset(
    (
        "test",
        "sudo",
        "nice",
        "ionice",
        "exec",
        "env",
        "nohup",
        "sh",
        "bash",
        "dash",
        "command",
        "chronic",
        "if",
        "then",
    )
)


class Remark(Struct, frozen=True):
    """A comment of the file."""

    text: str


class CronLine(Struct, frozen=True):
    """A line of a crontab as a schedule."""

    name: str
    entry: FileEntry


class _Settings(Struct):
    """What variables have set so far."""

    env: dict[str, str]
    timezone: str
    shell: str | None
    cwd: str


def read_crontab(text: str, *, timezone: str, home: str, user: str | None = None) -> list[Remark | CronLine]:
    """The lines of a crontab as schedules and comments, in their order.

    `timezone`: that of cron. `home`: the directory in which cron starts commands. `user`: for the system form, with a
    column of users: the only user that is accepted. Raises InvalidInput that names the line.
    """
    found: list[Remark | CronLine] = []
    settings, names = _Settings({}, timezone, None, home), set[str]()
    for number, line in enumerate(_lines(text), 1):
        try:
            found += _read(line, settings, timezone, user, names)
        except InvalidInput as error:
            raise InvalidInput(f"line {number}: {error.message}", error.hint) from error
    return found


def write_file(lines: list[Remark | CronLine]) -> str:
    """A file of schedules."""
    parts = [
        "".join(f"# {_printable(part)}".rstrip() + "\n" for part in each.text.splitlines())
        if isinstance(each, Remark)
        else write_table(each.name, each.entry)
        for each in lines
    ]
    return "\n".join(parts)


def _printable(text: str) -> str:
    """The text without control characters, which TOML forbids in comments."""
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in text)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if len(lines) > LINES:
        raise InvalidInput(f"the crontab has more than {LINES} lines")
    return lines


def _read(
    line: str, settings: _Settings, timezone: str, user: str | None, names: set[str]
) -> Iterator[Remark | CronLine]:
    if not line.strip():
        return
    if line.lstrip().startswith("#"):
        yield Remark(line.strip().lstrip("#").strip())
    elif variable := _VARIABLE.fullmatch(line):
        yield from _set(settings, variable[2], _unquoted(variable[3]), timezone)
    else:
        yield _scheduled(line, settings, user, names)


def _set(settings: _Settings, name: str, value: str, timezone: str) -> Iterator[Remark]:
    if name == "MAILTO":
        if value:
            yield Remark(_mail(value))
    elif name == "SHELL":
        settings.shell = None if value in ("", "/bin/sh") else value
    elif name == "CRON_TZ":
        settings.timezone = value or timezone
    else:
        settings.env = {**settings.env, name: value}
        settings.cwd = value if name == "HOME" else settings.cwd


def _mail(value: str) -> str:
    return (
        f"MAILTO={value}: queuectl sends no mail. A hook does, for jobs that are dead:\n"
        f"queuectl hook add mail --on dead -- mail -s dead {value}"
    )


def _scheduled(line: str, settings: _Settings, user: str | None, names: set[str]) -> Remark | CronLine:
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise InvalidInput(
            f"{line.strip()[:80]!r} is not a line of a crontab", "five fields, then the command"
        )
    when, rest = " ".join(parts[1].split()), parts[2]
    command, stdin = _percent(rest if user is None else _of_user(rest, user))
    if when.lower() == "@reboot":
        return Remark(f"@reboot {command}\n{_REBOOT}")
    when = _OTHER_NAMES.get(when.lower(), when)
    given = {"when": when, "timezone": settings.timezone, "job": _job(command, stdin, settings)}
    entry = FileEntry(definition=define(given, timezone=settings.timezone))
    return CronLine(_name(command, when, names), entry)


_REBOOT = (
    "A start of the host is not a time. Let the service manager run `queuectl enqueue` with this command, for example "
    "a systemd unit of Type=oneshot."
)


def _job(command: str, stdin: str, settings: _Settings) -> dict[str, Any]:
    optional = {"shell": settings.shell, "env": settings.env, "stdin": stdin}
    return {"command": command, "cwd": settings.cwd} | {
        key: value for key, value in optional.items() if value
    }


def _of_user(rest: str, user: str) -> str:
    """The command of a line of the system form. Raises InvalidInput for the line of another user."""
    named, *words = rest.split(maxsplit=1)
    if not words:
        raise InvalidInput(
            f"{rest[:80]!r} has no user and command", "the system form has a column with the user"
        )
    if named != user:
        raise InvalidInput(
            f"the line is for the user {named!r}, and you are {user!r}",
            "import it as that user: jobs run as the user of the worker",
        )
    return words[0]


def _percent(rest: str) -> tuple[str, str]:
    """The command and the standard input, which ends with a newline. Only `\\%` loses its backslash."""
    parts = _PERCENT.sub(lambda found: {"%": "\0", "\\%": "%"}.get(found[0], found[0]), rest).split("\0")
    command, stdin = parts[0].strip(), "\n".join(parts[1:])
    if not command:
        raise InvalidInput("there is no command before the first %", "write \\% for a percent sign")
    return command, stdin if not stdin or stdin.endswith("\n") else stdin + "\n"


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'" else value


def _name(command: str, when: str, names: set[str]) -> str:
    """A name made of the command, so that it stays the same when lines are moved or their times change.

    A second line with the same command gets a name that depends on its time too.
    """
    digests = (_digest(command), _digest(f"{when} {command}"))
    candidates = [f"{_slug(command)}-{digest}" for digest in digests]
    candidates += [f"{candidates[1]}-{count}" for count in range(2, len(names) + 3)]
    name = next(each for each in candidates if each not in names)
    names.add(name)
    return name


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=4).hexdigest()[:6]


def _slug(command: str) -> str:
    """The program and its first argument that is no option, without directories."""
    text = _REDIRECTION.sub("", _CHANGE_OF_DIRECTORY.sub("", command))
    words = [word for word in _WORD.findall(text) if not word.startswith("-") and "=" not in word]
    named = [re.sub(r"[^A-Za-z0-9._-]+", "-", word.rstrip("/").rpartition("/")[2]) for word in words]
    useful = [word for word in named if word.strip("._-0123456789") and word not in _WRAPPERS]
    return "-".join(useful[:2]).strip("._-")[:40].rstrip("._-") or "job"
