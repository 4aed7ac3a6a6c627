"""Operations that are carried on behind their caller: request, read and stop them. `carrying.py` carries them on.

A request is idempotent by its id: the same request is the same operation, and another request with the id is refused.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from threading import Event
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from queuectl.clock import boottime
from queuectl.config import nearest
from queuectl.domain.ids import make_id
from queuectl.domain.instant import format_instant
from queuectl.domain.job import Job
from queuectl.domain.names import check_name
from queuectl.domain.operation import (
    ARGUMENTS,
    Arguments,
    Edit,
    OperationStatus,
    Request,
    entry_of,
    operation_of,
)
from queuectl.domain.where import Where, parse
from queuectl.errors import CommandFailed, Conflict, InvalidInput, NotFound
from queuectl.service import commands, matching, mistakes
from queuectl.service.changing import TRIES
from queuectl.service.matching import Preview
from queuectl.service.operation import RETRYABLE, among, not_ended
from queuectl.service.request.checks import is_text
from queuectl.service.times import time_of
from queuectl.store.protocol import Entry, Store, Swap

LAST_STEP = 2.0
"""Seconds that a stop waits for the counts of the running step."""
LOOK = 0.05
"""Seconds between two looks for them."""
Pause = Callable[[float], object]
"""Waits for so many seconds."""
_never = Event()

SWEPT = 20
"""Due entries in which a request looks for old operations."""


def new_id(now: datetime, random: Callable[[int], bytes]) -> str:
    """An id for an operation that is given none."""
    return make_id(now, int.from_bytes(random(8)) >> 4)


class Selected(NamedTuple):
    """The jobs of an operation: a filter, and a further condition."""

    where: Where
    also: Callable[[Job], bool] = lambda job: True


def operate(
    store: Store, id: str, request: Request, *, by: str, expect: int | None = None
) -> OperationStatus:
    """Store a new operation, or return the one with this id.

    Raises InvalidInput; Conflict if the id is that of another request, or if not exactly `expect` jobs match.
    """
    check_name("id", id)
    for _ in range(TRIES):
        if entry := store.read_table("operations", [id]).get(id):
            return _same(id, entry, request)
        forget_old(store)
        made = _made(store, id, request, by)
        if expect is not None:
            _refuse_unexpected(matching.count(store, selected_by(made).where), expect)
        if store.swap([Swap("operations", id, entry_of(made), 0, due=made.created_at)])[0]:
            return made
    raise CommandFailed(f"other processes change operation {id} too fast", "run the same command again")


def preview(store: Store, request: Request) -> Preview:
    """The jobs that an operation would change now. Changes nothing. Raises InvalidInput."""
    return matching.preview(store, selected_by(_made(store, "preview", request, "")).where)


def show(store: Store, id: str) -> OperationStatus:
    """One operation. Raises NotFound."""
    return _read(store, id)[0]


def all_of(store: Store) -> list[OperationStatus]:
    """All operations, the newest first. An entry that cannot be read is omitted."""
    found = (operation_of(id, entry.value) for id, entry in store.read_table("operations").items())
    return sorted((each for each in found if each), key=lambda each: each.created_at, reverse=True)


def stop(store: Store, id: str, pause: Pause = _never.wait) -> OperationStatus:
    """Stop an operation after its running step. What was done stays. An ended operation stays as it is.

    Waits a moment for the process that carries out the running step, so that its changes are counted.
    """
    for _ in range(TRIES):
        status, version = _read(store, id)
        if not status.is_running:
            return status
        now = store.now()
        stopped = status.stopped(now)
        if store.swap([Swap("operations", id, entry_of(stopped), version, due=stopped.forgotten_at)])[0]:
            return _with_last_step(store, stopped, pause) if status.is_carried(now) else stopped
    raise CommandFailed(f"other processes change operation {id} too fast", "run the same command again")


def until_ended(store: Store, id: str, wait: timedelta, pause: Pause = _never.wait) -> OperationStatus:
    """The operation when it has ended, or after this time. Raises NotFound."""
    deadline = boottime() + wait.total_seconds()
    while (status := show(store, id)).is_running and boottime() < deadline:
        pause(LOOK)
    return status


def forget_old(store: Store) -> None:
    """Delete some operations that ended long ago."""
    now = store.now()
    old = [
        Swap("operations", each.key, None, each.entry.version)
        for each in store.upcoming(SWEPT)
        if each.table == "operations"
        and each.due <= now
        and (status := operation_of(each.key, each.entry.value))
        and not status.is_running
    ]
    if old:
        store.swap(old)


def selected_by(status: OperationStatus) -> Selected:
    """The jobs of an operation. Raises InvalidInput for a filter that this program does not understand."""
    request = status.request
    where = parse(request.where, status.created_at)
    if request.verb == "cancel":
        living = not_ended(where)
        assert isinstance(living, Where)
        return Selected(living)
    if request.verb == "retry":
        begun = status.created_at + timedelta(microseconds=1)
        return Selected(
            among(where, RETRYABLE), lambda job: job.finished_at is None or job.finished_at < begun
        )
    return Selected(where)


def arguments_of(verb: str, args: Mapping[str, Any]) -> Arguments:
    """The arguments of a verb. Raises InvalidInput."""
    if verb not in ARGUMENTS:
        raise InvalidInput(f"an operation has no verb {verb!r}", nearest(verb, list(ARGUMENTS)))
    kind = ARGUMENTS[verb]
    try:
        return msgspec.convert(args, kind)
    except msgspec.ValidationError as error:
        fields = list(kind.__struct_fields__)
        hint = f"{verb} has {', '.join(fields)}" if fields else f"{verb} has no arguments"
        found = mistakes.explain(error, fields, hint=hint)
        found.message, found.pointer = f"args: {found.message}", f"/args{found.pointer or ''}"
        raise found from error


def _made(store: Store, id: str, request: Request, by: str) -> OperationStatus:
    now = store.now()
    made = OperationStatus(
        id=id, request=_completed(request, now), by=by, created_at=now, bound=store.last_number()
    )
    if (args := arguments_of(request.verb, made.request.args)) and isinstance(args, Edit) and args.queue:
        commands.known_queue(store, args.queue)
    where, also = selected_by(made)
    if request.limit is None:
        return made
    # So a step that is repeated after a crash selects no further jobs.
    last = 0
    for jobs, _ in matching.walk(store, replace(where, limit=request.limit), also):
        last = max((job.number for job in jobs), default=last)
    return replace(made, bound=last)


def _completed(request: Request, now: datetime) -> Request:
    """The request with its arguments as they are stored. Raises InvalidInput."""
    args = arguments_of(request.verb, request.args)
    if isinstance(args, Edit):
        if args == Edit():
            raise InvalidInput("args: no change is given", "give priority, run_at or queue")
        if args.run_at is not None:
            args = replace(args, run_at=format_instant(time_of("run_at", args.run_at, now)))
    if (reason := getattr(args, "reason", None)) and not ("\0" not in reason and is_text(reason)):
        raise InvalidInput("args: reason: the text cannot be stored")
    if request.limit is not None and request.limit < 1:
        raise InvalidInput(f"limit: {request.limit} is not a number from 1")
    return replace(request, args=msgspec.to_builtins(args))


def _same(id: str, entry: Entry, request: Request) -> OperationStatus:
    """The operation of an entry, if it has this request. Raises Conflict."""
    status = operation_of(id, entry.value)
    if status is None or status.request != _completed(request, status.created_at):
        raise Conflict(f"operation {id} exists with another content", "give another id, or none")
    return status


def _refuse_unexpected(count: int, expect: int) -> None:
    if count != expect:
        raise Conflict(f"{count} jobs match, not {expect}", "look at them again, and decide again")


def _read(store: Store, id: str) -> tuple[OperationStatus, int]:
    entry = store.read_table("operations", [id]).get(id)
    if entry is None:
        raise NotFound(f"there is no operation {id}", "for example: queuectl operation list")
    status = operation_of(id, entry.value)
    if status is None:
        raise CommandFailed(f"operation {id} cannot be read", "a newer queuectl wrote it, or it is damaged")
    return status, entry.version


def _with_last_step(store: Store, stopped: OperationStatus, pause: Pause) -> OperationStatus:
    for _ in range(int(LAST_STEP / LOOK)):
        pause(LOOK)
        status = show(store, stopped.id)
        if status.carried_until is None:
            return status
    return stopped
