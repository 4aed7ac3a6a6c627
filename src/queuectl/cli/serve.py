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
from queuectl.domain.quantity import parse_duration, parse_port, parse_size
from queuectl.errors import InvalidInput, MissingExtra, QueuectlError
from queuectl.service.settings import Sources
from queuectl.service.shapes import document

if TYPE_CHECKING:
    from argparse import Namespace

    from queuectl.cli.parser import Parser
    from queuectl.cli.session import Session
    from queuectl.http.assembly import Listening, Options
    from queuectl.http.supervision import Supervision

PORT = 7733
LIBRARIES = frozenset(("starlette", "uvicorn", "httptools", "uvloop", "anyio", "prometheus_client"))


def serve_options(parser: "Parser") -> None:
    """Add the arguments of `serve`: the addresses, the allowed hosts, and the limits."""
    _add_places(parser)
    # for the holder of a worker alone: the descriptor of its channel to this server
    parser.add_argument("--supervised", type=int, help=argparse.SUPPRESS)
    parser.flag("--read-only", help="refuse every change")
    parser.add_argument("--anonymous", choices=("view",), help="let everybody look, without a token")
    parser.flag("--insecure-http", help="listen beyond this machine without encryption")
    parser.flag("--access-log", help="log each request")
    for name, metavar, help in VALUES:
        parser.add_argument(name, metavar=metavar, help=help)
    for name, metavar, help in LISTS:
        parser.add_argument(name, metavar=metavar, nargs="+", action="extend", default=[], help=help)
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


VALUES = (
    ("--socket", "PATH", "listen at a Unix socket too: only you can open it, without a token"),
    ("--public-url", "URL", "its URL behind a reverse proxy"),
    ("--tls-cert", "FILE", "certificate with its chain (PEM)"),
    ("--tls-key", "FILE", "the key of the certificate (PEM)"),
    ("--job-cwd", "DIR", "where jobs run that name no directory (default: your home)"),
    ("--request-timeout", "D", "longest time of a request (default 30s)"),
    ("--max-body", "SIZE", "longest body of a request (default 16MiB)"),
    ("--max-bulk", "SIZE", "longest body of JSON lines (default 1GiB)"),
)
LISTS = (
    ("--trust-proxy", "ADDRESS", "proxies whose X-Forwarded-For is believed"),
    ("--allow-host", "NAME", "further names by which clients call it"),
)


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
    with _extra():
        from queuectl.http.assembly import serve
    options = _options(session.args)
    session.say_unused()
    if os.geteuid() == 0:
        session.say("queuectl: this server runs as root")
    _log_to_stderr(verbose=session.args.verbose)
    serve(_sources(session), options, announce, supervision=supervision)
    return 0


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


def _options(args: "Namespace") -> "Options":
    from queuectl.http.assembly import Options

    if (args.tls_cert is None) != (args.tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key need each other", "give both")
    host = None if args.host == "none" else args.host
    return Options(
        host=host,
        port=parse_port(args.port, option="--port: "),
        socket=_socket(args.socket) if args.socket or host is None else None,
        tls=(args.tls_cert, args.tls_key) if args.tls_cert else None,
        public_url=args.public_url or "",
        trust_proxy=tuple(args.trust_proxy),
        allow_host=tuple(args.allow_host),
        insecure_http=args.insecure_http,
        anonymous=args.anonymous is not None,
        read_only=args.read_only,
        job_cwd=_directory(args.job_cwd),
        request_timeout=parse_duration(args.request_timeout or "30s").total_seconds(),
        max_body=parse_size(args.max_body or "16MiB"),
        max_bulk=parse_size(args.max_bulk or "1GiB"),
        access_log=args.access_log,
    )


def _socket(given: str | None) -> str:
    """The path of the Unix socket. The default is where the system keeps files of running programs of one user."""
    if given:
        return os.path.abspath(given)
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(base):
        raise InvalidInput(
            "there is no place for the Unix socket", "set XDG_RUNTIME_DIR, or give --socket PATH"
        )
    return os.path.join(base, "queuectl", "serve.sock")


def _directory(given: str | None) -> str:
    """The directory in which jobs run whose request names none."""
    if given is None:
        home = os.path.expanduser("~")
        return home if os.path.isdir(home) else "/"
    if not os.path.isdir(given):
        raise InvalidInput(f"--job-cwd: {given!r} is no directory")
    return os.path.abspath(given)


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
