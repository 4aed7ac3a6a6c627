"""`queuectl worker start`: this process becomes a worker, or starts a worker in the background."""

import json
import os
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from queuectl import bootstrap, config, trust
from queuectl.cli import server_options
from queuectl.clock import random_bytes
from queuectl.config import Settings
from queuectl.domain.names import check_name
from queuectl.domain.quantity import of_option, parse_duration
from queuectl.domain.query import Filter, Page
from queuectl.errors import CommandFailed, InvalidInput, StoreUnavailable
from queuectl.service import registry, shapes

if TYPE_CHECKING:
    from argparse import Namespace

    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.cli.start_serving import Serving

MOST_SLOTS = 1000
ARCHIVE_PATIENCE = 3.0
"""Seconds for which the start of a worker waits for the archive."""


def start_options(parser: "Parser") -> None:
    """Add the arguments of `worker start`: the slots, the queues, the name, the end, and the background."""
    parser.add_argument("--count", "-c", metavar="N", default="1", help="commands at once (default 1)")
    parser.add_argument(
        "--queue", "-Q", metavar="Q", nargs="+", action="extend", help="only these queues (default: all)"
    )
    parser.add_argument("--name", metavar="NAME", help="its name in status (default: host and pid)")
    parser.flag("--detach", help="run in the background, with a log file")
    parser.flag("--drain", help="exit when no job is due, running or waiting for a retry")
    parser.add_argument(
        "--drain-timeout", metavar="D", help="after this time of draining, end the running commands"
    )
    parser.add_argument("--serve", metavar="HOST:PORT", help="an HTTP server beside the worker")
    group = parser.add_argument_group("the server of --serve, as with queuectl serve")
    server_options.add_rows(group, server_options.OF_WORKER)
    parser.flag("--clean-env", help="give commands a minimal environment instead of the worker's")
    parser.add_argument("--log-format", choices=("plain", "json"), help="the format of the log")
    disconnected = "while the store cannot be reached: commands continue, or end before their lease expires"
    parser.add_argument("--on-disconnect", choices=("keep", "stop"), help=disconnected)
    hangup = "when its terminal is closed (default: drain; ignore with --detach and under nohup)"
    parser.add_argument("--on-hangup", choices=("drain", "ignore"), help=hangup)
    parser.example("queuectl worker start --drain", "run the waiting jobs, then exit")
    parser.example("queuectl worker start --count 4", "up to four commands at once; Ctrl+C drains the worker")
    parser.example("queuectl worker start --count 2 --detach", "in the background")
    parser.example(
        "queuectl worker start --serve 127.0.0.1:7733", "with an HTTP server, as in: queuectl serve"
    )


def start(session: "Session") -> int:
    """Become a worker: this process turns into the holder. With --detach start a worker."""
    args = session.args
    count, drain_timeout = _slots(args.count), _drain_timeout(args.drain_timeout)
    serving = _serving(args)
    wanted = check_name("--name", args.name) if args.name else f"{os.uname().nodename}-{os.getpid()}"
    if sys.platform == "win32":
        raise CommandFailed(
            "a worker needs Linux, macOS or WSL", "run it there; the other commands work here"
        )
    session.refuse_remote(
        "worker start", "a worker needs the store itself: --store postgresql://… on that host"
    )
    if serving is not None:
        from queuectl.cli.start_serving import check_address

        check_address(serving, session.queue)
    settings = session.queue.settings()
    session.say_unused()
    session.queue.create()  # first, because the worker's directory lies beside it
    said = session.queue.describe()
    if said.archived:
        _ask_the_archive(session)
    document = _holder_config(session, settings, count, drain_timeout, _free_name(session, wanted))
    if serving is not None:
        from queuectl.cli.start_serving import started

        document["server"] = started(session, serving, document["agent"]["url"])
    session.say(f"queuectl: store {said.url} ({said.durability})")
    _warn(session, settings)
    session.close()
    return _start_detached(session, document) if args.detach else _become_holder(session, document)


def _serving(args: "Namespace") -> "Serving | None":
    """The server of --serve."""
    if not any(value for name, value in vars(args).items() if name.startswith("serve")):
        return None
    from queuectl.cli.start_serving import checked

    return checked(args)


def _warn(session: "Session", settings: Settings) -> None:
    if os.geteuid() == 0:
        session.say(
            "queuectl: this worker runs as root, so everybody who can enqueue can run commands as root here"
        )
    if settings.durability == "fast":
        session.say("queuectl: durability=fast: jobs may be lost with the power of this host")


def _ask_the_archive(session: "Session") -> None:
    """Connect to the archive before the worker starts. Without this a wrong password is noticed only much later.

    Raises StoreUnusable for a fault that needs a person. An archive that cannot be reached is only reported.
    """
    with closing(bootstrap.open_queue(session.sources, "raise", patience=ARCHIVE_PATIENCE)) as queue:
        try:
            queue.list(Filter(states=frozenset(("completed",))), Page(limit=1))
        except StoreUnavailable as unreachable:
            session.say(f"queuectl: {unreachable.message}; ended jobs wait in the queue")


def _free_name(session: "Session", wanted: str) -> str:
    """The given name, or a similar one if a live worker has this name."""
    from queuectl.worker.host import process_table

    host = os.uname().nodename
    live = (item.worker for item in session.queue.workers() if item.state != "lost")
    others = {
        worker.name: worker
        for worker in live
        if not process_table.has_died(worker.host, worker.holder_pid, worker.boot_id, worker.directory)
    }
    name = registry.free_name(wanted, others, host=host, pid=os.getpid(), id=random_bytes(4).hex())
    if name != wanted:
        other = others[wanted]
        session.say(
            f"queuectl: a worker on {other.host} already has the name {wanted}; this worker is called {name}"
        )
    return name


