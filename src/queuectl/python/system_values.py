"""The return values of the Python API about queues, workers, settings and the store: immutable, with the names of the
JSON.

Times are aware and in UTC.
"""

from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from msgspec import Struct, convert

from queuectl.config import OPTIONS, Settings
from queuectl.domain.job import Progress, State
from queuectl.domain.worker import Slot as ReportedSlot
from queuectl.service import shapes
from queuectl.service.doctor import Check as Check
from queuectl.service.explain import Explanation as Explained
from queuectl.service.queue_status import QueueStatus as StoredQueue
from queuectl.service.stats import Stats as Stats
from queuectl.service.stats import StatsRow as StatsRow
from queuectl.service.status import Kind
from queuectl.service.status import Status as StoredStatus
from queuectl.service.worker_status import WorkerStatus as StoredWorker


class Explanation(Struct, frozen=True):
    """Sentences about a job: `why` it is in its state, and what happens `next` or can be done."""

    job: str
    state: State
    why: tuple[str, ...]
    next: tuple[str, ...]
    number: int


class QueueStatus(Struct, frozen=True, kw_only=True):
    """One queue. `limit`: how many of its jobs run at once at most; None is without limit. `jobs`: counts by state.

    `reason`: why a person paused it. `version`: of its pause and limit; 0 if they were never set.
    """

    name: str
    paused: bool
    limit: int | None
    pending: int
    processing: int
    jobs: dict[State, int]
    reason: str | None
    version: int


class WaitingQueue(QueueStatus, frozen=True, kw_only=True):
    """One queue of a `Status`. `oldest_due`: since when its longest waiting job has been due."""

    oldest_due_seconds: float | None
    oldest_due: datetime | None


class Slot(Struct, frozen=True):
    """One slot of a worker with the job that runs in it, or None.

    stopped   a process of the command is stopped
    progress  what the command last reported
    """

    slot: int
    job: str | None
    since: datetime | None
    number: int | None
    command: str | None
    stopped: bool
    progress: Progress | None


class Reported(Struct, frozen=True):
    """The state of a worker and its slots, as the worker itself reported them with its last heartbeat."""

    state: Literal["running", "draining", "paused"]
    slots: tuple[ReportedSlot, ...]


class Worker(Struct, frozen=True, kw_only=True):
    """One worker.

    queues         the queues that it serves; empty means all
    state          "running", "draining", "paused", or "lost" when its heartbeats are missing
    skew           seconds by which the clock of its host is ahead of the clock of the store
    claimed_ahead  jobs that it has claimed and that wait for a slot
    count          the number of its slots
    boot_id        identifies its host until the next boot; `directory` identifies its files
    claimed_at     for each queue, the time of the newest claim that took a job
    """

    id: str
    name: str
    host: str
    holder_pid: int
    agent_pid: int
    version: str
    queues: tuple[str, ...]
    started_at: datetime
    last_heartbeat: datetime | None
    state: Literal["running", "draining", "paused", "lost"]
    note: str | None
    skew: float | None
    clock_jump: float | None
    slots: tuple[Slot, ...]
    claimed_ahead: int
    count: int
    boot_id: str
    directory: str | None
    claimed_at: dict[str, datetime]
    reported: Reported


class StoreStatus(Struct, frozen=True):
    """The URL of the store without its password, and its durability word."""

    url: str
    durability: str


class SlotCounts(Struct, frozen=True):
    """The slots of all live workers: `live` in all, `processing` with a job, `idle` without one."""

    live: int
    processing: int
    idle: int


class ClaimsWithoutSlot(Struct, frozen=True):
    """Running jobs in no slot of a live worker: claimed ahead by a live worker, or held by a lost one."""

    claimed_ahead: int
    held_by_lost: int


class LastHour(Struct, frozen=True):
    """Jobs of the last hour: failed ones that wait for their retry, and dead ones (None: they are in the archive)."""

    retries: int
    deaths: int | None


class Attention(Struct, frozen=True):
    """One thing that needs a person. `hint` is a command. `fault`: `doctor` counts it as a fault."""

    kind: Kind
    text: str
    hint: str | None
    fault: bool


class Status(Struct, frozen=True, kw_only=True):
    """The whole system at a glance. `jobs` has a count for each state, and their sum as `total`."""

    store: StoreStatus
    jobs: dict[State | Literal["total"], int]
    queues: tuple[WaitingQueue, ...]
    slots: SlotCounts
    without_slot: ClaimsWithoutSlot
    workers: tuple[Worker, ...]
    last_hour: LastHour
    attention: tuple[Attention, ...]
    now: datetime


class Setting(Struct, frozen=True):
    """One setting: its value, and where the value comes from. Sizes are bytes."""

    key: str
    value: int | float | str | timedelta | None
    origin: str
    help: str


class Diagnosis(Struct, frozen=True):
    """The results of all checks. `ok`: no check failed."""

    ok: bool
    checks: tuple[Check, ...]


_Value = TypeVar("_Value")


def _of(document: dict[str, Any], kind: type[_Value]) -> _Value:
    """A document of `service/shapes.py` as a value, so that the names are the same."""
    return convert(document, kind)


def status_of(status: StoredStatus) -> Status:
    """Convert the state of the system to the type of the Python API."""
    return _of(shapes.status(status), Status)


def explanation_of(explained: Explained) -> Explanation:
    """Convert the explanation of a job to the type of the Python API."""
    why, then = tuple(explained.why), tuple(explained.next)
    return Explanation(explained.id, explained.state, why, then, explained.number)


def queue_of(queue: StoredQueue) -> QueueStatus:
    """Convert a queue to the type of the Python API."""
    return _of(shapes.queue(queue), QueueStatus)


def worker_of(worker: StoredWorker) -> Worker:
    """Convert a worker to the type of the Python API."""
    return _of(shapes.worker(worker), Worker)


def setting_of(key: str, settings: Settings, url: str) -> Setting:
    """A setting by its key. `url` is the URL of the store without its password, the value of `store`."""
    value = url if key == "store" else settings.value(key)
    return Setting(key, value, settings.origins[key], OPTIONS[key].help)
