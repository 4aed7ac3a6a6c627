"""A Redis cluster of three servers with a third of the slots each. A slot can be moved, and a server can fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from facts import eventually
from servers.daemon import SLOWEST
from servers.endpoint import free_port, is_free
from servers.redis import Product, RedisServer

NODES = 3
SETTINGS = {"cluster_enabled": "yes", "cluster_node_timeout": 2000, "cluster_replica_validity_factor": 0}
BUS = 10_000
"""The distance from the port of a node to its port for other nodes."""
HIGHEST = 22_000
"""A port whose bus is not among those that the system gives to outgoing connections."""


class RedisCluster:
    """Three nodes. The URL of a queue names a node that does not have the queue."""

    def __init__(self, product: Product = "redis") -> None:
        self.product = product
        self.nodes = [_node(product) for _ in range(NODES)]

    def start(self) -> None:
        """Start all nodes, distribute the slots, and connect the nodes; returns when each reports a correct state."""
        first, *others = self.nodes
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            share = (
                REDIS_CLUSTER_HASH_SLOTS * number // NODES,
                REDIS_CLUSTER_HASH_SLOTS * (number + 1) // NODES,
            )
            node.call("CLUSTER", "ADDSLOTS", *range(*share))
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in others:
            first.call("CLUSTER", "MEET", node.host, node.port)
        eventually(self.is_well, within=SLOWEST, what="a cluster in which all know each other")

    def is_well(self) -> bool:
        """Whether every node knows all other nodes and serves its slots."""
        return all(
            info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) >= NODES
            for info in map(state, self.nodes)
        )

    def slot(self, name: str) -> int:
        """The slot of a queue's keys."""
        return int(key_slot(f"{{{name}}}".encode()))

    def owner(self, name: str) -> RedisServer:
        """The node that reports to have a queue."""
        [owner] = [node for node in self.nodes if _serves(node, f"{{{name}}}")]
        return owner

    def stranger(self, name: str) -> RedisServer:
        """A node that does not have it."""
        owner = self.owner(name)
        return next(node for node in self.nodes if node is not owner)

    def url(self, database: int = 0, *, name: str, **params: Any) -> str:
        """The URL of a queue."""
        return self.stranger(name).url(database, name=name, **params)

    def delete(self, beginning: str) -> None:
        """Delete every key that begins like this."""
        for node in self.nodes:
            node.delete(beginning)

    def move(self, name: str, to: RedisServer) -> None:
        """Move a queue's slot to another node, with all its keys."""
        with self.moving(name, to):
            pass

    @contextmanager
    def moving(self, name: str, to: RedisServer) -> Iterator[None]:
        """Have a queue's slot on its way to another node; its keys go when the block ends."""
        slot, source = self.slot(name), self.owner(name)
        to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(to))
        yield
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            source.call("MIGRATE", to.host, to.port, "", 0, 5000, "AUTH", to.password, "KEYS", *keys)
        for node in (to, source, *self.nodes):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", _id(to))
        eventually(lambda: self._agrees(slot, to), within=SLOWEST, what="nodes that agree")

    def _agrees(self, slot: int, owner: RedisServer) -> bool:
        """Whether all know whose a slot is, and by which epoch: who moves one before that may give an epoch twice, and
        then two nodes have the slot, or none.
        """
        epochs = {state(node)["cluster_current_epoch"] for node in self.nodes}
        return len(epochs) == 1 and all(_owner(node, slot) == _id(owner) for node in self.nodes)

    def close(self) -> None:
        """End all and leave nothing behind. Twice is harmless."""
        for node in self.nodes:
            node.close()


def replica_in(cluster: RedisCluster, original: RedisServer) -> RedisServer:
    """Another node of a cluster, started, that has all of this one and follows it. Its caller closes it."""
    replica = _node(cluster.product)
    replica.start()
    replica.call("CLUSTER", "MEET", original.host, original.port)
    eventually(lambda: _knows(replica, original), within=SLOWEST, what="a node that knows the others")
    replica.call("CLUSTER", "REPLICATE", _id(original))
    eventually(lambda: replica.follows, within=SLOWEST, what="a replica that follows")
    # A node that does not know the new node yet would not vote for it.
    eventually(
        lambda: all(_has_replica(node, replica) for node in cluster.nodes), what="a replica that all know"
    )
    return replica


def state(node: RedisServer) -> dict[str, str]:
    """The state of the cluster as one node reports it."""
    lines = node.call("CLUSTER", "INFO").decode().splitlines()
    return dict(line.split(":", 1) for line in lines)


def _node(product: Product) -> RedisServer:
    node = RedisServer(product, **SETTINGS)
    while node.port > HIGHEST or not is_free(node.port + BUS):
        node.port = free_port()
    return node


def _id(node: RedisServer) -> str:
    return str(node.call("CLUSTER", "MYID").decode())


def _owner(node: RedisServer, slot: int) -> str | None:
    """The owner of a slot as this node reports it."""
    for first, last, master, *_ in node.call("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return str(master[2].decode())
    return None


def _knows(node: RedisServer, other: RedisServer) -> bool:
    return _id(other) in node.call("CLUSTER", "NODES").decode() and state(node)["cluster_state"] == "ok"


def _has_replica(node: RedisServer, replica: RedisServer) -> bool:
    lines = node.call("CLUSTER", "NODES").decode().splitlines()
    return any(line.startswith(_id(replica)) and "slave" in line for line in lines)


def _serves(node: RedisServer, key: str) -> bool:
    try:
        node.call("GET", key)
    except (exceptions.MovedError, exceptions.ConnectionError, exceptions.ClusterDownError):
        return False
    return True
