"""MongoDB for the tests of the command line: an unused database, users with few rights, and simulated server
versions."""

import secrets
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import bson
from dns import message, rcode, resolver

from cli.postgres import PASSWORD
from servers.mongo import MongoServer, connect

Document = dict[str, Any]


class MongoPlace:
    """The shared server, and the users and databases that a test creates there. `name`: an unused database."""

    def __init__(self, server: MongoServer) -> None:
        self.server = server
        self.name = f"cli_{secrets.token_hex(6)}"
        self.admin = connect(server)
        self.here = self.admin[self.name]
        self._users: list[str] = []

    def url(self, database: str | None = None, **parts: Any) -> str:
        """The URL of the queue; `user`, `port` and other parts replace the defaults."""
        return self.server.url(database or self.name, **parts)

    def at(self, user: str = "root", **place: Any) -> str:
        """The name of the place in messages."""
        host, port = place.get("host", self.server.host), place.get("port", self.server.port)
        return f"mongodb://{user}@{host}:{port}/{self.name}"

    def user(self, *roles: str) -> str:
        """A new user with `PASSWORD` and these roles here, known to the database `admin`."""
        name = f"user_{secrets.token_hex(6)}"
        given = [{"role": role, "db": self.name} for role in roles]
        self.admin["admin"].command("createUser", name, pwd=PASSWORD, roles=given)
        self._users.append(name)
        return name

    def as_user(self, user: str, **parts: Any) -> str:
        """The URL for one of our users."""
        return self.url(user=user, password=PASSWORD, **parts)

    def close(self) -> None:
        """Remove the database and its users."""
        self.admin.drop_database(self.name)
        for user in self._users:
            self.admin["admin"].command("dropUser", user)
        self.admin.close()


class Pretender:
    """A port with the protocol of MongoDB that simulates servers of versions that no Python package contains."""

    HEAD = struct.Struct("<iiii")
    QUERY, REPLY, MESSAGE = 2004, 1, 2013

    def __init__(self, hello: Mapping[str, Any], version: str = "0") -> None:
        alive = {"ok": 1.0, "minWireVersion": 0, "maxWireVersion": 17, "maxBsonObjectSize": 1 << 24}
        limits = {"maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000}
        primary = {"ismaster": True, "isWritablePrimary": True}
        self._hello = alive | limits | primary | dict(hello)
        self._version = version
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as requests:
            while head := requests.read(self.HEAD.size):
                length, number, _, kind = self.HEAD.unpack(head)
                body = requests.read(length - self.HEAD.size)
                # Before its document a query has flags, a name and two numbers; a message flags and a letter.
                document = body[body.index(b"\0", 4) + 9 :] if kind == self.QUERY else body[5:]
                answer = bson.encode(self._answer(next(iter(bson.decode(document)))))
                lead = struct.pack("<iqii", 8, 0, 0, 1) if kind == self.QUERY else bytes(5)
                reply = self.REPLY if kind == self.QUERY else self.MESSAGE
                size = self.HEAD.size + len(lead) + len(answer)
                client.sendall(self.HEAD.pack(size, 1, number, reply) + lead + answer)

    def _answer(self, command: str) -> Document:
        if command.lower() in ("hello", "ismaster"):
            return self._hello
        return {"ok": 1.0, "version": self._version}


@contextmanager
def nameserver(*, silent: bool = False) -> Iterator[None]:
    """During the block, `mongodb+srv` uses a name server of the test. It knows no name, or never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        known = resolver.Resolver(configure=False)
        known.nameservers, known.port = ["127.0.0.1"], ear.getsockname()[1]
        thread = threading.Thread(target=_deny, args=(ear,), daemon=True)
        before, resolver.default_resolver = resolver.default_resolver, known
        try:
            if not silent:
                thread.start()
            yield
        finally:
            resolver.default_resolver = before
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
                mouth.sendto(b"", ear.getsockname())
            if not silent:
                thread.join(10)


def _deny(ear: socket.socket) -> None:
    """Deny each question until an empty one arrives."""
    while True:
        wire, who = ear.recvfrom(4096)
        if not wire:
            return
        answer = message.make_response(message.from_wire(wire))
        answer.set_rcode(rcode.NXDOMAIN)
        ear.sendto(answer.to_wire(), who)
