"""The options of a server: `queuectl serve --NAME`, and `queuectl worker start --serve-NAME`. One table makes both."""

import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from queuectl.domain.quantity import of_option, parse_duration, parse_size
from queuectl.errors import InvalidInput

if TYPE_CHECKING:
    from queuectl.http.options import Options

Given = Mapping[str, Any]
"""The values of all rows, by the names of the rows."""

OF_WORKER = "serve-"
"""Stands before the names in `worker start`."""


class Row(NamedTuple):
    """One option. A `choice` has the only value that its metavar names."""

    name: str
    form: Literal["flag", "choice", "value", "path", "list"]
    metavar: str
    help: str


TABLE = (
    Row("read-only", "flag", "", "refuse every change"),
    Row("anonymous", "choice", "view", "let everybody look, without a token"),
    Row("insecure-http", "flag", "", "listen beyond this machine without encryption"),
    Row("access-log", "flag", "", "log each request"),
    Row("socket", "path", "PATH", "listen at a Unix socket too: only you can open it, without a token"),
    Row("public-url", "value", "URL", "its URL behind a reverse proxy"),
    Row("tls-cert", "path", "FILE", "certificate with its chain (PEM)"),
    Row("tls-key", "path", "FILE", "the key of the certificate (PEM)"),
    Row("job-cwd", "path", "DIR", "where jobs run that name no directory (default: your home)"),
    Row("request-timeout", "value", "D", "longest time of a request (default 30s)"),
    Row("max-body", "value", "SIZE", "longest body of a request (default 16MiB)"),
    Row("max-bulk", "value", "SIZE", "longest body of JSON lines (default 1GiB)"),
    Row("trust-proxy", "list", "ADDRESS", "proxies whose X-Forwarded-For is believed"),
    Row("allow-host", "list", "NAME", "further names by which clients call it"),
)


class _Takes(Protocol):
    """A parser, or a group of its options."""

    def add_argument(self, name: str, **options: Any) -> object: ...


def add_rows(parser: _Takes, prefix: str = "") -> None:
    """Add all options of the table to a parser."""
    for row in TABLE:
        about: dict[str, Any] = {"help": row.help}
        if row.form == "flag":
            about |= {"action": "store_true"}
        elif row.form == "choice":
            about |= {"choices": (row.metavar,)}
        elif row.form == "list":
            about |= {"metavar": row.metavar, "nargs": "+", "action": "extend", "default": []}
        else:
            about |= {"metavar": row.metavar}
        parser.add_argument(f"--{prefix}{row.name}", **about)


def given(args: Namespace, prefix: str = "") -> Given:
    """The values of all options. Paths are absolute: a server changes its working directory."""
    found = {row.name: getattr(args, f"{prefix}{row.name}".replace("-", "_")) for row in TABLE}
    paths = {row.name for row in TABLE if row.form == "path"}
    return {
        name: os.path.abspath(value) if value and name in paths else value for name, value in found.items()
    }


def words(values: Given) -> list[str]:
    """The options as arguments of `queuectl serve`."""
    found = list[str]()
    for row in TABLE:
        value = values[row.name]
        if row.form == "flag":
            found += [f"--{row.name}"] if value else []
        else:
            each = value if row.form == "list" else [value]
            found += [f"--{row.name}={one}" for one in each if one is not None]
    return found


@contextmanager
def named_as_given() -> Iterator[None]:
    """Name the options of `worker start` in an error about an option of `serve`."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(_renamed(error.message), error.hint and _renamed(error.hint)) from error


def _renamed(text: str) -> str:
    names = "|".join(row.name for row in TABLE)
    return re.sub(rf"--({names})\b", rf"--{OF_WORKER}\1", text).replace("--host", "--serve")


def parsed(host: str | None, port: int, values: Given) -> "Options":
    """The options of a server. Raises InvalidInput. Imports no library of the server."""
    from queuectl.http.options import Options

    certificate, key = values["tls-cert"], values["tls-key"]
    if (certificate is None) != (key is None):
        raise InvalidInput("--tls-cert and --tls-key need each other", "give both")
    timeout = of_option("--request-timeout", parse_duration, values["request-timeout"] or "30s")
    if not timeout:
        raise InvalidInput("--request-timeout: no request can be answered in no time", "for example 30s")
    return Options(
        host=host,
        port=port,
        socket=values["socket"] or (_usual_socket() if host is None else None),
        tls=(certificate, key) if certificate else None,
        public_url=values["public-url"] or "",
        trust_proxy=tuple(values["trust-proxy"]),
        allow_host=tuple(values["allow-host"]),
        insecure_http=values["insecure-http"],
        anonymous=values["anonymous"] is not None,
        read_only=values["read-only"],
        job_cwd=_directory(values["job-cwd"]),
        request_timeout=timeout.total_seconds(),
        max_body=of_option("--max-body", parse_size, values["max-body"] or "16MiB"),
        max_bulk=of_option("--max-bulk", parse_size, values["max-bulk"] or "1GiB"),
        access_log=values["access-log"],
    )


def _usual_socket() -> str:
    """The path of the Unix socket where the system keeps files of running programs of one user."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(base):
        raise InvalidInput(
            "there is no place for the Unix socket", "set XDG_RUNTIME_DIR, or give --socket PATH"
        )
    return os.path.join(base, "queuectl", "serve.sock")


def _directory(path: str | None) -> str:
    """The directory in which jobs run whose request names none."""
    if path is None:
        home = os.path.expanduser("~")
        return home if os.path.isdir(home) else "/"
    if not os.path.isdir(path):
        raise InvalidInput(f"--job-cwd: {path!r} is no directory")
    return path
