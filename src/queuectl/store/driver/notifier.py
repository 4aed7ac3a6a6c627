"""Waits for changes of a store. Each handle on a store has one source of changes and any number of subscribers.

A *source* reports the changes to one driver: it is a socket on which notifications arrive, or polled counters. The
*notifier* owns the timing and informs the *subscriptions*. Each subscription has its own cursor: a flag that a change
of its topics sets, and that only its own `wait` clears. So every subscriber receives every change.

**Threads.** The notifier has no thread of its own, and one connection at most. Of the threads that wait, one
*drives*: it sleeps on the descriptor of the source, reads what arrives and sets the flags of all subscriptions. The
others, the *followers*, sleep on a self-pipe each. So a single waiter costs as much as a plain `poll`.

**Races.** One lock guards the flags and which thread drives. No thread sleeps, reads or polls while it has the lock.

1. *A change comes while a subscriber is not in `wait`.* Its flag stays set; its next `wait` returns at once.
2. *A change comes after a subscriber has read its flag and before it sleeps.* A thread reads its flag and marks itself
   asleep in one step under the lock. A thread that sets the flag later sees the mark and writes to the self-pipe of
   the subscriber, and a pipe keeps what was written before the poll.
3. *The driving thread returns* (its own topic changed, its time is over, it raised). Then no thread reads the source,
   and followers would sleep through every later change. So a thread marks itself asleep only while another thread
   drives. A thread that returns from `wait` while no thread drives wakes one sleeper, which then drives. If that
   sleeper returns at the same time because its time is over, the same rule wakes the next one.
4. *Two changes within the pause of the sender.* The server stores notify at most once in 50 ms for each topic, because
   a notification costs three times what an enqueue does. The second change sends nothing. So `THROTTLE_TAIL` seconds
   after each notification the flags of its subscribers are set once more.
5. *The source starts, or has lost its connection.* Earlier changes are unknown, so all flags are set. A subscription
   that is made while the source runs does not need that: each change that the source reads from then
   on is later than the subscription, or wakes the subscriber needlessly.
6. *A notification is lost* (Redis' pub/sub and MongoDB's log promise nothing, and the process that should have sent it
   may have died). Such a source sets `lossy`; then a `wait` ends at the latest `SAFETY_POLL` seconds after the last one
   that returned True.
7. *A topic that the source cannot signal* (`output` and `changes` on the server stores, where a notification of each
   chunk would be a write for each). A `wait` for it ends at the latest `UNSIGNALLED_POLL` seconds after the last True.
8. *The store is closed.* All sleepers are woken and raise. The driving thread closes the source before it returns; if
   no thread drives, `close` does. So no descriptor is closed while a thread polls it.
9. *A fork.* The child has no driving thread, and perhaps a lock that no thread will release. So `refuse_use` is
   called before the lock is taken.

`tests/contract/test_waiting.py` shows 1 to 3, 8 and 9 on every store, `tests/contract/test_notifier.py` all with a
fake source.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from math import inf

from queuectl.clock import random_number
from queuectl.domain import topics
from queuectl.domain.job import Job
from queuectl.domain.topics import Topic, Topics
from queuectl.errors import StoreUnavailable
from queuectl.store.driver.self_pipe import SelfPipe

THROTTLE_TAIL = 0.1
"""Seconds after a notification for which the server may omit further ones. After this time subscribers are woken."""
POLL = 0.25
"""Seconds between two polls of the counters without notifications. Varied randomly by a fifth."""
SAFETY_POLL = 5.0
"""Seconds after which a wait on a lossy source ends without a notification. Varied randomly by a fifth."""
UNSIGNALLED_POLL = 0.5
"""Seconds after which a wait ends for a topic that the source never signals."""
LONGEST_SLEEP = 3600.0
"""The longest sleep in seconds, because `poll` accepts no infinite number."""
STORED_NAMES: Mapping[str, Topic] = {"work": "work", "end": "ends"}
"""The topics by their names in the server stores. Older workers use the same names in tables and messages."""


class Lost(Exception):
    """The connection of a source broke. The source must connect again, and the changes meanwhile are unknown."""


class Source(ABC):
    """Reports changes of the store to the notifier. Only the driving thread calls its methods.

    signalled   the topics whose changes the source reports
    misses_own  the source does not report changes by this handle, so `Notifier.tell` reports them
    throttled   the source may omit a notification that follows another one closely
    lossy       the source may lose a notification
    readable    False if the descriptor was not readable at the end of the last sleep
    """

    signalled: Topics = topics.WORK | topics.ENDS
    misses_own, throttled, lossy = False, True, True
    readable = True

    def connect(self) -> None:  # noqa: B027  optional
        """Start, or start again after `Lost` or a failure. The source reports all changes after this call."""

    def descriptor(self) -> int | None:
        """The descriptor that becomes readable after a change. None if the counters are polled."""
        return None

    def drain(self) -> Topics | None:
        """Read the notifications that have arrived.

        Returns their topics, or None if only the counters show them. Raises Lost.
        """
        return None

    @abstractmethod
    def counters(self) -> Mapping[Topic, int]:
        """For each topic a number that changes with every notification. The same object if no number has changed."""

    def interval(self) -> float:
        """Seconds until the source is drained even if its descriptor is not readable."""
        return inf if self.descriptor() is not None else POLL * spread()

    def close(self) -> None:  # noqa: B027  optional
        """Close the connection. Idempotent."""


class Local(Source):
    """The source of a store that changes only through this handle: `Notifier.tell` reports all changes."""

    signalled = topics.ALL
    misses_own, throttled, lossy = True, False, False

    def drain(self) -> Topics | None:
        return topics.NONE

    def counters(self) -> Mapping[Topic, int]:
        return {}

    def interval(self) -> float:
        return inf


class Notifier:
    """Informs subscriptions of changes. `refuse_use` raises after a fork, and after the store was closed."""

    def __init__(self, source: Source, refuse_use: Callable[[], None] = lambda: None) -> None:
        self._source, self._refuse_use = source, refuse_use
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription] = []
        self._driver: Subscription | None = None
        self._driven = self._closed = False
        self._counters: Mapping[Topic, int] | None = None
        self._tails: dict[Topic, float] = {}

    def subscribe(self, wanted: Iterable[Topic]) -> "Subscription":
        """A new subscription. Sends nothing: the first `wait` of any subscription connects the source."""
        self._check()
        one = Subscription(self, frozenset(wanted), self._source)
        with self._lock:
            self._subscriptions.append(one)
        return one

    def tell(self, touched: Topics) -> None:
        """Report that this handle has changed something of these topics."""
        if self._subscriptions and self._source.misses_own:
            with self._lock:
                self._tell(touched)

    def tell_of(self, jobs: Sequence[Job], now: Callable[[], datetime]) -> None:
        """Report that this handle has stored these jobs."""
        if self._subscriptions and self._source.misses_own:
            self.tell(topics.of_jobs(jobs, now()))

    def tell_soon(self, touched: Topics) -> None:
        """Wake subscribers after a short time, without a notification: other claims may then release their locks."""
        with self._lock:
            self._tails |= dict.fromkeys(touched, time.monotonic() + THROTTLE_TAIL)
            if self._driver is not None:
                self._driver.pipe.wake()

    def catch_up(self) -> None:
        """Read notifications although no thread waits: a listener that never reads blocks the server's queue."""
        if self._counters is not None and not self._closed and self._begin_to_drive(None):
            try:
                self._look()
            finally:
                self._stop_driving()

    def close(self) -> None:
        """End every wait. This call or the driving thread closes the source. Idempotent."""
        with self._lock:
            self._closed = True
            for one in self._subscriptions:
                one.pipe.wake()
            idle = not self._driven
        if idle:
            self._source.close()

    # Methods for subscriptions

    def wait(self, one: "Subscription", timeout: float) -> bool:
        """See `Subscription.wait`."""
        self._check()  # before the lock is taken (race 9)
        deadline, drives = time.monotonic() + timeout, False
        try:
            while not one.closed:
                if self._closed:
                    self._check()
                drives = drives or self._begin_to_drive(one)
                if drives:
                    self._look()
                now = time.monotonic()
                with self._lock:
                    if one.take(now):
                        return True
                    one.asleep = now < deadline and self._driven
                    until = min(
                        deadline, one.due, now + LONGEST_SLEEP, *(self._tails.values() if drives else ())
                    )
                if now >= deadline:
                    break
                if one.asleep:
                    self._sleep(one, until - now, drives=drives)
                    one.asleep = False
            return False
        finally:
            self._leave(one, drives=drives)

    def wake(self, one: "Subscription") -> None:
        """See `Subscription.wake`."""
        with self._lock:
            one.pending = True
            one.pipe.wake()

    def forget(self, one: "Subscription") -> None:
        """See `Subscription.close`."""
        with self._lock:
            one.closed = True
            if one in self._subscriptions:
                self._subscriptions.remove(one)
            one.pipe.wake()

    def _check(self) -> None:
        self._refuse_use()
        if self._closed:
            raise StoreUnavailable("the store was closed already")

    def _sleep(self, one: "Subscription", seconds: float, *, drives: bool) -> None:
        if drives:
            # Called before `descriptor`, because it may create the descriptor.
            seconds = min(seconds, self._source.interval())
            self._source.readable = one.pipe.wait(max(0.0, seconds), self._source.descriptor())
        else:
            one.pipe.wait(max(0.0, seconds))

    # Which thread drives

    def _begin_to_drive(self, one: "Subscription | None") -> bool:
        """Let the caller drive until `_stop_driving`, if no other thread drives. Returns whether the caller drives."""
        with self._lock:
            if self._driven:
                return False
            self._driven, self._driver, self._source.readable = True, one, True
            return True

    def _stop_driving(self) -> None:
        with self._lock:
            self._driven, self._driver, closed = False, None, self._closed
            self._wake_next()
        if closed:
            self._source.close()

    def _leave(self, one: "Subscription", *, drives: bool) -> None:
        one.asleep = False
        if drives:
            self._stop_driving()
        else:
            with self._lock:
                self._wake_next()

    def _wake_next(self) -> None:
        """If no thread drives, wake one sleeper, which then drives (race 3)."""
        if not self._driven:
            for one in self._subscriptions:
                if one.asleep:
                    one.pipe.wake()
                    return

    # The work of the driving thread

    def _look(self) -> None:
        """Read the changes from the source, and set the flags. Raises the errors of the source."""
        heard = self._heard()
        if not heard and not self._tails:
            return
        now = time.monotonic()
        with self._lock:
            over = [topic for topic, at in self._tails.items() if now >= at]
            for topic in over:
                del self._tails[topic]
            if self._source.throttled:
                self._tails |= dict.fromkeys(heard & self._source.signalled, now + THROTTLE_TAIL)
            self._tell(heard.union(over))

    def _heard(self) -> Topics:
        source = self._source
        try:
            if self._counters is None:
                source.connect()
                self._counters = source.counters()
                return topics.ALL
            heard = source.drain()
        except Lost:
            self._counters = None
            return topics.ALL
        if heard is not None:
            return heard
        before, self._counters = self._counters, source.counters()
        if self._counters is before:
            return topics.NONE
        return frozenset(topic for topic, count in self._counters.items() if before.get(topic) != count)

    def _tell(self, touched: Topics) -> None:
        if touched & (topics.WORK | topics.ENDS):
            touched |= topics.CHANGES
        for one in self._subscriptions:
            if not one.pending and one.topics & touched:
                one.pending = True
                if one.asleep:
                    one.pipe.wake()


