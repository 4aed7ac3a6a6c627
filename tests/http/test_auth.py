"""Who may call which route: a matrix made from the route table, so that it covers each route that is added later."""

import http.client
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from facts import eventually
from http_client import Client
from http_server import serving
from queuectl.domain import token as tokens
from queuectl.domain.token import SCOPES, grants
from queuectl.http.auth import TokenAuthenticator
from queuectl.http.guessing import Guessing
from queuectl.http.routes import ROUTES
from queuectl.http.server_state import ServerState
from queuectl.http.table import PROBES, NoBody, Route, checked
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.protocol import Swap
from queuectl.store.sqlite import SqliteStore

WRONG = ("bad", "revoked", "expired")
CALLERS = ("none", *WRONG, *SCOPES)
ORIGINS = ("own", "foreign", "none")
EVIL = "evil.example"


class Asked(NamedTuple):
    """One request of the matrix, without its route."""

    who: str
    host: str
    origin: str
    read_only: bool


REQUESTS = [Asked(*row) for row in itertools.product(CALLERS, ("good", "evil"), ORIGINS, (False, True))]


class Servers:
    """A server that may change things and one that only reads, over one store, with a token of each kind."""

    def __init__(self, queue: LocalQueue, ports: dict[bool, int], secrets: dict[str, str]) -> None:
        self._secrets, self.ports = secrets, ports
        self._connections = {
            read_only: http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            for read_only, port in ports.items()
        }
        self.queue = queue

    def status(self, route: Route, asked: Asked) -> int:
        """The status of the answer to a request without query and body, for a thing that does not exist."""
        port, connection = self.ports[asked.read_only], self._connections[asked.read_only]
        headers = {"Host": f"127.0.0.1:{port}" if asked.host == "good" else EVIL}
        if asked.who != "none":
            headers["Authorization"] = f"Bearer {self._secrets[asked.who]}"
        if asked.origin != "none":
            headers["Origin"] = f"http://127.0.0.1:{port}" if asked.origin == "own" else f"http://{EVIL}"
        connection.request(route.method, re.sub(r"\{\w+\}", "nothing", route.path), headers=headers)
        reply = connection.getresponse()
        names = {name.lower() for name, _ in reply.getheaders()}
        reply.read()
        assert not [name for name in names if name.startswith("access-control-")]
        assert ("www-authenticate" in names) == (reply.status == 401)
        return reply.status

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    store = SqliteStore(str(tmp_path_factory.mktemp("auth") / "queue.db"))
    store.migrate()
    queue = LocalQueue(store, Sources({}, None, print))
    secrets = {scope: queue.create_token(scope, [scope]).secret for scope in SCOPES}
    secrets |= {name: queue.create_token(name, ["admin"]).secret for name in ("revoked", "expired")}
    secrets["bad"] = secrets["admin"][:-2] + ("AA" if secrets["admin"][-2:] != "AA" else "BA")
    queue.revoke_token("revoked")
    expire(store, "expired")
    with ExitStack() as stack:
        ports = {}
        for read_only in (False, True):
            authenticator = TokenAuthenticator(queue, guessing=Guessing(_a_minute_later()))
            state = ServerState(
                queue,
                authenticator,
                lambda host: host.removeprefix("127.0.0.1:").isdecimal(),
                read_only=read_only,
            )
            stack.enter_context(state.health.probing(queue))
            ports[read_only] = stack.enter_context(serving(state))
        servers = Servers(queue, ports, secrets)
        yield servers
        servers.close()
    queue.close()


def _a_minute_later() -> Callable[[], float]:
    """A clock that goes on by a minute at each look, so that no failure is one too many in a minute."""
    minutes = itertools.count()
    return lambda: next(minutes) * 61.0


def expire(store: SqliteStore, name: str) -> None:
    entry = store.read_table("tokens")[name]
    token = tokens.token_of(name, entry.value)
    assert token is not None
    ended = replace(token, expires_at=token.created_at - timedelta(seconds=1))
    assert store.swap([Swap("tokens", name, tokens.entry(ended), entry.version)])[0]


def expected(route: Route, asked: Asked) -> int | None:
    """The status by the rules; None if the request is let in."""
    is_probe = route.path in PROBES
    if asked.host == "evil" and not is_probe:
        return 421
    if route.changes and asked.read_only:
        return 403
    if is_probe:
        return None
    if asked.who in WRONG:
        return 401
    if route.scope is None:
        return None
    if asked.who == "none":
        return 401
    return None if grants([scope for scope in SCOPES if scope == asked.who], route.scope) else 403


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_each_caller_gets_exactly_the_status_of_the_rules(servers: Servers, route: Route) -> None:
    let_in = servers.status(route, Asked("admin", "good", "none", read_only=False))
    assert let_in not in (401, 403, 405, 421, 429, 500, 501, 502, 503, 504), let_in
    wrong = [
        (asked, found, wanted)
        for asked in REQUESTS
        if (found := servers.status(route, asked)) != (wanted := expected(route, asked) or let_in)
    ]
    assert not wrong, wrong


@pytest.mark.parametrize(
    "host", ["x/healthz?", "x/healthz#", "127.0.0.1", "user@127.0.0.1:{port}", "127.0.0.1:{port}/healthz?"]
)
def test_a_host_that_looks_like_a_probe_is_refused(servers: Servers, host: str) -> None:
    port = servers.ports[False]
    assert Client(port, None)("GET", "/v1/jobs", Host=host.format(port=port)).status in (400, 421)


def test_every_route_is_called_for_something_that_does_not_exist() -> None:
    """Otherwise the matrix would change what later requests find."""
    changing = [
        route
        for route in ROUTES
        if route.changes
        and "{" not in route.path
        and route.body in (None, NoBody)
        and not route.raw_body  # an empty stream is refused
    ]
    assert not changing, changing


def test_two_servers_refuse_a_revoked_token_within_two_seconds(servers: Servers) -> None:
    secret = servers.queue.create_token("brief", ["view"]).secret
    clients = [Client(port, secret) for port in servers.ports.values()]
    assert [client("GET", "/v1/jobs").status for client in clients] == [200, 200]
    servers.queue.revoke_token("brief")
    for client in clients:
        eventually(lambda client=client: client("GET", "/v1/jobs").status == 401, within=2)  # type: ignore[misc]


class TestDefaultDeny:
    """A row that lets in too many fails when the table is imported."""

    @staticmethod
    def row(**changed: object) -> Route:
        row = {
            "method": "POST",
            "path": "/v1/x",
            "scope": "operate",
            "summary": "",
            "answers": {},
            "handler": print,
        }
        return checked([Route(**{**row, **changed})])[0]  # type: ignore[arg-type]

    def test_a_row_with_a_scope_is_accepted(self) -> None:
        assert self.row().changes
        assert not self.row(scope="view", reads=True).changes
        assert self.row(method="GET", path="/healthz", scope=None)

    def test_a_row_without_a_scope_is_no_row(self) -> None:
        with pytest.raises(TypeError):
            Route(method="GET", path="/v1/x", summary="", answers={}, handler=print)  # type: ignore[call-arg, arg-type]

    @pytest.mark.parametrize(
        "changed",
        [{"scope": None}, {"scope": None, "method": "GET"}, {"scope": None, "path": "/v1"}, {"scope": "root"},
         {"scope": "view"}, {"scope": "view", "method": "DELETE"}],
        ids=str,
    )  # fmt: skip
    def test_a_row_that_lets_in_too_many_is_refused(self, changed: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="scope"):
            self.row(**changed)
