"""SQLite: noticing others cheaply. Few looks when idle, and no change missed with or without the kernel's word."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.grounds import SqliteGround, race
from factories import LEASE, new_job
from facts import eventually
from queuectl.errors import StoreUnavailable
from queuectl.store.sqlite import SqliteStore, change_poller, directory


@pytest.fixture
def idle(sqlite: SqliteGround) -> Iterator[SqliteStore]:
    """A store that has waited so long that it looks as seldom as it ever does."""
    store = SqliteStore.open(sqlite.path, clock=sqlite.clock)
    store.claim("w1", (), 1, LEASE)
    fall_idle(store)
    yield store
    store.close()


def fall_idle(store: SqliteStore) -> None:
    eventually(lambda: not store.wait(0.2) and store._listener._pause >= change_poller.LONGEST)


def looks_during(store: SqliteStore, seconds: float, monkeypatch: pytest.MonkeyPatch) -> int:
    looks, peek = [], store.session.writer.peek

    def counted(question: Any) -> Any:
        looks.append(question)
        return peek(question)

    monkeypatch.setattr(store.session.writer, "peek", counted)
    assert store.wait(seconds) is False
    return len(looks)


def test_an_idle_wait_hardly_looks(idle: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks_during(idle, 1.0, monkeypatch) <= 8


def test_without_the_kernels_word_an_idle_wait_looks_some_forty_times_a_second(
    sqlite: SqliteGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_poller.Watch, "of", lambda _: None)
    store = SqliteStore.open(sqlite.path, clock=sqlite.clock)
    store.claim("w1", (), 1, LEASE)
    eventually(lambda: not store.wait(0.2) and store._listener._pause >= change_poller.LONGEST_BLIND)
    assert looks_during(store, 0.5, monkeypatch) <= 25
    other = sqlite.open()
    assert race(lambda: store.wait(20), lambda: other.add([new_job()]))[0] is True
    store.close()


def test_an_idle_wait_notices_what_another_handle_does(idle: SqliteStore, sqlite: SqliteGround) -> None:
    other = sqlite.open()
    for _ in range(3):
        assert race(lambda: idle.wait(20), lambda: other.add([new_job()]))[0] is True
        fall_idle(idle)


def test_the_kernels_word_comes_long_before_the_next_look(
    idle: SqliteStore, sqlite: SqliteGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_poller, "LONGEST_WATCHED", 30.0)
    assert idle._listener._watch is not None
    other = sqlite.open()
    # Several: on a slow disk a commit may be seen later than the looks after the kernel's word have grown rare.
    assert race(lambda: idle.wait(20), lambda: [other.add([new_job()]) for _ in range(9)])[0] is True


def test_an_idle_wait_is_woken_at_once(idle: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_poller, "LONGEST_WATCHED", 30.0)
    assert race(lambda: idle.wait(20), idle.wake)[0] is True


def test_the_first_wait_returns_at_once_because_nobody_knows_what_came_before(sqlite: SqliteGround) -> None:
    store = SqliteStore.open(sqlite.path)
    assert store.wait(20) is True
    store.close()


def test_a_directory_that_another_program_keeps_locked_is_waited_for_with_an_end(
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
