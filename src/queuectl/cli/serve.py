"""`queuectl serve`: an HTTP server in front of the store."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from shlex import quote
from typing import TYPE_CHECKING

from queuectl import bootstrap
from queuectl.cli import server_options
from queuectl.domain.quantity import parse_port
from queuectl.errors import MissingExtra, QueuectlError
from queuectl.service.settings import Sources
from queuectl.service.shapes import document

if TYPE_CHECKING:
    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.http.assembly import Listening
    from queuectl.http.supervision import Supervision

PORT = 7733
LIBRARIES = frozenset(("starlette", "uvicorn", "httptools", "uvloop", "anyio", "prometheus_client"))


def serve_options(parser: "Parser") -> None:
    """Add the arguments of `serve`: the addresses, the allowed hosts, and the limits."""
    _add_places(parser)
    # for the holder of a worker alone: the descriptor of its channel to this server
    parser.add_argument("--supervised", type=int, help=argparse.SUPPRESS)
    server_options.add_rows(parser)
    parser.example("queuectl serve", f"on http://127.0.0.1:{PORT}, until Ctrl+C")
    parser.example("queuectl serve --port 0 --read-only", "on a free port; nobody changes anything")
    parser.example(
        "queuectl serve --host none --socket ~/queuectl/serve.sock",
        "on a Unix socket alone: you need no token",
    )


def _add_places(parser: "Parser") -> None:
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="where it listens (default 127.0.0.1); none: a Unix socket alone",
    )
    parser.add_argument("--port", metavar="N", default=str(PORT), help=f"default {PORT}; 0 takes a free one")


def serve(session: "Session") -> int:
    """Run the HTTP server until a signal, or the worker that started it, ends the process."""
    session.refuse_remote("serve", "a server needs the store itself, for example --store postgresql://…")
    if session.args.supervised is None:
        return _serve(session, lambda listening: _announce(session, listening))
    from queuectl.http.supervision import Supervision

    supervision = Supervision(session.args.supervised)
    try:
        return _serve(session, supervision.announce, supervision)
    except QueuectlError as error:
        supervision.refuse(error)
        return error.exit_code


def _serve(
    session: "Session", announce: Callable[["Listening"], None], supervision: "Supervision | None" = None
) -> int:
    args = session.args
    host, port = None if args.host == "none" else args.host, parse_port(args.port, option="--port: ")
    options = server_options.parsed(host, port, server_options.given(args))
    with _extra():
        from queuectl.http.assembly import serve
    session.say_unused()
    _log_to_stderr(verbose=args.verbose)
    serve(
        _sources(session),
        options,
        lambda listening: _begin(session, announce, listening),
        supervision=supervision,
    )
    return 0


def _begin(session: "Session", announce: Callable[["Listening"], None], listening: "Listening") -> None:
    """Announce a server that accepts connections. A warning before that would also precede a refused option."""
    if os.geteuid() == 0:
        session.say("queuectl: this server runs as root")
    announce(listening)


def require_extra() -> None:
    """Raise MissingExtra if a library of the server is not installed. Imports none of them."""
    for name in sorted(LIBRARIES):
        if find_spec(name) is None:
            raise missing_library(name)


@contextmanager
def _extra() -> Iterator[None]:
    """Translate a failed import of a library that only the server needs."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        raise missing_library(error.name) from error


def missing_library(library: str | None) -> MissingExtra:
    """The error for a library of the extra `http` that is not installed."""
    return MissingExtra(
        f"the server needs {library}, which is not installed",
        f"run: {quote(sys.executable)} -m pip install 'queuectl[http]'",
    )


def _sources(session: "Session") -> Sources:
    """The sources of this call, with the store as an absolute URL: the server changes its working directory."""
    sources = session.sources
    if sources.given_url is not None:
        sources.given_url = bootstrap.absolute(sources.given_url)  # a cached property
    return sources


def _announce(session: "Session", listening: "Listening") -> None:
    if session.json:
        said = document(url=listening.url, socket=listening.socket, pid=os.getpid(), fault=listening.fault)
        session.emit(said)
    else:
        places = [listening.url, listening.socket and f"http+unix://{listening.socket}"]
        warning = f" (the store does not answer yet: {listening.fault})" if listening.fault else ""
        session.print(f"listening on {' and '.join(place for place in places if place)}{warning}")
    session.out.flush()


def _log_to_stderr(*, verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    audit, lines = logging.getLogger("queuectl.audit"), logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter("%(message)s"))  # each line is one JSON document
    audit.addHandler(lines)
    audit.propagate = False
    # uvicorn warns of each request that is not HTTP: whoever sends many of them would fill the log.
    logging.getLogger("uvicorn").setLevel(logging.INFO if verbose else logging.ERROR)
