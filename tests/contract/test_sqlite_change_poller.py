"""SQLite detects changes of other processes: it polls rarely when idle, and misses no change with or without
inotify."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contract.grounds import SqliteGround, race
from factories import new_job
from facts import eventually
from queuectl.domain import topics
from queuectl.errors import StoreUnavailable
from queuectl.store.protocol import Subscription
from queuectl.store.sqlite import SqliteStore, change_poller, directory


@pytest.fixture
def store(sqlite: SqliteGround) -> Iterator[SqliteStore]:
    with closing(SqliteStore.open(sqlite.path, clock=sqlite.clock)) as store:
        yield store


@pytest.fixture
def idle(store: SqliteStore) -> Subscription:
    """A subscription that has waited so long that its store polls as rarely as it ever does."""
    subscription = store.subscribe(topics.WORK)
    fall_idle(store, subscription)
    return subscription


def fall_idle(store: SqliteStore, idle: Subscription, pause: float = change_poller.LONGEST) -> None:
    eventually(lambda: not idle.wait(0.2) and store._listener._pause >= pause)


def polls_during(
    store: SqliteStore, idle: Subscription, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> int:
    polls, peek = [], store.session.writer.peek

    def counted(question: Any) -> Any:
        polls.append(question)
        return peek(question)

    monkeypatch.setattr(store.session.writer, "peek", counted)
    assert idle.wait(seconds) is False
    return len(polls)


def test_an_idle_wait_polls_rarely(
    store: SqliteStore, idle: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert polls_during(store, idle, 1.0, monkeypatch) <= 8


def test_without_inotify_an_idle_wait_polls_about_forty_times_a_second(
    store: SqliteStore, sqlite: SqliteGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_poller.Watch, "of", lambda _: None)
    subscription = store.subscribe(topics.WORK)
    fall_idle(store, subscription, change_poller.MAX_POLL_UNWATCHED)
    assert polls_during(store, subscription, 0.5, monkeypatch) <= 25
    other = sqlite.open()
    assert race(lambda: subscription.wait(20), lambda: other.add([new_job()]))[0] is True


def test_an_idle_wait_ends_at_a_change_of_another_handle(
    store: SqliteStore, idle: Subscription, sqlite: SqliteGround
) -> None:
    other = sqlite.open()
    for _ in range(3):
        assert race(lambda: idle.wait(20), lambda: other.add([new_job()]))[0] is True
        fall_idle(store, idle)


def test_inotify_ends_a_wait_long_before_the_next_poll(
    store: SqliteStore, idle: Subscription, sqlite: SqliteGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_poller, "MAX_POLL_WATCHED", 30.0)
    assert store._listener._watch is not None
    other = sqlite.open()
    # Several: on a slow disk a commit may be seen later than the polls after the event have grown rare.
    assert race(lambda: idle.wait(20), lambda: [other.add([new_job()]) for _ in range(9)])[0] is True


def test_an_idle_wait_is_woken_at_once(idle: Subscription, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_poller, "MAX_POLL_WATCHED", 30.0)
    assert race(lambda: idle.wait(20), idle.wake)[0] is True


def test_the_wait_for_a_directory_locked_by_another_program_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "PATIENCE", 0.05)
    path = tmp_path / "queue.db"
    (tmp_path / "queue.db-wal").touch()
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(StoreUnavailable) as caught:
        SqliteStore.open(path)
    assert caught.value.message == f"another program keeps {tmp_path} locked"
    assert f"fuser -v {tmp_path}" in caught.value.hint
    assert not path.exists()
    os.close(handle)
    SqliteStore.open(path).close()
