"""An operation that is carried on behind its caller: its entry in the shared table, its arguments, and its counts.

The entry says what is left to do: all jobs with a number after `cursor` and up to `bound`. So any process can take the
next step, and none has to remember anything.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from queuectl.domain.names import LONGEST

Verb = Literal["cancel", "retry", "hold", "release", "edit", "delete"]
OperationState = Literal["running", "done", "stopped"]
OPERATION_STATES: tuple[OperationState, ...] = ("running", "done", "stopped")

REFUSALS_KEPT = 20
KEPT = timedelta(days=7)
"""How long an operation can be read after its end. Then its entry is deleted."""


class Cancel(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of `cancel`. The reason is stored with the jobs."""

    reason: Annotated[str, Meta(max_length=10_000)] | None = None


class Retry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of `retry`. `force`: also completed jobs. `alone`: without parents, and without waiting jobs."""

    force: bool = False
    alone: bool = False


class Release(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of `release`. `anyway`: without waiting for the parents."""

    anyway: bool = False


class Edit(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of `edit`: the new values. `run_at` is a time as text."""

    priority: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    run_at: str | None = None
    queue: Annotated[str, Meta(min_length=1, max_length=LONGEST)] | None = None


class NoArguments(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of `hold` and `delete`: none."""


Arguments = Cancel | Retry | Release | Edit | NoArguments

ARGUMENTS: dict[str, type[Arguments]] = {
    "cancel": Cancel,
    "retry": Retry,
    "hold": NoArguments,
    "release": Release,
    "edit": Edit,
    "delete": NoArguments,
}
"""The arguments of each verb."""


class RefusedJob(Struct, frozen=True):
    """A job that an operation could not change, and why."""

    id: str
    reason: str


class Request(Struct, frozen=True, kw_only=True):
    """What an operation is to do.

    where   the filter as text. Ages in it count from the time at which the operation was requested
    limit   at most so many jobs, those with the smallest numbers
    queues  no job of another queue is cancelled or revived with a selected job; None: every queue
    """

    verb: Verb
    where: str
    args: dict[str, Any] = {}
    limit: int | None = None
    queues: tuple[str, ...] | None = None


class Tally(Struct, frozen=True):
    """The numbers of jobs that a step, or a whole operation, reached and changed, and its first refusals.

    selected  jobs that the filter selected; `matched` also counts the jobs that were revived with them
    """

    selected: int = 0
    matched: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: tuple[RefusedJob, ...] = ()
    refused_count: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """The sums of both."""
        return Tally(
            self.selected + other.selected,
            self.matched + other.matched,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            (*self.refused, *other.refused)[:REFUSALS_KEPT],
            self.refused_count + other.refused_count,
        )


class OperationStatus(Struct, frozen=True, kw_only=True):
    """An operation as it is stored.

    created_at     the time of the request. A retry takes only jobs that ended before
    bound          the greatest number that is changed: jobs that are added later are not selected
    cursor         all jobs up to this number are done
    carried_until  until then the process that took the running step is expected to complete it
    """

    id: str
    request: Request
    by: str
    created_at: datetime
    bound: int
    cursor: int = 0
    state: OperationState = "running"
    tally: Tally = Tally()
    carried_until: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_running(self) -> bool:
        """Whether something is left to do."""
        return self.state == "running"

    @property
    def left(self) -> int | None:
        """How many more jobs may be selected; None: any number."""
        limit = self.request.limit
        return None if limit is None else max(limit - self.tally.selected, 0)

    def is_carried(self, now: datetime) -> bool:
        """Whether a process is expected to complete a step."""
        return self.carried_until is not None and self.carried_until > now

    def after_step(self, tally: Tally, cursor: int, now: datetime, *, is_complete: bool) -> "OperationStatus":
        """The operation after a step. One that was stopped meanwhile stays stopped."""
        found = replace(self, tally=self.tally.plus(tally), cursor=cursor, carried_until=None)
        return replace(found, state="done", ended_at=now) if is_complete and self.is_running else found

    def stopped(self, now: datetime) -> "OperationStatus":
        """The operation without further steps. The running step may still be counted."""
        return replace(self, state="stopped", ended_at=now)

    @property
    def forgotten_at(self) -> datetime | None:
        """When the entry of an ended operation is deleted."""
        return None if self.ended_at is None else self.ended_at + KEPT


def entry_of(status: OperationStatus) -> dict[str, Any]:
    """The operation as an entry of the shared table. The key of the entry is the id."""
    value: dict[str, Any] = msgspec.to_builtins(status)
    del value["id"]
    return value


def operation_of(id: str, value: dict[str, Any]) -> OperationStatus | None:
    """The operation of an entry; None if the entry is damaged, or of a version with more fields: it is left alone."""
    try:
        found = msgspec.convert({**value, "id": id}, OperationStatus)
    except msgspec.ValidationError:
        return None
    parts = ((value, OperationStatus), (value["request"], Request), (value.get("tally", {}), Tally))
    return found if all(each.keys() <= set(kind.__struct_fields__) for each, kind in parts) else None
