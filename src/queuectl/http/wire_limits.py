"""The bounds of connections, and the count of the open connections."""

from collections import Counter
from collections.abc import Callable, Container, Sequence

from msgspec import Struct

from queuectl.http.guessing import address_key
from queuectl.http.problem import Refusal
from queuectl.http.table import PROBES


class WireLimits(Struct, frozen=True):
    """The bounds of connections. Sizes are bytes, times are seconds.

    head_time      from the first byte of a request to the end of its head, and the time of a TLS handshake
    probe_time     the same for a connection of the reserve
    body_rate      bytes per second by which a client must send the body of a request and read a reply
    body_time      the span over which this rate is measured
    unused_body    bytes of a body that are read and dropped after the request was answered, in each `body_time`
    linger         how long a refused client may read the reply, and how long the end of TLS may take
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

    def time_of_head(self, *, probes_only: bool) -> float:
        """The seconds for a head, and for a handshake, of a connection; a short time in the reserve."""
        return self.probe_time if probes_only else self.head_time


def check_head(
    limits: WireLimits,
    url: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    only: Container[str] = (),
    upgrades: bool,
) -> Refusal | None:
    """The refusal of a head. `headers` have names in lower case. `only`: the paths that are answered; empty for all.

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
    if only and url.partition(b"?")[0].decode("latin-1") not in only:
        return Refusal("too_many", "too many connections are open")
    return None


def _count(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> int:
    return sum(name == wanted for name, _ in headers)


class Admission(Struct, eq=False):
    """The right of a connection to be open.

    client       the address, or the IPv6 network, as which the connection is counted; empty for a Unix socket
    probes_only  the connection belongs to the reserve
    close        closes the connection at once
    """

    client: str
    probes_only: bool
    close: Callable[[], object] = lambda: None


class Connections:
    """The open connections of one server, with those whose TLS handshake is not complete.

    A connection beyond the bounds is admitted to the reserve, so that a probe is answered while the server is full. If
    the reserve is full too, the client with the most connections in it, the new one included, loses the oldest of
    them. So a probe is answered unless 32 newer connections of other clients arrive before its request does. A proxy
    may open as many connections as all its clients need: `is_proxy` says whether an address is one of a proxy.
    `root` is the path below which the server is reached; a proxy may have removed it.
    """

    def __init__(
        self, limits: WireLimits, is_proxy: Callable[[str], bool] = lambda peer: False, root: str = ""
    ) -> None:
        self.limits, self._is_proxy = limits, is_proxy
        self.probes = frozenset((*PROBES, *(root + probe for probe in PROBES)))
        self._open = Counter[str]()
        self._reserve: list[Admission] = []

    def admit(self, peer: str) -> Admission:
        """Count a new connection. `peer` is its address; empty for a Unix socket."""
        client = address_key(peer) if peer else ""
        bounded = client != "" and not self._is_proxy(peer)
        full = self._open.total() >= self.limits.connections - self.limits.reserve
        if not full and not (bounded and self._open[client] >= self.limits.per_peer):
            self._open[client] += 1
            return Admission(client, probes_only=False)
        if len(self._reserve) >= self.limits.reserve:
            self._close_one(client)
        admission = Admission(client, probes_only=True)
        self._reserve.append(admission)
        return admission

    def leave(self, admission: Admission) -> None:
        """Stop counting a connection."""
        if not admission.probes_only:
            self._open[admission.client] -= 1
            if not self._open[admission.client]:
                del self._open[admission.client]
        elif admission in self._reserve:
            self._reserve.remove(admission)

    def _close_one(self, newcomer: str) -> None:
        counts = Counter([newcomer, *(each.client for each in self._reserve)])
        oldest = max(
            self._reserve, key=lambda each: counts[each.client]
        )  # the first of several is the oldest
        self._reserve.remove(oldest)
        oldest.close()
