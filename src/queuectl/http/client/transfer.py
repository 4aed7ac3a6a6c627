"""Exports and imports through a server: the lines of the file are the body of the reply, or of the request."""

import select
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, BinaryIO

from queuectl import __version__
from queuectl.domain.query import Filter
from queuectl.domain.where import parse
from queuectl.errors import CommandFailed, InvalidInput, QueuectlError, StoreUnavailable
from queuectl.http.client import faults, reading
from queuectl.http.client.channel import Channel
from queuectl.http.client.connection import NotSent, Reply, ReplyLost, Request, headers_of, lost, reason, send
from queuectl.http.client.decoding import understood
from queuectl.http.client.tries import Tries
from queuectl.service.matching import Wanted
from queuectl.service.operation import Operation
from queuectl.service.transfer import files
from queuectl.service.transfer.files import Write
from queuectl.service.transfer.running import Export, Import
from queuectl.service.transfer.segment import KINDS, Cut, Line, SegmentReader
from queuectl.service.transfer.tally import Exported, Imported, OnConflict, imported_of

JSONL = "application/jsonl"
PIECE = 1 << 16
"""Size in bytes of the pieces in which an import is sent."""
STEP = 500
"""Jobs of an export after which a caller may stop."""
SILENCE = 90.0
"""Seconds without a byte, after which the server counts as gone. One batch of an import takes at most 30 s."""
JOB = b'{"kind":"job"'
"""The beginning of each job in an uncompressed file."""


class RemoteTransfer:
    """The `Transfer` of a queue behind a server."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def export(self, target: str | Write, *, where: str | None = None, output: bool = True) -> Export:
        """The lines of an export, for a file or a function."""
        wanted = Filter() if where is None else parse(where, datetime.now(UTC))
        query = {"where": where, "output": None if output else "none"}

        def steps(write: Write, done: Exported) -> Iterator[int]:
            return _Download(self._channel, query).steps(write, done)

        return Export(steps, target, lambda: reading.counts(self._channel, wanted).total())

    def read(
        self,
        source: str | BinaryIO,
        *,
        on_conflict: OnConflict = "error",
        partial: bool = False,
        dry_run: bool = False,
    ) -> Import:
        """An import of a file or a stream."""
        flags = {"partial": 1 if partial else None, "dry_run": 1 if dry_run else None}
        upload = _Upload(self._channel, {"on_conflict": on_conflict, **flags})
        return Import(upload.steps, source, upload.done, partial=partial)

    def purge(self, wanted: Wanted, path: str) -> Operation[int]:  # noqa: ARG002
        """Refused: the file would be on another host than the store."""
        raise InvalidInput(
            "a purge does not write jobs of a server to a file", "run it where the store is reachable"
        )


class _Download:
    """An export: the reply is read as it comes, and its SHA-256 is compared."""

    def __init__(self, channel: Channel, query: Mapping[str, Any]) -> None:
        self._channel, self._query = channel, query

    def steps(self, write: Write, done: Exported) -> Iterator[int]:
        """Write all lines."""
        self._channel.read("/v1/config")  # waits for a server that was restarted, and renews the token
        jobs = 0
        with closing(_opened(self._channel)) as connection:
            for line, raw in self._lines(connection):
                write(raw)
                jobs += line.kind == "job"
                if line.kind == "end":
                    done.counts = {kind: line.fields["counts"].get(kind, 0) for kind in KINDS}
                    done.left_out = line.fields.get("left_out", [])
                    done.sha256 = line.fields["sha256"]
                elif jobs == STEP:
                    yield jobs
                    jobs = 0
        yield jobs

    def _lines(self, connection: HTTPConnection) -> Iterator[tuple[Line, bytes]]:
        """The lines of the reply, checked, each also as it came. Raises StoreUnavailable for a reply that is cut."""
        try:
            copy = _Copy(files.content(self._response(connection)))
            for line in SegmentReader(copy):  # type: ignore[arg-type]
                yield line, copy.last
        except (OSError, HTTPException, ReplyLost, Cut) as error:
            url, why = self._channel.address.url, error.message if isinstance(error, Cut) else reason(error)
            raise StoreUnavailable(f"{url} has cut off the export: {why}", "export again") from error

    def _response(self, connection: HTTPConnection) -> HTTPResponse:
        encoding = "identity" if self._channel.address.is_here else "gzip"
        headers = self._channel.authorized({"Accept": JSONL, "Accept-Encoding": encoding})
        target = self._channel.target("/v1/export", self._query)
        response = send(connection, Request("GET", target, None, headers, SILENCE))
        if response.status == 200:
            return response
        reply, url = _reply(response), self._channel.address.url
        raise self._channel.explained(faults.error_of(reply, faults.document_of(reply, url), url))


class _Copy:
    """The lines of a file. `last` is the last one that was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.last = file, b""

    def readline(self, limit: int) -> bytes:
        """The next line."""
        self.last = self._file.readline(limit)
        return self.last


