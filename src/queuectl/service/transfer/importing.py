"""Reads the lines of an export into a store, some hundreds of jobs at a time. Repeating an import is safe."""

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from msgspec import ValidationError

from queuectl.domain.arrival import imported
from queuectl.domain.instant import parse_instant
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.errors import InvalidInput
from queuectl.service import shapes
from queuectl.service.shapes.output import STREAM_NAMES
from queuectl.service.transfer import entries
from queuectl.service.transfer.arrivals import Arrivals, Item
from queuectl.service.transfer.segment import OTHER, Cut, Damaged, Line
from queuectl.service.transfer.tally import Imported, OnConflict
from queuectl.store.protocol import Store

_STREAMS = {name: stream for stream, name in STREAM_NAMES.items()}


class Importer:
    """One import. `done` has the numbers so far.

    partial  import what is there of a cut or changed file
    dry_run  change nothing; `done` then says what an import would do
    """

    def __init__(
        self, store: Store, *, on_conflict: OnConflict = "error", partial: bool = False, dry_run: bool = False
    ) -> None:
        self._store, self._on_conflict, self._partial, self._dry_run = store, on_conflict, partial, dry_run
        self.done = Imported()
        self._arrivals = Arrivals(store, self.done, on_conflict, dry_run=dry_run)
        self._exported_at = store.now()
        self._last: Item | None = None

    def steps(self, lines: Iterable[Line]) -> Iterator[int]:
        """Import all lines. Yields the number of jobs that were read, for each batch.

        Raises Conflict for the first conflict under `error`: the jobs before it, and those of its batch that have no
        conflict, are stored. Raises Cut or Damaged: the jobs before are stored, without the last one, whose output may
        be missing.
        """
        try:
            for line in lines:
                if self._ends_batch(line):
                    yield self._arrivals.flush()
                self._take(line)
        except (Cut, Damaged):
            self.done.complete = False
            if not self._partial:
                if self._last:
                    self._arrivals.leave_out(self._last)
                yield self._arrivals.flush()
                raise
        yield self._arrivals.flush()

    def _ends_batch(self, line: Line) -> bool:
        """Whether the jobs before this line are stored first. A schedule needs them: a worker may read it at once."""
        if line.kind == "output":
            return False
        return self._arrivals.is_full or (line.kind in entries.TABLES and not self._arrivals.is_empty)

    def _take(self, line: Line) -> None:
        if line.kind == "output":
            self._output(line)
            return
        self._last = None
        if line.kind == "export":
            self._exported_at = _time_of(line)
        elif line.kind == "job":
            self._last = self._arrivals.add(self._job(line), line.size)
        elif line.kind in entries.TABLES:
            entries.take(self._store, line, self.done, self._on_conflict, dry_run=self._dry_run)

    def _job(self, line: Line) -> Job:
        try:
            return imported(shapes.job_of(line.fields["job"]), self._exported_at)
        except (*_FAULTS, ValidationError) as error:
            raise _unreadable(line, error) from error

    def _output(self, line: Line) -> None:
        try:
            chunk = _chunk_of(line.fields)
        except _FAULTS as error:
            raise _unreadable(line, error) from error
        if self._last is None or chunk.job_id != self._last.job.id:
            raise Damaged(f"line {line.number}: this output does not follow its job", OTHER)
        self._arrivals.add_output(self._last, chunk)


_FAULTS = (KeyError, TypeError, ValueError, OverflowError, AttributeError, InvalidInput)
"""The errors of values that no export has written."""


def _time_of(header: Line) -> datetime:
    try:
        return parse_instant(header.fields["at"])
    except _FAULTS as error:
        raise _unreadable(header, error) from error


def _chunk_of(fields: dict[str, Any]) -> Chunk:
    return Chunk(
        job_id=fields["job"],
        attempt_id=fields["attempt_id"],
        n=fields["n"],
        stream=_STREAMS[fields["stream"]],
        at=parse_instant(fields["at"]),
        offset=fields["offset"],
        data=base64.b64decode(fields["data"], validate=True),
    )


def _unreadable(line: Line, error: Exception) -> Damaged:
    why = "a value has another type"
    if isinstance(error, InvalidInput):
        why = error.message
    elif isinstance(error, KeyError):
        why = f"{error.args[0]!r} is missing or unknown"
    elif isinstance(error, ValueError):
        why = str(error)
    what = "header" if line.kind == "export" else line.kind
    return Damaged(f"line {line.number}: this {what} cannot be read: {why}", OTHER)
