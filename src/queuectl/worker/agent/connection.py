"""The connection of an agent to its holder: sends messages in batches, receives messages, and can be woken."""

import contextlib
import json
import os
import select
import socket
import threading
from typing import Any

import msgspec

from queuectl.worker.protocol import (
    PROTOCOL,
    Hello,
    Message,
    Reader,
    Welcome,
    frame,
    from_fields,
    to_fields,
)

WELCOME_SECONDS = 60.0


_encode = msgspec.json.Encoder().encode


def _decode(text: bytes) -> Any:
    """Decode JSON with msgspec, three times as fast as `json`.

    msgspec rejects lone surrogates, which stand for bytes of a file name that is not UTF-8; `json` decodes them.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)


class HolderGone(Exception):
    """The holder closed the connection, because it died or has a newer agent."""


class Connection:
    """The connection to the holder. Several threads may call `send` and `wake`; only one thread may receive."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._reader = Reader(_decode)
        self._lock = threading.Lock()
        self._outgoing = bytearray()
        self._wake_in, self._wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._unread: list[tuple[Message, bytes]] = []
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._wake_in, select.POLLIN)

    def queue(self, message: Message, payload: bytes = b"") -> None:
        """Queue a message for the next `flush`."""
        data = frame(_encode(to_fields(message)), payload)
        with self._lock:
            self._outgoing += data

    def flush(self) -> None:
        """Send the queued messages. Raises HolderGone."""
        with self._lock:
            if not self._outgoing:
                return
            data, self._outgoing = self._outgoing, bytearray()
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise HolderGone(str(error)) from error

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Send a message immediately. Raises HolderGone."""
        self.queue(message, payload)
        self.flush()

    def wake(self) -> None:
        """Let `receive` return. If the pipe is full, the bytes in it already wake `receive`."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_out, b"w")

    def receive(self, timeout: float) -> list[tuple[Message, bytes]]:
        """Wait up to `timeout` seconds for messages. Returns an empty list after a wake-up. Raises HolderGone."""
        messages, self._unread = self._unread, []
        ready = self._poll.poll(0 if messages else max(0.0, timeout) * 1000)
        for fd, _ in ready:
            if fd == self._wake_in:
                os.read(self._wake_in, 4096)
            else:
                messages += self._read()
        return messages

    def unread(self, messages: list[tuple[Message, bytes]]) -> None:
        """Put messages back; the next `receive` returns them first."""
        self._unread = messages + self._unread

    def close(self) -> None:
        """Close the socket and the self-pipe."""
        self._socket.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _read(self) -> list[tuple[Message, bytes]]:
        try:
            data = self._socket.recv(1 << 20)
        except OSError as error:
            raise HolderGone(str(error)) from error
        if not data:
            raise HolderGone("the connection was closed")
        frames = self._reader.feed(data)
        return [
            (message, payload) for fields, payload in frames if (message := from_fields(fields)) is not None
        ]


def connect(sock: socket.socket) -> tuple[Connection, Welcome]:
    """Send `Hello` and wait for `Welcome`. Returns the connection and the welcome message. Raises HolderGone."""
    connection = Connection(sock)
    connection.send(Hello(PROTOCOL, os.getpid()))
    while True:
        messages = connection.receive(WELCOME_SECONDS)
        if messages:
            welcome = messages[0][0]
            if not isinstance(welcome, Welcome):
                raise HolderGone("the holder sent no welcome")
            connection.unread(messages[1:])
            return connection, welcome
