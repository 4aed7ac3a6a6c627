"""Opens event streams of a server, and reads each in a thread of its own until the connection ends."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import msgspec

from queuectl.errors import Unauthenticated
from queuectl.http.client import faults
from queuectl.http.client.channel import Channel
from queuectl.http.client.connection import Reply, ReplyLost, Request, headers_of, send

SILENCE = 40.0
"""Seconds without a byte, after which a stream counts as broken. The server sends a comment at least every 15 s."""

LOOK = 0.5
"""Seconds without an event, after which a reader gets None."""

AHEAD = 16
"""Maximum number of events that the thread reads ahead of the caller. An event has at most 32 KiB of output."""


class Event(NamedTuple):
    """One event of a stream. `id` is that of the last event that had one."""

    name: str
    id: str | None
    data: Any


class Refused(NamedTuple):
    """An answer that is no stream, and the headers of its request."""

    reply: Reply
    sent: Mapping[str, str]


def opened(channel: Channel, target: str, last_id: str | None) -> "OpenStream | Refused":
    """Open a stream behind an id. Raises NotSent, ReplyLost, StoreUnavailable."""
    headers = {"Accept": "text/event-stream"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    authorized = channel.authorized(headers)
    connection = channel.connections.open(channel.patience.reads, channel.host)
    # The connection drops its socket if the server will close it.
    peer, is_stream = connection.sock, False
    try:
        response = send(connection, Request("GET", target, None, authorized, SILENCE))
        is_stream = response.status == 200 and "event-stream" in response.headers.get("Content-Type", "")
        if is_stream:
            return OpenStream(peer, response)
        return Refused(Reply(response.status, headers_of(response), response.read()), authorized)
    except (OSError, HTTPException) as error:
        raise ReplyLost(str(error)) from error
    finally:
        if not is_stream:
            connection.close()


def check(channel: Channel, refused: Refused) -> None:
    """Raise the error of an answer that is no stream, unless the next try has another token."""
    document = faults.document_of(refused.reply, channel.address.url)
    error = faults.error_of(refused.reply, document, channel.address.url)
    if not (isinstance(error, Unauthenticated) and channel.renew_token(refused.sent)):
        raise channel.explained(error)


class OpenStream:
    """The events of a stream, read by a thread, so that a caller is not blocked while nothing comes.

    The thread is at most `AHEAD` events ahead of the caller. If the caller is slow (`logs -f | less`), the thread stops
    reading, and then the server stops sending.
    """

    def __init__(self, peer: socket.socket, response: HTTPResponse) -> None:
        self._peer, self._response = peer, response
        self._events = SimpleQueue[Event | None]()
        self._free = threading.Semaphore(AHEAD)
        self._closed = False
        threading.Thread(target=self._read, name="queuectl-follow", daemon=True).start()

    def until_closed(self) -> Iterator[Event | None]:
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
        """Let the thread end, although the caller takes no more events.

        Ends the connection under the thread. The thread itself closes the response, which it has locked.
        """
        self._closed = True
        self._free.release()
        with suppress(OSError):  # it has ended already
            self._peer.shutdown(socket.SHUT_RDWR)
        self._peer.close()

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
