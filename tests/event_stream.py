"""A client of event streams: reads one stream from a socket, event by event."""

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One event. A comment has the name `:` and its text as data."""

    name: str
    data: Any
    id: str | None = None

    @property
    def bytes(self) -> bytes:
        """The output that the event carries."""
        text = self.data.get("text")
        return text.encode() if text is not None else base64.b64decode(self.data["base64"])


def parsed(block: bytes) -> Event:
    """Parse the event of these lines."""
    fields: dict[str, str] = {}
    for line in block.decode().split("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.removeprefix(" ")
    if "data" not in fields:
        return Event(":", fields.get("", ""), fields.get("id"))
    return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))


class EventStream:
    """One connection.

    source  an address of this machine: the server counts the connections of each address
    buffer  bytes that the kernel keeps for this client; None for what is usual
    """

    def __init__(
        self,
        port: int,
        path: str,
        last_id: str | None = None,
        *,
        token: str | None = "admin",
        accept: str = "text/event-stream",
        source: str = "127.0.0.1",
        buffer: int | None = None,
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(10)
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        head = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Accept: {accept}"]
        head += [f"Authorization: Bearer {token}"] if token else []
        head += [f"Last-Event-ID: {last_id}"] if last_id is not None else []
        self.socket.sendall("\r\n".join([*head, "", ""]).encode())
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = dict(self._header_lines())
        self.is_complete = False
        """Whether the end of the response was received."""
        self._events = self._parsed()

    def _header_lines(self) -> Iterator[tuple[str, str]]:
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            yield name.lower(), value.strip()

    def parts(self) -> Iterator[bytes]:
        """The content as it arrives, until the response ends or the connection breaks off."""
        if "transfer-encoding" not in self.headers:
            return
        while (part := self._chunk()) is not None:
            if not part:
                self.is_complete = True
                return
            yield part

    def _chunk(self) -> bytes | None:
        """One chunk; empty for the last one, None if the connection broke off before its end."""
        try:
            line = self._file.readline()
            size = int(line, 16) if line.endswith(b"\n") else 0
            part = self._file.read(size + 2)
        except ConnectionError:
            return None
        return part[:-2] if line and len(part) == size + 2 else None

    def __iter__(self) -> Iterator[Event]:
        """The events and comments that were not read yet, until the stream ends or breaks off."""
        return self._events

    def _parsed(self) -> Iterator[Event]:
        rest = b""
        for part in self.parts():
            *blocks, rest = (rest + part).split(b"\n\n")
            yield from map(parsed, blocks)

    def until(self, name: str) -> list[Event]:
        """The events up to the first one of this name."""
        found = []
        for event in self:
            found.append(event)
            if event.name == name:
                return found
        raise AssertionError(f"no event {name}: {found}")

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
