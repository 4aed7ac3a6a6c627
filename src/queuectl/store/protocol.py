"""The store contract: the verbs that every store has. Four drivers and a memory store implement it.

The rules of the queue are in `domain/`. A store decides only which due jobs a claim takes. Every other change of a job
has three steps: read the job, give it to a pure function, `save` the result, which is refused if the job was changed
meanwhile. The verbs are documented here and nowhere else.

The time is the store's: workers send durations, and `now()` answers the time of the store's clock. Batches are the
normal case. A batch is one transaction where the store has transactions, and else one change for each job, so callers
look at each answer. Every verb may raise `StoreUnavailable` (nothing was changed), `StoreUnusable`, or, if it writes,
`OutcomeUnknown` (the reply was lost). All are safe to repeat with the same arguments.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from msgspec import Struct

from queuectl.domain.job import Job
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.topics import Topic
from queuectl.domain.worker import Instruction, Worker

Table = Literal["settings", "queues", "schedules", "aside"]
"""The small shared tables: settings by key, queues (`QueueSettings`) by name, schedules by name, aside by name."""

Durability = Literal["memory-safe", "power-safe", "failover-safe"]


DUE_LOOKED_AT = 100
"""How many jobs of one queue `due_since` looks at."""


class Added(Struct, frozen=True, gc=False):
    """What became of one job of an `add`.

    added      it is stored; `job` carries its number
    existing   a job with this id and the same content was there; `job` is that one, unchanged
    conflict   a job with this id and other content was there; `job` is that one
    duplicate  another job that has not ended holds the unique key; `job` is that one
    """

    status: Literal["added", "existing", "conflict", "duplicate"]
    job: Job


class Saved(Struct, frozen=True, gc=False):
    """What became of one job of a `save`.

    accepted   it is stored; `job` is the job as it is stored, with its new version
    stale      its version is not the stored one, or it is gone: read it again
    duplicate  another job that has not ended holds its unique key
    """

    status: Literal["accepted", "stale", "duplicate"]
    job: Job | None = None


class AttemptRef(Struct, frozen=True):
    """One attempt whose lease a worker wants to renew."""

    job_id: str
    attempt_id: str


class ClaimRequest(Struct, frozen=True):
    """What a worker asks of `claim`: at most `limit` jobs from these queues, or from all if none is named."""

    worker: str
    queues: Sequence[str]
    limit: int
    lease: timedelta


class Entry(Struct, frozen=True):
    """One entry of a shared table. `version` rises with every change; an absent entry has version 0.

    If an entry cannot be decoded, `unreadable` says why and the value is that of a paused queue, because it may have
    been a pause. `compare_and_swap` replaces such an entry.
    """

    value: dict[str, Any]
    version: int
    unreadable: str | None = None


class Description(Struct, frozen=True, kw_only=True):
    """What a store says of itself, read back from the store and not assumed. `url` has no password.

    durability  what an acknowledged write survives (guarantee G1)
    details     names and values for `doctor`: versions, settings, sizes
    faults      sentences about what is wrong; empty if nothing is
    archived    jobs that have ended are in an archive: reading them needs another connection
    """

    url: str
    durability: Durability
    schema: int
    details: dict[str, str]
    faults: tuple[str, ...] = ()
    archived: bool = False


class Subscription(Protocol):
    """Waits for changes of some topics, for one thread at a time. Each subscription learns of each change.

    A hint: correctness never depends on it. A `wait` may answer True though nothing has changed (the first one usually
    does), so the caller looks again and waits again, with a timeout.
    """

    def wait(self, timeout: float) -> bool:
        """Sleep up to `timeout` seconds, until something of the topics may have changed since the last `wait`.

        True at once if that happened between two waits. Raises as verbs do: while the store is away, after a fork, and
        once the store was closed.
        """

    def wake(self) -> None:
        """Let the `wait` that runs in another thread, or else the next one, answer True."""

    def close(self) -> None:
        """End the `wait` that runs; it and every later one answer False. Idempotent."""


class Store(Protocol):
    """The verbs. An implementation is safe to use from several threads."""

    def now(self) -> datetime:
        """The store's clock, aware, in UTC. Does not go backwards within one process, unless it is set back
        by more than an hour.
        """

    def add(self, jobs: Sequence[Job]) -> list[Added]:
        """Insert each job if its id is absent, and say what became of each, in order.

        Two jobs of one batch may not share an id. `number` is assigned, rising in the order of the batch.
        """

    def get(self, ids: Sequence[str]) -> Jobs:
        """The jobs with these ids, as stored now. Unknown ids are left out, and unreadable jobs are in `unreadable`."""

    def find(self, wanted: Filter, page: Page) -> Found:
        """The jobs that match, one page in the page's order. `Found.next` is None when there are no more.

        A job that changes between two pages may be missed or seen twice only if its place in the order
        changed. A job that cannot be decoded takes no place in a page; it is in `Found.unreadable`.
        """

    def counts(self, wanted: Filter) -> Counts:
        """How many jobs match, per queue and state.

        With no filter but a queue or states it does not look at the jobs: then a job that cannot be decoded counts.
        """

    def due_since(self) -> dict[str, datetime]:
        """For each queue with due jobs, paused ones too: since when the one that waits longest has been due.

        Looks at the first `DUE_LOOKED_AT` jobs of each queue in the order of claims, and at the first thousand delayed
        jobs that no claim has made ready yet. Behind these a job of low priority may have waited longer.
        """

    def claim(self, worker: str, queues: Sequence[str], limit: int, lease: timedelta) -> list[Job]:
        """Take at most `limit` due jobs for `worker`, smallest (sort_key, number) first; answers them in order.

        From these queues, or from all if none is named. Passes over paused queues, and takes from a limited one no
        more than its limit less what is processing in it. `pending` and `failed` jobs are due when `run_at` is not
        after `now()`. Each is changed as `lifecycle.claim` says, with a fresh 128-bit attempt id in hex, in one
        atomic step per job: no two callers ever get the same job. Of more than a thousand delayed jobs that became
        due since the last claim, those longest due come into the line first. A job that cannot be decoded is set
        aside (see `set_aside`), and the next one is taken; behind some hundreds of these a claim may answer less.
        """

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        """Begin the leases of these attempts again, and answer fresh copies: a request to cancel rides along.

        Only for jobs that this worker still processes under this attempt id; the others are missing in the answer. The
        version rises, so that a recovery that read the job before is refused.
        """

    def save(self, jobs: Sequence[Job]) -> list[Saved]:
        """Store each job if the stored version is still `job.version`, and say what became of each, in order.

        The stored version is then higher: by one, or by more after Redis has lost writes in a failover. `spec`, `id`,
        `number` and `created_at` are never written, and callers leave them as they were read.
        """

    def expired_leases(self, limit: int) -> list[Job]:
        """Processing jobs whose lease has ended by the store's clock, longest ago first.

        Changes nothing: the domain decides what becomes of them, and `save` refuses a late change.
        """

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        """Keep these chunks, then delete those that the trims name. Answers the attempt ids that were refused.

        An attempt id is refused unless its job is processing under it. Idempotent for each `(attempt_id, n)`.
        """

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        """The chunks of an attempt with `n > after`, in order, at most `limit`."""

    def heartbeat(self, worker: Worker) -> Instruction | None:
        """Enter the worker into the registry or renew its entry, `heartbeat` set to now.

        Answers what is asked of it.
        """

    def pending_instruction(self, worker_id: str) -> Instruction | None:
        """What is asked of a worker. A read only: a heartbeat is a write, which wakes other workers."""

    def instruct(self, worker_id: str, instruction: Instruction) -> bool:
        """Ask something of a worker; its next heartbeat answers it.

        False when there is no such worker.
        """

    def workers(self) -> list[Worker]:
        """The registry, in order of their start.

        An entry says nothing about whether the worker still lives.
        """

    def forget(self, worker_id: str) -> None:
        """Remove a worker from the registry. Its claims stay until they are recovered."""

    def read_table(self, table: Table) -> dict[str, Entry]:
        """All entries of a shared table."""

    def compare_and_swap(self, table: Table, key: str, value: dict[str, Any] | None, version: int) -> bool:
        """Write (or, with None, remove) one entry if its version is still `version` (0: absent).

        False: the entry has another version.
        """

    def purge(self, wanted: Filter, limit: int) -> list[str]:
        """Delete at most `limit` ended jobs that match, with their output, longest ended first; answers the ids.

        Never touches a job that has not ended, whatever the filter says, nor one that cannot be decoded.
        """

    def set_aside(self, *, expired: bool) -> list[Unreadable]:
        """The jobs that this handle has set aside, each answered once. Asks the store only if `expired`.

        A job that is set aside becomes `held` and loses its lease; everything else of it stays. `claim` does that to
        jobs that it cannot decode. With `expired`, this verb does it to those whose lease has ended.
        """

    def discard(self, numbers: Sequence[int]) -> list[int]:
        """Delete those of these jobs that cannot be decoded, with their output; answers their numbers."""

    def subscribe(self, wanted: Iterable[Topic]) -> Subscription:
        """A new subscription to these topics. Asks nobody.

        One connection, or one thread, serves all subscriptions of a handle.
        """

    def background_fault(self) -> str | None:
        """What goes wrong behind the verbs though they work, in a sentence for the worker's journal; None as a rule.

        Asks nobody: it is what was met last.
        """

    def describe(self, *, thorough: bool = False) -> Description:
        """Versions, settings, sizes and the durability word, read back now.

        `thorough` also reads all data for faults, which takes its time.
        """

    def migrate(self) -> None:
        """Bring the schema to this program's version, under a lock.

        Refuses a newer one with both versions named.
        """

    def close(self) -> None:
        """Let go of everything. Twice is once."""
