"""The format of an exported file: segments of JSON lines, one after another.

A segment begins with a header and ends with a line that has the counts and the SHA-256 of all lines before it. So a
reader finds out whether the segment is complete and unchanged. An export writes one segment, a purge one for each
batch.
"""

import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from queuectl.domain.instant import format_instant
from queuectl.errors import CommandFailed

FORMAT = 1
"""The version of the format. A reader refuses a later one."""
KINDS = ("setting", "queue", "schedule", "job", "output")
"""The kinds of lines between the header and the end."""
LONGEST_LINE = 256 << 20
_PIECE = 1 << 16
_BEGINNING = b'{"queuectl":'
_encode = msgspec.json.Encoder().encode


class Cut(CommandFailed):
    """The file ends inside a segment."""


class Damaged(CommandFailed):
    """The file was changed."""


class Foreign(CommandFailed):
    """The file is not an export, or a later version of queuectl wrote it."""


class Line(Struct, frozen=True):
    """One line of a segment: the header (`export`), the end (`end`), or one of `KINDS`. `size` is in bytes."""

    number: int
    kind: str
    fields: dict[str, Any]
    size: int


class SegmentWriter:
    """Writes one segment. `counts` is the number of lines per kind, `sizes` the number of their bytes."""

    def __init__(self, write: Callable[[bytes], object], source: str, at: datetime) -> None:
        self._write, self._sum = write, sha256()
        self.counts, self.sizes = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
        self._put({"queuectl": FORMAT, "kind": "export", "source": source, "at": format_instant(at)})

    def add(self, kind: str, **fields: Any) -> None:
        """Write one line."""
        self.counts[kind] += 1
        self.sizes[kind] += self._put({"kind": kind, **fields})

    def end(self, left_out: Sequence[str] = ()) -> str:
        """Write the last line, with the jobs that are left out. Returns the sum."""
        found = self._sum.hexdigest()
        more = {"left_out": left_out} if left_out else {}
        self._put({"kind": "end", "counts": self.counts, "sha256": found, **more})
        return found

    def _put(self, line: dict[str, Any]) -> int:
        raw = _encode(line) + b"\n"
        self._sum.update(raw)
        self._write(raw)
        return len(raw)


class SegmentReader:
    """The lines of all segments. Raises Cut or Damaged at the place of the fault.

    source    the file, or the content of its gzip members
    ends      where complete segments end, in bytes; 0 is the first one
    is_empty  not even the first header was read
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.ends = [0]
        self.is_empty = True

    def __iter__(self) -> Iterator[Line]:
        segment, at, number = None, 0, 0
        while raw := self._next_line():
            number, at = number + 1, at + len(raw)
            line = _line(raw, number)
            if (line.kind == "export") != (segment is None):
                raise (
                    _foreign(number)
                    if segment is None
                    else _damaged(number, "the lines before it have no end")
                )
            segment, self.is_empty = segment or _Sum(), False
            if line.kind == "end":
                segment.check(line)
                segment = None
                self.ends.append(at)
            else:
                segment.add(line.kind, raw)
            yield line
        if segment is not None or number == 0:
            raise Cut("the file is empty" if number == 0 else f"the file is cut after line {number}", _WHOLE)

    def _next_line(self) -> bytes:
        try:
            raw = self._source.readline(LONGEST_LINE)
        except EOFError as error:
            raise Cut("the compressed file is cut", _WHOLE) from error
        except zlib.error as error:
            raise Damaged(f"the compressed file was changed: {error}", OTHER) from error
        if raw and not raw.endswith(b"\n"):
            if self.is_empty and not _BEGINNING.startswith(raw[: len(_BEGINNING)]):
                raise _foreign(1)
            raise Cut("the file is cut inside its last line", _WHOLE)
        return raw


class _Sum:
    """The lines of a segment that were read."""

    def __init__(self) -> None:
        self._sum, self._counts = sha256(), Counter[str]()

    def add(self, kind: str, raw: bytes) -> None:
        self._sum.update(raw)
        self._counts[kind] += kind in KINDS

    def check(self, end: Line) -> None:
        """Compare the lines with the end of the segment."""
        counts = end.fields.get("counts") or {}
        complete = set(KINDS) <= set(counts) and Counter(counts) == self._counts
        if end.fields.get("sha256") != self._sum.hexdigest() or not complete:
            raise _damaged(end.number, "the lines before it have another SHA-256")


_WHOLE = "export it again; --partial imports what is there"
OTHER = "use another copy, or export it again"
_LATER = "import it with the version of queuectl that wrote it, or a later one"


def _line(raw: bytes, number: int) -> Line:
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _foreign(number) if number == 1 else _damaged(number, f"it is not JSON: {error}") from error
    kind = fields.get("kind") if isinstance(fields, dict) else None
    if kind == "export":
        _check_version(fields, number)
    elif kind not in (*KINDS, "end"):
        raise (
            _foreign(number)
            if number == 1
            else Foreign(
                f"line {number} has the unknown kind {kind!r}; this program reads format {FORMAT}", _LATER
            )
        )
    return Line(number, str(kind), fields, len(raw))


def _check_version(header: dict[str, Any], number: int) -> None:
    version = header.get("queuectl")
    if not isinstance(version, int):
        raise _foreign(number)
    if version > FORMAT:
        raise Foreign(f"the file has format {version}; this program reads format {FORMAT}", _LATER)


def _foreign(number: int) -> Foreign:
    return Foreign(
        f"line {number} is not the header of an export",
        "a file to import is made like this, for example: queuectl export queue.jsonl",
    )


def _damaged(number: int, why: str) -> Damaged:
    return Damaged(f"the file was changed: line {number}: {why}", OTHER)


class Members(io.RawIOBase):
    """The content of gzip members. Raises EOFError if the file ends inside one, and zlib.error if it was changed.

    complete  the size of the members that were read to their end, in the file
    content   the size of their content
    given     the size of the content that was read
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._member, self._rest = file, zlib.decompressobj(31), b""
        self._fed = self.given = 0
        self._inside = False
        self.complete = self.content = 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes. Returns 0 at the end."""
        while True:
            data = self._rest or self._file.read(_PIECE)
            self._fed += 0 if self._rest else len(data)
            if not data and not self._inside:
                return 0
            self._inside = True
            found = self._member.decompress(data, len(buffer))
            self.given += len(found)
            self._rest = self._member.unconsumed_tail
            if self._member.eof:
                self._next_member()
            elif not data and not found:
                raise EOFError("inside a gzip member")
            if found:
                buffer[: len(found)] = found
                return len(found)

    def _next_member(self) -> None:
        self._rest, self._member, self._inside = self._member.unused_data, zlib.decompressobj(31), False
        self.complete, self.content = self._fed - len(self._rest), self.given
