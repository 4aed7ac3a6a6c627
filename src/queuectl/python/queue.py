"""`from queuectl import Queue`: enqueue jobs, read them, wait for them and change them from Python."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args, overload

from msgspec.structs import replace

from queuectl.domain.instant import format_instant
from queuectl.domain.query import Filter, Page, Sort
from queuectl.domain.where import parse, refuse_empty, term
from queuectl.errors import InvalidInput, NotFound
from queuectl.python.administration import Administration
from queuectl.python.arguments import (
    Command,
    Duration,
    Reference,
    reference_of,
    request_of,
    several,
    span_of,
    words_of,
)
from queuectl.python.changes import Changes
from queuectl.python.errors import WaitTimeout
from queuectl.python.events import Events
from queuectl.python.opening import Connection
from queuectl.python.operations import Operations
from queuectl.python.system_values import Explanation, explanation_of
from queuectl.python.transfers import Transfers
from queuectl.python.values import Added, Job, Output, Part, PartReader, added_of, job_of, output_of
from queuectl.service.listing import states_of
from queuectl.service.queue import Queue as FrontDoor
from queuectl.service.request.fields import After, JobRequest

if TYPE_CHECKING:
    from queuectl.python.hooks import Hooks
    from queuectl.python.schedules import Schedules

COMMIT = 1000
"""Jobs of `enqueue_many` per commit."""

# A `str` is one reference, although it is also iterable. The first overload applies, so mypy's warning is disabled.
_Jobs = list[Job]


class Queue(Changes, Operations, Administration, Transfers, Events):
    """A queue of shell commands.

    `Queue()` is the queue of the command line in this process: the same environment, `.env` and configuration file.
    `Queue(url)` is the queue in the store at this URL; the words `postgres`, `mongodb` and `redis` also work.
    `Queue("https://…", token=…)` is the queue behind a `queuectl serve`. Without `token`, the token is found as for the
    command line. `insecure_http`: send it to another host over `http://` too, where it is readable on the way.

    The first call opens the store, and the first enqueue creates a missing store. Several threads may use a queue,
    and so may the child of a fork, which opens its own connections. Close a queue, or use it as a context manager.

    A job argument is a `Job`, an id or a number. A duration is a `timedelta`, seconds, or text like `"5m"`.

    Every call may raise `StoreUnavailable` (the store is unreachable, and nothing was changed), `StoreUnusable`,
    `ClosedQueue`, and through a server `Unauthenticated` and `Forbidden`. A call that changes something may raise
    `OutcomeUnknown`: the change may be done, and repeating the call is safe.
    """

    def enqueue(
        self,
        command: Command,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        retries: int | None = None,
        no_retry_codes: Sequence[int] | None = None,
        backoff_base: float | None = None,
        backoff_factor: Duration | None = None,
        backoff_max: Duration | None = None,
        jitter: float | None = None,
        timeout: Duration | None = None,
        kill_grace: Duration | None = None,
        delay: Duration | None = None,
        run_at: datetime | str | None = None,
        after: Reference | Iterable[Reference] | None = None,
        after_failure: str | None = None,
        unique_key: str | None = None,
        batch: str | None = None,
        tags: Iterable[str] | None = None,
        meta: Mapping[str, Any] | None = None,
        hold: bool | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        umask: int | None = None,
        stdin: str | bytes | None = None,
        shell: str | None = None,
        output_limit: int | str | None = None,
        split: bool | None = None,
        allow_detached: bool | None = None,
        label: str | None = None,
        connection: Connection | None = None,
    ) -> Job:
        """Add a job; return the stored job. A list of words is a program that runs without a shell.

        The settings supply the defaults, as for `queuectl enqueue`.

        id              a name of your own; the same id with the same content again is the same job
        priority        -1000 to 1000, higher first; one point is worth an hour of waiting
        retries         retries after the first attempt; -1 is for ever. `no_retry_codes`: exit codes without a retry
        backoff_base    retry n waits `backoff_factor * backoff_base ** n`, at most `backoff_max`; `jitter`: 0 to 1
        timeout         end the command after this time; `kill_grace`: the time from TERM to KILL
        delay, run_at   the earliest start: a duration from now, or a time (aware, or text as for `--at`)
        after           jobs to wait for; a text may say how each must end: `"17:any"`, `"17:failed"`
        after_failure   what happens if a parent ends otherwise: "cancel" or "hold"
        unique_key      refuse while another job with this key has not ended
        batch, tags     a label of a group; words to find the job by. `meta`: a small object to keep with the job
        hold            not to start before `release`
        cwd, env        the directory (default: this one), and variables for the command; `umask`, `shell`, `stdin`
        output_limit    bytes of output that are kept per attempt, the first and the last ones
        split           store stdout and stderr separately
        allow_detached  do not end processes that the command leaves running
        label           the name under which `stats` counts the job, by default that of its program
        connection      a psycopg, apsw or sqlite3 connection with a transaction: the job is there when it commits

        Raises `InvalidInput`; `NotFound` for an unknown parent; `Conflict` when the id exists with other content or
        the unique key is taken; `OutcomeUnknown` with the id in `ids`: enqueue again with that id.
        """
        fields = {
            "id": id, "queue": queue, "priority": priority, "retries": retries, "no_retry_codes": no_retry_codes,
            "backoff_base": backoff_base, "backoff_factor": backoff_factor, "backoff_max": backoff_max,
            "jitter": jitter, "timeout": timeout, "kill_grace": kill_grace, "delay": delay, "run_at": run_at,
            "after": after, "after_failure": after_failure, "unique_key": unique_key, "batch": batch, "tags": tags,
            "meta": meta, "hold": hold, "cwd": cwd, "env": env, "umask": umask, "stdin": stdin, "shell": shell,
            "output_limit": output_limit, "split": split, "allow_detached": allow_detached, "label": label,
        }  # fmt: skip
        opened = self._opened_for(connection)
        [item] = opened.enqueue([self._request(opened, command, fields)], whole=True)
        if item.refused is not None:
            raise item.refused
        return job_of(item.whole)

    def enqueue_many(
        self, jobs: Iterable[Command | Mapping[str, Any]], *, connection: Connection | None = None
    ) -> Iterator[Added]:
        """Add many jobs while the caller iterates over the result, in commits of 1,000; yield one `Added` per job.

        A job is a command, a list of words, or a mapping with `command` or `argv` and any argument of `enqueue`. A
        job is stored before its `Added` is yielded. An invalid mapping raises `InvalidInput` with its position as
        `index`; then no job of its commit is stored.

        `connection` as for `enqueue`: the jobs of the iterated results are there when its transaction commits.
        """
        rest, offset = iter(jobs), 0
        while commit := list(islice(rest, COMMIT)):
            opened = self._opened_for(connection)
            try:
                requests = [self._requested(opened, job, at) for at, job in enumerate(commit)]
                added = opened.enqueue(requests, whole=True)
            except InvalidInput as error:
                error.index = offset + (error.index or 0)
                raise
            yield from map(added_of, added)
            offset += len(commit)

    def show(self, job: Reference) -> Job:
        """One job as it is now. Raises `NotFound`."""
        return job_of(self._open().show(reference_of(job)))

    def explain(self, job: Reference) -> Explanation:
        """Why a job is in its state, and what has to happen next. Raises `NotFound`."""
        return explanation_of(self._open().explain(reference_of(job)))

    def list(
        self,
        *,
        state: str | Iterable[str] | None = None,
        queue: str | None = None,
        tag: str | None = None,
        batch: str | None = None,
        since: Duration | None = None,
        where: str | None = None,
        limit: int | None = 50,
        sort: Sort = "created",
    ) -> _Jobs:
        """The jobs that match, the newest first; all of them with `limit=None`.

        `since`: enqueued within this time. `where`: a filter such as `"exit:1 cmd:~make"`. `sort`: "created",
        "updated" (last changed first), "next" (next to run first), "number" (oldest first), or "ended" (last ended
        first; those that have not ended come last).
        """
        if sort not in get_args(Sort):
            raise InvalidInput(f"sort: {sort!r} is not one of {', '.join(get_args(Sort))}")
        opened, span = self._open(), span_of("since", since)
        given = Filter(
            states=states_of(words_of(state)),
            queue=queue,
            tag=tag,
            batch=batch,
            created_since=None if span is None else opened.now() - span,
        )
        wanted = given if where is None else parse(_text(where, given), opened.now())
        found: _Jobs = []
        page = Page(limit=min(limit or 1000, 1000), sort=sort)
        while limit is None or len(found) < limit:
            piece = opened.list(wanted, page)
            found += map(job_of, piece.jobs)
            if piece.next is None:
                break
            page = replace(page, after=piece.next)
        return found if limit is None else found[:limit]

    @overload
    def wait(self, jobs: Reference, timeout: Duration | None = None) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def wait(self, jobs: Iterable[Reference], timeout: Duration | None = None) -> _Jobs: ...

    def wait(self, jobs: Reference | Iterable[Reference], timeout: Duration | None = None) -> Job | _Jobs:
        """Wait until the job, or each of several jobs, has ended; return the ended job or jobs.

        A failed job raises no exception: read its `state` and `exit_code`. Raises `WaitTimeout` when the timeout
        is over (the jobs go on), and `NotFound` when a job does not exist or is deleted during the wait.
        """
        opened = self._open()
        ids = opened.resolve([reference_of(job) for job in several(jobs)])
        found = opened.wait(ids, timeout=span_of("timeout", timeout))
        for id in ids:
            if id not in found:
                raise NotFound(f"job {id} was deleted")
            if not found[id].ended:
                raise WaitTimeout(f"job {id} is still {found[id].state}", "the job goes on")
        ended = [job_of(found[id]) for id in ids]
        return ended[0] if isinstance(jobs, Reference) else ended

    def output(self, job: Reference, attempt: int | None = None) -> Output:
        """The output of an attempt, by default the newest one. Raises `NotFound`."""
        return output_of(self._open().output(reference_of(job), attempt))

    def follow(
        self, job: Reference, *, attempt: int | None = None, after: Part | None = None
    ) -> Iterator[Part]:
        """Yield the output of a job until the job has ended. The output of a retry follows that of the attempt
        before.

        `after`: continue after this part. Raises `NotFound`.
        """
        opened = self._open()
        [id] = opened.resolve([reference_of(job)])
        reader = PartReader(after)
        for each in opened.follow(id, attempt=attempt, after=reader.at):
            if (part := reader.read(each)) is not None:
                yield part

    @property
    def schedules(self) -> "Schedules":
        """The schedules of this queue: `queue.schedules.add("nightly", "30 2 * * *", "make report")`."""
        from queuectl.python.schedules import Schedules

        return Schedules(self._open)

    @property
    def hooks(self) -> "Hooks":
        """The hooks of this queue: `queue.hooks.add("ops", "dead", "mail ops@example.org")`."""
        from queuectl.python.hooks import Hooks

        return Hooks(self._open)

    def _request(self, opened: FrontDoor, command: Command | None, fields: Mapping[str, Any]) -> JobRequest:
        after = fields.get("after")
        if after is None:
            return request_of(command, fields)
        named = [job if isinstance(job, Job) else reference_of(job) for job in several(after)]
        words = iter(opened.parents([job for job in named if isinstance(job, str)]))
        parents = [After(job.id) if isinstance(job, Job) else next(words) for job in named]
        return replace(request_of(command, {**fields, "after": None}), after=parents)

    def _requested(self, opened: FrontDoor, job: Command | Mapping[str, Any], index: int) -> JobRequest:
        try:
            if isinstance(job, Mapping):
                return self._request(opened, None, job)
            return self._request(opened, job, {})
        except InvalidInput as error:
            error.index = index
            raise


def _text(where: str, given: Filter) -> str:
    """The filter with the other conditions of a list as terms."""
    refuse_empty(where)
    words = {"queue": given.queue, "tag": given.tag, "batch": given.batch}
    parts = [where, *(term(name, word) for name, word in words.items() if word is not None)]
    if given.states:
        parts.append(term("state", *sorted(given.states)))
    if given.created_since is not None:
        parts.append(term("since", format_instant(given.created_since)))
    return " ".join(parts)
