"""Bounds guesses of tokens: after ten failures in a minute, further ones are answered with 429 and a time to wait.

A bound changes only the answer to a wrong token. A right token always works, also from an address that is bounded by
wrong ones, so nobody can lock out another client.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

FAILURES = 10
WINDOW = 60.0
FIRST_WAIT, LONGEST_WAIT = 60.0, 900.0
"""Seconds. The wait doubles with each bound that follows within `LONGEST_WAIT` of the one before."""
KEYS = 10_000
"""How many addresses and token ids are remembered. The ones without a failure for the longest time are forgotten."""


class _Failures:
    """The failures of one address or token id."""

    def __init__(self) -> None:
        self.recent = deque[float](maxlen=FAILURES)
        self.bounds, self.until = 0, 0.0

    def note(self, now: float) -> None:
        if now < self.until:
            return
        if now > self.until + LONGEST_WAIT:
            self.bounds = 0
        self.recent.append(now)
        if len(self.recent) == FAILURES and self.recent[0] > now - WINDOW:
            self.until = now + min(FIRST_WAIT * 2**self.bounds, LONGEST_WAIT)
            self.bounds += 1
            self.recent.clear()


class Guessing:
    """Counts failures by peer address and by token id. Safe to use from several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._known = OrderedDict[str, _Failures]()
        self.failures = 0
        """All failures of this process, for the metrics."""

    def wait(self, *keys: str) -> float:
        """The seconds for which a failure of one of these keys is answered with 429; 0 for none."""
        with self._lock:
            now = self._monotonic()
            return max([0.0, *(self._known[key].until - now for key in keys if key in self._known)])

    def note(self, *keys: str) -> None:
        """Count one failure, for each of these keys. Without a key only the number of failures rises."""
        with self._lock:
            self.failures += 1
            for key in keys:
                found = self._known.setdefault(key, _Failures())
                self._known.move_to_end(key)
                found.note(self._monotonic())
            while len(self._known) > KEYS:
                self._known.popitem(last=False)


def address_key(address: str) -> str:
    """The key of an address. All addresses of one IPv6 network (/64) are one client, which can use each of them."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((int(found), 64), strict=False))
    return str(found)