class _Upload:
    """An import: the file is the body of a request, and `done` is set by the reply.

    A request whose reply is lost is sent again if the source can be read again: repeating an import is safe.
    """

    def __init__(self, channel: Channel, query: Mapping[str, Any]) -> None:
        self._channel, self._query = channel, query
        self.done = Imported()

    def steps(self, file: BinaryIO) -> Iterator[int]:
        """Send the file. Each step returns about the number of jobs in what was sent."""
        channel, begin = self._channel, file.tell() if file.seekable() else None
        patience = 0 if begin is None else channel.patience.changes
        tries = Tries(patience, channel.pause, changes=self._query["dry_run"] is None)
        channel.read("/v1/config")  # waits for a server that was restarted, and renews the token
        while True:
            try:
                reply = yield from self._exchange(file)
                document = faults.document_of(reply, channel.address.url)
                break
            except NotSent as error:
                tries.not_done(faults.unreachable(error, channel.address))
            except ReplyLost as error:
                tries.lost(faults.without_reply(error, channel.address, SILENCE))
            except faults.ProxyFault as error:
                tries.lost(error)
            if begin is not None:
                file.seek(begin)
        self._take(document)
        if reply.status != 200:
            refused = faults.error_of(reply, document, channel.address.url)
            raise tries.refusal(channel.explained(refused))

    def _take(self, document: Mapping[str, Any]) -> None:
        """The numbers in the reply, which an error has too."""
        if "import" in document:
            with understood(self._channel):
                found = imported_of(document["import"])
            self.done.by_kind, self.done.renumbered = found.by_kind, found.renumbered
            self.done.complete = found.complete

    def _exchange(self, file: BinaryIO) -> Generator[int, None, Reply]:
        """Send the request, a piece of its body in each step, and read the reply. Raises NotSent, ReplyLost."""
        connection = _opened(self._channel)
        try:
            self._send_head(connection)
            try:
                for piece in _pieces(file):
                    if not _sent(connection, b"%x\r\n%b\r\n" % (len(piece), piece)):
                        break
                    yield piece.count(JOB)
            except (
                GeneratorExit
            ):  # the caller stops: the server imports the complete jobs that it has, and counts them
                with suppress(OSError, HTTPException, QueuectlError, ReplyLost):
                    self._take(faults.document_of(_end(connection), self._channel.address.url))
                raise
            return _end(connection)
        except (OSError, HTTPException) as error:
            raise lost(error) from error
        finally:
            connection.close()

    def _send_head(self, connection: HTTPConnection) -> None:
        connection.putrequest(
            "POST", self._channel.target("/v1/import", self._query), skip_accept_encoding=True
        )
        given = {"Accept": "application/json", "Content-Type": JSONL, "Transfer-Encoding": "chunked"}
        for name, value in self._channel.authorized(
            {"User-Agent": f"queuectl/{__version__}", **given}
        ).items():
            connection.putheader(name, value)
        connection.endheaders()


def _opened(channel: Channel) -> HTTPConnection:
    """A connection of its own. Raises NotSent."""
    connection = channel.connections.open(channel.patience.changes, channel.host)
    connection.sock.settimeout(SILENCE)
    return connection


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """The content of a file; of a pipe as it comes."""
    read = getattr(file, "read1", file.read)
    while True:
        try:
            piece = read(PIECE)
        except OSError as error:
            raise CommandFailed(f"cannot read the file: {reason(error)}") from error
        if not piece:
            return
        yield piece


def _sent(connection: HTTPConnection, data: bytes) -> bool:
    """Send a part of the body. Returns False if the server has answered already: then it reads no more."""
    if select.select([connection.sock], [], [], 0)[0]:
        return False
    try:
        connection.send(data)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _end(connection: HTTPConnection) -> Reply:
    """End the body, and read the reply."""
    _sent(connection, b"0\r\n\r\n")
    return _reply(connection.getresponse())


def _reply(response: HTTPResponse) -> Reply:
    return Reply(response.status, headers_of(response), response.read())
