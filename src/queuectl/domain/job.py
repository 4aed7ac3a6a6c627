"""The job and its parts. All are frozen values; a change makes a copy (`msgspec.structs.replace`).

`Spec` is what was requested and never changes; `Job` adds what changes. Times are aware and in UTC, durations are
`timedelta`; only counts, codes and bytes are plain numbers.

`gc=False`: none of these values can be part of a reference cycle, so the garbage collector skips them (measured: this
saves a tenth of the time of a bulk add).
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

from queuectl.domain.retry import RetryPolicy

State = Literal["pending", "processing", "completed", "failed", "dead", "cancelled", "blocked", "held"]
STATES: tuple[State, ...] = (
    "pending",
    "processing",
    "completed",
    "failed",
    "dead",
    "cancelled",
    "blocked",
    "held",
)
TERMINAL: frozenset[State] = frozenset(("completed", "dead", "cancelled"))
WAITING: frozenset[State] = frozenset(("pending", "failed"))
"""The states of a job that a worker can claim when it is due."""

Want = Literal["ok", "any", "failed"]
"""The wanted ending of a parent: completed (`ok`), ended in any way (`any`), or ended without success (`failed`)."""

Cause = Literal["person", "parent", "skipped", "max_fails", "overlap", "moved"]
"""Why a job is cancelled or held: a person did it; a parent did not end as wanted; it was meant for a failure that
did not happen; its batch had too many failures; its schedule replaced it; an import has not finished it."""

HISTORY_KEPT = 20
"""Number of finished attempts that a job keeps. Older attempts are only counted."""


LONGEST_LABEL = 64
"""Maximum number of characters of a label."""


class Parent(Struct, frozen=True):
    """A parent: a job that another job waits for, and the wanted ending."""

    job: str
    on: Want = "ok"


class Spec(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What to run and how. A spec never changes after the enqueue.

    Exactly one of `command` (for a shell) and `argv` (run without one) is set. `content` is the digest of the
    request: the same id with the same content is the same job, with other content a conflict (guarantee G2).
    `boost` is how much waiting time one point of priority is worth. `schedule` and `instant`: the name of the
    schedule that added the job, and the time for which it did so. `label`: the name under which figures count the job;
    None: the program that it runs (`domain/label.py`).
    """

    command: str | None = None
    argv: tuple[str, ...] | None = None
    shell: str | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    umask: int | None = None
    stdin: bytes | None = None
    timeout: timedelta | None = None
    kill_grace: timedelta = timedelta(seconds=10)
    retry: RetryPolicy = RetryPolicy()
    output_limit: int = 1024 * 1024
    split: bool = False
    allow_detached: bool = False
    unique_key: str | None = None
    after: tuple[Parent, ...] = ()
    after_failure: Literal["cancel", "hold"] = "cancel"
    batch: str | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] = {}
    boost: timedelta = timedelta(hours=1)
    content: str = ""
    schedule: str | None = None
    instant: datetime | None = None
    label: str | None = None

    def title(self) -> str:
        """The command as one line of text, for lists and logs."""
        text = self.command if self.command is not None else " ".join(self.argv or ())
        return " ".join(text.split())


class Lease(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The exclusive right to report on one attempt. `slot`, `pid` and `started_at` are set when the command runs."""

    attempt_id: str
    worker: str
    claimed_at: datetime
    until: datetime
    slot: int | None = None
    pid: int | None = None
    started_at: datetime | None = None


class CancelRequest(Struct, frozen=True, kw_only=True):
    """A request to cancel a running job: the requester, the time, the reason, and the cause that the job then has."""

    by: str
    at: datetime
    reason: str | None = None
    cause: Cause = "person"


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One finished run of a job's command. CPU times are in seconds, `max_rss` and `output_bytes` in bytes.

    `ended_processes` is how many processes the command left running and the worker then ended.
    """

    attempt: int
    attempt_id: str
    worker: str
    outcome: str
    claimed_at: datetime
    finished_at: datetime
    started_at: datetime | None = None
    host: str | None = None
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    user_cpu: float | None = None
    system_cpu: float | None = None
    max_rss: int | None = None
    output_bytes: int = 0
    ended_processes: int = 0


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a command has reported about its progress: a number from 0 to 100, and a message."""

    attempt_id: str
    percent: int | float
    message: str | None = None
    at: datetime


class Job(Struct, frozen=True, kw_only=True, gc=False):
    """One command in the queue, with everything known about it.

    number          assigned by the store, rising, never reused; 0 before `add`
    run_at          earliest start; of a `failed` job the time of its retry
    sort_key        see `sort_key()`; a claim takes the smallest first, and of equal ones the smallest number
    attempts        started attempts, over the whole life of the job
    failures        failed attempts since the retry budget last began
    losses          attempts lost to crashes since the retry budget last began
    version         rises with every write; `save` compares it
    waiting_for     the parents that have not ended as wanted; kept if the job is cancelled because of them
    cause           why it is cancelled or held; None in other states
    history         the last `HISTORY_KEPT` finished attempts; `history_dropped` counts the others
    output_tail     the last few hundred characters that the command printed
    progress        the last progress of the running attempt, or without one of the last attempt
    """

    id: str
    spec: Spec
    queue: str
    priority: int
    state: State
    run_at: datetime
    sort_key: int
    created_at: datetime
    updated_at: datetime
    number: int = 0
    attempts: int = 0
    failures: int = 0
    losses: int = 0
    version: int = 1
    lease: Lease | None = None
    cancel_requested: CancelRequest | None = None
    waiting_for: tuple[str, ...] = ()
    history: tuple[Attempt, ...] = ()
    history_dropped: int = 0
    last_error: str | None = None
    exit_code: int | None = None
    output_tail: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cause: Cause | None = None
    progress: Progress | None = None

    @property
    def last_attempt_id(self) -> str | None:
        """The id of the attempt that has the lease, or of the last finished attempt, or None."""
        return self.lease.attempt_id if self.lease else self.history[-1].attempt_id if self.history else None

    @property
    def is_arriving(self) -> bool:
        """Whether an import has added the job and has not finished it (`domain/arrival.py`)."""
        return self.state == "held" and self.cause == "moved"

    @property
    def ended(self) -> bool:
        """Whether the job has ended, so that only a person's command can change its state (guarantee G10)."""
        return self.state in TERMINAL

    @property
    def attempt_id(self) -> str | None:
        """The id of the attempt that has the lease, or None."""
        return self.lease.attempt_id if self.lease else None

    @property
    def cancel_cause(self) -> Cause:
        """The cause of the job after its cancel."""
        return self.cancel_requested.cause if self.cancel_requested else "person"

    @property
    def cancel_words(self) -> str:
        """The error of the job after its cancel."""
        request = self.cancel_requested
        if request is None:
            return "cancelled"
        return f"cancelled by {request.by}" + (f": {request.reason}" if request.reason else "")

    def runs_as(self, attempt_id: str | None) -> bool:
        """Whether the job runs now as this attempt, or, for None, as any attempt."""
        return self.state == "processing" and attempt_id in (None, self.attempt_id)


def sort_key(run_at: datetime, priority: int, boost: timedelta) -> int:
    """The number by which ready jobs are sorted: the ready time in ms, minus `boost` for each point of priority.

    Ageing is built in: a job is overtaken only by jobs that became ready within Δpriority × boost after it.
    """
    return int(run_at.timestamp() * 1000) - priority * int(boost.total_seconds() * 1000)
