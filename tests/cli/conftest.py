"""Runs the command line inside this process: fast, and with real parts except the terminal."""

import io
import json
import os
import pty
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from cli.acting import Actor
from cli.doors import REASONS
from cli.mongo import MongoPlace
from cli.postgres import Database, Kept, secret_of
from cli.redis import ArchivedPlace, RedisPlace
from http_server import serving
from launcher import Launched, Launcher, needs_interpreter
from queuectl.cli.main import main
from queuectl.domain.token import SCOPES
from queuectl.http.caller import Caller
from queuectl.http.client import waiting
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.driver.notifier import Subscription
from queuectl.store.memory import MemoryStore
from queuectl.store.sqlite import SqliteStore
from servers.mongo import MongoServer
from servers.postgres import PostgresServer
from servers.proxy import Proxy
from servers.redis import RedisServer

Ended = subprocess.CompletedProcess[bytes]


class CommandLine:
    """Runs `queuectl` words in a home of its own."""

    def __init__(
        self,
        root: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        launcher: Launcher | None = None,
    ) -> None:
        self.root = root
        self._launcher = launcher
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.err = ""

    def __call__(self, *words: str, code: int = 0, input: str | bytes | None = None) -> str:
        """One command line; its stdout, its stderr in `err`. Fails unless it ends with `code`."""
        found, out = self.run(words, input)
        assert found == code, f"{words} ended with {found}: {out!r} {self.err!r}"
        return out

    def code(self, *words: str) -> int:
        """The exit code of one command line, whichever it is."""
        return self.run(words, None)[0]

    def run(self, words: Sequence[str], input: str | bytes | None = None) -> tuple[int, str]:
        """One command line; its exit code and its stdout."""
        data = input.encode() if isinstance(input, str) else input or b""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        self._capsys.readouterr()
        found = main(list(words))
        out, self.err = self._capsys.readouterr()
        return found, out

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """One command with --json: exactly one document on stdout."""
        document = json.loads(self(*words, "--json", code=code))
        assert document["schema"] == 1
        return dict(document)

    @property
    def store_path(self) -> Path:
        """The file of the store that the commands use."""
        return self.root / "data" / "queuectl" / "queue.db"

    def store(self) -> SqliteStore:
        """The store that the commands use."""
        return SqliteStore(str(self.store_path))

    def enqueue(self, *words: str) -> str:
        """Enqueue one job and return its id."""
        return self("enqueue", *words).strip()

    def job(self, reference: str) -> dict[str, Any]:
        """A job as `show --json` shows it."""
        return dict(self.json("show", reference)["job"])

    def lines(self, *words: str, code: int = 0, input: str | bytes | None = None) -> list[str]:
        """One command line; the lines of its stdout."""
        return self(*words, code=code, input=input).splitlines()

    def process(
        self, *words: str, shell: str | None = None, interpreter: bool = False, **variables: str
    ) -> Ended:
        """Run the command in its own process; with `shell`, inside this pipeline, in which `$Q` is the command.

        `interpreter`: start the command with a new interpreter as a child of this process, never with the launcher.
        """
        if self._launcher and shell is None and not interpreter and not needs_interpreter(words, variables):
            return self._launcher.run(words, {**os.environ, **variables}, Path.cwd())
        command = [sys.executable, "-m", "queuectl", *words]
        script = ["/bin/sh", "-c", shell.replace("$Q", shlex.join(command))] if shell else command
        variables = {"PYTHONPATH": os.pathsep.join(sys.path), **os.environ, **variables}
        return subprocess.run(
            script, env=variables, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )

    def on_terminal(self, *words: str, code: int = 0, typed: bytes = b"", **variables: str) -> str:
        """The output on a terminal of 100 columns, with colours and with the echo of the typed input."""
        ours, theirs = pty.openpty()
        os.write(ours, typed)
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        given = {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color", **os.environ, **variables}
        process: Launched | subprocess.Popen[bytes]
        if self._launcher and not needs_interpreter(words, variables):
            process = self._launcher.start(words, given, Path.cwd(), (theirs, theirs, theirs))
        else:
            command = [sys.executable, "-m", "queuectl", *words]
            process = subprocess.Popen(command, env=given, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        text = b"".join(iter(lambda: _read(ours), b""))
        os.close(ours)
        assert process.wait() == code, text
        return text.decode().replace("\r\n", "\n")

    def ids(self) -> set[str]:
        """The ids of all jobs."""
        return {job["id"] for job in self.json("list", "--all")["jobs"]}


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # EIO: no process has the terminal open any more
        return b""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of the command line twice: on a store, and through a server before the same store."""
    mark = metafunc.definition.get_closest_marker("direct")
    if mark and mark.args[0] not in REASONS:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: doors.py has the reasons for a mark `direct`")
    if "door" in metafunc.fixturenames and not mark:
        metafunc.parametrize("door", ("sqlite", "http"), indirect=True)


class Anyone:
    """Lets everybody do everything."""

    def known_caller(self, _request: Request) -> Caller:
        return Caller("local:tester", frozenset(SCOPES))

    def caller(self, request: Request) -> Caller:
        return self.known_caller(request)

    def admits(self, _caller: Caller) -> bool:
        return True


@pytest.fixture(scope="session")
def front_door() -> Iterator[ServerState]:
    """A server in a thread of this process, for all tests; each test gives it a queue. `public_url` is its URL."""
    state = ServerState(LocalQueue(MemoryStore(), server_sources()), Anyone(), lambda host: True)
    with serving(state) as port:
        state.public_url = f"http://127.0.0.1:{port}"
        yield state


def server_sources() -> Sources:
    """The sources of the server's settings: what a test sets later is only the client's."""
    sources = Sources({}, None, lambda text: None)
    assert sources.environment
    assert sources.local
    return sources


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the tables of a store, to be copied: a copy costs a quarter of a migration, and no fsync."""
    path = tmp_path_factory.mktemp("empty") / "queue.db"
    with closing(SqliteStore(str(path))) as store:
        store.migrate()
    return path


@pytest.fixture
def door(request: pytest.FixtureRequest) -> str:
    """How the command line of a test reaches its store: `sqlite` directly, `http` through a server."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def queuectl(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    door: str,
    request: pytest.FixtureRequest,
    launcher: Launcher | None,
) -> Iterator[CommandLine]:
    """The command line, with nothing of the environment but what a test sets."""
    enter(tmp_path, monkeypatch)
    line = CommandLine(tmp_path, capsys, monkeypatch, launcher)
    if door == "sqlite":
        yield line
        return
    place = line.store_path
    place.parent.mkdir(parents=True, mode=0o700)
    shutil.copy(request.getfixturevalue("empty_store"), place)
    with through(request.getfixturevalue("front_door"), line, monkeypatch):
        yield line


def enter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this directory the home of the commands, with a working directory in it."""
    for name in list(os.environ):
        if name.startswith("QUEUECTL_") or name in ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "NO_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    work = home / "work"
    work.mkdir()
    monkeypatch.chdir(work)


@contextmanager
def through(server: ServerState, line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the server before the store of this home, and let the commands use it."""
    store = line.store()
    store.migrate()
    server.queue = LocalQueue(store, server_sources())
    monkeypatch.setenv("QUEUECTL_STORE", server.public_url)
    yield
    server.queue.close()


OnWait = Callable[[Callable[[], object]], None]


@pytest.fixture
def on_wait(door: str, monkeypatch: pytest.MonkeyPatch) -> OnWait:
    """Lets a function run in place of each wait of a command: for a change of the store, or for a late answer."""

    def replace_waits(act: Callable[[], object]) -> None:
        if door == "sqlite":
            monkeypatch.setattr(Subscription, "wait", lambda _subscription, _timeout: bool(act()) or True)
            return
        ask = waiting.ask

        def ask_at_once(channel: Any, ids: Sequence[str], seconds: float, any_one: bool) -> Any:
            if seconds:
                act()
            return ask(channel, ids, 0, any_one)

        monkeypatch.setattr(waiting, "ask", ask_at_once)

    return replace_waits


def interrupt() -> None:
    """What Ctrl+C does to a command that waits."""
    raise KeyboardInterrupt


@pytest.fixture
def actor(queuectl: CommandLine) -> Iterator[Actor]:
    """A worker that the test controls."""
    store = queuectl.store()
    yield Actor(store)
    store.close()


@pytest.fixture
def database(own_postgres: PostgresServer) -> Iterator[Database]:
    """A place in a PostgreSQL with an administrator's rights."""
    database = Database(own_postgres)
    yield database
    database.close()


Refused = Callable[..., None]


@pytest.fixture
def refused(queuectl: CommandLine, database: Database) -> Refused:
    """One command line that has to end like this: the line on stderr, and the document with --json."""
    return _refusing(queuectl, database)


@pytest.fixture
def place(own_mongo: MongoServer) -> Iterator[MongoPlace]:
    """A place in a MongoDB with an administrator's rights."""
    place = MongoPlace(own_mongo)
    yield place
    place.close()


@pytest.fixture
def turned_away(queuectl: CommandLine, place: MongoPlace) -> Refused:
    """The check of a refusal, for MongoDB."""
    return _refusing(queuectl, place)


@pytest.fixture
def queue(own_redis: RedisServer) -> Iterator[RedisPlace]:
    """A place in a Redis with an administrator's rights."""
    queue = RedisPlace(own_redis)
    yield queue
    queue.close()


@pytest.fixture
def archived(own_redis: RedisServer, place: MongoPlace, mongo_proxy: Proxy) -> Iterator[ArchivedPlace]:
    """A place in a Redis with an archive in a MongoDB."""
    archived = ArchivedPlace(own_redis, place, mongo_proxy)
    yield archived
    archived.close()


@pytest.fixture
def rejected(queuectl: CommandLine, queue: RedisPlace) -> Refused:
    """Check that a command line ends with one line of this message and hint, and without a password, not even
    among the causes.
    """

    def check(
        url: str, *words: str, code: int = 5, kind: str = "store_unusable", says: str, hint: str
    ) -> None:
        given = ("--store", url, *(words or ("doctor", "--create")))
        error = queuectl.json(*given, code=code)["error"]
        assert error["code"] == kind
        assert says in error["message"]
        assert hint in error["hint"]
        assert queuectl.err == f"queuectl: {error['message']} ({error['hint']})\n"
        queuectl("-v", *given, code=code)
        assert [secret_of(url, text, queue) for text in (queuectl.err, str(error))] == [None, None]

    return check


def _refusing(queuectl: CommandLine, database: Kept) -> Refused:
    def check(
        url: str, *words: str, code: int = 5, kind: str = "store_unusable", message: str, hint: str
    ) -> None:
        document = queuectl.json("--store", url, *(words or ("doctor", "--create")), code=code)
        assert document["error"] == {"code": kind, "message": message, "hint": hint}
        assert queuectl.err == f"queuectl: {message} ({hint})\n"
        assert secret_of(url, queuectl.err, database) is None

    return check
