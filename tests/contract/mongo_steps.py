"""Work on a MongoDB that a test runs step by step, and that may die between any two steps."""

import threading
from collections.abc import Callable, Iterator
from typing import Any


class Killed(BaseException):
    """The work was killed."""


class Actor:
    """Work on a database that stops before each request until the test continues it."""

    def __init__(self, base: Any, work: Callable[[Any], Any]) -> None:
        self._base, self._work = base, work
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._dies = False
        self.error: BaseException | None = None
        self.answer: Any = None
        self.next: str | None = ""
        """The next request, for example `jobs.find`; None after the end."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stopped.acquire()

    def step(self) -> bool:
        """Let it do one request; whether there is another one."""
        if self.next is not None:
            self._go.release()
            self._stopped.acquire()
        return self.next is not None

    def until(self, request: str) -> "Actor":
        """Let it go on until it is about to do this."""
        while self.next != request:
            assert self.step(), f"it has ended and never came to {request}"
        return self

    def finish(self) -> Any:
        """Let it go on to its end; its answer."""
        while self.step():
            pass
        self._thread.join()
        if self.error is not None:
            raise self.error
        return self.answer

    def kill(self) -> None:
        """Let it go no further. Harmless when it has ended."""
        self._dies = True
        self._go.release()
        self._thread.join()

    def wait(self, request: str) -> None:
        """Called in the thread of the work before each request."""
        if not self._dies:
            self.next = request
            self._stopped.release()
            self._go.acquire()
        if self._dies:
            raise Killed

    def _run(self) -> None:
        try:
            self.answer = self._work(_Base(self._base, self))
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.next = None
        self._stopped.release()


class _Base:
    """A database that waits for a sign before each request."""

    def __init__(self, base: Any, actor: Actor) -> None:
        self._base, self._actor = base, actor

    def __getitem__(self, name: str) -> Any:
        return _Collection(self._base[name], name, self._actor)

    def with_options(self, **options: Any) -> Any:
        return _Base(self._base.with_options(**options), self._actor)

    def get_collection(self, name: str, **options: Any) -> Any:
        return _Collection(self._base.get_collection(name, **options), name, self._actor)


class _Collection:
    def __init__(self, collection: Any, name: str, actor: Actor) -> None:
        self._collection, self._name, self._actor = collection, name, actor

    def with_options(self, **options: Any) -> Any:
        return _Collection(self._collection.with_options(**options), self._name, self._actor)

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._collection, verb)

        def call(*args: Any, **options: Any) -> Any:
            if verb == "find":
                return _Cursor(method(*args, **options), f"{self._name}.find", self._actor)
            self._actor.wait(f"{self._name}.{verb}")
            return method(*args, **options)

        return call


class _Cursor:
    """Sends its request when it is read."""

    def __init__(self, cursor: Any, request: str, actor: Actor) -> None:
        self._cursor, self._request, self._actor = cursor, request, actor

    def __getattr__(self, verb: str) -> Any:
        def call(*args: Any) -> Any:
            return _Cursor(getattr(self._cursor, verb)(*args), self._request, self._actor)

        return call

    def __iter__(self) -> Iterator[Any]:
        self._actor.wait(self._request)
        yield from list(self._cursor)
