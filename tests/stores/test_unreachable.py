"""Servers that cannot be reached or refuse a login: the error names the store, the reason and a hint."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cli.conftest import CommandLine
from cli.mongo import nameserver
from cli.postgres import PASSWORD, secret_of
from cli.test_stores import COMMANDS
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.mongo import connect
from servers.endpoint import free_port
from stores.rows import DRIVERS, each, refusal, told

PRODUCTS = {"postgres": "PostgreSQL", "mongodb": "MongoDB", "redis": "Redis"}
ADDRESS = "does {product} run there? look at host and port"
ROUTE = "is that host up, and does its firewall let this one in? look at host and port"
SOCKET, HOST = "does {product} run here? look at the path of its socket", "look at the name of the host"
LOGIN = "look at user and password; in the URL, special characters are written as %XX"
MONGO_LOGIN = (
    'look at user, password and authSource (now "{}"); in the URL, special characters are written as %XX'
)
TLS = "does the server speak TLS? look at tls, tlsCAFile and tlsCertificateKeyFile in the URL"
NO_REASON = ""
FIRST_LOOK = connect.FIRST_LOOK


class Web(BaseHTTPRequestHandler):
    """A server of another protocol."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def web() -> Iterator[int]:
    """The port of a web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def full() -> Iterator[int]:
    """A port that answers no connection: its backlog is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    with listener, socket.create_connection(listener.getsockname()):
        yield listener.getsockname()[1]


def port(_here: Any, _stack: ExitStack) -> dict[str, Any]:
    return {"port": free_port()}


def on(opened: Any) -> Any:
    """The port of a server that runs during the test."""
    return lambda _here, stack: {"port": stack.enter_context(opened())}


def parts(**given: Any) -> Any:
    """Fixed parts of the URL."""
    return lambda _here, _stack: given


