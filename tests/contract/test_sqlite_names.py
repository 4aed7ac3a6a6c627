"""A database file may be open under one name only: under a second name SQLite would miss its log and destroy the
file."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from factories import new_job
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnusable
from queuectl.store.sqlite import SqliteStore
from queuectl.store.sqlite import name_lock as database_name

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such locks")
OPENED = """
import sys
from queuectl.store.sqlite import SqliteStore
store = SqliteStore.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def opened_elsewhere(path: Path) -> Iterator[None]:
    """Another program has the database open under this name."""
    command = [sys.executable, "-c", OPENED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        assert program.stdout.readline() == "open\n"
        yield
        program.communicate("")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a job that exists only in its log."""
    path = tmp_path / "queue.db"
    with closing(SqliteStore.open(path)) as store:
        store.add([new_job("a")])
    return path


def refused(path: Path) -> str:
    with pytest.raises(StoreUnusable) as caught:
        SqliteStore.open(path)
    assert caught.value.hint
    return caught.value.message


def test_a_file_with_two_hard_links_is_refused_under_both_names(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "queue.db"
    other.parent.mkdir()
    os.link(path, other)
    for name in (path, other):
        assert "has 2 names (hard links)" in refused(name)
    assert sorted(p.name for p in other.parent.iterdir()) == ["queue.db"]
    other.unlink()
    SqliteStore.open(path).close()


def test_a_symbolic_link_counts_as_the_name_of_its_target(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with opened_elsewhere(path), closing(SqliteStore.open(link)) as store:
        assert store.counts(Filter()).total() == 1
        store.add([new_job("b")])
    assert [p.name for p in link.parent.iterdir()] == ["link.db"]


@LINUX
def test_a_file_open_under_another_name_is_refused_and_not_written(path: Path) -> None:
    other = path.with_name("moved.db")
    with opened_elsewhere(path):
        path.rename(other)
        before = other.read_bytes()
        assert "is a second name of a database" in refused(other)
        assert other.read_bytes() == before
        other.rename(path)
        SqliteStore.open(path).close()
    path.rename(other)
    with closing(SqliteStore.open(other)) as store:
        assert store.counts(Filter()).total() == 1


@LINUX
def test_a_second_name_is_refused_within_one_process(path: Path) -> None:
    other = path.with_name("moved.db")
    first, second = SqliteStore.open(path), SqliteStore.open(path)
    first.close()
    path.rename(other)
    assert f"this program has it open as {path}" in refused(other)
    second.close()
    SqliteStore.open(other).close()


@LINUX
def test_a_renamed_directory_is_not_a_second_name(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    SqliteStore.open(folder / "queue.db").close()
    with opened_elsewhere(folder / "queue.db"):
        folder.rename(tmp_path / "renamed")
        SqliteStore.open(tmp_path / "renamed" / "queue.db").close()


@LINUX
def test_closing_a_store_keeps_the_locks_of_another_store_in_the_process(path: Path) -> None:
    """These are SQLite's own locks: a process that finds none considers itself the last one and removes the log."""
    kept = SqliteStore.open(path)
    kept.add([new_job("b")])
    for _ in range(3):
        SqliteStore.open(path).close()
    with opened_elsewhere(path):
        pass
    assert path.with_name("queue.db-wal").exists()
    assert kept.counts(Filter()).total() == 2
    kept.add([new_job("c")])
    kept.close()
    with closing(SqliteStore.open(path)) as store:
        assert store.counts(Filter()).total() == 3


def test_a_file_that_is_mounted_alone_is_refused(path: Path, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 254:0 /q.db {path} rw - ext4 /dev/vda rw\n"
    )
    with pytest.raises(StoreUnusable, match="is mounted without its directory") as caught:
        SqliteStore.open(path, mountinfo=mounts)
    assert caught.value.hint == "mount its directory instead"


KINDS = {
    "fifo": (os.mkfifo, "a pipe (FIFO)"),
    "folder": (os.mkdir, "a directory"),
    "device": (lambda path: os.symlink("/dev/null", path), "a device"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_for_a_path_that_is_not_a_file_names_its_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "queue.db"
    make, name = KINDS[kind]
    make(path)
    assert f"is {name}, not a database" in refused(path)
    assert [p.name for p in tmp_path.iterdir()] == ["queue.db"]


def test_the_error_for_a_socket_names_it_as_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("queue.db")
        assert "is a socket, not a database" in refused(tmp_path / "queue.db")


@pytest.mark.parametrize("text", [b"x", b"notes\n", b"notes\n" * 1000])
def test_a_text_file_of_any_length_is_not_a_database(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(text)
    assert "is not a database" in refused(path)
    assert path.read_bytes() == text


def test_a_path_through_a_file_is_refused(path: Path) -> None:
    assert "Not a directory" in refused(path / "queue.db")


SHARED_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, (1 << 30) + 2)
"""
"""Fails while a connection has the database open: in the mode of the log it keeps a shared lock on these bytes."""


@LINUX
def test_without_these_locks_a_second_handle_keeps_locks_of_the_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing any descriptor of a file drops all POSIX locks that the process has on it, SQLite's among them."""

    def unsupported(*_: object) -> None:
        raise OSError(errno.EINVAL, "no such locks")

    monkeypatch.setattr(database_name.fcntl, "fcntl", unsupported)
    with closing(SqliteStore.open(path)) as first:
        assert first.counts(Filter()).total() == 1
        with closing(SqliteStore.open(path)):
            found = subprocess.run(
                [sys.executable, "-c", SHARED_LOCK, path], capture_output=True, check=False
            )
            assert b"BlockingIOError" in found.stderr


@LINUX
def test_a_store_closed_during_a_read_keeps_its_name_until_the_read_ends(path: Path) -> None:
    def question(_: object) -> bool:
        store.close()
        return is_taken(path)

    store = SqliteStore.open(path)
    store.counts(Filter())
    assert store.session.read(question)
    assert not is_taken(path)


@LINUX
def test_a_store_that_is_closed_while_a_reader_opens_keeps_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(path)
    open_reader = store.session.database.reader

    def opened_late() -> object:
        connection = open_reader()
        store.close()
        return connection

    monkeypatch.setattr(store.session.database, "reader", opened_late)
    assert store.session.read(lambda _: is_taken(path))
    assert not is_taken(path)


def is_taken(path: Path) -> bool:
    """Whether this process keeps the name of a database."""
    found = path.stat()
    return (found.st_dev, found.st_ino) in database_name._taken
