"""The return values of the Python API about schedules: immutable, with the names of the JSON.

Durations are `timedelta`, times are aware and in UTC.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from msgspec import Struct, convert

from queuectl.domain.job import State
from queuectl.domain.schedule import Pause, Verdict
from queuectl.domain.schedule_definition import Catchup, Overlap
from queuectl.domain.schedule_difference import Difference as Difference
from queuectl.service.schedules.preview import Preview as Preview
from queuectl.service.schedules.reading import Decided, LastRun, ScheduleStatus
from queuectl.service.shapes import schedules as shapes


class Schedule(Struct, frozen=True, kw_only=True):
    """A copy of one schedule at the time of reading.

    description  the rule in words; None if this host does not know the time zone: see `problem`
    next         the next instants; None if nothing will fire: it is paused, or has ended
    last         the newest job that it added for an instant; `history` has the others
    owner        whose file contains it; None if a person added it
    job          the template: arguments of `Queue.enqueue`, with the names of the JSON
    anchor       the time from which `@every` counts
    due          the time from which a worker has something to decide
    notes        what a reader of the rule may not expect
    """

    name: str
    when: str
    description: str | None
    timezone: str
    next: tuple[datetime, ...] | None
    last: LastRun | None
    paused: Pause | None
    overlap: Overlap
    catchup: Catchup
    catchup_window: timedelta
    jitter: timedelta
    start: datetime | None
    end: datetime | None
    not_on: tuple[date, ...]
    owner: str | None
    job: dict[str, Any]
    anchor: datetime
    due: datetime | None
    ended: bool
    notes: tuple[str, ...]
    problem: str | None
    version: int


class Decision(Struct, frozen=True, kw_only=True):
    """What became of an instant, or of `count` instants from `first` to `instant`.

    decision  fired, skipped, missed, replaced or failed
    job       the id of the job that was added, and `state`, its state now; None if there is no such job
    reason    why it failed
    """

    instant: datetime
    decided_at: datetime
    decision: Verdict
    count: int
    first: datetime | None
    job: str | None
    state: State | None
    reason: str | None


def schedule_of(status: ScheduleStatus) -> Schedule:
    """Convert a schedule to the type of the Python API."""
    spans = {name: getattr(status.schedule, name) for name in ("catchup_window", "jitter")}
    return convert({**shapes.schedule(status), **spans}, Schedule)


def decisions_of(found: Sequence[Decided]) -> list[Decision]:
    """Convert decisions to the type of the Python API."""
    return convert(shapes.history(found)["decisions"], list[Decision])
