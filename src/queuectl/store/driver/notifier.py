"""Waiting for changes: one source of news for each handle on a store, and any number of subscribers to it.

A *source* is what one driver knows of changes: a socket on which notifications come, or counters that it polls. The
*notifier* owns the timing and tells the *subscriptions*, each of which has its own cursor: a flag that is set by a
change of its topics and cleared by its own `wait` alone. So no subscriber takes a change away from another one.

**Who works.** There is no thread of our own and one connection at most. Of the threads that wait, one *drives*: it
sleeps on the descriptor of the source, reads what comes and sets the flags of all subscriptions. The others, the
*followers*, sleep on a self-pipe each. A single waiter thus costs what a plain `poll` costs.

**Races.** Flags, and who drives, change under one lock. Nobody sleeps, reads or polls under it.

1. *A change comes while a subscriber is not in `wait`.* Its flag stays set; its next `wait` returns at once.
2. *A change comes between a subscriber's look at its flag and its sleep.* A thread looks at its flag and marks itself
   asleep in one step under the lock. Whoever sets the flag later sees the mark and writes to its self-pipe, and a pipe
   keeps what was written before the poll.
3. *The driver leaves* (its own topic came, its time is over, it raised). Then nobody reads the source, and followers
   would sleep through every later change. So a thread marks itself asleep only while somebody drives, and whoever
   leaves `wait` while nobody drives wakes one sleeper, which then drives. If that sleeper leaves at the same moment
   because its time is over, the same rule wakes the next one.
4. *Two changes within the pause of the sender.* The server stores notify at most once in 50 ms for each topic, because
   a notification costs three times what an enqueue does. The second change sends nothing. So `THROTTLE_TAIL` seconds
   after each notification the subscribers of its topic are told once more.
5. *The source begins, or lost its connection.* Nobody knows what changed before. Everyone is told of all topics. A
   subscription that is made while the source runs needs no such word: what the source reads from then on came later
   or is told needlessly.
6. *A notification is lost* (Redis' pub/sub and MongoDB's log promise nothing; whoever should have sent it may have
   died). Such a source sets `lossy`; then a `wait` ends at the latest `SAFETY_POLL` seconds after the last one that
   answered True.
7. *A topic that the source cannot signal* (`output` and `changes` on the server stores, where a notification of each
   chunk would be a write for each). A `wait` for it ends at the latest `UNSIGNALLED_POLL` seconds after the last True.
8. *The store is closed.* All sleepers are woken and raise. The driver closes the source as it leaves; if nobody drives,
   `close` does. So no descriptor is closed under a thread that polls it.
9. *A fork.* The child has no thread that drives, and perhaps a lock that nobody will release. So `refuse_use` is asked
   before the lock is taken.

`tests/contract/test_waiting.py` shows 1 to 3, 8 and 9 on every store, `tests/contract/test_notifier.py` all with a
fake source.
"""

import threading
import time
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
"""Seconds after a notification, in which the server may have left out another one: then subscribers are told again."""
POLL = 0.25
"""Seconds between two polls of the counters, spread by a fifth, where no notifications come."""
SAFETY_POLL = 5.0
"""Seconds after which a wait ends though nothing was heard of a lossy source, spread by a fifth."""
UNSIGNALLED_POLL = 0.5
"""Seconds after which a wait ends for a topic that the source never signals."""
LONGEST_SLEEP = 3600.0
"""Seconds; `poll` takes no endless number."""
STORED_NAMES: Mapping[str, Topic] = {"work": "work", "end": "ends"}
"""Topics by the names that the server stores have for them, in tables and messages that older workers share."""


class Lost(Exception):
    """The connection of a source broke: it has to connect again, and nobody knows what was missed."""


class Source:
    """How a driver learns of changes. Only the thread that drives calls it.

    signalled   the topics of which it learns
    misses_own  it does not learn of what this handle changes, so `Notifier.tell` says it
    throttled   it may leave out a notification that follows another one closely
    lossy       it may lose a notification
    readable    False: its descriptor was not readable at the end of the last sleep
    """

    signalled: Topics = topics.WORK | topics.ENDS
    misses_own, throttled, lossy = False, True, True
    readable = True

    def connect(self) -> None:
        """Begin, or begin again after `Lost` or a failure. Changes count from here."""

    def descriptor(self) -> int | None:
        """The descriptor that becomes readable when there is news; None where the counters are polled."""
        return None

    def drain(self) -> Topics | None:
        """Read what has come; answers its topics. None: only the counters can tell. Raises Lost."""
        return None

    def counters(self) -> Mapping[Topic, int]:
        """For each topic a number that changes with every notification of it; the same object while none has."""
        raise NotImplementedError

    def interval(self) -> float:
        """Seconds until the source is drained though its descriptor is not readable."""
        return inf if self.descriptor() is not None else POLL * spread()

    def close(self) -> None:
        """Close the connection. Idempotent."""


