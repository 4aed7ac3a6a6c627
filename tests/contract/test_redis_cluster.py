"""A queue in a cluster is found from any node, followed when it moves, and found again when its node is dead."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from contract.grounds import RedisGround
from factories import LEASE, new_job
from facts import eventually
from queuectl.domain import topics
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreUnavailable, StoreUnusable
from queuectl.store.protocol import Swap
from queuectl.store.redis import RedisStore, write
from servers.redis import RedisServer
from servers.redis_cluster import RedisCluster, replica_in

WAYS = ["kill", "pause"]


@pytest.fixture(scope="module")
def valkey_cluster() -> Iterator[RedisCluster]:
    """A Valkey cluster."""
    with closing(RedisCluster("valkey")) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture(params=["redis_cluster", "valkey_cluster"])
def cluster(request: pytest.FixtureRequest) -> RedisCluster:
    """A Redis cluster and a Valkey cluster."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def ground(cluster: RedisCluster) -> Iterator[RedisGround]:
    ground = RedisGround(cluster)
    yield ground
    ground.close()


@pytest.fixture
def store(ground: RedisGround) -> RedisStore:
    """A handle, connected; its URL names a node that does not have the queue."""
    store = ground.open()
    store.counts(Filter())
    return store  # type: ignore[return-value]


def first(store: RedisStore) -> tuple[str, int]:
    """The node that the store calls first."""
    return store.session.route.nodes()[0]


def called(node: RedisServer) -> int:
    """The number of connections that a node has accepted, without the connection of this query."""
    called.asked += 1  # type: ignore[attr-defined]
    return int(node.info("stats")["total_connections_received"]) - called.asked  # type: ignore[attr-defined]


called.asked = 0  # type: ignore[attr-defined]


def test_any_node_leads_to_the_node_of_the_queue(ground: RedisGround, cluster: RedisCluster) -> None:
    owner = cluster.owner(ground.name)
    for number, node in enumerate(cluster.nodes):
        with closing(RedisStore(node.url(name=ground.name))) as store:
            assert store.add([new_job(str(number))])[0].status == "added"
            assert first(store) == (owner.host, owner.port)
            assert store.describe().faults == ()
    have = [node for node in cluster.nodes if node.call("KEYS", f"{ground.tag}*")]
    assert have == [owner]


def test_later_calls_go_directly_to_the_node_of_the_queue(
    ground: RedisGround, store: RedisStore, cluster: RedisCluster
) -> None:
    stranger = cluster.stranger(ground.name)
    before = called(stranger)
    store.session.own().disconnect()
    assert called(stranger) == before


def test_a_redirection_without_a_host_means_the_same_host(valkey_cluster: RedisCluster) -> None:
    ground = RedisGround(valkey_cluster)
    stranger = valkey_cluster.stranger(ground.name)
    stranger.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
    with closing(RedisStore(ground.url)) as store:
        assert store.add([new_job("a")])[0].status == "added"
        assert {host for host, _ in store.session.route.nodes()} == {"127.0.0.1"}
    stranger.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
    ground.close()


def test_a_database_number_other_than_0_is_refused_with_a_hint(
    ground: RedisGround, cluster: RedisCluster
) -> None:
    url = cluster.url(3, name=ground.name)
    with (
        closing(RedisStore(url)) as store,
        pytest.raises(StoreUnusable, match=r"SELECT|out of range") as caught,
    ):
        store.counts(Filter())
    assert "a cluster has only" in (caught.value.hint or "")


def test_the_store_follows_a_queue_that_moved(
    ground: RedisGround, store: RedisStore, cluster: RedisCluster
) -> None:
    store.add([new_job("a"), new_job("b")])
    for _ in range(3):
        target = cluster.stranger(ground.name)
        cluster.move(ground.name, target)
        assert [job.id for job in store.claim("w1", (), 1, LEASE)] in (["a"], ["b"], [])
        assert first(store) == (target.host, target.port)
    assert store.counts(Filter()).states() == {"processing": 2}
    assert store.describe(thorough=True).faults == ()


