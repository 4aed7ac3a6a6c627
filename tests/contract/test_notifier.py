"""The notifier over a fake source: its timing, and the races that its docstring lists."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial

import pytest

from contract.grounds import race
from facts import eventually
from queuectl.domain import topics
from queuectl.domain.topics import Topic, Topics
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.driver import notifier
from queuectl.store.driver.notifier import Local, Lost, Notifier, Source, Subscription
from queuectl.store.driver.self_pipe import SelfPipe

LONG = 20.0
QUIET = 0.05
"""Seconds after which nothing more is expected."""


class FakeSource(Source):
    """News comes when a test calls `send`. It fails a test in which two threads use it at once."""

    throttled = lossy = False

    def __init__(self, *, polled: bool = False) -> None:
        self.connects = self.closes = self.drains = 0
        self.fault: Exception | None = None
        self._polled, self._pipe = polled, SelfPipe()
        self._lock, self._used = threading.Lock(), threading.Lock()
        self._heard: Topics = topics.NONE
        self._counts: dict[Topic, int] = dict.fromkeys(topics.ALL, 0)

    def send(self, *heard: Topic) -> None:
        """Send a notification of these topics."""
        with self._lock:
            self._heard |= frozenset(heard)
            for topic in heard:
                self._counts[topic] += 1
        self._pipe.wake()

    @contextmanager
    def _use(self) -> Iterator[None]:
        assert self._used.acquire(blocking=False), "two threads use the source at once"
        try:
            if self.fault is not None:
                raise self.fault
            yield
        finally:
            self._used.release()

    def connect(self) -> None:
        with self._use():
            self.connects += 1
            self._heard = topics.NONE

    def descriptor(self) -> int | None:
        return None if self._polled else self._pipe.descriptor

    def drain(self) -> Topics | None:
        with self._use():
            self.drains += 1
            self._pipe.clear()
            with self._lock:
                heard, self._heard = self._heard, topics.NONE
            return None if self._polled else heard

    def counters(self) -> Mapping[Topic, int]:
        with self._use():
            return dict(self._counts)

    def close(self) -> None:
        with self._use():
            self.closes += 1


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def notified(source: FakeSource) -> Notifier:
    return Notifier(source)


def settled(notified: Notifier, wanted: Topics = topics.WORK) -> Subscription:
    """A subscription that has taken in that its source began."""
    subscription = notified.subscribe(wanted)
    while subscription.wait(QUIET):
        pass
    return subscription


def test_the_first_wait_of_a_new_source_returns_true_for_all(source: FakeSource, notified: Notifier) -> None:
    first, second = notified.subscribe(topics.WORK), notified.subscribe(topics.ENDS)
    assert source.connects == 0
    assert first.wait(LONG) is True
    assert second.wait(LONG) is True
    assert first.wait(0) is False
    assert second.wait(0) is False
    assert source.connects == 1


def test_a_new_subscription_of_a_running_source_is_not_woken(notified: Notifier) -> None:
    settled(notified)
    assert notified.subscribe(topics.WORK).wait(0) is False


def test_a_change_while_no_thread_waits_wakes_each_subscription_once(
    source: FakeSource, notified: Notifier
) -> None:
    subscriptions = [settled(notified) for _ in range(3)]
    source.send("work")
    assert [subscription.wait(LONG) for subscription in subscriptions] == [True] * 3
    assert [subscription.wait(0) for subscription in subscriptions] == [False] * 3


def test_a_topic_that_is_not_subscribed_does_not_wake(source: FakeSource, notified: Notifier) -> None:
    work, ends = settled(notified), settled(notified, topics.ENDS)
    source.send("ends")
    assert work.wait(QUIET) is False
    assert ends.wait(LONG) is True


def test_eight_threads_wait_and_one_of_them_reads(source: FakeSource, notified: Notifier) -> None:
    subscriptions = [settled(notified) for _ in range(8)]
    waits = [partial(subscription.wait, LONG) for subscription in subscriptions]
    assert race(*waits, lambda: source.send("work"))[:8] == [True] * 8
    assert source.connects == 1


def test_no_wake_up_is_lost_when_the_thread_that_reads_leaves_at_any_moment(
    source: FakeSource, notified: Notifier
) -> None:
    """In each round a thread that may be reading leaves while other threads fall asleep; then a change follows."""
    waiters, leaver = [settled(notified) for _ in range(3)], settled(notified)
    rounds = 400
    ready = threading.Barrier(len(waiters) + 1)

    def listen(subscription: Subscription) -> int:
        heard = 0
        for _ in range(rounds):
            ready.wait(LONG)
            heard += subscription.wait(LONG)
        return heard

    def leave_and_send() -> None:
        for number in range(rounds):
            ready.wait(LONG)
            leaver.wait(number % 20 * 0.00002)
            source.send("work")

    assert race(*(partial(listen, each) for each in waiters), leave_and_send)[:3] == [rounds] * 3


def test_when_the_thread_that_reads_leaves_another_one_reads(source: FakeSource, notified: Notifier) -> None:
    subscriptions, leaver = [settled(notified) for _ in range(3)], settled(notified)

    def leave_and_send() -> None:
        eventually(lambda: all(each.asleep for each in subscriptions))
        leaver.wake()
        eventually(lambda: left.is_set() and notified._driven)
        source.send("work")

    def leave() -> None:
        leaver.wait(LONG)
        left.set()

    left = threading.Event()
    leaving = threading.Thread(target=leave)
    leaving.start()
    eventually(lambda: leaver.asleep)
    waits = [partial(each.wait, LONG) for each in subscriptions]
    assert race(*waits, leave_and_send)[:3] == [True] * 3
    leaving.join()


def test_a_thread_reads_itself_if_the_reader_leaves_before_it_sleeps(
    source: FakeSource, notified: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, leaver, begin = settled(notified), settled(notified), notified._begin_to_drive

    def overtaken(one: Subscription | None) -> bool:
        drives = begin(one)
        if one is follower and not drives:
            leaver.wake()
            eventually(lambda: not notified._driven, what="the reader has left")
        return drives

    def send() -> None:
        eventually(lambda: follower.asleep and notified._driven, what="the follower reads")
        source.send("work")

    leaving = threading.Thread(target=leaver.wait, args=(LONG,))
    leaving.start()
    eventually(lambda: leaver.asleep)
    monkeypatch.setattr(notified, "_begin_to_drive", overtaken)
    assert race(lambda: follower.wait(LONG), send)[0] is True
    leaving.join()


def test_an_error_of_the_reading_thread_is_raised_in_every_thread(
    source: FakeSource, notified: Notifier
) -> None:
    subscriptions = [settled(notified) for _ in range(3)]
    source.fault = StoreUnavailable("away")

    def fails(subscription: Subscription) -> bool:
        with pytest.raises(StoreUnavailable, match="away"):
            subscription.wait(LONG)
        return True

    assert race(*(partial(fails, each) for each in subscriptions)) == [True] * 3
    source.fault = None
    source.send("work")
    assert [subscription.wait(LONG) for subscription in subscriptions] == [True] * 3


def test_a_source_that_lost_its_connection_reconnects_and_wakes_all(
    source: FakeSource, notified: Notifier
) -> None:
    work, ends = settled(notified), settled(notified, topics.ENDS)
    source.fault = Lost()
    assert work.wait(LONG) is True
    source.fault = None
    assert ends.wait(LONG) is True
    while work.wait(QUIET):
        pass
    assert source.connects == 2


def test_a_source_that_cannot_connect_is_tried_again(source: FakeSource, notified: Notifier) -> None:
    subscription = notified.subscribe(topics.WORK)
    source.fault = StoreUnavailable("away")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            subscription.wait(LONG)
    source.fault = None
    assert subscription.wait(LONG) is True


class TestThrottle:
    @pytest.fixture(autouse=True)
    def throttled(self, source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source, "throttled", True, raising=False)
        monkeypatch.setattr(notifier, "THROTTLE_TAIL", 0.02)

    def test_a_second_wake_up_covers_suppressed_notifications(
        self, source: FakeSource, notified: Notifier
    ) -> None:
        first, second = settled(notified), settled(notified)
        source.send("work")
        for each in (first, second):
            assert each.wait(LONG) is True
        for each in (first, second):
            assert each.wait(LONG) is True
            assert each.wait(QUIET) is False

    def test_the_second_wake_up_of_a_topic_is_not_delayed_by_another_topic(
        self, source: FakeSource, notified: Notifier
    ) -> None:
        ends, work = settled(notified, topics.ENDS), settled(notified)
        source.send("ends")
        assert ends.wait(LONG) is True
        deadline = time.monotonic() + LONG
        while not ends.wait(0):
            source.send("work")
            work.wait(0.001)
            assert time.monotonic() < deadline

    def test_a_sleeping_thread_is_woken_soon_by_tell_soon(self, notified: Notifier) -> None:
        subscription = settled(notified)
        began = time.monotonic()
        timer = threading.Timer(0.02, notified.tell_soon, [topics.WORK])
        timer.start()
        assert subscription.wait(LONG) is True
        assert time.monotonic() - began < LONG / 4
        timer.join()


def test_a_wait_for_a_lossy_source_ends_by_itself(
    source: FakeSource, notified: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "SAFETY_POLL", 2 * QUIET)
    assert settled(notified).wait(0.5) is False
    source.lossy = True
    first, second = settled(notified), settled(notified)
    assert first.wait(LONG) is True
    assert second.wait(LONG) is True


def test_a_topic_without_notifications_is_polled_often(
    source: FakeSource, notified: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "UNSIGNALLED_POLL", 2 * QUIET)
    assert settled(notified).wait(0.5) is False
    assert settled(notified, topics.OUTPUT).wait(LONG) is True
    changes = settled(notified, topics.CHANGES)
    source.send("ends")
    assert changes.wait(0) is True


def test_polled_counters_wake_only_their_own_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "POLL", 0.005)
    source = FakeSource(polled=True)
    notified = Notifier(source)
    work, ends = settled(notified), settled(notified, topics.ENDS)
    source.send("ends")
    assert work.wait(QUIET) is False
    assert ends.wait(LONG) is True
    assert race(lambda: work.wait(LONG), lambda: source.send("work"))[0] is True


def test_catch_up_reads_changes_while_no_thread_waits(source: FakeSource, notified: Notifier) -> None:
    notified.catch_up()
    assert source.connects == 0, "it begins with the first wait"
    subscription = settled(notified)
    source.send("work")
    drains = source.drains
    notified.catch_up()
    assert source.drains == drains + 1
    assert subscription.wait(0) is True


def test_catch_up_does_not_read_while_another_thread_reads(source: FakeSource, notified: Notifier) -> None:
    subscription = settled(notified)

    def take_in() -> None:
        eventually(lambda: notified._driven)
        notified.catch_up()
        subscription.wake()

    assert race(lambda: subscription.wait(LONG), take_in)[0] is True


def test_a_change_of_this_handle_wakes_without_the_source() -> None:
    notified = Notifier(Local())
    work, ends = settled(notified), settled(notified, topics.ENDS)
    notified.tell(topics.ENDS)
    assert ends.wait(0) is True
    assert work.wait(0) is False
    assert race(lambda: work.wait(LONG), lambda: notified.tell(topics.WORK))[0] is True


def test_the_source_is_closed_by_the_thread_that_reads_it(source: FakeSource, notified: Notifier) -> None:
    subscriptions = [settled(notified) for _ in range(3)]

    def refused(subscription: Subscription) -> bool:
        with pytest.raises(StoreUnavailable):
            subscription.wait(LONG)
        return True

    def close() -> None:
        eventually(lambda: notified._driven)
        notified.close()

    assert race(*(partial(refused, each) for each in subscriptions), close)[:3] == [True] * 3
    assert source.closes >= 1


def test_a_source_that_no_thread_reads_is_closed_at_once(source: FakeSource, notified: Notifier) -> None:
    settled(notified)
    notified.close()
    assert source.closes == 1


def test_a_closed_subscription_is_not_woken(source: FakeSource, notified: Notifier) -> None:
    kept, gone = settled(notified), settled(notified)
    gone.close()
    source.send("work")
    assert kept.wait(LONG) is True
    assert gone.wait(LONG) is False


def test_a_forbidden_use_is_refused_before_the_lock_is_taken(source: FakeSource) -> None:
    """After a fork, the lock of the parent's thread may be held in the child for ever."""

    def refuse() -> None:
        if forked:
            raise StoreUnusable("opened before a fork")

    forked = False
    notified = Notifier(source, refuse)
    with closing(settled(notified)) as subscription, notified._lock:
        forked = True
        with pytest.raises(StoreUnusable):
            subscription.wait(LONG)
        with pytest.raises(StoreUnusable):
            notified.subscribe(topics.WORK)
        forked = False
