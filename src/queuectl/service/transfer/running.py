"""Exports and imports as clients call them, of a store or through a server. They are done while they are iterated."""

from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO, Protocol

from queuectl.service.matching import Wanted
from queuectl.service.operation import Operation
from queuectl.service.transfer import files
from queuectl.service.transfer.files import Write
from queuectl.service.transfer.segment import Cut, Damaged, SegmentReader
from queuectl.service.transfer.tally import Exported, Imported, OnConflict


class Transfer(Protocol):
    """The exports, imports and archiving purges of a queue."""

    def export(self, target: str | Write, *, where: str | None = None, output: bool = True) -> "Export":
        """Write jobs with their output, settings, queues and schedules to a file, or to a function that takes bytes.

        The file is private and appears when it is complete. With `where` only the jobs that match are written. Raises
        InvalidInput for an invalid filter, before the file is created.
        """

    def read(
        self,
        source: str | BinaryIO,
        *,
        on_conflict: OnConflict = "error",
        partial: bool = False,
        dry_run: bool = False,
    ) -> "Import":
        """Import a file, or what comes from a stream.

        The caller reads a file through first (`check`). A stream is imported as it comes: a cut one raises Cut when the
        jobs before the cut are stored, and is complete with `partial`.
        """

    def purge(self, wanted: Wanted, path: str) -> Operation[int]:
        """Move all ended jobs that match to the end of a file. Each step returns the number of deleted jobs.

        Raises InvalidInput for a queue behind a server.
        """


class Export(Operation[int]):
    """An export. Each step returns a number of written jobs. `done` has the numbers so far.

    steps   writes the lines with a function that takes bytes
    target  the path of a file, which appears when it is complete, or a function that takes bytes
    """

    def __init__(
        self,
        steps: Callable[[Write, Exported], Iterator[int]],
        target: str | Write,
        count: Callable[[], int],
    ) -> None:
        self.done = Exported()
        super().__init__(_to(target, lambda write: steps(write, self.done)), count)


def _to(target: str | Write, steps: Callable[[Write], Iterator[int]]) -> Generator[int]:
    if isinstance(target, str):
        with files.written(target) as write:
            yield from steps(write)
    else:
        yield from steps(target)


class Import:
    """An import. Each step returns a number of jobs that were read. `done` has the numbers so far.

    A caller that stops between two steps, and calls `close`, leaves a store in which the same import continues.

    steps   imports an open file or stream
    source  the path of a file, or a stream
    """

    def __init__(
        self,
        steps: Callable[[BinaryIO], Iterator[int]],
        source: str | BinaryIO,
        done: Imported,
        *,
        partial: bool,
    ) -> None:
        self.done = done
        self._source, self._partial = source, partial
        self._steps = _from(source, steps)

    def check(self) -> int | None:
        """Read a file through. Returns the number of its jobs; None for a stream, which can be read only once.

        Raises Cut, Damaged or Foreign.
        """
        if not isinstance(self._source, str):
            return None
        jobs = 0
        try:
            with files.opened(self._source) as file:
                for line in SegmentReader(files.content(file)):
                    jobs += line.kind == "job"
        except (Cut, Damaged):
            if not self._partial:
                raise
        return jobs

    def __iter__(self) -> Iterator[int]:
        return self._steps

    def close(self) -> None:
        """End the import after its last complete step. Idempotent."""
        self._steps.close()


def _from(source: str | BinaryIO, steps: Callable[[BinaryIO], Iterator[int]]) -> Generator[int]:
    if isinstance(source, str):
        with files.opened(source) as file:
            yield from steps(file)
    else:
        yield from steps(source)
