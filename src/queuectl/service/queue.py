"""The front door: what a client can do with a queue. The CLI, the Python API and the HTTP server call `Queue` alone.

A client asks for what a person can ask for (`cancel`, `retry`, `pause`); no method lets it write a job's state. Every
argument and every answer is a value that can be sent over a network, so that a queue behind a server has the same
methods. Three properties make that possible:

- The id of a new job is made before the job is sent, so an enqueue whose reply was lost can be repeated safely.
- An act on many jobs is an `Operation`: it is done in steps, and a caller may stop between two steps.
- `follow` and `wait` can be called again after a broken connection: `follow` takes the position that was reached, and
  `wait` looks at the jobs as they are then.

A reference names a job: its id, its number, a unique prefix of an id that was made by this program, or `@last`. A
`selection` is a list of references, or a filter for all jobs that match. Times are aware and in UTC.

Every method may raise `StoreUnavailable` (nothing was changed), `StoreUnusable`, or, if it changes something,
`OutcomeUnknown`. `LocalQueue` is the implementation over a store; the methods are described here only.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from queuectl.config import Settings
from queuectl.domain.job import Job
from queuectl.domain.query import Counts, Filter, Found, Page
from queuectl.errors import InvalidInput
from queuectl.service.changing import Change
from queuectl.service.doctor import Check
from queuectl.service.enqueueing import Enqueued
from queuectl.service.explain import Explanation
from queuectl.service.following import Output, Part, Position
from queuectl.service.operation import Operation, Selection
from queuectl.service.queries import QueueStatus, Status, WorkerStatus
from queuectl.service.registry import Silence
from queuectl.service.request.fields import JobRequest
from queuectl.store.protocol import Description


class Queue(Protocol):
    """What a client can do. Safe to use from several threads."""

    @property
    def absent(self) -> bool:
        """Whether there is no store yet. Reading then finds nothing; the first enqueue makes the store."""

    def now(self) -> datetime:
        """The store's clock."""

    # Enqueue

    def enqueue(
        self,
        requests: Sequence[JobRequest],
        *,
        on_invalid: Callable[[InvalidInput], None] | None = None,
        dry_run: bool = False,
    ) -> Sequence[Enqueued]:
        """Check all requests, then store their jobs in one commit. Answers in order what became of each.

        A request without an id gets one. The same request with the same id again is the same job. Raises InvalidInput
        with `index` for the first request that cannot be a job, and NotFound for an unknown parent; then nothing is
        stored. With `on_invalid` such a request is told there and left out, and the others are stored. With `dry_run`
        nothing is stored, and the jobs are as they would be stored. OutcomeUnknown carries the `ids`.
        """

    def parents(self, dependencies: Sequence[str]) -> Sequence[str]:
        """Dependencies (`12`, `@last:any`) with the ids that are meant. Raises NotFound, InvalidInput."""

    # Look

    def resolve(self, references: Sequence[str]) -> Sequence[str]:
        """The ids that are meant, each once, in order. Raises NotFound; InvalidInput for an ambiguous prefix."""

    def show(self, reference: str) -> Job:
        """One job, with its attempts. A prefix of any id will do. Raises NotFound, UnreadableJob."""

    def get(self, ids: Sequence[str]) -> dict[str, Job]:
        """The jobs with these ids. Unknown ids are left out."""

    def list(self, wanted: Filter, page: Page) -> Found:
        """One page of the jobs that match, in the order of the page."""

    def ids(self, wanted: Filter) -> Sequence[str]:
        """The ids of all jobs that match, the newest first."""

    def counts(self, wanted: Filter) -> Counts:
        """How many jobs match, per queue and state."""

    def status(self) -> Status:
        """Counts, queues, workers, and what needs a person."""

    def explain(self, reference: str) -> Explanation:
        """Why a job is in its state, and what has to happen next. Raises NotFound."""

    # Output and waiting

    def output(self, reference: str, attempt: int | None = None) -> Output:
        """What an attempt (None: the newest) printed. Raises NotFound for the job or the attempt."""

    def follow(
        self,
        id: str,
        *,
        attempt: int | None = None,
        after: Position | None = None,
        look: Callable[[Job], None] = ...,
    ) -> Iterator[Part]:
        """The output as it comes, until the job (or the attempt that is named) has ended. Late by a second at most.

        `after` is the attempt id and the number of the last chunk that the caller has; the output goes on behind it.
        `look` is called with the job whenever all that was printed so far has been answered.
        """

    def wait(
        self,
        ids: Sequence[str],
        *,
        timeout: timedelta | None = None,
        any_one: bool = False,
        look: Callable[[Sequence[Job], int], None] = ...,
    ) -> dict[str, Job]:
        """The jobs as they are once all of them (or any one) have ended, or the timeout is over; without deleted ones.

        `look` is called in each round with jobs that have not ended, and with how many have not ended in all.
        """

    def obstacles(self, jobs: Sequence[Job]) -> Sequence[str]:
        """What keeps these jobs from running, each with what to do about it. Empty: they run, or are about to."""

    def running_job(self, id: str, attempt_id: str | None) -> Job | None:
        """The job that runs now as this attempt, or None. For a program that may be the command of a job."""

    def refuse_to_wait(self, own: Job, ids: Sequence[str], queues: Sequence[str] | None = None) -> None:
        """Raises Conflict if these jobs cannot end while `own` runs: a command of `own` would wait for ever.

        They wait for `own` themselves, or `own` keeps the only slot that serves one of the queues (None: the queues of
        those that wait to run).
        """

    # Change jobs

    def cancel(
        self, selection: Selection, *, by: str | None = None, reason: str | None = None
    ) -> Operation[Sequence[Change]]:
        """Never start these jobs; end those that run, with all their processes. Of a filter, those that have not ended.

        `by` is kept with the job: who asks for it (default: this user at this host).
        Raises NotFound, before anything is changed, for a reference to no job. So do the other acts.
        """

    def retry(
        self, selection: Selection, *, force: bool = False, alone: bool = False
    ) -> Operation[Sequence[Change]]:
        """Run dead, cancelled and failed jobs once more, with a new retry budget; with `force` completed ones too.

        They wait for their parents again, and jobs that were cancelled because of them come back; not with `alone`. Of
        a filter, those that had ended when the act began.
        """

    def hold(self, selection: Selection) -> Operation[Sequence[Change]]:
        """Keep waiting jobs from starting until they are released."""

    def release(self, selection: Selection, *, anyway: bool = False) -> Operation[Sequence[Change]]:
        """Let held jobs start when they are due, behind their parents; with `anyway` without them."""

    def edit(
        self,
        selection: Selection,
        *,
        priority: int | None = None,
        run_at: datetime | None = None,
        queue: str | None = None,
    ) -> Operation[Sequence[Change]]:
        """Another priority (-1000 to 1000), start time or queue for jobs that have not started."""

    def delete(self, selection: Selection) -> Operation[Sequence[Change]]:
        """Delete ended jobs with their output. Others are refused."""

    def purge(self, wanted: Filter) -> Operation[int]:
        """Delete all ended jobs that match, with their output. A step answers how many it deleted."""

    # Queues, settings, workers

    def queues(self) -> Sequence[QueueStatus]:
        """All queues that have jobs or settings of their own."""

    def check_queue(self, queue: str) -> str:
        """The name itself, if a queue may have it or has it already. Raises InvalidInput."""

    def pause(self, queue: str) -> bool:
        """Start nothing from this queue any more; what runs goes on. False if it was paused already."""

    def resume(self, queue: str) -> bool:
        """Start jobs from this queue again. False if it was not paused."""

    def limit(self, queue: str, at_most: int | None) -> bool:
        """Run at most this many jobs of the queue at once, over all workers (1 to 1,000,000); None lifts the limit."""

    def settings(self) -> Settings:
        """The settings in force for this client, with where each comes from."""

    def set(self, key: str, text: str) -> Settings:
        """Write a shared setting; answers what is in force then. Raises NotFound, InvalidInput."""

    def unset(self, key: str) -> Settings:
        """Put a shared setting back to its default; answers what is in force then. Raises NotFound, InvalidInput."""

    def workers(self, *, with_jobs: bool = False) -> Sequence[WorkerStatus]:
        """The registry, with the state of each worker. `with_jobs` reads what each slot runs from the jobs."""

    def stop(self, ids: Sequence[str], *, at_once: bool = False) -> None:
        """Ask workers to finish what they run and leave; `at_once`: to end it, give it back, and leave."""

    def reload(self, ids: Sequence[str]) -> None:
        """Ask workers to take the newly installed code while commands run on."""

    def silence(self, worker: WorkerStatus) -> Silence:
        """What a worker that does not answer still holds."""

    def forget(self, worker: WorkerStatus) -> tuple[Silence, Sequence[Job]]:
        """Remove a lost worker. Answers what it held, and the jobs that are taken back. Raises Conflict if it lives."""

    # The store

    def describe(self) -> Description:
        """What the store says of itself: address without password, durability, versions."""

    def doctor(self) -> Sequence[Check]:
        """Whether the store, its settings, its workers and its queues are in order. Reads all data."""

    def create(self) -> None:
        """Make the store if there is none. Idempotent."""

    def close(self) -> None:
        """Let go of the store. Idempotent."""
