"""Follows output over HTTP: an event stream, which is opened again at the same byte for as long as it takes."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import msgspec

from queuectl.domain.job import Job
from queuectl.errors import NotFound, StoreUnavailable, Unauthenticated
from queuectl.http.client import faults, reading
from queuectl.http.client.channel import Channel, part
from queuectl.http.client.connection import NotSent, Reply, ReplyLost, Request, headers_of, send
from queuectl.http.client.decoding import understood
from queuectl.http.client.tries import FIRST_PAUSE, LONGEST_PAUSE
from queuectl.service.following import End, Part, Position
from queuectl.service.shapes.output import begin_of, chunk_of, event_id

SILENCE = 40.0
"""Seconds without a byte, after which a stream counts as broken. The server sends a comment at least every 15 s."""

LOOK = 0.5
"""Seconds without an event, after which `look` is called."""

AHEAD = 16
"""Events that are read before they are wanted. An event has at most 32 KiB of output."""

Notice = Callable[[str], None]


class Event(NamedTuple):
    """One event of a stream. `id` is that of the last event that had one."""

    name: str
    id: str | None
    data: Any


class Ended(NamedTuple):
    """The end of a stream. `status`: of an answer without events; None if the stream broke off."""

    status: int | None = None


class Follower:
    """Reads the output of one job."""

    def __init__(
        self, channel: Channel, id: str, attempt: int | None, after: Position | None, notice: Notice
    ) -> None:
        self._channel, self._id, self._attempt, self._notice = channel, id, attempt, notice
        self._shown = after.attempt_id if after else ""
        """The attempt id of the output that comes next."""
        self._last_id = _id_of(after) if after else None
        self._has_said = False
        self._end: Event | None = None

    def parts(self, look: Callable[[Job], None]) -> Iterator[Part]:
        """The output as it is printed, until the job or the attempt has ended."""
        pause = FIRST_PAUSE
        if self._last_id is None:  # why a job does not run is told at once, as with a store
            self._look(look)
        while True:
            for item in self._events():
                if item is None:
                    self._look(look)
                elif isinstance(item, Event):
                    pause = FIRST_PAUSE
                    found = self._part(item)
                    self._last_id = item.id or self._last_id
                    if found is not None:
                        yield found
                    if isinstance(found, End):
                        return
            self._channel.pause(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _look(self, look: Callable[[Job], None]) -> None:
        try:
            look(reading.show(self._channel, self._id))
        except (StoreUnavailable, NotFound):  # the stream tells about both
            return

    def _part(self, event: Event) -> Part | None:
        """What an event says; None for one that only this class needs."""
        with understood(self._channel):
            if event.name == "attempt":
                begin, shown = begin_of(event.data), self._shown
                self._shown = begin.attempt_id
                return None if self._shown == shown else begin  # the server may name it once more
            if event.name == "output" and self._shown:
                return chunk_of(event.data, self._id, self._shown)
            if event.name == "end":
                return End(None if event.data["state"] is None else reading.show(self._channel, self._id))
        return None

    def _events(self) -> Iterator[Event | None]:
        """The events of one connection; None where nothing came for a moment. Ends when the connection breaks."""
        try:
            opened = self._open()
        except (NotSent, ReplyLost, StoreUnavailable) as error:
            self._say(str(error))
            return
        if opened is None:
            if self._end is not None:
                yield self._end
            return
        peer, response = opened
        self._has_said = False
        events = _Events(response)
        try:
            yield from events.until_broken()
        finally:
            events.close()
            _end(peer)

    def _open(self) -> tuple[socket.socket, HTTPResponse] | None:
        """A stream from the position that was reached, with its socket; None if it has to be tried again."""
        headers = {"Accept": "text/event-stream"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        target = self._channel.target(
            f"/v1/jobs/{part(self._id)}/output", {"attempt": self._attempt, "follow": 1}
        )
        authorized = self._channel.authorized(headers)
        connection = self._channel.connections.open(self._channel.patience.reads, self._channel.host)
        peer, is_stream = (
            connection.sock,
            False,
        )  # the connection drops its socket if the server will close it
        try:
            response = send(connection, Request("GET", target, None, authorized, SILENCE))
            is_stream = response.status == 200 and "event-stream" in response.headers.get("Content-Type", "")
            if is_stream:
                return peer, response
            reply = Reply(response.status, headers_of(response), response.read())
        except (OSError, HTTPException) as error:
            raise ReplyLost(str(error)) from error
        finally:
            if not is_stream:
                connection.close()
        self._refused(reply, authorized)
        return None

    def _refused(self, reply: Reply, sent: Mapping[str, str]) -> None:
        """Raise the error of an answer that is no stream, unless a later try may be answered, or the output has ended.

        The event of the end may have been lost: then the server has no more events, or no job any more.
        """
        if reply.status == 204:
            self._end = Event("end", None, {"state": "ended"})
            return
        document = faults.document_of(reply, self._channel.address.url)
        error = faults.error_of(reply, document, self._channel.address.url)
        if isinstance(error, NotFound) and self._last_id is not None:
            self._end = Event("end", None, {"state": None})
        elif not (isinstance(error, Unauthenticated) and self._channel.renew_token(sent)):
            raise self._channel.explained(error)

    def _say(self, why: str) -> None:
        """Tell once that the stream is broken."""
        if not self._has_said:
            self._notice(
                f"queuectl: {self._channel.address.url} does not answer ({why}); the output goes on when it does"
            )
        self._has_said = True


def _id_of(at: Position) -> str:
    """The id that continues at this position.

    An attempt that has printed nothing may have been given back, so its number is sent instead of its id.
    """
    return event_id(at if at.offset or not at.attempt else at._replace(attempt_id=""))


class _Events:
    """The events of a stream, read by a thread, so that a caller is not blocked while nothing comes.

    The thread is at most `AHEAD` events ahead of the caller. If the caller is slow (`logs -f | less`), the thread stops
    reading, and then the server stops sending.
    """

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response
        self._events = SimpleQueue[Event | None]()
        self._free = threading.Semaphore(AHEAD)
        self._closed = False
        threading.Thread(target=self._read, name="queuectl-follow", daemon=True).start()

    def until_broken(self) -> Iterator[Event | None]:
        """The events until the stream ends or breaks off; None where nothing came for a moment."""
        while True:
            try:
                event = self._events.get(timeout=LOOK)
            except Empty:
                yield None
                continue
            if event is None:
                return
            self._free.release()
            yield event

    def close(self) -> None:
        """Let the thread end, although the caller takes no more events. Its connection must be closed after this."""
        self._closed = True
        self._free.release()

    def _read(self) -> None:
        try:
            for event in parse(iter(self._response.readline, b"")):
                self._free.acquire()
                if self._closed:
                    return
                self._events.put(event)
        except (OSError, HTTPException, ValueError, AttributeError):  # closed by the caller, or broken
            pass
        finally:
            self._response.close()
            self._events.put(None)


def parse(lines: Iterator[bytes]) -> Iterator[Event]:
    """The events in the lines of a stream; also an id without data. An incomplete event at the end is left out."""
    name, data, id, is_new = "message", list[bytes](), None, False
    for raw in lines:
        line = raw.rstrip(b"\r\n")
        if not line and raw:
            if data or is_new:
                yield Event(name, id, msgspec.json.decode(b"\n".join(data)) if data else None)
            name, data, is_new = "message", [], False
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode()
        elif field == b"id":
            id, is_new = value.decode(), True


def _end(peer: socket.socket) -> None:
    """End the connection under the thread that reads it. The thread itself closes the response, which it has locked."""
    with suppress(OSError):  # it has ended already
        peer.shutdown(socket.SHUT_RDWR)
    peer.close()
