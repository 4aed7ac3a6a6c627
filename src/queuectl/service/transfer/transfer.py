"""Exports and imports of one store, as clients call them."""

from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO

from queuectl.domain.query import Filter
from queuectl.domain.where import Where, parse
from queuectl.service.operation import Operation
from queuectl.service.transfer import files
from queuectl.service.transfer.exporting import Step, export
from queuectl.service.transfer.files import Write
from queuectl.service.transfer.importing import Importer
from queuectl.service.transfer.purging import purge_to
from queuectl.service.transfer.segment import Cut, Damaged, SegmentReader, SegmentWriter
from queuectl.service.transfer.tally import Imported, OnConflict
from queuectl.store.protocol import Store


class Transfer:
    """The exports, imports and archiving purges of a store. `create` returns the store, which it creates if needed."""

    def __init__(self, store: Store, create: Callable[[], Store]) -> None:
        self._store, self._create = store, create

    def export(
        self, target: str | Write, *, where: str | None = None, output: bool = True
    ) -> Operation[Step]:
        """Write jobs with their output, settings, queues and schedules to a file, or to a function that takes bytes.

        The file is private and appears when it is complete. With `where` only the jobs that match are written. Raises
        InvalidInput for an invalid filter, before the file is created.
        """
        wanted = None if where is None else parse(where, self._store.now())
        selected = Filter() if wanted is None else wanted.filter
        return Operation(self._to(target, wanted, output), lambda: self._store.counts(selected).total())

    def _to(self, target: str | Write, where: Where | None, output: bool) -> Generator[Step]:
        if isinstance(target, str):
            with files.written(target) as write:
                yield from self._steps(write, where, output)
        else:
            yield from self._steps(target, where, output)

    def _steps(self, write: Write, where: Where | None, output: bool) -> Generator[Step]:
        writer = SegmentWriter(write, self._store.describe().url, self._store.now())
        yield from export(self._store, writer, where=where, output=output)

    def read(
        self,
        source: str | BinaryIO,
        *,
        on_conflict: OnConflict = "error",
        partial: bool = False,
        dry_run: bool = False,
    ) -> "Import":
        """Import a file, or what comes from a stream.

        A file is read through first: if it is cut or was changed, nothing of it is imported, unless `partial` is set.
        A stream is imported as it comes.
        """
        store = self._store if dry_run else self._create()
        importer = Importer(store, on_conflict=on_conflict, partial=partial, dry_run=dry_run)
        return Import(importer, source, partial=partial)

    def purge(self, wanted: Filter, path: str) -> Operation[int]:
        """Move all ended jobs that match to the end of a file. Each step returns the number of deleted jobs."""
        steps = purge_to(self._store, wanted, path, self._store.describe().url)
        return Operation(steps, lambda: self._store.counts(wanted).total())


class Import:
    """An import that is done while it is iterated, a batch at a time. `done` has the numbers so far.

    A caller that stops between two steps, and calls `close`, leaves a store in which the same import continues.
    """

    def __init__(self, importer: Importer, source: str | BinaryIO, *, partial: bool) -> None:
        self._importer, self._source, self._partial = importer, source, partial
        self._steps = self._all_steps()

    @property
    def done(self) -> Imported:
        """What is done."""
        return self._importer.done

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

    def _all_steps(self) -> Generator[int]:
        if not isinstance(self._source, str):
            yield from self._importer.steps(SegmentReader(files.content(self._source)))
            return
        with files.opened(self._source) as file:
            yield from self._importer.steps(SegmentReader(files.content(file)))
