"""Where a client finds its token: in one of two variables, the file of `queuectl login`, or the local server's file.

A token is bound to an origin (scheme, host and port), and is sent to no other one. It does not go over plain HTTP to
another host, unless the caller insists: a token gives the right to run commands, and a typing error could disclose it.

Modules are imported where they are used, because each command that talks to a server looks for its token.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from queuectl import config, trust
from queuectl.errors import InvalidInput

PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """The part of a URL to which a token belongs."""

    scheme: str
    host: str
    port: int

    @property
    def text(self) -> str:
        """The origin as a key of the file: always with a port."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Whether the host is this one, by a loopback address."""
        is_ipv4 = self.host.replace(".", "").isdecimal()  # a name may begin with 127. too
        return self.host in ("localhost", "::1") or (is_ipv4 and self.host.startswith("127."))


class Credentials(NamedTuple):
    """A token, and where it was found.

    address  connect to this address instead of the host of the URL. `localhost` may be several addresses, and another
             user can listen at the one at which the server of this user does not.
    """

    token: str
    source: str
    address: str | None = None


def origin_of(url: str) -> Origin:
    """The origin of an HTTP URL. Raises InvalidInput, also for a URL with a user or a password."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise InvalidInput(
            f"the address of the server is not a URL: {error}", "for example https://h:7733"
        ) from error
    if "@" in parts.netloc:
        raise InvalidInput(
            "a URL of a server has no user and no password",
            "to store a token, for example: queuectl login https://queue.example.org",
        )
    if parts.scheme not in PORTS or not host:
        raise InvalidInput(
            "the address of a server begins with http:// or https://", "for example https://h:7733"
        )
    return Origin(parts.scheme, host, port or PORTS[parts.scheme])


def find(
    url: str, environment: Mapping[str, str], *, token: str | None = None, insecure_http: bool = False
) -> Credentials | None:
    """The token for a server, or None. `token` is the one that the caller gives. Any other one
    is read again at each call: a local server that restarts has another one.

    Raises InvalidInput if the token would go over the network in clear, or its file cannot be used. Whoever may open a
    Unix socket needs no token.
    """
    if url.startswith("http+unix:"):
        return None
    origin = origin_of(url)
    given = None if token is None else Credentials(_sendable(token, "token="), "token=")
    found = given or _given(environment) or _kept(origin) or _local(origin)
    if found is not None and origin.scheme == "http" and not origin.is_here and not insecure_http:
        raise InvalidInput(
            f"the token of {found.source} would go to {origin.text} in clear",
            "use https://; on a network that you control: --insecure-http, or insecure_http=True from Python",
        )
    return found


def keep(url: str, token: str) -> str:
    """Keep a token for a server in the file of this user, and return the name of the file. Raises InvalidInput."""
    from queuectl.domain.token import secret_id

    origin, path = origin_of(url), _path()
    if secret_id(token) is None:
        raise InvalidInput(
            "this is not a token of queuectl", "a token is qctl_, 8 characters, _, 43 characters"
        )
    _write(path, {**_read(path), origin.text: token})
    return path


def drop(url: str) -> bool:
    """Delete the token for a server from the file. False if there is none."""
    origin, path = origin_of(url), _path()
    known = _read(path)
    if known.pop(origin.text, None) is None:
        return False
    _write(path, known)
    return True


def _given(environment: Mapping[str, str]) -> Credentials | None:
    if token := environment.get("QUEUECTL_TOKEN", "").strip():
        return Credentials(_sendable(token, "QUEUECTL_TOKEN"), "QUEUECTL_TOKEN")
    path = environment.get("QUEUECTL_TOKEN_FILE")
    if not path:
        return None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            token = file.read(4096).strip()
    except OSError as error:
        raise InvalidInput(f"QUEUECTL_TOKEN_FILE: cannot read {path}: {error.strerror}") from error
    return Credentials(_sendable(token, "QUEUECTL_TOKEN_FILE"), "QUEUECTL_TOKEN_FILE")


def _sendable(token: str, source: str) -> str:
    """The token, if a header can contain it. The error does not show the token."""
    if token.isascii() and token.isprintable() and token and " " not in token:
        return token
    raise InvalidInput(f"{source} is not a token", "one line: qctl_, 8 characters, _, 43 characters")


def _kept(origin: Origin) -> Credentials | None:
    path = _file()
    token = _read(path).get(origin.text) if path is not None else None
    return Credentials(_sendable(token, path), path) if path is not None and token is not None else None


def _local(origin: Origin) -> Credentials | None:
    if not origin.is_here:
        return None
    from queuectl.http.client import local_file

    server = local_file.at_port(origin.port)
    if server is None or not server.url.startswith(f"{origin.scheme}://"):
        return None
    address = server.hosts[0] if origin.host == "localhost" else origin.host
    return Credentials(server.token, "the local server's file", address) if address in server.hosts else None


def _file() -> str | None:
    base = config.user_directory("XDG_CONFIG_HOME", ".config")
    return None if base is None else os.path.join(base, "queuectl", "tokens.toml")


def _path() -> str:
    path = _file()
    if path is None:
        raise InvalidInput(
            "there is no place for files of your own", "set XDG_CONFIG_HOME to an absolute path"
        )
    return path


def _read(path: str) -> dict[str, str]:
    """The tokens by origin. Raises InvalidInput for a file that others may read or write, or that is not TOML."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise InvalidInput(
                    f"{path} is not private: it belongs to {trust.name_of(found.st_uid)}, mode {trust.mode_of(found)}",
                    f"chmod 600 {trust.quoted(path)}; if others have read it, rotate its tokens",
                )
            from tomllib import loads

            values = loads(file.read().decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise InvalidInput(f"{path} is not TOML", 'each line is "https://host:port" = "TOKEN"') from error
    return {origin: token for origin, token in values.items() if isinstance(token, str)}


def _write(path: str, tokens: dict[str, str]) -> None:
    """Replace the file by a complete one that is private from its creation."""
    from json import dumps

    lines = [f"{dumps(origin)} = {dumps(token)}\n" for origin, token in sorted(tokens.items())]
    unfinished = f"{path}.{os.getpid()}"
    try:
        trust.make_directories(os.path.dirname(path))
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.writelines(["# Tokens by server. Written by queuectl login.\n", *lines])
        os.replace(unfinished, path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from error
