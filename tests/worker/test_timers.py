"""Deadlines fire once, at the time that was set last; and the memory of unacknowledged results is counted."""

from queuectl.worker.holder.result_buffer import LIMIT, ResultBuffer
from queuectl.worker.holder.timers import NEVER, Deadline, Timers


def test_a_deadline_fires_once() -> None:
    deadline = Deadline(5.0)
    assert [deadline.fires(now) for now in (4.0, 5.0, 6.0)] == [False, True, False]
    assert (deadline.at, deadline.fired) == (NEVER, True)
    deadline.set(7.0)
    assert (deadline.at, deadline.fired) == (7.0, False)


def test_timers_expire_in_order() -> None:
    timers = Timers()
    for key, at in (("late", 9.0), ("first", 1.0), ("second", 2.0)):
        timers.set_no_later(key, at)
    assert timers.due() == 1.0
    assert list(timers.expired(5.0)) == ["first", "second"]
    assert timers.due() == 9.0


def test_an_earlier_time_replaces_a_later_one_and_not_vice_versa() -> None:
    timers = Timers()
    for at in (5.0, 3.0, 8.0):
        timers.set_no_later("one", at)
    assert list(timers.expired(3.0)) == ["one"]
    assert list(timers.expired(100.0)) == []


def test_a_cleared_timer_does_not_expire() -> None:
    timers = Timers()
    timers.set_no_later("one", 1.0)
    timers.clear("one")
    assert list(timers.expired(2.0)) == []


def test_old_entries_do_not_accumulate() -> None:
    timers = Timers()
    for n in range(10_000):
        timers.set_no_later("one", 10_000.0 - n)
    assert len(timers._heap) < 100
    assert list(timers.expired(1.0)) == ["one"]


def test_unacknowledged_results_fill_the_buffer_until_they_are_acknowledged() -> None:
    results = ResultBuffer()
    results.set("a", LIMIT - 1)
    assert not results.full
    results.set("b", 1)
    assert (results.full, len(results)) == (True, 2)
    results.set("a", 10)
    assert not results.full
    results.remove("a")
    results.remove("b")
    assert (len(results), results._total) == (0, 0)
