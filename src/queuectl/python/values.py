"""The return values of the Python API: immutable, with the names of the JSON.

Durations are `timedelta`, times are aware and in UTC, sizes are bytes.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

from queuectl.domain import job as domain
from queuectl.domain.job import Attempt as Attempt
from queuectl.domain.job import CancelRequest, Cause, Lease, Parent, Progress, State
from queuectl.domain.output import Chunk, Piece
from queuectl.errors import QueuectlError
from queuectl.service import changing, enqueueing, following


class Backoff(Struct, frozen=True):
    """How long a failed job waits: `factor * base ** failures`, at most `max`, varied by the share `jitter`."""

    base: float
    factor: timedelta
    max: timedelta
    jitter: float


class Job(Struct, frozen=True, kw_only=True):
    """A copy of one job at the time of reading. Read it again with `Queue.show`.

    number      assigned by the store, rising, never used again
    run_at      the earliest start; of a job in state `failed` the time of its retry
    attempts    started attempts; `failures` and `losses` count since the retry budget last began
    exit_code   of the last attempt that ended with an exit code
    history     the last twenty finished attempts; `history_dropped` counts the others
    lease       who runs the job now, or None
    sort_key    the number by which ready jobs are ordered; `boost` is the waiting time that one point of priority is
                worth
    content     the digest of the request
    progress    the last progress of the running attempt, or without one of the last attempt: `percent`, `message`, `at`
    schedule    the schedule that added the job, and `instant`, the time for which it did so
    """

    id: str
    number: int
    command: str | None
    argv: tuple[str, ...] | None
    shell: str | None
    queue: str
    priority: int
    state: State
    cause: Cause | None
    run_at: datetime
    attempts: int
    failures: int
    losses: int
    version: int
    max_retries: int
    max_losses: int
    backoff: Backoff
    no_retry_codes: tuple[int, ...]
    timeout: timedelta | None
    kill_grace: timedelta
    cwd: str | None
    env: dict[str, str]
    umask: int | None
    stdin: bytes | None
    output_limit: int
    split: bool
    allow_detached: bool
    unique_key: str | None
    after: tuple[Parent, ...]
    after_failure: Literal["cancel", "hold"]
    waiting_for: tuple[str, ...]
    batch: str | None
    tags: tuple[str, ...]
    meta: dict[str, Any]
    lease: Lease | None
    cancel_requested: CancelRequest | None
    history: tuple[Attempt, ...]
    history_dropped: int
    last_error: str | None
    exit_code: int | None
    output_tail: str
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    sort_key: int
    boost: timedelta
    content: str
    schedule: str | None
    instant: datetime | None
    label: str | None
    progress: Progress | None

    @property
    def ended(self) -> bool:
        """Whether the job is completed, dead or cancelled."""
        return self.state in domain.TERMINAL


class Added(Struct, frozen=True):
    """The result for one job of `Queue.enqueue_many`.

    job      the stored job; after a refusal the conflicting job
    status   added: it is new. existing: it was there already, unchanged. conflict: its id has other content.
             duplicate: its unique key is taken
    refused  why nothing was enqueued, or None
    """

    job: Job
    status: enqueueing.Status
    refused: QueuectlError | None = None


class Change(Struct, frozen=True):
    """The result for one of several jobs of `cancel`, `retry`, `hold` or `release`.

    job      the job as it is now; None if it was deleted or cannot be read
    changed  whether the call changed the job
    refused  why not, or None
    """

    id: str
    job: Job | None
    changed: bool
    refused: QueuectlError | None = None


class Output(Struct, frozen=True):
    """The output of one attempt.

    data     the kept bytes: all of them, or the first and the last ones
    omitted  how many bytes between the first and the last ones were not kept
    total    how many bytes the command printed
    attempt  the number of the attempt; None when none has started
    """

    data: bytes
    omitted: int
    total: int
    attempt: int | None

    @property
    def text(self) -> str:
        """The bytes as text; invalid UTF-8 is replaced."""
        return self.data.decode("utf-8", "replace")


class Part(Struct, frozen=True):
    """A part of a job's output, in the order of `Queue.follow`. Pass it as `after` to continue after it.

    offset  the position of the bytes in the output of the attempt; the bytes of a gap between parts were not kept
    stream  0: stdout and stderr together; 1: stdout and 2: stderr of a job with `split`
    """

    attempt: int
    attempt_id: str
    n: int
    stream: int
    offset: int
    at: datetime
    data: bytes


class PartReader:
    """Converts the parts that the service yields to the type of the Python API, and keeps the position `at`."""

    def __init__(self, after: Part | None = None) -> None:
        self.at: following.Position | None = None
        if after is not None:
            # A server divides a chunk into several parts of the same `n`.
            chunk = max(after.n - 1, 0)
            end = after.offset + len(after.data)
            self.at = following.Position(after.attempt_id, end, after.attempt, chunk)

    def read(self, part: following.Part) -> Part | None:
        """The bytes in this part; None for the beginning of an attempt and for the end."""
        self.at = (self.at or following.Position("", 0)).after(part)
        if not isinstance(part, Chunk):
            return None
        return Part(self.at.attempt, part.attempt_id, part.n, part.stream, part.offset, part.at, part.data)


_OF_JOB = [name for name in Job.__struct_fields__ if name in domain.Job.__struct_fields__]
_OF_SPEC = [name for name in Job.__struct_fields__ if name in domain.Spec.__struct_fields__]


def job_of(job: domain.Job) -> Job:
    """A stored job as a value of the Python API."""
    retry = job.spec.retry
    return Job(
        **{name: getattr(job, name) for name in _OF_JOB},
        **{name: getattr(job.spec, name) for name in _OF_SPEC},
        max_retries=retry.max_retries,
        max_losses=retry.max_losses,
        backoff=Backoff(retry.base, retry.factor, retry.longest, retry.jitter),
        no_retry_codes=retry.no_retry_codes,
    )


def added_of(item: enqueueing.Enqueued) -> Added:
    """The answer to a request as a value of the Python API."""
    return Added(job_of(item.whole), item.status, item.refused)


def change_of(change: changing.Change) -> Change:
    """A change of a job as a value of the Python API."""
    job = job_of(change.job) if change.job else None
    return Change(change.id, job, change.changed, change.refused)


def output_of(output: following.Output) -> Output:
    """Convert the output of an attempt to the type of the Python API."""
    pieces: list[Piece] = output.pieces
    data = b"".join(piece.data for piece in pieces)
    return Output(data, sum(piece.omitted for piece in pieces), output.total, output.attempt)
