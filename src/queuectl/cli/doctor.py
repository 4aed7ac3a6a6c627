"""`queuectl doctor`: checks the store and this host. The exit code is 1 if there is a fault."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from queuectl.cli.render import wrapped
from queuectl.errors import CommandFailed
from queuectl.service.doctor import Check
from queuectl.service.shapes.diagnosis import checks as shape
from queuectl.terminal import paint, safe
from queuectl.this_host import checks as host_checks

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

RESULT = len("FAULT")
LEAST_WIDTH = 30
"""Minimum width in columns of the text beside the names of the checks."""
COLOURS = {"ok": "green", "warn": "yellow", "FAULT": "red"}


def doctor_options(parser: "Parser") -> None:
    """Add the arguments of `doctor`: whether to create the store."""
    parser.flag("--create", help="create the store if there is none")
    parser.example("queuectl doctor", "store settings, durability, clocks, workers, leftovers")


def doctor(session: "Session") -> int:
    """Run all checks; report faults and hints."""
    if session.args.create:
        session.queue.create()
    checks = host_checks.diagnosis(session.queue, session.store_url)
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
