"""The bounds of connections, and the count of the open connections."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from queuectl.http.problem import Refusal
from queuectl.http.table import PROBES

Admission = Literal["open", "probes", "refused"]


class WireLimits(Struct, frozen=True):
    """The bounds of connections. Sizes are bytes, times are seconds.

    head_time      from the first byte of a request to the end of its head
    probe_time     the same for a connection of the reserve
    body_rate      bytes per second by which a client must send the body of a request and read a reply
    body_time      the span over which this rate is measured
    unused_body    bytes of a body that are read and dropped after the request was answered, in each `body_time`
    linger         how long a refused client may read the reply
    idle_time      how long a connection without a request stays open
    connections    open connections in all, with the reserve
    reserve        connections that are kept for the paths of probes, `/healthz` and `/readyz`
    per_peer       open connections of one address
    """

    head: int = 32 * 1024
    headers: int = 100
    url: int = 8 * 1024
    head_time: float = 10.0
    probe_time: float = 1.0
    body_rate: int = 1024
    body_time: float = 10.0
    unused_body: int = 1024**2
    linger: float = 1.0
    idle_time: int = 65
    connections: int = 1024
    reserve: int = 32
    per_peer: int = 64


def check_head(
    limits: WireLimits,
    url: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    probes_only: bool,
    upgrades: bool,
) -> Refusal | None:
    """The refusal of a head. `headers` have names in lower case.

    Two readers of the same bytes must not see two requests: that is how requests are smuggled past a proxy. So a length
    that is given twice, and a length beside `Transfer-Encoding`, are refused. A request with `Upgrade` is answered as
    if it were a plain one, but the parser skips its body, so it must not have one.
    """
    if len(url) > limits.url:
        return Refusal("too_large", f"the URL is longer than {limits.url} bytes", status=414)
    if len(headers) > limits.headers:
        return Refusal("too_large", f"the request has more than {limits.headers} headers", status=431)
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > limits.head:
        return Refusal("too_large", f"the head is longer than {limits.head} bytes", status=431)
    if _count(headers, b"host") != 1:
        return Refusal("invalid_input", "the request must have one header Host")
    lengths = [value for name, value in headers if name == b"content-length"]
    encodings = _count(headers, b"transfer-encoding")
    if len(lengths) + encodings > 1 or not all(map(bytes.isdigit, lengths)):
        return Refusal("invalid_input", "the length of the body is not clear")
    if upgrades and (lengths or encodings):
        return Refusal("invalid_input", "the connection cannot be upgraded", "leave out the header Upgrade")
    if probes_only and not url.partition(b"?")[0].decode("latin-1").endswith(PROBES):
        return Refusal("too_many", "too many connections are open")
    return None


def _count(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> int:
    return sum(name == wanted for name, _ in headers)


class Connections:
    """The open connections of one server.

    A connection beyond the bounds is admitted to the reserve, so that a probe is answered while the server is full. A
    proxy may open as many connections as all its clients need: `is_proxy` says whether an address is one of a proxy.
    """

    def __init__(self, limits: WireLimits, is_proxy: Callable[[str], bool] = lambda peer: False) -> None:
        self.limits, self._is_proxy = limits, is_proxy
        self._open = Counter[str]()
        self._probes = 0

    def admit(self, peer: str) -> Admission:
        """Count a new connection. `peer` is its address; empty for a Unix socket."""
        bounded = peer != "" and not self._is_proxy(peer)
        full = self._open.total() >= self.limits.connections - self.limits.reserve
        if not full and not (bounded and self._open[peer] >= self.limits.per_peer):
            self._open[peer] += 1
            return "open"
        if self._probes >= self.limits.reserve:
            return "refused"
        self._probes += 1
        return "probes"

    def leave(self, peer: str, admission: Admission) -> None:
        """Stop counting a connection."""
        if admission == "open":
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]
        elif admission == "probes":
            self._probes -= 1
