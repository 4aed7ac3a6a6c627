"""The command line and a queue on each server, with one interface."""

from typing import Any, NamedTuple

import pytest

from cli.conftest import CommandLine, actor, archived, database, door, place, queue, queuectl  # noqa: F401  fixtures
from cli.redis import RedisPlace
from e2e.databases import RIGHTS
from queuectl.store.mongo import connect
from servers.proxy import Proxy

WORDS = {"postgres": "DATABASE_URL", "mongodb": "MONGODB_URI", "redis": "REDIS_URL"}
"""The names of kinds of stores, and the variables with their URLs."""


class Site(NamedTuple):
    """A free queue on a server of one kind.

    kind   the driver, as the command line names it
    url    where the queue is, for a user who has a password
    shown  how messages begin to name it
    found  the variables from which `--store KIND` takes the URL
    here   the place itself
    """

    kind: str
    url: str
    shown: str
    found: dict[str, str]
    here: Any

    @property
    def server(self) -> Any:
        """The server that all tests share."""
        return self.here.server


@pytest.fixture
def site(kind: str, request: pytest.FixtureRequest) -> Site:
    """A queue of the kind that the test is for; that of Redis has an archive."""
    here = request.getfixturevalue({"postgres": "database", "mongodb": "place", "redis": "archived"}[kind])
    if kind == "postgres":
        return Site(kind, here.url(), here.at(), {"DATABASE_URL": here.url()}, here)
    if kind == "mongodb":
        user = here.user("readWrite")
        url = here.as_user(user)
        return Site(kind, url, here.at(user), {"MONGODB_URI": url}, here)
    user = here.user(*RIGHTS)
    live = RedisPlace.as_user(here, user).partition("&archive=")[0]
    return Site(
        kind, here.as_user(user), here.at(user), {"REDIS_URL": live, "MONGODB_URI": here.archive}, here
    )


@pytest.fixture
def plain(kind: str, request: pytest.FixtureRequest) -> Any:
    """A place on a server of the kind that the test is for, for its administrator and without an archive."""
    return request.getfixturevalue({"postgres": "database", "mongodb": "place", "redis": "queue"}[kind])


@pytest.fixture
def network(kind: str, request: pytest.FixtureRequest) -> Proxy:
    """A network in front of the server that the test controls."""
    proxies = {"postgres": "proxy", "mongodb": "mongo_proxy", "redis": "redis_proxy"}
    proxy: Proxy = request.getfixturevalue(proxies[kind])
    return proxy


@pytest.fixture(autouse=True)
def soon_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MongoDB that refuses connections is not called for a whole second."""
    monkeypatch.setattr(connect, "FIRST_LOOK", 0.1)
