"""The file by which a server on a loopback address gives its local token to programs of the same user.

The file is `$XDG_RUNTIME_DIR/queuectl/serve-PORT.json`, or in `$XDG_STATE_HOME` if there is no such directory. The mode
0600 keeps the token from other users. A file that a killed server left behind is recognized by its process: another
user may listen at the port by then, and must not get the requests of this user.
"""

import os
import re
import stat
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from queuectl import config
from queuectl.worker.host import process_table

_NAME = re.compile(r"serve-(\d{1,5})\.json")


class LocalServer(Struct, frozen=True, kw_only=True):
    """A server of this user on this host.

    hosts  the addresses at which it listens
    start  when the process started, in ticks since the boot: with the pid it identifies the process
    boot   the boot of the host, since the file may survive it
    """

    schema: int = 1
    url: str
    hosts: tuple[str, ...]
    port: int
    pid: int
    start: int
    boot: str
    token: str

    @property
    def lives(self) -> bool:
        """Whether the process that wrote the file is running."""
        if not process_table.is_holder(self.pid, self.boot):
            return False
        process = process_table.look(self.pid)
        return process is None or process.start == self.start


def directory() -> str | None:
    """Where a server writes its file. None if this user has no directory for files of its own."""
    return next(iter(_directories()), None)


def path(directory: str, port: int) -> str:
    """The file of the server at a port."""
    return os.path.join(directory, f"serve-{port}.json")


def at_port(port: int) -> LocalServer | None:
    """The server of this user that listens at a port of a loopback address."""
    found = (_read(path(directory, port)) for directory in _readable_directories())
    return next((server for server in found if server is not None and server.port == port), None)


def all_servers() -> list[LocalServer]:
    """The servers of this user that run on this host, by port."""
    return [server for port in sorted(_ports()) if (server := at_port(port)) is not None]


def _ports() -> set[int]:
    names = [
        name
        for directory in _readable_directories()
        if os.path.isdir(directory)
        for name in os.listdir(directory)
    ]
    return {int(found[1]) for name in names if (found := _NAME.fullmatch(name))}


def _directories() -> Iterator[str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        yield os.path.join(runtime, "queuectl")
    state = config.user_directory("XDG_STATE_HOME", ".local/state")
    if state is not None:
        yield os.path.join(state, "queuectl")


def _readable_directories() -> Iterator[str]:
    """The directories of servers; also the usual one, since cron does not set `XDG_RUNTIME_DIR`."""
    yield from _directories()
    if "XDG_RUNTIME_DIR" not in os.environ:
        yield f"/run/user/{os.geteuid()}/queuectl"


def _read(path: str) -> LocalServer | None:
    """The server of a file; None if there is none, it is not a private file of this user, or its process has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return None
        try:
            server = msgspec.json.decode(file.read(65536), type=LocalServer)
        except msgspec.MsgspecError:
            return None
    return server if server.lives else None
