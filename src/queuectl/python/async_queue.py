"""`from queuectl import AsyncQueue`: the methods of `Queue`, awaited.

A call runs in a thread, so that the event loop goes on. `awaited` derives the signature and the types of a method from
`Queue`. `wait` and `follow` may take hours, and a thread cannot be cancelled. So they run in turns of half a second:
after a cancelled `await` the thread is soon free. They block at most half of the threads; if there are more of them,
the others look twice a second.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial, update_wrapper, wraps
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload

from queuectl.domain.job import Job as StoredJob
from queuectl.errors import StoreUnavailable
from queuectl.python.arguments import Command, Duration, Reference, reference_of, span_of
from queuectl.python.errors import ClosedQueue, WaitTimeout
from queuectl.python.events import Event, EventTurns, Since, Types
from queuectl.python.opening import Connection, InLoop
from queuectl.python.queue import COMMIT, Queue
from queuectl.python.values import Added, Job, Part, PartReader
from queuectl.service.attempts import MOST_CHUNKS
from queuectl.service.following import start_of
from queuectl.service.queue import Queue as FrontDoor

if TYPE_CHECKING:
    from queuectl.python.async_hooks import AsyncHooks
    from queuectl.python.async_schedules import AsyncSchedules

P = ParamSpec("P")
Answer = TypeVar("Answer")
Function = TypeVar("Function", bound=Callable[..., object])
_Jobs = list[Job]
_Parts = list[Part]

THREADS = 8
"""Calls of one `AsyncQueue` that run at once; the others wait for a thread."""
BLOCKED = THREADS // 2
"""Threads that `wait` and `follow` block at most."""
TURN = 0.5
"""Seconds that such a call keeps its thread, or waits between two looks."""
BYTES = 1024 * 1024
"""About so many bytes of output are read in one turn. Through a server each turn opens a stream."""


def awaited(
    method: Callable[Concatenate[Queue, P], Answer],
) -> Callable[Concatenate["AsyncQueue", P], Coroutine[Any, Any, Answer]]:
    """The method of `AsyncQueue` that awaits this method of `Queue`."""

    @wraps(method)
    async def call(self: "AsyncQueue", /, *args: P.args, **fields: P.kwargs) -> Answer:
        connection = fields.get("connection")
        if connection is None:
            return await self._run(partial(method, self._queue, *args, **fields))
        statements = _Statements(asyncio.get_running_loop())
        given = {**fields, "connection": InLoop(cast(Connection, connection), statements.wait)}
        return await self._joined(statements, partial(method, self._queue, *args, **given))  # type: ignore[arg-type]

    return call


def described_as(method: Callable[..., object]) -> Callable[[Function], Function]:
    """Give a method of `AsyncQueue` the name, the signature and the docstring of this method of `Queue`."""

    def describe(function: Function) -> Function:
        return cast(Function, update_wrapper(function, method))

    return describe


class AsyncQueue:
    """A queue of shell commands for `asyncio`: `Queue` with the same methods, arguments, values and errors.

    Methods are awaited, and iterators are read with `async for`. Several event loops may use one `AsyncQueue`.

    A cancelled `await` does not stop a call that has begun: a change may be done or not. An enqueue with an `id` of
    your own can be repeated safely.
    """

    _threads: ThreadPoolExecutor | None

    def __init__(
        self, url: str | None = None, *, token: str | None = None, insecure_http: bool = False
    ) -> None:
        self._queue = Queue(url, token=token, insecure_http=insecure_http)
        self._closed = False
        self._begin()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the store. Later calls raise `ClosedQueue`. Idempotent."""
        if not self._closed:
            self._closed = True
            if os.getpid() != self._process:
                self._begin()
            with self._lock:
                threads, self._threads = self._threads, None
            if threads is not None:
                done = threads.submit(self._queue.close)
                threads.shutdown(wait=False)
                await asyncio.shield(asyncio.wrap_future(done))  # a cancel does not stop it

    enqueue = awaited(Queue.enqueue)
    show = awaited(Queue.show)
    list = awaited(Queue.list)
    explain = awaited(Queue.explain)
    output = awaited(Queue.output)

    cancel = awaited(Queue.cancel)
    retry = awaited(Queue.retry)
    hold = awaited(Queue.hold)
    release = awaited(Queue.release)
    edit = awaited(Queue.edit)
    delete = awaited(Queue.delete)
    purge = awaited(Queue.purge)

    operate = awaited(Queue.operate)
    operation = awaited(Queue.operation)
    operations = awaited(Queue.operations)
    stop_operation = awaited(Queue.stop_operation)

    status = awaited(Queue.status)
    stats = awaited(Queue.stats)
    queues = awaited(Queue.queues)
    pause = awaited(Queue.pause)
    resume = awaited(Queue.resume)
    limit = awaited(Queue.limit)
    settings = awaited(Queue.settings)
    set = awaited(Queue.set)
    unset = awaited(Queue.unset)
    workers = awaited(Queue.workers)
    stop = awaited(Queue.stop)
    reload = awaited(Queue.reload)
    forget = awaited(Queue.forget)
    doctor = awaited(Queue.doctor)

    export_to = awaited(Queue.export_to)
    import_from = awaited(Queue.import_from)

    @property
    def schedules(self) -> "AsyncSchedules":
        """The schedules of this queue: `Queue.schedules`, with methods that are awaited."""
        from queuectl.python.async_schedules import AsyncSchedules

        return AsyncSchedules(self._queue.schedules, self._run)

    @property
    def hooks(self) -> "AsyncHooks":
        """The hooks of this queue: `Queue.hooks`, with methods that are awaited."""
        from queuectl.python.async_hooks import AsyncHooks

        return AsyncHooks(self._queue.hooks, self._run)

    @described_as(Queue.enqueue_many)
    async def enqueue_many(
        self, jobs: Iterable[Command | Mapping[str, Any]], *, connection: Connection | None = None
    ) -> AsyncIterator[Added]:
        """As `Queue.enqueue_many`."""
        statements = _Statements(asyncio.get_running_loop())
        given: Any = None if connection is None else InLoop(connection, statements.wait)
        added = self._queue.enqueue_many(jobs, connection=given)
        run = self._run if connection is None else partial(self._joined, statements)
        while step := await run(lambda: [*islice(added, COMMIT)]):
            for each in step:
                yield each

    @overload
    async def wait(self, jobs: Reference, timeout: Duration | None = None) -> Job: ...  # type: ignore[overload-overlap]

    @overload
    async def wait(self, jobs: Iterable[Reference], timeout: Duration | None = None) -> _Jobs: ...

    @described_as(Queue.wait)
    async def wait(
        self, jobs: Reference | Iterable[Reference], timeout: Duration | None = None
    ) -> Job | _Jobs:
        """As `Queue.wait`."""
        named = jobs if isinstance(jobs, Reference) else tuple(jobs)
        span = span_of("timeout", timeout)
        deadline = None if span is None else time.monotonic() + span.total_seconds()

        def look(seconds: float) -> Job | _Jobs | None:
            left = float("inf") if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return self._queue.wait(named, timeout=min(seconds, left))
            except WaitTimeout:
                if left <= seconds:
                    raise
                return None

        return await self._patiently(look)

    @described_as(Queue.follow)
    async def follow(
        self, job: Reference, *, attempt: int | None = None, after: Part | None = None
    ) -> AsyncIterator[Part]:
        """As `Queue.follow`."""
        turns = _Turns(self._queue, job, attempt, after)
        ended = False
        while not ended:
            parts, ended = await self._patiently(turns.look)
            for part in parts:
                yield part

    @described_as(Queue.events)
    async def events(
        self, *, since: Since = None, follow: bool = False, types: Types = None, where: str | None = None
    ) -> AsyncIterator[Event]:
        """As `Queue.events`."""
        turns = EventTurns(self._queue, since, types, where, follow=follow)
        while True:
            events, is_end = await self._run(turns.next)
            for event in events:
                yield event
            if is_end and not follow:
                return
            if is_end:
                await asyncio.sleep(TURN)

    async def _joined(self, statements: "_Statements", work: Callable[[], Answer]) -> Answer:
        """Run `work` in a thread, and its statements in the loop, over the caller's connection.

        After a cancel the statement in progress is cancelled too, and the call has ended when this returns: it must
        not go on in the next transaction of the connection.
        """
        call = asyncio.ensure_future(self._run(work))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            statements.cancel()
            while not call.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([call])
            if not call.cancelled():
                call.exception()  # otherwise asyncio reports that nobody has read it
            raise

    async def _patiently(self, look: Callable[[float], Answer | None]) -> Answer:
        """Call `look` in turns, with the seconds that it may take, until it returns something."""
        while True:
            blocks = self._blocked.acquire(blocking=False)
            answer = await self._run(
                partial(look, TURN if blocks else 0.0), self._blocked if blocks else None
            )
            if answer is not None:
                return answer
            if not blocks:
                await asyncio.sleep(TURN)

    async def _run(self, work: Callable[[], Answer], taken: threading.Semaphore | None = None) -> Answer:
        """Run `work` in a thread. `taken` is released when the thread is free again, also after a cancel."""
        if os.getpid() != self._process:
            self._begin()  # the threads did not survive the fork
        with self._lock:
            if self._threads is None:
                raise _closed()
            future = self._threads.submit(work)
        if taken is not None:
            future.add_done_callback(lambda _: taken.release())
        try:
            return await asyncio.wrap_future(future)
        except StoreUnavailable as error:
            if not self._closed:
                raise
            raise _closed() from error  # closed during the call

    def _begin(self) -> None:
        """Make the threads of this process. They start when they are needed."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._blocked = threading.Semaphore(BLOCKED)
        self._threads = ThreadPoolExecutor(THREADS, "queuectl")


def _closed() -> ClosedQueue:
    return ClosedQueue("the queue is closed", "make another AsyncQueue")


class _Statements:
    """Runs the statements of a thread in an event loop, until `cancel`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cancelled = False
        self._running: Future[Any] | None = None

    def wait(self, statement: Coroutine[Any, Any, Any]) -> Any:
        """Run one statement, and wait for its result. Called in the thread."""
        stop, self._cancelled = self._cancelled, False  # what follows is the rollback to the savepoint
        self._running = asyncio.run_coroutine_threadsafe(statement, self._loop)
        if stop:
            self._running.cancel()
        return self._running.result()

    def cancel(self) -> None:
        """Cancel the statement in progress, or else the next one. Called in the loop."""
        if self._running is None or not self._running.cancel():
            self._cancelled = True


