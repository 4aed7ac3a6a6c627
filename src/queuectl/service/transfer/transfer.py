"""Exports and imports of one store."""

from collections.abc import Callable, Iterator
from typing import BinaryIO

from queuectl.domain.query import Filter
from queuectl.domain.where import parse
from queuectl.service import matching
from queuectl.service.matching import Wanted
from queuectl.service.operation import Operation
from queuectl.service.transfer import files
from queuectl.service.transfer.exporting import export
from queuectl.service.transfer.files import Write
from queuectl.service.transfer.importing import Importer
from queuectl.service.transfer.purging import purge_to
from queuectl.service.transfer.running import Export, Import
from queuectl.service.transfer.segment import SegmentReader, SegmentWriter
from queuectl.service.transfer.tally import Exported, OnConflict
from queuectl.store.protocol import Store


class LocalTransfer:
    """The `Transfer` of a store. `create` returns the store, which it creates if needed."""

    def __init__(self, store: Store, create: Callable[[], Store]) -> None:
        self._store, self._create = store, create

    def export(self, target: str | Write, *, where: str | None = None, output: bool = True) -> Export:
        """The lines of an export, for a file or a function."""
        wanted = None if where is None else parse(where, self._store.now())
        selected = Filter() if wanted is None else wanted.filter

        def steps(write: Write, done: Exported) -> Iterator[int]:
            writer = SegmentWriter(write, self._store.describe().url, self._store.now())
            yield from export(self._store, writer, done, where=wanted, output=output)

        return Export(steps, target, lambda: self._store.counts(selected).total())

    def read(
        self,
        source: str | BinaryIO,
        *,
        on_conflict: OnConflict = "error",
        partial: bool = False,
        dry_run: bool = False,
    ) -> Import:
        """An import of a file or a stream."""
        store = self._store if dry_run else self._create()
        importer = Importer(store, on_conflict=on_conflict, partial=partial, dry_run=dry_run)

        def steps(file: BinaryIO) -> Iterator[int]:
            yield from importer.steps(SegmentReader(files.content(file)))

        return Import(steps, source, importer.done, partial=partial)

    def purge(self, wanted: Wanted, path: str) -> Operation[int]:
        """A purge whose jobs are first written to a file."""
        steps = purge_to(self._store, wanted, path, self._store.describe().url)
        return Operation(steps, lambda: matching.counts(self._store, wanted).total())
