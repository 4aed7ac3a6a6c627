"""`from queuectl import Queue`: enqueue jobs, look at them, wait for them and change them from Python."""

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, overload

from msgspec.structs import replace

from queuectl import bootstrap
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page, Sort
from queuectl.errors import InvalidInput, NotFound
from queuectl.python.arguments import (
    Command,
    Duration,
    Reference,
    reference_of,
    request_of,
    span_of,
    words_of,
)
from queuectl.python.errors import ClosedQueue, WaitTimeout
from queuectl.python.values import Added, Change, Job, Output, Part, added_of, change_of, job_of, output_of
from queuectl.service.changing import Change as Changed
from queuectl.service.following import Begin
from queuectl.service.listing import states_of
from queuectl.service.local_queue import LocalQueue
from queuectl.service.operation import Operation
from queuectl.service.request.fields import After, JobRequest
from queuectl.service.settings import Sources

COMMIT = 1000
"""Jobs of `enqueue_many` that are stored at once."""

# A text is one reference, though it could be iterated: of two overloads the first is meant, so mypy's warning is off.
_Jobs = list[Job]
_Changes = list[Change]
_inherited: list[LocalQueue | None] = []
"""Queues that were open when this process was forked. They are kept, because closing one would touch what the parent
still uses: SQLite releases the locks of a file when any connection of a process to that file is closed.
"""


