"""The store contract: the verbs that every store has. Four drivers and a memory store implement it.

The rules of the queue are in `domain/`. A store decides only which due jobs a claim takes. Every other change of a job
has three steps: read the job, give it to a pure function, `save` the result, which is refused if the job was changed
meanwhile. The verbs are documented here and nowhere else.

All times are by the store's clock: workers send durations, and `now()` returns the time of the store's clock. Batches
are the normal case. A batch is one transaction where the store has transactions, and otherwise one change for each
job, so callers check the result for each job. Every verb may raise `StoreUnavailable` (nothing was changed),
`StoreUnusable`, or, if it writes, `OutcomeUnknown` (the reply was lost). All verbs are safe to repeat with the same
arguments.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from msgspec import Struct

from queuectl.domain.event import Actor, Event
from queuectl.domain.job import Job, Progress
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Counts, Filter, Found, Jobs, Page, Unreadable
from queuectl.domain.topics import Topic
from queuectl.domain.worker import Instruction, Worker

Table = Literal[
    "settings", "queues", "schedules", "aside", "tokens", "operations", "figures", "hours", "hooks"
]
"""The small shared tables: settings by key, queues (`QueueSettings`) by name, schedules by name, aside by name,
tokens by name (`domain.token.Token`), operations by id, figures by minute and worker, hours by hour
(`service/figures.py`), hooks by name (`domain.hook.Hook`)."""

ADDING_AT_MOST, ADDING_BYTES = 100, 4 << 20
"""The maximum number of jobs of one `Swap`, and the maximum size of their specs as JSON, in bytes. MongoDB writes the
jobs into the entry, and a document has at most 16 MiB."""

Durability = Literal["memory-safe", "power-safe", "failover-safe"]


DUE_LOOKED_AT = 100
"""Maximum number of jobs of one queue that `due_since` reads."""


class Added(Struct, frozen=True, gc=False):
    """The result of `add` for one job.

    added      the job is stored; `job` has its number
    existing   the store had a job with this id and the same content; `job` is that one, unchanged
    conflict   the store had a job with this id and other content; `job` is that one
    duplicate  another job that has not ended has the unique key; `job` is that one
    """

    status: Literal["added", "existing", "conflict", "duplicate"]
    job: Job


class Saved(Struct, frozen=True, gc=False):
    """The result of `save` for one job.

    accepted   the job is stored; `job` is the stored job, with its new version
    stale      the stored job has another version, or was deleted: read it again
    duplicate  another job that has not ended has its unique key
    """

    status: Literal["accepted", "stale", "duplicate"]
    job: Job | None = None


class AttemptRef(Struct, frozen=True):
    """One attempt whose lease a worker wants to renew. `progress`: a new progress of its command, or None."""

    job_id: str
    attempt_id: str
    progress: Progress | None = None


class ClaimRequest(Struct, frozen=True):
    """The arguments of `claim`: at most `limit` jobs from these queues. An empty list means all queues."""

    worker: str
    queues: Sequence[str]
    limit: int
    lease: timedelta
    tell: bool = False


class Entry(Struct, frozen=True):
    """One entry of a shared table. `version` rises with every change; an absent entry has version 0.

    If an entry cannot be decoded, `unreadable` is the reason and the value is that of a paused queue, because the
    entry may have been a pause. `swap` replaces such an entry.
    """

    value: dict[str, Any]
    version: int
    unreadable: str | None = None


class Swap(Struct, frozen=True):
    """A change of one entry of a shared table, which is made if the entry still has this version (0: absent).

    value   the new value; None removes the entry
    due     when the entry needs work next; `upcoming` returns the entry by this. None: never
    adding  jobs that are stored in the same atomic step, at most `ADDING_AT_MOST`. Known ids are skipped. These jobs
            have no unique key, and `value` is not None
    telling the event of each job in `adding`, in order, as in `add`; or empty
    """

    table: Table
    key: str
    value: dict[str, Any] | None
    version: int
    due: datetime | None = None
    adding: tuple[Job, ...] = ()
    telling: tuple[Event | None, ...] = ()

    @property
    def removes_nothing(self) -> bool:
        """Whether this is the removal of an absent entry, which changes nothing."""
        return self.value is None and self.version == 0


class Upcoming(Struct, frozen=True):
    """An entry of a shared table that needs work at `due`."""

    table: Table
    key: str
    entry: Entry
    due: datetime


class EventPage(Struct, frozen=True):
    """Events in the order of the store, each with the cursor behind it.

    next  the cursor behind the last event, from which the next page is read; without events the cursor that was given
    gap   events between the given cursor and the first event of the page were deleted
    """

    events: list[tuple[str, Event]]
    next: str
    gap: bool = False


class Description(Struct, frozen=True, kw_only=True):
    """The properties of a store, read back from the store and not assumed. `url` has no password.

    durability  the failure that an acknowledged write survives (guarantee G1)
    details     names and values for `doctor`: versions, settings, sizes
    faults      sentences about faults; empty if there are none
    archived    jobs that have ended are in an archive: reading them needs another connection
    """

    url: str
    durability: Durability
    schema: int
    details: dict[str, str]
    faults: tuple[str, ...] = ()
    archived: bool = False


class Subscription(Protocol):
    """Waits for changes of some topics, for one thread at a time. Each change is reported to each subscription.

    A hint: correctness never depends on it. A `wait` may return True although nothing has changed (the first one
    usually does), so the caller reads the store again and waits again, with a timeout.
    """

    def wait(self, timeout: float) -> bool:
        """Sleep up to `timeout` seconds, until something of the topics may have changed since the last `wait`.

        Returns True at once if that happened between two waits. Raises the errors of verbs: while the store cannot be
        reached, after a fork, and after the store was closed.
        """

    def wake(self) -> None:
        """Let the `wait` that runs in another thread return True; if none runs, the next `wait`."""

    def close(self) -> None:
        """End the running `wait`; it and every later one return False. Idempotent."""


class Store(Protocol):
    """The verbs of a store. An implementation must be safe to use from several threads."""

    def now(self) -> datetime:
        """The time of the store's clock, aware, in UTC. Does not go backwards within one process, unless it is set back
        by more than an hour.
        """

    def add(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Added]:
        """Insert each job if its id is absent. Returns the result for each job, in order.

        Two jobs of one batch may not share an id. `number` is assigned, rising in the order of the batch. A job that
        brings a number which is higher than all assigned ones, and at most 10¹⁵, keeps it: an import keeps numbers.
        `events` has the event of each job, in order (None: no event), or is empty. An event is written in the same
        atomic step as its job, with the job's number and the store's time, or not at all.
        """

    def get(self, ids: Sequence[str]) -> Jobs:
        """The jobs with these ids, as stored now. Unknown ids are omitted, and unreadable jobs are in `unreadable`."""

    def find(self, wanted: Filter, page: Page) -> Found:
        """The jobs that match, one page in the page's order. `Found.next` is None when there are no more.

        A job that changes between two pages may be missed or returned twice only if its position in the order
        changed. A job that cannot be decoded does not count as a job of a page; it is in `Found.unreadable`.
        """

    def counts(self, wanted: Filter) -> Counts:
        """The number of jobs that match, per queue and state.

        A filter on queue and states alone does not read the jobs: then a job that cannot be decoded counts too.
        """

    def due_since(self) -> dict[str, datetime]:
        """Returns, for each queue with due jobs (also a paused queue), when its longest waiting job became due.

        The answer is approximate. It reads only the first `DUE_LOOKED_AT` jobs of each queue in the order of claims,
        and the first thousand delayed jobs that no claim has made ready yet. A later job may have waited longer.
        """

    def last_number(self) -> int:
        """The highest number that the store has assigned, also to a job that was deleted since. 0 if there was no job.

        It never falls. It may be higher than the number of jobs that were ever stored: some stores use up a number for
        a job that they refuse.
        """

    def claim(
        self, worker: str, queues: Sequence[str], limit: int, lease: timedelta, *, tell: bool = False
    ) -> list[Job]:
        """Take at most `limit` due jobs for `worker`, smallest (sort_key, number) first. Returns them in order.

        Takes jobs from these queues; an empty list means all queues. Skips paused queues, and takes from a limited
        queue at most its limit minus the number of its processing jobs. `pending` and `failed` jobs are due when
        `run_at` is not after `now()`. Each is changed as in `lifecycle.claim`, with a fresh 128-bit attempt id in
        hex, in one atomic step per job: no two callers ever get the same job. If more than a thousand delayed jobs
        became due since the last claim, a claim makes those ready first that have been due longest. A job that cannot
        be decoded is set aside (see `set_aside`), and the next one is taken; after some hundreds of these a claim may
        return fewer jobs. With `tell`, the event `job.started` of each job is written in the step of its claim.
        """

    def renew(self, worker: str, held: Sequence[AttemptRef], lease: timedelta) -> list[Job]:
        """Renew the leases of these attempts. Returns fresh copies of the jobs, which show a request to cancel.

        Renews only jobs that this worker still processes under this attempt id; the others are omitted from the
        result. In the same step it stores the new progress of each attempt that has one. The version rises, so that a
        recovery that read the job before is refused.
        """

    def save(self, jobs: Sequence[Job], events: Sequence[Event | None] = ()) -> list[Saved]:
        """Store each job if the stored version is still `job.version`. Returns the result for each job, in order.

        `events` are as those of `add`: the event of a job that is refused is not written.
        The stored version is then higher: by one, or by more after Redis has lost writes in a failover. `spec`, `id`,
        `number` and `created_at` are never written, and callers do not change them.
        """

    def expired_leases(self, limit: int) -> list[Job]:
        """Processing jobs whose lease has expired by the store's clock, longest ago first.

        Changes nothing: the domain decides what happens to the jobs, and `save` refuses a late change.
        """

    def write_output(self, chunks: Sequence[Chunk], trims: Sequence[Trim] = ()) -> set[str]:
        """Store these chunks, then delete those that the trims name. Returns the attempt ids that were refused.

        An attempt id is refused unless its job is processing under it, or is held with the cause `moved`. Such a job is
        being imported (`domain/arrival.py`). Idempotent for each `(attempt_id, n)`.
        """

    def read_output(self, attempt_id: str, after: int, limit: int = 256) -> list[Chunk]:
        """The chunks of an attempt with `n > after`, in order, at most `limit`."""

    def heartbeat(self, worker: Worker) -> Instruction | None:
        """Enter the worker into the registry or renew its entry, with `heartbeat` set to now.

        Returns the pending instruction of the worker.
        """

    def pending_instruction(self, worker_id: str) -> Instruction | None:
        """The pending instruction of a worker. This is only a read; a heartbeat is a write, which wakes other
        workers.
        """

    def instruct(self, worker_id: str, instruction: Instruction) -> bool:
        """Store an instruction for a worker. Its next heartbeat returns the instruction.

        Returns False if there is no such worker.
        """

    def workers(self) -> list[Worker]:
        """All workers in the registry, in order of their start.

        An entry does not show whether the worker still lives.
        """

    def forget(self, worker_id: str) -> None:
        """Remove a worker from the registry. Its claims remain until they are recovered."""

    def read_table(self, table: Table, keys: Sequence[str] | None = None) -> dict[str, Entry]:
        """All entries of a shared table, or those with these keys. Absent keys are omitted."""

    def swap(self, swaps: Sequence[Swap]) -> list[bool]:
        """Make each change whose entry has the given version. Returns for each, in order, whether it was made.

        Each change is atomic: the entry is written and the jobs are stored, or nothing is changed. So of several
        workers that change one version of an entry, one adds its jobs. No entry occurs twice in a batch.
        """

    def upcoming(self, limit: int) -> list[Upcoming]:
        """The first `limit` entries of all tables in the order of `due`. Entries that are due later are included."""

    def purge(self, wanted: Filter, limit: int, *, tell: Actor | None = None) -> list[str]:
        """Delete at most `limit` ended jobs that match, with their output, longest ended first. Returns the ids.

        With `tell`, the event `job.deleted` of each job is written in the step of its deletion, with this actor.
        Never touches a job that has not ended, whatever the filter says, and no job that cannot be decoded.
        """

    def set_aside(self, *, expired: bool) -> list[Unreadable]:
        """The jobs that this handle has set aside. Each is returned only once. Calls the store only if `expired`.

        A job that is set aside becomes `held` and loses its lease; nothing else of it changes. `claim` sets aside
        jobs that it cannot decode. With `expired`, this verb sets aside such jobs whose lease has expired.
        """

    def discard(self, numbers: Sequence[int]) -> list[int]:
        """Delete those of these jobs that cannot be decoded, with their output. Returns their numbers."""

    def read_events(self, after: str | None, limit: int) -> EventPage:
        """At most `limit` events behind the cursor `after`, in the order of the store. None: from the oldest kept.

        The events of a job are in the order of its changes. A reader that goes on from the cursor of any event, or
        from `EventPage.next`, gets every later event: no event is inserted before an event that a reader has seen. If
        events behind the cursor were deleted, `gap` is set, and the page begins with the oldest kept event. Raises
        InvalidInput for a text that is no cursor. An event that cannot be decoded is omitted.

        A cursor is one number or two, joined by `-`. Compared as numbers, cursors are in the order of the store.
        """

    def event_cursor(self, at: datetime | None) -> str:
        """The cursor behind all events that were written before this time. None: behind the last event."""

    def trim_events(self, before: datetime, keep: int, limit: int) -> int:
        """Delete at most `limit` of the oldest events: those that were written before this time, and those beyond the
        newest `keep`. Returns the number of deleted events.
        """

    def subscribe(self, wanted: Iterable[Topic]) -> Subscription:
        """Create a subscription to these topics. Does not call the store.

        One connection, or one thread, serves all subscriptions of a handle.
        """

    def background_fault(self) -> str | None:
        """The fault of a background task while the verbs work, as a sentence for the worker's log. Usually None.

        Does not call the store: this is the last fault that was found.
        """

    def describe(self, *, thorough: bool = False) -> Description:
        """Versions, settings, sizes and the durability word, read back now.

        `thorough` also checks all data for faults, which may take minutes.
        """

    def migrate(self) -> None:
        """Migrate the schema to this program's version, under a lock.

        Refuses a newer schema; the error names both versions.
        """

    def close(self) -> None:
        """Close all connections. Idempotent."""
