"""The files of exports: made private, complete or not there, and read with or without compression."""

import fcntl
import gzip
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

from queuectl.errors import CommandFailed, Conflict, InvalidInput
from queuectl.service.transfer.segment import Cut, Members, SegmentReader

PRIVATE = stat.S_IRUSR | stat.S_IWUSR
"""Jobs contain the values of environment variables."""
_GZIP = b"\x1f\x8b"
_LEVEL = 6

Write = Callable[[bytes], object]


@contextmanager
def written(path: str) -> Iterator[Write]:
    """A new file that replaces the old one when it is complete. After an error the old one stays as it was."""
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/null, a named pipe
        with _opened(path, "wb") as file, compressed(file, path) as write:
            yield write
        return
    part = f"{path}.{os.getpid()}.part"
    try:
        with _opened(part, "xb", shown=path) as file:
            with compressed(file, path) as write:
                yield write
            _sync(file)
        os.replace(part, path)
        _sync_directory(path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


@contextmanager
def compressed(file: BinaryIO, path: str) -> Iterator[Write]:
    """Writes to a file: one gzip member if the name ends in `.gz`, otherwise plain."""
    if not path.endswith(".gz"):
        yield file.write
        return
    with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as member:
        yield member.write


def content(file: BinaryIO) -> BinaryIO:
    """The content of a file or of stdin, decompressed if it begins like a gzip member."""
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, file))
    if not buffered.peek(len(_GZIP)).startswith(_GZIP):
        return buffered
    return io.BufferedReader(Members(buffered))


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file for reading."""
    with _opened(path, "rb") as file:
        yield file


class PurgeFile:
    """A file to which a purge appends segments. No other purge can have it at the same time.

    The last purge may have been killed while it wrote. Its incomplete segment is removed at the opening: the jobs in it
    were not deleted. Any other fault is refused, because nothing may be appended to a file that no import accepts.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        new = not os.path.exists(path)
        self._file = _opened(path, "x+b" if new else "r+b")
        try:
            self._lock()
            self._mend()
            if new:
                _sync_directory(path)
        except BaseException:
            self._file.close()
            raise

    @contextmanager
    def segment(self) -> Iterator[Write]:
        """Appends one segment, which is on the disk at the end. After an error the file is as it was."""
        begin = self._file.seek(0, os.SEEK_END)
        try:
            with compressed(self._file, self._path) as write:
                yield write
            _sync(self._file)
        except BaseException:
            with suppress(OSError):
                self._file.truncate(begin)
            raise

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                f"another purge writes to {self._path}", "wait for its end, or name another file"
            ) from error

    def _mend(self) -> None:
        with opened(self._path) as file:
            members = Members(file) if self._path.endswith(".gz") else None
            reader = SegmentReader(io.BufferedReader(members) if members else file)
            try:
                for _ in reader:
                    pass
            except Cut as cut:
                unknown = members and (
                    members.content not in reader.ends or (reader.is_empty and members.given)
                )
                if unknown:
                    raise CommandFailed(f"{self._path}: {cut.message}", _OTHER_NAME) from cut
                self._file.truncate(members.complete if members else reader.ends[-1])
            except CommandFailed as fault:
                raise CommandFailed(f"{self._path}: {fault.message}", _OTHER_NAME) from fault


_OTHER_NAME = "name another file; nothing was deleted"


def _opened(path: str, mode: str, *, shown: str | None = None) -> BinaryIO:
    """Open a file. `shown`: the name in messages, if it is not the path."""

    def private(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, PRIVATE)

    try:
        return cast(BinaryIO, open(path, mode, opener=private))
    except OSError as error:
        verb = "read" if mode == "rb" else "write"
        hint = f"name a file that you may {verb}, in a directory that exists"
        raise InvalidInput(f"cannot {verb} {shown or path}: {error.strerror}", hint) from error


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
    directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