def test_scripts_executed_before_the_move_are_not_repeated(
    ground: RedisGround, store: RedisStore, cluster: RedisCluster
) -> None:
    """One call may consist of several scripts, for example a batch of many jobs."""

    def add(line: Any) -> list[Any]:
        said = write.add(line, [new_job("a")], store._moment())
        cluster.move(ground.name, cluster.stranger(ground.name))
        return said + write.add(line, [new_job("b")], store._moment())

    assert [added.status for added in store.session.write(add)] == ["added", "added"]


def test_no_change_is_made_while_the_queue_is_being_moved(
    ground: RedisGround, store: RedisStore, cluster: RedisCluster
) -> None:
    store.add([new_job("a")])
    target = cluster.stranger(ground.name)
    with cluster.moving(ground.name, target), closing(RedisStore(target.url(name=ground.name))) as later:
        for handle in (store, later):
            for verb in (
                lambda handle=handle: handle.add([new_job("b")]),
                lambda handle=handle: handle.claim("w1", (), 9, LEASE),
                lambda handle=handle: handle.swap([Swap("queues", "q", {"paused": True}, 0)])[0],
                lambda handle=handle: handle.get(["a"]),
            ):
                with pytest.raises(StoreUnavailable) as caught:
                    verb()
                assert caught.value.hint == "the queue moves to another node of the cluster; try again later"
    assert [job.id for job in store.claim("w1", (), 9, LEASE)] == ["a"]
    assert target.call("EXISTS", f"{ground.tag}:job:0000000000000001") == 1


def test_work_continues_while_the_queue_moves_repeatedly(ground: RedisGround, cluster: RedisCluster) -> None:
    with working(ground) as done:
        for _ in range(4):
            so_far = len(done)
            cluster.move(ground.name, cluster.stranger(ground.name))
            eventually(lambda so_far=so_far: len(done) > so_far + 5, what="work goes on")
    with closing(ground.open()) as store:
        assert set(store.get(done)) == set(done)
        assert store.counts(Filter()).states() == {"processing": len(done)}
        assert store.describe(thorough=True).faults == ()


@contextmanager
def working(ground: RedisGround) -> Iterator[list[str]]:
    """Two threads, each adding a job and claiming it; the ids of those that were acknowledged."""
    done, errors, over = list[str](), list[BaseException](), threading.Event()

    def work(name: str) -> None:
        store = ground.open()
        for number in itertools.count():
            if over.is_set():
                return
            insist(lambda number=number: store.add([new_job(f"{name}{number}", queue=name)]))
            taken = insist(lambda: store.claim(name, (name,), 1, LEASE))
            done.extend(job.id for job in taken)

    def run(name: str) -> None:
        try:
            work(name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("x", "y")]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert errors == []


def insist(verb: Callable[[], Any]) -> Any:
    """Repeat until no move interferes."""
    while True:
        try:
            return verb()
        except StoreUnavailable:
            continue


def test_a_redirection_loop_ends_with_an_error(ground: RedisGround, cluster: RedisCluster) -> None:
    slot, owner, other = cluster.slot(ground.name), cluster.owner(ground.name), cluster.stranger(ground.name)
    owner.call("CLUSTER", "SETSLOT", slot, "NODE", other.call("CLUSTER", "MYID"))
    with closing(RedisStore(other.url(name=ground.name))) as store:
        with pytest.raises(StoreUnavailable) as caught:
            store.counts(Filter())
        assert (
            caught.value.hint == "the nodes of the cluster disagree about where the queue is; try again later"
        )
        owner.call("CLUSTER", "SETSLOT", slot, "NODE", owner.call("CLUSTER", "MYID"))
        assert store.add([new_job("a")])[0].status == "added"


# Nodes that die


@pytest.fixture(params=["redis", "valkey"])
def own_cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """One of which a node may die."""
    with closing(RedisCluster(request.param)) as cluster:
        cluster.start()
        yield cluster


