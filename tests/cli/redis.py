"""Redis for the tests of the command line: an unused queue, users with few rights, and an archive."""

import secrets
from typing import Any

from cli.mongo import MongoPlace
from cli.postgres import PASSWORD
from servers.proxy import Proxy
from servers.redis import RedisServer


class RedisPlace:
    """The shared server, and the users that a test creates there. `name`: an unused queue."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.name = f"cli_{secrets.token_hex(6)}"
        self.tag = f"{{{self.name}}}"
        self._users: list[str] = []

    def url(self, database: int | str = 0, **parts: Any) -> str:
        """The URL of the queue; `user`, `port` and other parts replace the defaults."""
        return self.server.url(database, **{"name": self.name, **parts})

    def at(self, user: str = "", **place: Any) -> str:
        """The beginning of the name in messages."""
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
        """Remove the keys and the users."""
        self.server.delete(self.tag)
        for user in self._users:
            self.server.call("ACL", "DELUSER", user)


class ArchivedPlace(RedisPlace):
    """A place with an archive, with its own user and behind a network that can fail."""

    def __init__(self, server: RedisServer, past: MongoPlace, network: Proxy) -> None:
        super().__init__(server)
        self.past = past
        self.archive = past.as_user(past.user("readWrite"), host=network.host, port=network.port)

    def url(self, database: int | str = 0, **parts: Any) -> str:
        """The URL of the queue with its archive."""
        return super().url(database, **{"archive": self.archive, **parts})

    def live(self, **parts: Any) -> str:
        """The URL of the queue without its archive."""
        return super().url(**parts)
