"""The options of a server, and the checks of them that need no store. Imports no library of the server."""

import ssl
from typing import NamedTuple

from msgspec import Struct

from queuectl.http import hosts, listen
from queuectl.http.proxies import IsProxy, proxies


class Options(Struct, frozen=True, kw_only=True):
    """What `queuectl serve` was given.

    host     the address or name to listen at; None for a Unix socket alone
    socket   the path of the Unix socket; None for none
    tls      the files of the certificate and of its key
    job_cwd  the working directory of jobs whose request names none

    `request_timeout` is seconds, the other bounds are bytes.
    """

    host: str | None
    port: int
    socket: str | None
    tls: tuple[str, str] | None
    public_url: str
    trust_proxy: tuple[str, ...]
    allow_host: tuple[str, ...]
    insecure_http: bool
    anonymous: bool
    read_only: bool
    job_cwd: str
    request_timeout: float
    max_body: int
    max_bulk: int
    access_log: bool

    @property
    def scheme(self) -> str:
        """The scheme of the TCP socket."""
        return "https" if self.tls else "http"

    @property
    def is_encrypted(self) -> bool:
        """Whether secrets do not cross the network in clear, or the person accepts that they do."""
        return bool(self.tls) or self.public_url.startswith("https:") or self.insecure_http


class Checked(NamedTuple):
    """The values that options stand for. `addresses` are those of the host; none for a Unix socket alone."""

    public_url: str
    is_proxy: IsProxy
    tls: ssl.SSLContext | None
    addresses: list[str]


def check(options: Options) -> Checked:
    """Raise InvalidInput for an option that cannot be used."""
    return Checked(
        hosts.public_url(options.public_url) if options.public_url else "",
        proxies(options.trust_proxy),
        listen.tls(*options.tls) if options.tls else None,
        [] if options.host is None else listen.resolve(options.host),
    )