@pytest.mark.parametrize("way", WAYS)
def test_after_a_failover_the_new_node_of_the_queue_is_found(own_cluster: RedisCluster, way: str) -> None:
    """This works even if the URL names the dead node."""
    ground = RedisGround(own_cluster)
    owner = own_cluster.owner(ground.name)
    url = owner.url(name=ground.name)
    with closing(replica_in(own_cluster, owner)) as replica, closing(RedisStore(url, patience=1.0)) as store:
        store.add([new_job("a")])
        eventually(lambda: replica.call("DBSIZE") == owner.call("DBSIZE"), what="the replica has all")
        getattr(owner, way)()
        assert eventually(lambda: answered(lambda: store.claim("w1", (), 1, LEASE)), within=60)[0].id == "a"
        assert first(store) == (replica.host, replica.port)
        news = store.subscribe(topics.WORK)
        eventually(
            lambda: answered(lambda: news.wait(0.1)) is False, within=30, what="a waiter that hears again"
        )
        with closing(RedisStore(replica.url(name=ground.name))) as other:
            other.add([new_job("b")])
        assert news.wait(30) is True
        owner.resume()


def test_a_replaced_node_is_not_called_again(own_cluster: RedisCluster) -> None:
    ground = RedisGround(own_cluster)
    owner = own_cluster.owner(ground.name)
    with closing(replica_in(own_cluster, owner)) as replica, closing(ground.open()) as store:
        store.add([new_job("a")])
        assert {place(node) for node in own_cluster.nodes} <= places(store)
        eventually(lambda: replica.call("DBSIZE") == owner.call("DBSIZE"), what="the replica has all")
        owner.kill()
        assert eventually(lambda: answered(lambda: store.claim("w1", (), 1, LEASE)), within=60)[0].id == "a"
        left = {place(node) for node in (*own_cluster.nodes, replica) if node is not owner}
        eventually(lambda: greeted_anew(store) and places(store) == left, what="the dead one is forgotten")


def greeted_anew(store: Any) -> bool:
    """Whether a new connection can be had."""
    return answered(lambda: store.session.own().disconnect() or True) is True


def place(node: RedisServer) -> tuple[str, int]:
    return node.host, node.port


def places(store: Any) -> set[tuple[str, int]]:
    """All nodes that the store knows."""
    return set(store.session.route.nodes())


@contextmanager
def deaf() -> Iterator[tuple[str, int]]:
    """An address that neither answers nor refuses connections."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with ExitStack() as stack:
            for _ in range(3):
                caller = stack.enter_context(closing(socket.socket()))
                caller.setblocking(False)
                caller.connect_ex(listener.getsockname())
            yield listener.getsockname()


def test_nodes_that_do_not_answer_share_one_timeout(own_redis: RedisServer) -> None:
    ground = RedisGround(own_redis)
    with (
        deaf() as one,
        deaf() as other,
        closing(RedisStore(ground.url, patience=6.0)) as store,
    ):
        store.session.route.prefer(one)
        store.session.route.prefer(other)
        began = time.monotonic()
        assert store.counts(Filter()).total() == 0
        assert time.monotonic() - began < 6.0
        assert first(store) == (own_redis.host, own_redis.port)
    ground.close()


def test_a_cluster_without_one_of_its_nodes_is_reported(own_cluster: RedisCluster) -> None:
    ground = RedisGround(own_cluster)
    others = [node for node in own_cluster.nodes if node is not own_cluster.owner(ground.name)]
    with closing(RedisStore(ground.url)) as store:
        store.add([new_job("a")])
        others[0].kill()
        hint = eventually(lambda: hint_of(lambda: store.counts(Filter())), within=30)
        assert hint == "a node of the cluster is down; find it with: redis-cli CLUSTER NODES; try again later"
        others[0].start()
        assert eventually(lambda: answered(lambda: store.counts(Filter())), within=30).total() == 1


def hint_of(verb: Callable[[], Any]) -> str | None:
    """What to do next, if it is not done."""
    try:
        verb()
    except StoreUnavailable as error:
        return error.hint
    return None


def answered(verb: Callable[[], Any]) -> Any:
    """The answer of the server, or None."""
    try:
        return verb()
    except (OutcomeUnknown, StoreUnavailable):
        return None