def _slots(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MOST_SLOTS:
        raise InvalidInput(f"--count: {text!r} is not a count from 1 to {MOST_SLOTS}")
    return int(text)


def _drain_timeout(text: str | None) -> float | None:
    return of_option("--drain-timeout", parse_duration, text).total_seconds() if text else None


def _holder_config(
    session: "Session", settings: Settings, count: int, drain_timeout: float | None, name: str
) -> dict[str, Any]:
    args = session.args
    directory, url = bootstrap.worker_directory(session.store_url), bootstrap.absolute(session.store_url)
    bootstrap.refuse_shared(url)
    _make_private(directory)
    log_format = "json" if args.json else settings.log_format
    return {
        "worker": {"id": random_bytes(16).hex(), "name": name, "host": os.uname().nodename},
        "count": count,
        "directory": directory,
        "log_format": log_format,
        "drain_timeout": drain_timeout,
        "on_hangup": args.on_hangup or ("ignore" if args.detach else None),
        "ready_fd": None,
        "server": None,
        "one_host": bootstrap.is_local(session.store_url),
        "commands": {"store": _store_for_commands(url), "clean_env": bool(args.clean_env)},
        "agent": {
            "url": url,
            "directory": directory,
            "queues": [session.queue.check_queue(queue) for queue in dict.fromkeys(args.queue or [])],
            "drain": bool(args.drain),
            "log_format": log_format,
            "quiet": bool(args.quiet),
            "verbose": bool(args.verbose),
            "on_disconnect": settings.on_disconnect,
            "options": _own_options(settings),
        },
    }


def _make_private(directory: str) -> None:
    try:
        os.close(trust.private_directory(directory))
    except trust.Untrusted as error:
        raise CommandFailed(f"the worker cannot create its files: {error.message}", error.hint) from error
    except OSError as error:
        raise CommandFailed(
            f"the worker cannot create its files in {directory}: {error.strerror}",
            f"check its owner and mode: ls -ld {trust.quoted(directory)}",
        ) from error


def _store_for_commands(url: str) -> str | None:
    """The store that `queuectl` inside a job uses. None if the URL contains a password: a job must not see it."""
    return None if bootstrap.carries_secret(url) else url


def _own_options(settings: Settings) -> dict[str, str]:
    """The settings from flags, variables and files, as text. In the agent they override the store's settings."""
    own = {"default", "the store's settings"}
    return {
        key: settings.text(key)
        for key, origin in settings.origins.items()
        if origin not in own and key in config.OPTIONS
    }


def _become_holder(session: "Session", document: dict[str, Any]) -> int:
    session.out.flush()
    session.err.flush()
    read = _pipe_with(document)
    for descriptor in (read, *_sockets_in(document)):
        os.set_inheritable(descriptor, True)
    os.execv(sys.executable, [*_HOLDER, str(read)])  # noqa: S606  the holder keeps this pid


def _start_detached(session: "Session", document: dict[str, Any]) -> int:
    """Start the worker in the background, and wait until it is registered or a fault is reported."""
    worker = document["worker"]
    log = os.path.join(document["directory"], f"{worker['id']}.log")
    process, answer = _spawn(document, log)
    ready, _, url = answer.partition(" ")
    if ready != "ready":
        raise CommandFailed(f"the worker did not start: {answer or 'it exited'}", f"see {log}")
    shown = {"id": worker["id"], "name": worker["name"], "holder_pid": process.pid, "log": log}
    served = f", listening on {url}" if url else ""
    if url:
        shown["url"] = url
    session.did(f"worker {worker['name']} started, pid {process.pid}")
    process.returncode = 0  # prevents the warning of `subprocess` that the child still runs
    if session.json:
        session.emit(shapes.document(worker=shown))
    else:
        session.print(f"worker {worker['name']} started, pid {process.pid}, log {log}{served}")
    return 0


def _spawn(document: dict[str, Any], log: str) -> tuple["subprocess.Popen[bytes]", str]:
    """Start the holder in its own session. Returns the process and its first line: `ready` or a fault."""
    ready_read, ready_write = os.pipe()
    document["ready_fd"] = ready_write
    read = _pipe_with(document)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    process = subprocess.Popen(
        [*_HOLDER, str(read)],
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=file,
        start_new_session=True,
        pass_fds=(read, ready_write, *_sockets_in(document)),
    )
    for fd in (file, read, ready_write, *_sockets_in(document)):
        os.close(fd)
    with open(ready_read, "rb") as ready:
        return process, ready.readline().decode("utf-8", "replace").strip()


def _sockets_in(document: dict[str, Any]) -> list[int]:
    """The file descriptors of the listening sockets that the holder inherits and passes to its server."""
    return document["server"]["sockets"] if document["server"] else []


_HOLDER = (sys.executable, "-P", "-m", "queuectl.worker.holder", "--config-fd")


def _pipe_with(document: dict[str, Any]) -> int:
    """The read end of a pipe with the document. A pipe, because arguments and files must not contain a password."""
    text = json.dumps(document).encode()
    if len(text) > 60_000:
        raise InvalidInput("the configuration of this worker is too long", "give fewer queues")
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    return read