class Subscription:
    """A cursor for changes of some topics; `store.protocol.Subscription` documents the promises."""

    def __init__(self, notifier: Notifier, wanted: Topics, source: Source) -> None:
        self._notifier, self.topics = notifier, wanted
        self._patience = SAFETY_POLL if source.lossy else inf
        if not wanted <= source.signalled:
            self._patience = UNSIGNALLED_POLL
        self.pipe = SelfPipe()
        self.pending = self.asleep = self.closed = False
        self.due = inf
        """When a wait ends without a notification."""

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds. Returns whether a topic may have changed since the last wait."""
        return self._notifier.wait(self, timeout)

    def wake(self) -> None:
        """Let the running `wait` return True; without a running one, the next `wait`."""
        self._notifier.wake(self)

    def close(self) -> None:
        """End the running `wait`, and let every later one return False. Idempotent."""
        self._notifier.forget(self)

    def take(self, now: float) -> bool:
        """Whether something may have changed since the last call. The notifier calls this under its lock."""
        taken = self.pending or now >= self.due
        if self._patience < inf and (taken or self.due == inf):
            self.due = now + self._patience * spread()
        self.pending = False
        return taken


def topics_of(names: Iterable[str]) -> Topics:
    """The topics for these names in a server store. A name that a newer version has added is ignored."""
    return frozenset(STORED_NAMES[name] for name in names if name in STORED_NAMES)


def counted(stored: Iterable[tuple[str, int]]) -> dict[Topic, int]:
    """The counters of a server store, by topic."""
    return {STORED_NAMES[name]: count for name, count in stored if name in STORED_NAMES}


def spread() -> float:
    """A random factor, so that many workers do not poll at the same time."""
    return 0.8 + 0.4 * random_number()