NETWORK: dict[str, list[tuple[Any, type, str, str]]] = {
    "postgres": [
        (port, StoreUnavailable, "cannot be reached: Connection refused", ADDRESS),
        (parts(host="db.invalid"), StoreUnavailable, "cannot be reached: failed to resolve host", HOST),
        (lambda _, stack: {"port": stack.enter_context(silent()), "connect_timeout": 2}, StoreUnavailable,
         "cannot be reached: connection timeout expired", ROUTE),
        (parts(sslmode="require"), StoreUnusable,
         "cannot be reached: server does not support SSL, but SSL was required", "look at sslmode in the URL"),
    ],
    "mongodb": [
        (port, StoreUnavailable, "cannot be reached: Connection refused", ADDRESS),
        (parts(host="db.invalid"), StoreUnavailable, "cannot be reached: ", HOST),
        (on(silent), StoreUnavailable, NO_REASON, ROUTE),
        (on(full), StoreUnavailable, NO_REASON, ROUTE),
        (on(web), StoreUnavailable, "does not speak MongoDB's protocol", ADDRESS),
        (parts(tls="true"), StoreUnusable, "cannot be reached: ", TLS),
    ],
    "redis": [
        (port, StoreUnavailable, "cannot be reached: Connection refused", ADDRESS),
        (parts(host="db.invalid"), StoreUnavailable, "cannot be reached: ", HOST),
        (on(silent), StoreUnavailable, "cannot be reached: Timeout", ROUTE),
        (on(web), StoreUnusable, "Protocol", ADDRESS),
        (parts(scheme="rediss"), StoreUnavailable, "cannot be reached: ", f"{ROUTE}; or does it not speak TLS?"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "build", "error", "reason", "hint"), each(NETWORK))
def test_an_unreachable_server_is_reported_with_a_hint(
    plain: Any, kind: str, build: Any, error: type, reason: str, hint: str
) -> None:
    with ExitStack() as stack:
        given = build(plain, stack)
        scheme = given.pop("scheme", "")
        url = plain.url(**given)
        url = f"{scheme}://{url.partition('://')[2]}" if scheme else url
        found = refusal(url)
    place = {name: value for name, value in given.items() if name in ("host", "port")}
    at = plain.at(**({"user": "root"} if kind == "mongodb" else {}), **place).partition("?")[0]
    at = f"{scheme}://{at.partition('://')[2]}" if scheme else at
    assert (type(found), found.hint) == (error, hint.format(product=PRODUCTS[kind]))
    assert found.message.startswith(at)
    assert reason in found.message
    assert "_ssl.c" not in found.message
    assert "\n" not in f"{found.message}{found.hint}"
    assert secret_of(url, told(found), plain) is None


LOGINS: dict[str, list[tuple[dict[str, Any], str, str, str]]] = {
    "postgres": [
        ({"password": PASSWORD}, "postgres", ': password authentication failed for user "postgres"', LOGIN),
        ({"user": "nobody"}, "nobody", ': password authentication failed for user "nobody"', LOGIN),
        ({"password": None}, "postgres", ": no password supplied", LOGIN),
        ({"database": "nowhere"}, "postgres", ': database "nowhere" does not exist',
         "look at the name of the database, or let an administrator run: CREATE DATABASE nowhere"),
    ],
    "mongodb": [
        ({"password": "s3cret"}, "root", ": Authentication failed", MONGO_LOGIN.format("admin")),
        ({"user": "nobody"}, "nobody", ": Authentication failed", MONGO_LOGIN.format("admin")),
        ({"authSource": "elsewhere"}, "root", ": Authentication failed", MONGO_LOGIN.format("elsewhere")),
        ({"authSource": None}, "root", ": Authentication failed", MONGO_LOGIN.format("{name}")),
        ({"user": None}, "", ": command find requires authentication",
         "name a user and a password in the URL: mongodb://user:password@host/database"),
        ({"authMechanism": "PLAIN", "authSource": "$external"}, "root",
         ": Received authentication for mechanism PLAIN which is not enabled", "look at authMechanism in the URL"),
    ],
    "redis": [
        ({"password": "s3cret"}, "", ": ", LOGIN),
        ({"user": "ada", "password": "open-barley"}, "ada", ": ", LOGIN),
        ({"user": "nobody"}, "nobody", ": ", LOGIN),
        ({"password": None}, "", "uthentication required", LOGIN),
        ({"database": 99}, "", "DB index is out of range",
         "look at the number after the / of the URL; a cluster has only /0"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "user", "reason", "hint"), each(LOGINS))
def test_a_refused_login_is_reported_with_a_hint(
    plain: Any, kind: str, given: dict[str, Any], user: str, reason: str, hint: str
) -> None:
    url = plain.url(**{name: value for name, value in given.items() if value is not None})
    if given.get("password", "") is None:
        url = url.replace(":open%2Fsesame", "").replace("//@", "//")
    if given.get("user", "") is None:
        url = plain.at().replace("root@", "")
    if given.get("authSource", "") is None:
        url = url.partition("?")[0]
    place = {"database": given["database"]} if "database" in given else {}
    found = refusal(url, StoreUnusable, patience=5.0)
    assert found.message.startswith(plain.at(user, **place).replace("//@", "//"))
    assert reason in found.message
    assert found.hint == hint.replace("{name}", getattr(plain, "name", ""))
    assert secret_of(url, told(found), plain) is None


@pytest.mark.parametrize("kind", DRIVERS)
def test_the_command_line_ends_with_5_and_one_line(queuectl: CommandLine, plain: Any, kind: str) -> None:
    url = plain.url(port=free_port())
    error = queuectl.json("--store", url, "doctor", "--create", code=5)["error"]
    hint = ADDRESS.format(product=PRODUCTS[kind])
    assert (error["code"], error["hint"]) == ("store_unavailable", hint)
    assert error["message"].endswith(" cannot be reached: Connection refused")
    assert queuectl.err == f"queuectl: {error['message']} ({hint})\n"
    queuectl("--store", url, "-v", "status", code=5)
    assert secret_of(url, queuectl.err, plain) is None


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_ends_with_5(queuectl: CommandLine, plain: Any, words: tuple[str, ...]) -> None:
    assert queuectl("--store", plain.url(port=free_port()), *words, code=5) == ""
    assert "Connection refused" in queuectl.err
    assert queuectl.err.count("\n") == 1


SOCKETS: dict[str, list[tuple[str, str]]] = {
    "postgres": [
        ("postgresql://postgres@/jobs?host={path}",
         'postgresql://postgres@{path}/jobs cannot be reached: "{path}/.s.PGSQL.5432": No such file or directory'),
    ],
    "mongodb": [
        ("mongodb://{encoded}%2Fmongodb-27017.sock/jobs",
         "mongodb://{encoded}%2Fmongodb-27017.sock/jobs cannot be reached: No such file or directory"),
    ],
    "redis": [],
}  # fmt: skip
"""Redis is reached over TCP alone."""


@pytest.mark.parametrize(("kind", "url", "message"), each(SOCKETS))
def test_a_missing_socket_is_reported_with_a_hint(tmp_path: Path, kind: str, url: str, message: str) -> None:
    path = {"path": str(tmp_path), "encoded": str(tmp_path).replace("/", "%2F")}
    found = refusal(url.format(**path), StoreUnavailable)
    assert (found.message, found.hint) == (message.format(**path), SOCKET.format(product=PRODUCTS[kind]))


class TestMongo:
    """The waiting times of the driver, and host names that need a name server."""

    CLUSTER = "mongodb+srv://ada:s3cret@cluster.example.net/jobs"

    @pytest.mark.parametrize("kind", ["mongodb"])
    def test_a_refused_connection_fails_before_the_timeout(
        self, plain: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connect, "FIRST_LOOK", FIRST_LOOK)
        begun = time.monotonic()
        refusal(plain.url(port=free_port()), StoreUnavailable, patience=10.0)
        assert time.monotonic() - begun < 6

    @pytest.mark.parametrize("kind", ["mongodb"])
    def test_an_unavailable_name_server_is_reported(
        self, plain: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nobody(*_words: object, **_options: object) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        with monkeypatch.context() as network:
            network.setattr(socket, "getaddrinfo", nobody)
            found = refusal(plain.url(host="db"), StoreUnavailable)
        said = f"{plain.at(host='db')} cannot be reached: Temporary failure in name resolution"
        assert (found.message, found.hint) == (said, HOST)

    def test_an_unknown_name_of_a_cluster_is_reported(self) -> None:
        with nameserver():
            found = refusal(self.CLUSTER, StoreUnavailable)
        said = "cannot be reached: The DNS query name does not exist: _mongodb._tcp.cluster.example.net"
        assert (found.message, found.hint) == (f"mongodb+srv://ada@cluster.example.net/jobs {said}", HOST)
        assert "s3cret" not in told(found)

    def test_a_silent_name_server_is_reported(self) -> None:
        with nameserver(silent=True):
            found = refusal(self.CLUSTER, StoreUnavailable)
        assert found.hint == HOST
        assert "s3cret" not in told(found)
