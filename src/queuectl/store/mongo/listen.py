"""Receives changes from MongoDB: from a log of notifications if possible, otherwise by polling counters.

The driver of MongoDB has no descriptor to sleep on, so a thread follows the log and writes to a self-pipe. It ends with
elections and restarts of the server and begins again; meanwhile the counters are polled.

The log is lossy: a client that changed a job may die before it notifies.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from math import inf

from pymongo.errors import OperationFailure

from queuectl.domain import topics
from queuectl.domain.topics import Topic, Topics
from queuectl.errors import QueuectlError
from queuectl.store.driver import notifier
from queuectl.store.driver.notifier import Source, counted, spread, topics_of
from queuectl.store.driver.self_pipe import SelfPipe
from queuectl.store.mongo import notify
from queuectl.store.mongo.connect import Base, MongoSession

AWAIT_MS = 1000
"""Milliseconds that the server waits for notifications before it sends an empty answer."""
AGAIN = 2.0
"""Seconds until the log is followed again after the connection to it broke."""


class Listener(Source):
    """The source of changes of one queue. With `listens=False` it only polls the counters."""

    def __init__(self, session: MongoSession, *, listens: bool) -> None:
        self._session, self._listens = session, listens
        self._follower: Follower | None = None

    @property
    def is_following(self) -> bool:
        """Whether the log is followed now."""
        return self._follower is not None and self._follower.open

    def connect(self) -> None:
        if self._listens and self._follower is None:
            self._follower = Follower(self._session)

    def descriptor(self) -> int | None:
        return None if self._follower is None else self._follower.pipe.descriptor

    def drain(self) -> Topics | None:
        heard = topics.NONE if self._follower is None else self._follower.take()
        return heard if self.is_following else None

    def interval(self) -> float:
        return inf if self.is_following else notifier.POLL * spread()

    def counters(self) -> Mapping[Topic, int]:
        return counted(self._session.read(notify.counters).items())

    def close(self) -> None:
        if self._follower is not None:
            self._follower.stop()
        self._follower = None


class Follower:
    """A thread that follows the log. `open`: the log is followed now. The thread ends if this is not possible.

    The thread wakes the reader of `pipe` for each notification, and also when the log is opened and when it breaks
    off: then changes may have been missed, and the reader has to start or may stop polling.
    """

    def __init__(self, session: MongoSession) -> None:
        self._session = session
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._heard: Topics = topics.NONE
        self.open = False
        self.pipe = SelfPipe()
        self._thread = threading.Thread(target=self._run, name="queuectl-notifier", daemon=True)
        self._thread.start()

    def take(self) -> Topics:
        """The topics that were notified since the last call."""
        self.pipe.clear()
        with self._lock:
            heard, self._heard = self._heard, topics.NONE
        return heard

    def stop(self) -> None:
        """Let the thread end after the current answer of the server. Does not wait for the end."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            possible = True
            # Ignored: the verbs report the fault, and the counters are polled meanwhile.
            with suppress(QueuectlError):
                possible = self._session.follow(self._listen)
            self._run_step(is_open=False)
            if not possible:
                return
            self._ended.wait(AGAIN)

    def _listen(self, base: Base) -> bool:
        """Follow the log until `stop`, or until the connection breaks. Returns False if the log cannot be followed."""
        try:
            if _replicates(base):
                self._follow_stream(base)
            else:
                self._follow_log(base)
        except OperationFailure as error:
            return error.code not in IMPOSSIBLE
        return True

    def _follow_stream(self, base: Base) -> None:
        with notify.stream(base, AWAIT_MS) as stream:
            self._run_step(is_open=True)
            while stream.alive and not self._ended.is_set():
                change = stream.try_next()
                if change is not None:
                    self._tell(topics_of([str(change["fullDocument"]["bell"])]))

    def _follow_log(self, base: Base) -> None:
        with notify.follow(base, AWAIT_MS) as log:
            self._run_step(is_open=True)
            while log.alive and not self._ended.is_set():
                for entry in log:
                    self._tell(topics_of([str(entry["bell"])]))

    def _run_step(self, *, is_open: bool) -> None:
        if self.open != is_open:
            self.open = is_open
            self._tell(topics.ALL)

    def _tell(self, heard: Topics) -> None:
        with self._lock:
            self._heard |= heard
        self.pipe.wake()


def _replicates(base: Base) -> bool:
    return "setName" in base.command("hello")


IMPOSSIBLE = (2, 13, 40573)
"""Error codes: the log is no capped collection; the user may not read change streams; the server has none."""
