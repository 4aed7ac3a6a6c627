"""The interface for clients of a queue. The CLI, the Python API and the HTTP server call only `Queue`.

The methods are the operations of a person (`cancel`, `retry`, `pause`); no method writes a job's state. Every argument
and every result is a value that can be sent over a network, so that a queue behind a server has the same
methods. Three properties make that possible:

- The id of a new job is made before the job is sent, so an enqueue whose reply was lost can be repeated safely.
- A change of many jobs is an `Operation`: it is done in steps, and a caller may stop between two steps.
- `follow` and `wait` can be called again after a broken connection: `follow` takes the position that was reached, and
  `wait` looks at the jobs as they are then.

A reference names a job: its id, its number, a unique prefix of an id that was made by this program, or `@last`. A
`selection` is a list of references, or a filter for all jobs that match. Times are aware and in UTC.

Every method may raise `StoreUnavailable` (nothing was changed), `StoreUnusable`, or, if it changes something,
`OutcomeUnknown`.

`LocalQueue` (over a store) and `RemoteQueue` (over HTTP) repeat the signatures; the methods are described here only.
mypy compares both classes with this protocol, so a signature that differs is an error. Methods that are made from a
list at runtime would need no copy, but callers would lose the types.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import UNSET, UnsetType

from queuectl.config import Settings
from queuectl.domain.job import Job
from queuectl.domain.operation import OperationStatus, Verb
from queuectl.domain.query import Counts, Found, Page
from queuectl.domain.queue import QueueChange
from queuectl.domain.token import Issued, Token
from queuectl.errors import InvalidInput
from queuectl.service.changing import Change
from queuectl.service.doctor import Check
from queuectl.service.enqueueing import Enqueued
from queuectl.service.events import Events
from queuectl.service.explain import Explanation
from queuectl.service.following import Output, Part, Position
from queuectl.service.hooks.api import Hooks
from queuectl.service.matching import Preview, Wanted
from queuectl.service.operation import Operation, Selection
from queuectl.service.queue_status import QueueStatus
from queuectl.service.registry import Silence
from queuectl.service.request.fields import JobRequest
from queuectl.service.schedules.api import Schedules
from queuectl.service.stats import Question, Stats
from queuectl.service.status import Status
from queuectl.service.worker_status import WorkerStatus
from queuectl.store.protocol import Description

if TYPE_CHECKING:
    from queuectl.service.transfer.running import Transfer


class Queue(Protocol):
    """The operations of a client. Safe to use from several threads."""

    @property
    def absent(self) -> bool:
        """Whether there is no store yet. Until the first enqueue creates it, reads find nothing."""

    def now(self) -> datetime:
        """The time of the store's clock."""

    # Enqueue

    def enqueue(
        self,
        requests: Sequence[JobRequest],
        *,
        on_invalid: Callable[[InvalidInput], None] | None = None,
        dry_run: bool = False,
        whole: bool = False,
    ) -> Sequence[Enqueued]:
        """Check all requests, then store their jobs in one commit. Returns the result for each request, in order.

        A request without an id gets one. The same request with the same id again is the same job. Raises InvalidInput
        with `index` for the first request that cannot be a job, and NotFound for an unknown parent; then nothing is
        stored. With `on_invalid`, that function gets the error of such a request, and the other requests are stored.
        With `dry_run` nothing is stored, and the results have the whole jobs as they would be stored. With `whole` the
        results have whole jobs. OutcomeUnknown carries the `ids`.
        """

    def parents(self, dependencies: Sequence[str]) -> Sequence[str]:
        """Dependencies (`12`, `@last:any`) with each reference replaced by the id. Raises NotFound, InvalidInput."""

    # Read

    def resolve(self, references: Sequence[str]) -> Sequence[str]:
        """The ids of these jobs, each once, in order. Raises NotFound, or InvalidInput for an ambiguous prefix."""

    def show(self, reference: str) -> Job:
        """One job, with its attempts. A prefix of any id is accepted. Raises NotFound, UnreadableJob."""

    def get(self, ids: Sequence[str]) -> dict[str, Job]:
        """The jobs with these ids. Unknown ids are omitted."""

    def list(self, wanted: Wanted, page: Page) -> Found:
        """One page of the jobs that match, in the order of the page.

        A page may be short while `Found.next` is not None: then no index decides the filter, and `Found.looked_at` jobs
        were looked at.
        """

    def ids(self, wanted: Wanted) -> Sequence[str]:
        """The ids of all jobs that match, the newest first."""

    def counts(self, wanted: Wanted) -> Counts:
        """The number of jobs that match, per queue and state. Reads every job that an index does not rule out."""

    def status(self) -> Status:
        """Counts, queues, workers, and the problems that need a person."""

    def stats(self, asked: Question) -> Stats:
        """How many jobs ended, how long they waited and ran: statistics of a time. Raises InvalidInput."""

    def explain(self, reference: str) -> Explanation:
        """Why a job is in its state, and what has to happen next. Raises NotFound."""

    # Output and waiting

    def output(self, reference: str, attempt: int | None = None) -> Output:
        """The output of an attempt (None: the newest). Raises NotFound for the job or the attempt."""

    def follow(
        self,
        id: str,
        *,
        attempt: int | None = None,
        after: Position | None = None,
        look: Callable[[Job], None] = ...,
    ) -> Iterator[Part]:
        """Yields output at most one second after it was printed, until the job (or the given attempt) has ended.

        `after` is the attempt id and an offset in the output of this attempt; the output continues with the byte there.
        `look` is called with the job whenever all output so far has been returned.
        """

    def wait(
        self,
        ids: Sequence[str],
        *,
        timeout: timedelta | None = None,
        any_one: bool = False,
        look: Callable[[Sequence[Job], int], None] = ...,
    ) -> dict[str, Job]:
        """Waits until all jobs (or any one) have ended, or the timeout is over. Returns the jobs without deleted ones.

        `look` is called in each round with some jobs that have not ended, and the number of all that have not ended.
        """

    def obstacles(self, jobs: Sequence[Job]) -> Sequence[str]:
        """The reasons why these jobs do not run, each with a remedy. Empty if they run, or will run very soon."""

    def running_job(self, id: str, attempt_id: str | None) -> Job | None:
        """The job that runs now as this attempt, or None. For a program that may run as the command of a job."""

    def refuse_to_wait(self, own: Job, ids: Sequence[str], queues: Sequence[str] | None = None) -> None:
        """Raise Conflict if these jobs cannot end while `own` runs, so that the command of `own` would wait for ever.

        Either the jobs wait for `own`, or `own` occupies the only slot that serves one of the queues (None: the queues
        of those jobs that wait to run).
        """

    # Change jobs

    def cancel(
        self,
        selection: Selection,
        *,
        by: str | None = None,
        reason: str | None = None,
        version: int | None = None,
    ) -> Operation[Sequence[Change]]:
        """Never start these jobs; end those that run, with all their processes. A filter selects jobs that have not
        ended.

        `by` is stored with the job: the name of the requester (default: this user at this host). Raises NotFound for
        an unknown reference, before any job is changed. A job that has another version than `version` is refused with
        Changed. Both is true for the other operations too.
        """

    def retry(
        self,
        selection: Selection,
        *,
        force: bool = False,
        alone: bool = False,
        version: int | None = None,
    ) -> Operation[Sequence[Change]]:
        """Run dead, cancelled and failed jobs once more, with a new retry budget; with `force` completed ones too.

        The jobs wait for their parents again, and jobs that were cancelled because of them are revived. With `alone`
        neither happens. A filter selects the jobs that ended, or failed, before the operation began.
        """

    def hold(self, selection: Selection, *, version: int | None = None) -> Operation[Sequence[Change]]:
        """Keep waiting jobs from starting until they are released."""

    def release(
        self, selection: Selection, *, anyway: bool = False, version: int | None = None
    ) -> Operation[Sequence[Change]]:
        """Release held jobs. They start when due, after their parents ended as wanted; `anyway`: ignore the parents."""

    def edit(
        self,
        selection: Selection,
        *,
        priority: int | None = None,
        run_at: datetime | None = None,
        queue: str | None = None,
        version: int | None = None,
    ) -> Operation[Sequence[Change]]:
        """Change the priority (-1000 to 1000), start time or queue of jobs that have not started."""

    def delete(self, selection: Selection, *, version: int | None = None) -> Operation[Sequence[Change]]:
        """Delete ended jobs with their output. Other jobs are refused."""

    def purge(self, wanted: Wanted) -> Operation[int]:
        """Delete all ended jobs that match, with their output. Each step returns the number of deleted jobs."""

    def transfer(self) -> "Transfer":
        """The exports and imports. Does not call the store."""

    # Operations that are carried on behind

    def operate(
        self,
        verb: Verb,
        where: str,
        *,
        args: Mapping[str, Any] | None = None,
        id: str | None = None,
        limit: int | None = None,
        expect: int | None = None,
        wait: timedelta | None = None,
        by: str | None = None,
        queues: Sequence[str] | None = None,
    ) -> OperationStatus:
        """Change all jobs that match a filter, carried on by the workers and by the server that accepts the request.

        The same request with the same `id` again is the same operation; another request with it raises Conflict.
        `args`: the arguments of the verb, such as `{"priority": 3}`. Ages in the filter count from now. `limit`: at
        most so many jobs, those with the smallest numbers. `expect`: raise Conflict unless exactly so many jobs
        match. `wait`: return when it has ended, or after this time. `queues`: cancel and revive no jobs of other
        queues with the selected ones. Raises InvalidInput.
        """

    def preview_operation(
        self, verb: Verb, where: str, *, args: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> Preview:
        """The jobs that an operation would change now. Changes nothing. Raises InvalidInput."""

    def operation(self, id: str) -> OperationStatus:
        """One operation. It can be read until a week after its end. Raises NotFound."""

    def operations(self) -> Sequence[OperationStatus]:
        """All operations that can be read, the newest first."""

    def await_operation(self, id: str, wait: timedelta) -> OperationStatus:
        """The operation when it has ended, or after this time. Raises NotFound."""

    def stop_operation(self, id: str) -> OperationStatus:
        """Stop an operation after its running step. One that has ended stays as it is. Raises NotFound."""

    # Queues, settings, workers

    def queues(self) -> Sequence[QueueStatus]:
        """All queues that have jobs or settings of their own."""

    def check_queue(self, queue: str) -> str:
        """Return the name if it is valid for a queue, or if a queue with this name exists. Raises InvalidInput."""

    def change_queue(self, queue: str, wanted: QueueChange, *, version: int | None = None) -> bool:
        """Pause, resume or limit a queue. Returns False if it has these settings already.

        While it is paused, no more of its jobs start, and running jobs continue. The limit is the number of its jobs
        that run at once, over all workers (1 to 1,000,000; None: no limit). Raises InvalidInput, and Changed if the
        settings of the queue have another version than `version`.
        """

    def settings(self) -> Settings:
        """The effective settings of this client, with the origin of each."""

    def set(self, key: str, text: str, *, version: int | None = None) -> Settings:
        """Write a shared setting. Returns the new effective settings. Raises NotFound, InvalidInput.

        Raises Changed if the stored setting has another version than `version`. So does `unset`.
        """

    def unset(self, key: str, *, version: int | None = None) -> Settings:
        """Reset a shared setting to its default. Returns the new effective settings. Raises NotFound, InvalidInput."""

    def workers(self, *, with_jobs: bool = False) -> Sequence[WorkerStatus]:
        """The registered workers and their states. `with_jobs`: take the jobs in the slots from the stored claims."""

    def stop(self, ids: Sequence[str], *, at_once: bool = False) -> None:
        """Instruct workers to finish their running jobs and exit. `at_once`: to end them, give them back and exit."""

    def leaving(self, ids: Sequence[str], *, at_once: bool = False) -> Sequence[WorkerStatus]:
        """The workers of `ids` that are still registered after they were asked to exit. May wait a second for them."""

    def reload(self, ids: Sequence[str]) -> None:
        """Instruct workers to change to the newly installed code, while their commands continue."""

    def silence(self, worker: WorkerStatus) -> Silence:
        """The jobs that an unresponsive worker has claimed."""

    def forget(self, worker: WorkerStatus) -> tuple[Silence, Sequence[Job]]:
        """Remove a lost worker. Returns its claims, and the jobs recovered now. Raises Conflict if it lives."""

    # Schedules

    def schedules(self) -> Schedules:
        """The operations on schedules. Does not call the store."""

    def hooks(self) -> Hooks:
        """The operations on hooks. Does not call the store."""

    # Events

    def events(self) -> Events:
        """The changes of jobs. Does not call the store."""

    # Tokens

    def tokens(self) -> Sequence[Token]:
        """All tokens, by name."""

    def create_token(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        expires: timedelta | UnsetType | None = UNSET,
        queues: Sequence[str] | None = None,
        by: str | None = None,
    ) -> Issued:
        """Store a new token, and return it with its secret, which nothing can show again.

        It is valid for `expires` (None: for ever; default: `LIFETIME` of `domain.token`). `queues` are the queues in
        which it allows to enqueue and to change jobs (None: all). Raises InvalidInput; Conflict if there is a token of
        this name.
        """

    def revoke_token(self, name: str) -> None:
        """Delete a token. Each server refuses it within 2 s. Raises NotFound."""

    def rotate_token(self, name: str, *, keep: timedelta | UnsetType = UNSET) -> Issued:
        """Give a token a new secret. The old one stays valid for `keep` (default: `KEEP` of `domain.token`).

        Raises NotFound.
        """

    # The store

    def describe(self) -> Description:
        """The properties of the store: URL without password, durability, versions."""

    def doctor(self) -> Sequence[Check]:
        """Check the store, its settings, its workers and its queues. Reads all data."""

    def create(self) -> None:
        """Create the store if there is none. Idempotent."""

    def close(self) -> None:
        """Close the store. Idempotent."""