class Queue:
    """A queue of shell commands.

    `Queue()` is the queue that the command line would use here: the same environment, `.env` and configuration file.
    `Queue(url)` is the queue in the store at this URL, or by one of the words `postgres`, `mongodb` and `redis`.

    The store is opened at the first call, and made by the first enqueue. A queue may be used from several threads, and
    by the child of a fork, which opens the store for itself. Close it, or use it as a context manager.

    A job is named by a `Job`, an id or a number. Durations are a `timedelta`, seconds, or text like `"5m"`.

    Every call may raise `StoreUnavailable` (the store is out of reach, and nothing was changed), `StoreUnusable`,
    `ClosedQueue`, and if it changes something `OutcomeUnknown` (it may have been done; repeating it is safe).
    """

    _opened: LocalQueue | None

    def __init__(self, url: str | None = None) -> None:
        scheme = (url or "").partition(":")[0]
        if scheme in bootstrap.TO_COME:
            raise InvalidInput(f"a queue behind {scheme}:// is still to come", "give the URL of its store")
        self._url = url
        self._closed = False
        self._begin()

    def __enter__(self) -> "Queue":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store. Later calls raise `ClosedQueue`. Idempotent."""
        self._closed = True
        if os.getpid() == self._process:
            with self._lock:
                opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()

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
    ) -> Job:
        """Add a job; answers it as stored. A list of words is a program that is run without a shell.

        What is not given is taken from the settings, as `queuectl enqueue` does.

        id              a name of your own; the same id with the same content again is the same job
        priority        -1000 to 1000, higher first; one point is worth an hour of waiting
        retries         retries after the first attempt; -1 is for ever. `no_retry_codes`: exit codes without a retry
        backoff_base    retry n waits `backoff_factor * backoff_base ** n`, at most `backoff_max`; `jitter`: 0 to 1
        timeout         end the command after this time; `kill_grace`: the time from TERM to KILL
        delay, run_at   not before this much time has passed; not before this time (aware, or text as for `--at`)
        after           jobs to wait for; a text may say how each has to end: `"17:any"`, `"17:failed"`
        after_failure   what happens if a parent ends otherwise: "cancel" or "hold"
        unique_key      refuse while another job with this key has not ended
        batch, tags     a label of a group; words to find the job by. `meta`: a small object to keep with the job
        hold            not to start before `release`
        cwd, env        the directory (default: this one), and variables for the command; `umask`, `shell`, `stdin`
        output_limit    bytes of output that are kept of an attempt, the first and the last ones
        split           keep stdout and stderr apart
        allow_detached  let processes live on that the command leaves behind

        Raises `InvalidInput`; `NotFound` for an unknown parent; `Conflict` when the id exists with other content or
        the unique key is taken; `OutcomeUnknown` with the id in `ids`: enqueue again with that id.
        """
        fields = {
            "id": id, "queue": queue, "priority": priority, "retries": retries, "no_retry_codes": no_retry_codes,
            "backoff_base": backoff_base, "backoff_factor": backoff_factor, "backoff_max": backoff_max,
            "jitter": jitter, "timeout": timeout, "kill_grace": kill_grace, "delay": delay, "run_at": run_at,
            "after": after, "after_failure": after_failure, "unique_key": unique_key, "batch": batch, "tags": tags,
            "meta": meta, "hold": hold, "cwd": cwd, "env": env, "umask": umask, "stdin": stdin, "shell": shell,
            "output_limit": output_limit, "split": split, "allow_detached": allow_detached,
        }  # fmt: skip
        opened = self._open()
        [item] = opened.enqueue([self._request(opened, command, fields)])
        if item.refused is not None:
            raise item.refused
        return job_of(item.job)

    def enqueue_many(self, jobs: Iterable[Command | Mapping[str, Any]]) -> Iterator[Added]:
        """Add many jobs while the result is iterated, in commits of 1,000; answers what became of each.

        A job is a command, a list of words, or a mapping with `command` or `argv` and any argument of `enqueue`. What
        was answered is stored. A mapping that cannot be a job raises `InvalidInput` with its position as `index`; then
        nothing of its commit is stored.
        """
        rest, offset = iter(jobs), 0
        while commit := list(islice(rest, COMMIT)):
            opened = self._open()
            try:
                requests = [self._requested(opened, job, at) for at, job in enumerate(commit)]
                added = opened.enqueue(requests)
            except InvalidInput as error:
                error.index = offset + (error.index or 0)
                raise
            yield from map(added_of, added)
            offset += len(commit)

    def show(self, job: Reference) -> Job:
        """One job as it is now. Raises `NotFound`."""
        return job_of(self._open().show(reference_of(job)))

    def list(
        self,
        *,
        state: str | Iterable[str] | None = None,
        queue: str | None = None,
        tag: str | None = None,
        batch: str | None = None,
        since: Duration | None = None,
        limit: int | None = 50,
        sort: Sort = "created",
    ) -> _Jobs:
        """The jobs that match, the newest first; all of them with `limit=None`.

        `since`: enqueued within this time. `sort`: "created", "updated" (last changed first), or "next" (next to run
        first).
        """
        if sort not in ("created", "updated", "next"):
            raise InvalidInput(f"sort: {sort!r} is not created, updated or next")
        opened, span = self._open(), span_of("since", since)
        wanted = Filter(
            states=states_of(words_of(state)),
            queue=queue,
            tag=tag,
            batch=batch,
            created_since=None if span is None else opened.now() - span,
        )
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
        """Wait until the job, or each of several jobs, has ended; answers what was given, as it is then.

        A job that failed is no exception: look at its `state` and `exit_code`. Raises `WaitTimeout` when the timeout
        is over (the jobs go on), and `NotFound` when a job does not exist or is deleted meanwhile.
        """
        opened = self._open()
        ids = opened.resolve([reference_of(job) for job in _several(jobs)])
        found = opened.wait(ids, timeout=span_of("timeout", timeout))
        for id in ids:
            if id not in found:
                raise NotFound(f"job {id} was deleted")
            if not found[id].ended:
                raise WaitTimeout(f"job {id} is still {found[id].state}", "the job goes on")
        ended = [job_of(found[id]) for id in ids]
        return ended[0] if isinstance(jobs, Reference) else ended

    def output(self, job: Reference, attempt: int | None = None) -> Output:
        """What an attempt (by default the newest) printed. Raises `NotFound`."""
        return output_of(self._open().output(reference_of(job), attempt))

    def follow(
        self, job: Reference, *, attempt: int | None = None, after: Part | None = None
    ) -> Iterator[Part]:
        """What a job prints, as it comes, until the job has ended. A retry's output follows that of the attempt before.

        `after` goes on behind a part that was answered earlier. Raises `NotFound`.
        """
        opened = self._open()
        [id] = opened.resolve([reference_of(job)])
        number = after.attempt if after else 0
        position = (after.attempt_id, after.n) if after else None
        for part in opened.follow(id, attempt=attempt, after=position):
            if isinstance(part, Begin):
                number = part.attempt
            elif isinstance(part, Chunk):
                yield Part(number, part.attempt_id, part.n, part.stream, part.offset, part.at, part.data)

    @overload
    def cancel(self, jobs: Reference, *, reason: str | None = None) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def cancel(self, jobs: Iterable[Reference], *, reason: str | None = None) -> _Changes: ...

    def cancel(self, jobs: Reference | Iterable[Reference], *, reason: str | None = None) -> Job | _Changes:
        """Never start a job; end it, with all its processes, if it runs. A running one is cancelled once it has ended.

        Of one job, answers the job, and raises `Conflict` if it has ended otherwise. Of several, answers what became of
        each. Raises `NotFound`, before anything is changed, for a job that does not exist. So do the other acts.
        """
        return self._act(jobs, lambda opened, named: opened.cancel(named, reason=reason))

    @overload
    def retry(self, jobs: Reference, *, force: bool = False, alone: bool = False) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def retry(self, jobs: Iterable[Reference], *, force: bool = False, alone: bool = False) -> _Changes: ...

    def retry(
        self, jobs: Reference | Iterable[Reference], *, force: bool = False, alone: bool = False
    ) -> Job | _Changes:
        """Run a dead, cancelled or failed job once more, with a new retry budget; with `force` a completed one too.

        The job waits for its parents again, and jobs that were cancelled because of it come back (of several, they
        follow in the answer); not with `alone`. Raises `Conflict` if one job cannot be retried.
        """
        return self._act(jobs, lambda opened, named: opened.retry(named, force=force, alone=alone))

    @overload
    def hold(self, jobs: Reference) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def hold(self, jobs: Iterable[Reference]) -> _Changes: ...

    def hold(self, jobs: Reference | Iterable[Reference]) -> Job | _Changes:
        """Keep a waiting job from starting until it is released. Raises `Conflict` if one job does not wait."""
        return self._act(jobs, lambda opened, named: opened.hold(named))

    @overload
    def release(self, jobs: Reference, *, anyway: bool = False) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    def release(self, jobs: Iterable[Reference], *, anyway: bool = False) -> _Changes: ...

    def release(self, jobs: Reference | Iterable[Reference], *, anyway: bool = False) -> Job | _Changes:
        """Let a held job start when it is due, behind its parents; with `anyway` without them.

        Raises `Conflict` if one job is not held.
        """
        return self._act(jobs, lambda opened, named: opened.release(named, anyway=anyway))

    def _begin(self) -> None:
        """The state of a queue that is not open in this process."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._opened = None

    def _open(self) -> LocalQueue:
        """The open queue of this process. One without a store is opened again, for somebody may have made it."""
        if os.getpid() != self._process:
            _inherited.append(self._opened)
            self._begin()
        with self._lock:
            if self._closed:
                raise ClosedQueue("the queue is closed", "make another Queue")
            if self._opened is not None and self._opened.absent:
                self._opened.close()
                self._opened = None
            if self._opened is None:
                sources = Sources({"store": self._url}, None, warnings.warn)
                self._opened = bootstrap.open_queue(sources, "create")
            return self._opened

    def _request(self, opened: LocalQueue, command: Command | None, fields: Mapping[str, Any]) -> JobRequest:
        after = fields.get("after")
        if after is None:
            return request_of(command, fields)
        named = [job if isinstance(job, Job) else reference_of(job) for job in _several(after)]
        words = iter(opened.parents([job for job in named if isinstance(job, str)]))
        parents = [After(job.id) if isinstance(job, Job) else next(words) for job in named]
        return replace(request_of(command, {**fields, "after": None}), after=parents)

    def _requested(self, opened: LocalQueue, job: Command | Mapping[str, Any], index: int) -> JobRequest:
        try:
            if isinstance(job, Mapping):
                return self._request(opened, None, job)
            return self._request(opened, job, {})
        except InvalidInput as error:
            error.index = index
            raise

    def _act(
        self,
        jobs: Reference | Iterable[Reference],
        act: Callable[[LocalQueue, Sequence[str]], Operation[Sequence[Changed]]],
    ) -> Job | _Changes:
        named = [reference_of(job) for job in _several(jobs)]
        changes = [change_of(each) for step in act(self._open(), named) for each in step]
        if not isinstance(jobs, Reference):
            return changes
        if changes[0].refused is not None:
            raise changes[0].refused
        assert changes[0].job is not None, (
            "only a job that cannot be read is not answered, and that is refused"
        )
        return changes[0].job


def _several(jobs: Reference | Iterable[Reference]) -> Iterable[Reference]:
    return [jobs] if isinstance(jobs, Reference) else jobs
