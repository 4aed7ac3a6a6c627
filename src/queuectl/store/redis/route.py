"""Where to connect: to the server that the URL names, or, in a cluster, to the node that has the queue.

All keys of a queue are in one slot of a cluster, so one node has them. Every other node tells which it is (MOVED), and
does nothing. It is remembered, and so are the others that there are now: if it is gone, one of them knows who took its
place.
"""

import threading
from typing import Any

from redis.exceptions import ResponseError

Place = tuple[str, int]


class Route:
    """The places that may be asked, the likeliest first."""

    def __init__(self, home: Place) -> None:
        self._lock = threading.Lock()
        self._home, self._places = home, [home]

    def places(self) -> list[Place]:
        """Where to connect, in this order."""
        with self._lock:
            return list(self._places)

    def settle(self, place: Place) -> None:
        """The queue is there."""
        with self._lock:
            self._places = [place, *(other for other in self._places if other != place)]

    def avoid(self, place: Place) -> None:
        """Nobody is there now: it comes last."""
        with self._lock:
            self._places.sort(key=lambda other: other == place)

    def learn(self, line: Any) -> None:
        """The other nodes of a cluster, from one of them."""
        try:
            ranges = line.call("CLUSTER", "SLOTS")
        except ResponseError:  # a user with few rights: then the URL's node has to be there
            return
        nodes = [node for found in ranges for node in found[2:]]
        named = [((node[0] or b"").decode().strip("?") or line.host, node[1]) for node in nodes]
        there_are = [(line.host, line.port), *named, self._home]
        with self._lock:
            known = [place for place in self._places if place in there_are]
            self._places = list(dict.fromkeys([*known, *there_are]))
