"""The results that a worker could not deliver, in a private file beside its slot file, for the next worker to record.

The file contains frames as the holder sends them to the agent (`worker/protocol.py`): unacknowledged output and
unacknowledged results. It is written atomically and survives a power cut. The file may contain results that were
recorded meanwhile: the fence refuses those (guarantee G3), so the file may be written early and read twice.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from queuectl.worker.protocol import Fields, MalformedFrame, Reader

SUFFIX = ".results"


class ResultFile:
    """Writes the result file. Keeps the directory open, because a person may move the directory with the database."""

    def __init__(self, directory: Path, worker_id: str) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = worker_id + SUFFIX
        self.path = directory / self._name

    def write(self, frames: Iterable[bytes]) -> None:
        """Replace the content of the file by these frames. Raises OSError."""
        new = f"{self._name}.new"
        self._unlink(new)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(new, flags, 0o600, dir_fd=self._directory), "wb") as file:
            file.writelines(frames)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.fsync(self._directory)

    def discard(self) -> None:
        """Delete the file, because all its results were delivered."""
        self._unlink(self._name)

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)


def path_of(directory: Path, worker_id: str) -> Path:
    """The path of the result file of a worker. The file may not exist."""
    return directory / (worker_id + SUFFIX)


def read(path: Path) -> list[tuple[Fields, bytes]]:
    """The messages in a file. Empty if there is no file. Raises MalformedFrame if no worker has written it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    reader = Reader()
    messages: list[tuple[Fields, bytes]] = []
    with open(file, "rb") as frames:
        while data := frames.read(1 << 20):
            messages += reader.feed(data)
    return messages


def has_result(directory: Path, worker_id: str, attempt_id: str) -> bool:
    """Whether the file contains the result of this attempt."""
    path = path_of(directory, worker_id)
    try:
        messages = read(path) if path.exists() else []
    except MalformedFrame:
        return False
    return any(m["type"] == "exited" and m["attempt_id"] == attempt_id for m, _ in messages)


def remove(path: Path) -> None:
    """Delete the file, because all its results are recorded."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.new").unlink(missing_ok=True)