class Local(Source):
    """The source of a store that changes only through this handle: `Notifier.tell` says everything."""

    signalled = topics.ALL
    misses_own, throttled, lossy = True, False, False

    def drain(self) -> Topics | None:
        return topics.NONE

    def counters(self) -> Mapping[Topic, int]:
        return {}

    def interval(self) -> float:
        return inf


class Notifier:
    """Tells subscriptions of changes. `refuse_use` raises after a fork and once the store was closed."""

    def __init__(self, source: Source, refuse_use: Callable[[], None] = lambda: None) -> None:
        self._source, self._refuse_use = source, refuse_use
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription] = []
        self._driver: Subscription | None = None
        self._driven = self._closed = False
        self._counters: Mapping[Topic, int] | None = None
        self._tails: dict[Topic, float] = {}

    def subscribe(self, wanted: Iterable[Topic]) -> "Subscription":
        """A new subscription. Asks nobody: the source connects with the first `wait` of any."""
        self._check()
        one = Subscription(self, frozenset(wanted), self._source)
        with self._lock:
            self._subscriptions.append(one)
        return one

    def tell(self, touched: Topics) -> None:
        """This handle has changed something of these topics."""
        if self._subscriptions and self._source.misses_own:
            with self._lock:
                self._tell(touched)

    def tell_of(self, jobs: Sequence[Job], now: Callable[[], datetime]) -> None:
        """This handle has stored these jobs."""
        if self._subscriptions and self._source.misses_own:
            self.tell(topics.of_jobs(jobs, now()))

    def tell_soon(self, touched: Topics) -> None:
        """Tell subscribers in a moment, though nothing was heard: what other claimers hold now may fall free."""
        with self._lock:
            self._tails |= dict.fromkeys(touched, time.monotonic() + THROTTLE_TAIL)
            if self._driver is not None:
                self._driver.pipe.wake()

    def catch_up(self) -> None:
        """Read what has come though nobody waits: a listener that never reads holds up the server's notifications."""
        if self._counters is not None and not self._closed and self._begin_to_drive(None):
            try:
                self._look()
            finally:
                self._stop_driving()

    def close(self) -> None:
        """End every wait. The source is closed now, or by the thread that drives. Idempotent."""
        with self._lock:
            self._closed = True
            for one in self._subscriptions:
                one.pipe.wake()
            idle = not self._driven
        if idle:
            self._source.close()

    # what subscriptions call

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
            seconds = min(seconds, self._source.interval())  # this first: it may make the descriptor
            self._source.readable = one.pipe.wait(max(0.0, seconds), self._source.descriptor())
        else:
            one.pipe.wait(max(0.0, seconds))

    # who drives

    def _begin_to_drive(self, one: "Subscription | None") -> bool:
        """Whether nobody else drives: then the caller does, until `_stop_driving`."""
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
        """If nobody drives, let one sleeper do it (race 3)."""
        if not self._driven:
            for one in self._subscriptions:
                if one.asleep:
                    one.pipe.wake()
                    return

    # what the driver does

    def _look(self) -> None:
        """Learn what has changed, and set the flags. Raises what the source raises."""
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
    """A cursor for changes of some topics; `store.protocol.Subscription` says what it promises."""

    def __init__(self, notifier: Notifier, wanted: Topics, source: Source) -> None:
        self._notifier, self.topics = notifier, wanted
        self._patience = SAFETY_POLL if source.lossy else inf
        if not wanted <= source.signalled:
            self._patience = UNSIGNALLED_POLL
        self.pipe = SelfPipe()
        self.pending = self.asleep = self.closed = False
        self.due = inf
        """When a wait ends though nothing was heard."""

    def wait(self, timeout: float) -> bool:
        """Whether something of its topics may have changed since the last wait, or within `timeout` seconds."""
        return self._notifier.wait(self, timeout)

    def wake(self) -> None:
        """Let the `wait` that runs, or else the next one, answer True."""
        self._notifier.wake(self)

    def close(self) -> None:
        """End the `wait` that runs, and let every later one answer False. Idempotent."""
        self._notifier.forget(self)

    def take(self, now: float) -> bool:
        """Whether something may have changed since the last time. The notifier calls this under its lock."""
        taken = self.pending or now >= self.due
        if self._patience < inf and (taken or self.due == inf):
            self.due = now + self._patience * spread()
        self.pending = False
        return taken


def topics_of(names: Iterable[str]) -> Topics:
    """The topics that a server store names so. A name that a later program adds is ignored."""
    return frozenset(STORED_NAMES[name] for name in names if name in STORED_NAMES)


def counted(stored: Iterable[tuple[str, int]]) -> dict[Topic, int]:
    """The counters of a server store, by topic."""
    return {STORED_NAMES[name]: count for name, count in stored if name in STORED_NAMES}


def spread() -> float:
    """A random factor, so that many workers do not poll in step."""
    return 0.8 + 0.4 * random_number()