class _TurnEnds(Exception):
    """Ends a turn of `follow` when all output so far has been read."""


class _Turns:
    """Reads an output in turns. Each turn continues at the position that the one before has reached."""

    def __init__(self, queue: Queue, job: Reference, attempt: int | None, after: Part | None) -> None:
        self._queue, self._job, self._attempt = queue, job, attempt
        self._reader, self._id = PartReader(after), ""

    def look(self, seconds: float) -> tuple[_Parts, bool] | None:
        """The next parts, and whether no more follow; None if nothing comes within this time."""
        found, size = _Parts(), 0
        deadline = time.monotonic() + seconds

        def look(_job: StoredJob) -> None:
            if found or time.monotonic() >= deadline:
                raise _TurnEnds

        opened = self._begun()
        try:
            for each in opened.follow(self._id, attempt=self._attempt, after=self._reader.at, look=look):
                if (part := self._reader.read(each)) is not None:
                    found.append(part)
                    size += len(part.data)
                if size >= BYTES or len(found) > MOST_CHUNKS:
                    return found, False
        except _TurnEnds:
            return (found, False) if found else None
        return found, True

    def _begun(self) -> FrontDoor:
        """The open queue. The first turn decides which job is read, and which attempt is the first."""
        opened = self._queue._open()
        if not self._id:
            job = opened.show(reference_of(self._job))
            self._reader.at = self._reader.at or start_of(job, self._attempt)
            self._id = job.id
        return opened
