"""Chooses the node to connect to: the server in the URL or, in a cluster, the node that has the queue.

All keys of a queue are in one slot of a cluster, so one node has them. Every other node refuses a command and names
that node (MOVED). A `Route` has that node first, and then the other nodes: if the node has failed, another node names
its successor.
"""

import threading
from typing import Any

from redis.exceptions import ResponseError

Node = tuple[str, int]
"""Host and port."""


class Route:
    """The nodes that may have the queue, the most likely one first."""

    def __init__(self, home: Node) -> None:
        self._lock = threading.Lock()
        self._home, self._nodes = home, [home]

    def nodes(self) -> list[Node]:
        """The nodes to connect to, in this order."""
        with self._lock:
            return list(self._nodes)

    def prefer(self, node: Node) -> None:
        """Put this node first, because it has the queue."""
        with self._lock:
            self._nodes = [node, *(other for other in self._nodes if other != node)]

    def avoid(self, node: Node) -> None:
        """Put this node last, because it cannot be reached now."""
        with self._lock:
            self._nodes.sort(key=lambda other: other == node)

    def learn(self, line: Any) -> None:
        """Query a node of a cluster for the other nodes."""
        try:
            ranges = line.call("CLUSTER", "SLOTS")
        except ResponseError:  # the user may not run this query: only already known nodes can be used
            return
        entries = [entry for found in ranges for entry in found[2:]]
        named = [((entry[0] or b"").decode().strip("?") or line.host, entry[1]) for entry in entries]
        present = [(line.host, line.port), *named, self._home]
        with self._lock:
            known = [node for node in self._nodes if node in present]
            self._nodes = list(dict.fromkeys([*known, *present]))
