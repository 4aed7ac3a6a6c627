"""Opens the sockets of a server: TCP on a host, a Unix socket in a private directory, and the context for TLS."""

import errno
import os
import socket
import ssl
import stat
from fcntl import LOCK_EX, flock
from ipaddress import ip_address
from typing import NamedTuple

from queuectl import trust
from queuectl.errors import CommandFailed, InvalidInput
from queuectl.http.client import local_file

BACKLOG = 1024
LONGEST_PATH = 107
"""Bytes that an address of a Unix socket may have."""


def resolve(host: str) -> list[str]:
    """The addresses of a host. Raises InvalidInput for an unknown name."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"--host: {host!r} is no address of this machine: {reason}") from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return ip_address(address.partition("%")[0]).is_loopback


class Sockets(NamedTuple):
    """The open sockets of a server. `addresses` are those of its TCP sockets."""

    tcp: list[socket.socket]
    addresses: list[str]
    unix: "UnixSocket | None"

    @property
    def all(self) -> list[socket.socket]:
        """All open sockets."""
        return [*self.tcp, *([self.unix.listener] if self.unix else [])]

    @property
    def port(self) -> int:
        """The port of the TCP sockets; 0 if there are none."""
        return int(self.tcp[0].getsockname()[1]) if self.tcp else 0

    def close(self) -> None:
        """Close the sockets, and remove the file of the Unix socket."""
        for each in self.all:
            each.close()
        if self.unix:
            self.unix.remove()


def open_all(host: str, addresses: list[str], port: int, path: str | None) -> Sockets:
    """Open the TCP sockets of these addresses of a host, and the Unix socket. Raises CommandFailed."""
    sockets = Sockets([], [], unix(path) if path else None)
    try:
        for address in addresses:
            _add(sockets, address, port)
    except OSError as error:
        sockets.close()
        raise _refused(host, port, error) from error
    if addresses and not sockets.tcp:
        sockets.close()
        raise CommandFailed(f"this machine does not have the address {', '.join(addresses)}")
    return sockets


def inherited(listeners: list[socket.socket], path: str | None) -> Sockets:
    """The TCP sockets that another process has opened, and a new Unix socket."""
    addresses = [listener.getsockname()[0] for listener in listeners]
    return Sockets(listeners, addresses, unix(path) if path else None)


def _add(sockets: Sockets, address: str, port: int) -> None:
    """Open one more TCP socket; all have the port of the first. An address that this machine lacks is left out.

    `localhost` has two addresses, and many containers have no IPv6.
    """
    try:
        opened = _tcp(address, sockets.port or port)
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        return
    sockets.tcp.append(opened)
    sockets.addresses.append(address)


def _refused(host: str, port: int, error: OSError) -> CommandFailed:
    if error.errno == errno.EADDRINUSE:
        ours = local_file.at_port(port)
        by = f" by queuectl serve, pid {ours.pid}" if ours else ""
        return CommandFailed(f"port {port} of {host} is taken{by}", "--port 0 takes a free one")
    return CommandFailed(f"cannot listen at port {port} of {host}: {error.strerror}")


def _tcp(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class UnixSocket(NamedTuple):
    """A Unix socket that listens. `inode` is that of its file."""

    listener: socket.socket
    path: str
    inode: int

    def remove(self) -> None:
        """Remove the file, unless another server has replaced it."""
        try:
            if os.stat(self.path).st_ino == self.inode:
                os.unlink(self.path)
        except FileNotFoundError:
            return


def unix(path: str) -> UnixSocket:
    """A Unix socket that only this user can open: mode 0600 from creation, in a directory that is ours alone.

    A file of an earlier server is replaced if nothing answers there. The lock on the directory keeps two servers that
    start together from replacing each other's file.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise InvalidInput(f"--socket: {path} is longer than {LONGEST_PATH} bytes")
    try:
        directory = trust.private_directory(os.path.dirname(path))
    except trust.Untrusted as error:
        place = "--socket ~/queuectl/serve.sock is in a directory of your own"
        raise CommandFailed(f"the socket cannot be there: {error.message}", place) from error
    except OSError as error:
        raise CommandFailed(f"the socket cannot be at {path}: {error.strerror}") from error
    try:
        flock(directory, LOCK_EX)
        _remove_stale(path)
        return UnixSocket(_bound(path), path, os.stat(path).st_ino)
    finally:
        os.close(directory)


def _bound(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(stat.S_IXUSR | stat.S_IRWXG | stat.S_IRWXO)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CommandFailed(f"the socket cannot be at {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    return listener


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise CommandFailed(f"{path} is there already, and is no socket", "name another path with --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            raise CommandFailed(
                f"{path} is there already: {error}", "name another path with --socket"
            ) from error
    raise CommandFailed(f"another server answers at {path}", "stop it, or name another path with --socket")


def tls(certificate: str, key: str) -> ssl.SSLContext:
    """The context of TLS with this certificate and key. Raises InvalidInput if they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name in (certificate, key):  # OpenSSL does not say which of the two files it cannot read
        _check_readable(name)
    try:
        # A key that has a password would make OpenSSL ask for it on the terminal, and a service would hang.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        why = f" ({reason.replace('_', ' ').lower()})" if reason else ""
        raise InvalidInput(
            f"the files of --tls-cert and --tls-key are not a certificate and its key{why}",
            "both are PEM, and the key has no password",
        ) from error
    return context


def _check_readable(name: str) -> None:
    try:
        with open(name, "rb"):
            return
    except OSError as error:
        raise InvalidInput(f"cannot read {name}: {error.strerror}") from error
