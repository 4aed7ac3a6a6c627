"""`queuectl doctor`: is the store, and is this host, in order? Read back and not assumed; exit 1 on a fault."""

import os
import platform
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from queuectl import __version__, bootstrap, config, trust
from queuectl.cli.render import wrapped
from queuectl.clock import Clock
from queuectl.domain.instant import format_age
from queuectl.domain.queue import is_sound
from queuectl.errors import CommandFailed, OutcomeUnknown, StoreError, StoreUnusable
from queuectl.service import maintenance, queries, shapes, unreadable
from queuectl.service.attention import attention
from queuectl.terminal import paint, safe

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session

CLOCK_TOLERANCE = 2.0
RESULT = len("FAULT")
LEAST_ROOM = 30
"""Columns that a text beside the names of the checks needs."""
COLOURS = {"ok": "green", "warn": "yellow", "FAULT": "red"}
DAMAGE_SHOWN = 100
"""Jobs that cannot be decoded that are named one by one."""


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


def doctor_options(parser: "Parser") -> None:
    """Whether to make the store."""
    parser.flag("--create", help="make the store where there is none")
    parser.example("queuectl doctor", "store settings, durability, clocks, workers, leftovers")


def doctor(session: "Session") -> int:
    """Look at everything; say what is wrong and what to do."""
    checks = [*_versions(), *_settings(session), *_store(session), *_queue(session), *_leftovers(session)]
    faults = [check for check in checks if not check.ok]
    if session.json:
        shown = [{"name": c.name, "ok": c.ok, "detail": c.detail, "hint": c.hint} for c in checks]
        session.emit(shapes.document(ok=not faults, checks=shown))
        return CommandFailed.exit_code if faults else 0
    session.out.writelines(line + "\n" for line in _lines(session, checks))
    if faults:
        session.err.write(f"queuectl: {len(faults)} fault{'' if len(faults) == 1 else 's'}\n")
    return CommandFailed.exit_code if faults else 0


def _lines(session: "Session", checks: Sequence[Check]) -> Iterator[str]:
    """One line for each check; on a terminal they are wrapped at its width (not with -v) and coloured by result."""
    names = max(len(check.name) for check in checks)
    for check in checks:
        if session.on_terminal and not session.args.verbose:
            yield from _for_eyes(session, check, names)
            continue
        hint = f" ({safe(check.hint)})" if check.hint else ""
        yield f"{'ok' if check.ok else 'FAULT':<{RESULT}}  {check.name:<{names}}  {safe(check.detail)}{hint}"


def _for_eyes(session: "Session", check: Check, names: int) -> Iterator[str]:
    """Beside the name, or below it where that leaves too little room. A hint has a line of its own, to be pasted."""
    word = ("warn" if check.hint else "ok") if check.ok else "FAULT"
    result = f"{word:<{RESULT}}"
    head = f"{paint(result, COLOURS[word]) if session.in_colour else result}  {check.name:<{names}}"
    indent = RESULT + 2 + names + 2
    if session.width - indent < LEAST_ROOM:
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
        else "process trees, escapees included"
    )
    yield Check("supervision", True, detail)


def _settings(session: "Session") -> Iterator[Check]:
    settings = session.settings
    own = [key for key, origin in settings.origins.items() if origin != "default"]
    said = ", ".join(f"{key}={settings.text(key)}" for key in own if key != "store") or "all defaults"
    yield Check("settings", True, said)


def _store(session: "Session") -> Iterator[Check]:
    said = session.store.describe(thorough=True)
    yield Check("store", True, said.url)
    yield Check("durability", True, said.durability)
    for name, value in said.details.items():
        yield Check(name, True, value)
    for fault in said.faults:
        yield Check("store fault", False, fault)
    if not session.absent:
        yield _write(session)
    yield from _damage(session)
    skew = (session.store.now() - Clock().now()).total_seconds()
    yield Check(
        "clock", abs(skew) <= CLOCK_TOLERANCE, f"the store's clock differs by {abs(skew):.3f} s", None
    )


def _write(session: "Session") -> Check:
    """A disk that is full, or a server that takes no writes, shows only when something is written."""
    try:
        maintenance.try_write(session.store)
    except (StoreError, OutcomeUnknown) as error:
        return Check("write", False, error.message, error.hint)
    return Check("write", True, "something was written and taken back")


def _damage(session: "Session") -> Iterator[Check]:
    """What is stored and cannot be decoded: it stops nobody, and a person has to look at it."""
    for each in islice(unreadable.every(session.store), DAMAGE_SHOWN):
        error = unreadable.refusal(each)
        yield Check("unreadable job", False, error.message, error.hint)
    settings = session.store.read_table("settings")
    for key, fault in config.senseless({key: entry.value for key, entry in settings.items()}).items():
        detail = f"the store's setting {key} is passed over: {fault}"
        yield Check("unreadable setting", False, detail, f"queuectl config unset {key}")
    for name, entry in session.store.read_table("queues").items():
        if entry.unreadable or not is_sound(entry.value):
            detail = f"the entry of queue {name} makes no sense: nothing is taken from it"
            yield Check("unreadable queue", False, detail, f"queuectl queue resume {quote(name)}")


def _queue(session: "Session") -> Iterator[Check]:
    """Does anybody work, and does nobody wait in vain?"""
    found = queries.status(session.store, session.settings)
    yield Check("live workers", True, str(sum(1 for item in found.workers if item.state != "lost")))
    for item in found.workers:
        if item.state != "lost":
            skew = item.worker.skew
            clock = "" if skew is None else f"; its host's clock differs by {skew:+.3f} s"
            yield Check(
                "worker", True, f"{item.worker.name} on {item.worker.host}, {item.worker.version}{clock}"
            )
    for queue in found.queues:
        if queue.oldest_due is not None:
            waiting = queue.jobs.get("pending", 0) + queue.jobs.get("failed", 0)
            age = format_age(found.now - queue.oldest_due)
            yield Check("oldest due job", True, f"for {age}, in queue {queue.name} with {waiting} waiting")
    for thing in attention(found, session.sources.unused):
        if thing.kind == "unreadable":  # told above, with those that no worker has met
            continue
        yield Check(thing.kind.replace("_", " "), not thing.fault, thing.text, thing.hint)


def _leftovers(session: "Session") -> Iterator[Check]:
    if session.absent:
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

    for leftover in dead_workers(Path(directory)):
        with leftover:
            how = "has left results behind" if leftover.has_results else "was killed"
            count = len(leftover.attempts)
            attempts = "1 attempt" if count == 1 else f"{count} attempts"
            detail = f"worker {leftover.name} {how}; its record names {attempts}"
            yield Check("leftover", False, detail, "the next queuectl worker start cleans up")


def _database_file(session: "Session") -> Iterator[Check]:
    """Whether a worker would run what this file says."""
    try:
        bootstrap.refuse_shared(session.store_url)
    except StoreUnusable as error:
        yield Check("database file", False, error.message, error.hint)
