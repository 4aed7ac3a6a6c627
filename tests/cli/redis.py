"""Redis for the command line's tests: a queue that is free, users to try things with, an archive of its own."""

import secrets
from typing import Any

from cli.mongo import MongoPlace
from cli.postgres import PASSWORD
from servers.proxy import Proxy
from servers.redis import RedisServer


class RedisPlace:
    """The server that all share, and what a test makes there. `name`: a queue that is free."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.name = f"cli_{secrets.token_hex(6)}"
        self.tag = f"{{{self.name}}}"
        self._users: list[str] = []

    def url(self, database: int | str = 0, **parts: Any) -> str:
        """Where the queue is; `user`, `port` and the like replace what is usual."""
        return self.server.url(database, **{"name": self.name, **parts})

    def at(self, user: str = "", **place: Any) -> str:
        """How messages begin to name it."""
        host, port = place.get("host", self.server.host), place.get("port", self.server.port)
        login = f"{user}@" if user else ""
        return f"redis://{login}{host}:{port}/{place.get('database', 0)}?name={self.name}"

    def user(self, *rules: str) -> str:
        """A new user with `PASSWORD` and these rights here."""
        name = f"user_{secrets.token_hex(6)}"
        own = ("resetkeys", "resetchannels", f"~{self.tag}*", f"&{self.tag}*")
        self.server.call("ACL", "SETUSER", name, "on", f">{PASSWORD}", *own, *rules)
        self._users.append(name)
        return name

    def as_user(self, user: str, **parts: Any) -> str:
        """The URL for one of our users."""
        return self.url(user=user, password=PASSWORD, **parts)

    def close(self) -> None:
        """Leave nothing of it."""
        self.server.delete(self.tag)
        for user in self._users:
            self.server.call("ACL", "DELUSER", user)


class ArchivedPlace(RedisPlace):
    """The same with an archive, for a user of its own and by way of a network that can fail."""

    def __init__(self, server: RedisServer, past: MongoPlace, network: Proxy) -> None:
        super().__init__(server)
        self.past = past
        self.archive = past.as_user(past.user("readWrite"), host=network.host, port=network.port)

    def url(self, database: int | str = 0, **parts: Any) -> str:
        """Where the queue is, and its archive."""
        return super().url(database, **{"archive": self.archive, **parts})

    def live(self, **parts: Any) -> str:
        """Where the queue is, and nothing of its archive."""
        return super().url(**parts)
