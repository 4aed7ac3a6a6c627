"""`queuectl doctor`: checks the store and this host. The exit code is 1 if there is a fault."""

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from queuectl import __version__, bootstrap, trust
from queuectl.cli.render import wrapped
from queuectl.errors import CommandFailed, StoreUnusable
from queuectl.service.doctor import Check
from queuectl.service.shapes.diagnosis import checks as shape
from queuectl.terminal import paint, safe

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

CLOCK_TOLERANCE = 2.0
RESULT = len("FAULT")
LEAST_WIDTH = 30
"""Minimum width in columns of the text beside the names of the checks."""
COLOURS = {"ok": "green", "warn": "yellow", "FAULT": "red"}
DAMAGE_SHOWN = 100
"""Maximum number of unreadable jobs that are listed one by one."""


def doctor_options(parser: "Parser") -> None:
    """Add the arguments of `doctor`: whether to create the store."""
    parser.flag("--create", help="create the store if there is none")
    parser.example("queuectl doctor", "store settings, durability, clocks, workers, leftovers")


def doctor(session: "Session") -> int:
    """Run all checks; report faults and hints."""
    if session.args.create:
        session.queue.create()
    checks = [*_versions(), *_settings(session), *session.queue.doctor(), *_leftovers(session)]
    faults = [check for check in checks if not check.ok]
    if session.json:
        session.emit(shape(checks))
        return CommandFailed.exit_code if faults else 0
    session.out.writelines(line + "\n" for line in _lines(session, checks))
    if faults:
        session.err.write(f"queuectl: {len(faults)} fault{'' if len(faults) == 1 else 's'}\n")
    return CommandFailed.exit_code if faults else 0


def _lines(session: "Session", checks: Sequence[Check]) -> Iterator[str]:
    """One line for each check. On a terminal it is wrapped at the width (not with -v) and coloured by the result."""
    names = max(len(check.name) for check in checks)
    for check in checks:
        if session.on_terminal and not session.args.verbose:
            yield from _for_eyes(session, check, names)
            continue
        hint = f" ({safe(check.hint)})" if check.hint else ""
        yield f"{'ok' if check.ok else 'FAULT':<{RESULT}}  {check.name:<{names}}  {safe(check.detail)}{hint}"


def _for_eyes(session: "Session", check: Check, names: int) -> Iterator[str]:
    """The text beside the name, or below it on a narrow terminal. A hint has its own line, for copying."""
    word = ("warn" if check.hint else "ok") if check.ok else "FAULT"
    result = f"{word:<{RESULT}}"
    head = f"{paint(result, COLOURS[word]) if session.in_colour else result}  {check.name:<{names}}"
    indent = RESULT + 2 + names + 2
    if session.width - indent < LEAST_WIDTH:
        yield head.rstrip()
        indent, head = RESULT + 2, ""
    for line in wrapped(safe(check.detail), session.width - indent, whole_words=True):
        yield f"{head}  {line}" if head else " " * indent + line
        head = ""
    if check.hint:
        yield f"{' ' * (RESULT + 2)}{safe(check.hint)}"


def _versions() -> Iterator[Check]:
    yield Check(
        "queuectl",
        True,
        f"{__version__} on Python {platform.python_version()}, {platform.system()} {platform.release()}",
    )
    from queuectl.worker.host import process_table

    missing = process_table.missing()
    detail = (
        f"without {', '.join(missing)}: process groups only"
        if missing
        else "process trees, also processes that leave the group"
    )
    yield Check("supervision", True, detail)


def _settings(session: "Session") -> Iterator[Check]:
    settings = session.queue.settings()
    own = [key for key, origin in settings.origins.items() if origin != "default"]
    said = ", ".join(f"{key}={settings.text(key)}" for key in own if key != "store") or "all defaults"
    yield Check("settings", True, said)


def _leftovers(session: "Session") -> Iterator[Check]:
    if session.queue.absent or session.is_remote:
        return
    yield from _database_file(session)
    directory = bootstrap.worker_directory(session.store_url)
    if not os.path.lexists(directory):
        return
    try:
        trust.check_private(directory)
    except trust.Untrusted as error:
        yield Check("worker files", False, error.message, error.hint)
        return
    yield Check("worker files", True, f"{directory}, mode 700")
    from queuectl.worker.host.liveness import dead_workers

    for dead in dead_workers(Path(directory)):
        with dead:
            how = "has left results behind" if dead.has_results else "was killed"
            count = len(dead.attempts)
            attempts = "1 attempt" if count == 1 else f"{count} attempts"
            detail = f"worker {dead.name} {how}; its record names {attempts}"
            yield Check("leftover", False, detail, "the next queuectl worker start cleans up")


def _database_file(session: "Session") -> Iterator[Check]:
    """Check whether other users may write to the database file, which prevents the start of a worker."""
    try:
        bootstrap.refuse_shared(session.store_url)
    except StoreUnusable as error:
        yield Check("database file", False, error.message, error.hint)
