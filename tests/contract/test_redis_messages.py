"""Messages of Redis, Valkey and networks about failed connections and commands, and the errors and hints that
follow."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from contract.grounds import RedisGround
from contract.test_redis_faults import LOOKS, VERBS
from factories import in_state, new_job
from facts import eventually
from queuectl.domain import topics
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.redis import RedisStore, purge
from servers.redis import RedisServer


def test_a_refusal_during_a_call_means_that_nothing_was_done(valkey_server: RedisServer) -> None:
    """The library treats LOADING as a broken connection, after which the outcome would be unknown."""
    ground = RedisGround(valkey_server)
    store: Any = ground.open()
    store.counts(Filter())

    def refuse(_line: Any) -> None:
        raise BaseParser.parse_error("LOADING Redis is loading the dataset in memory")

    with pytest.raises(StoreUnavailable) as caught:
        store.session.write(refuse)
    assert caught.value.hint == "the server reads its data from disk; try again later"
    ground.close()


# On the way there


def refusal(url: str) -> QueuectlError:
    """The error for this URL."""
    with closing(RedisStore(url, patience=1.0)) as store, pytest.raises(QueuectlError) as caught:
        store.counts(Filter())
    return caught.value


def test_the_error_for_too_many_clients_has_a_hint(valkey_server: RedisServer) -> None:
    before = valkey_server.call("CONFIG", "GET", "maxclients")[1]
    valkey_server.call("CONFIG", "SET", "maxclients", 2)
    idle = [socket.create_connection((valkey_server.host, valkey_server.port)) for _ in range(2)]
    try:
        assert eventually(
            lambda: refusal(valkey_server.url()).hint == "end idle clients, or raise maxclients"
        )
    finally:
        for connection in idle:
            connection.close()
        eventually(lambda: _may_set(valkey_server, before))


def _may_set(server: RedisServer, clients: bytes) -> bool:
    try:
        return bool(server.call("CONFIG", "SET", "maxclients", clients) == b"OK")
    except exceptions.ConnectionError:
        return False


# The rights of a user


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """A Redis and a Valkey."""
    return request.getfixturevalue("own_redis" if request.param == "redis" else "valkey_server")


def test_the_hint_for_a_user_without_rights_grants_all_that_is_needed(server: RedisServer) -> None:
    """With these rights every verb works, also on a cluster."""
    ground = RedisGround(server)
    server.call("ACL", "SETUSER", "bob", "on", ">word", "+ping")
    with closing(RedisStore(server.url(name=ground.name, user="bob", password="word"))) as store:
        for _lacks in ("commands", "keys"):
            with pytest.raises(StoreUnusable) as caught:
                store.counts(Filter())
            command = (caught.value.hint or "").removeprefix("let an administrator run: ")
            assert command.startswith("ACL SETUSER bob ")
            server.call(*command.replace("'", "").split())
        if server.product == "valkey":  # Redis 6.2 gives a new user all channels
            server.call("ACL", "SETUSER", "bob", f"&{{{ground.name}}}*")
        for verb in (*VERBS.values(), *LOOKS.values()):
            verb(store)
        assert store.describe(thorough=True).durability == "power-safe"
        store.subscribe(topics.WORK).wait(0.1)
        assert store._listener.is_subscribed
    for forbidden in ("FLUSHALL", "CONFIG SET maxmemory 1", "SHUTDOWN", "GET another"):
        with pytest.raises(exceptions.NoPermissionError):
            _as_bob(server, *forbidden.split())
    server.call("ACL", "DELUSER", "bob")
    ground.close()


def _as_bob(server: RedisServer, *words: str) -> None:
    from servers.redis import Caller, GivenRedis

    with closing(Caller(GivenRedis(server.url(user="bob", password="word")))) as caller:
        caller.call(*words)


def test_a_script_that_hangs_does_not_block_a_call_for_ever(server: RedisServer) -> None:
    ground = RedisGround(server)
    before = server.call("CONFIG", "GET", "lua-time-limit")[1]
    server.call("CONFIG", "SET", "lua-time-limit", 1)
    with closing(RedisStore(ground.url, patience=5.0)) as store:
        store.add([new_job("a")])
        script = "while redis.call('TIME') do end"
        hanging = threading.Thread(target=_ended, args=(server, "EVAL", script, 0))
        hanging.start()
        hint = eventually(lambda: _hint(store), what="it is busy")
        server.call("SCRIPT", "KILL")
        hanging.join()
        assert store.counts(Filter()).total() == 1
    server.call("CONFIG", "SET", "lua-time-limit", before)
    assert (
        hint
        == "another script runs there; try again later; if that script never ends, run: redis-cli SCRIPT KILL"
    )
    ground.close()


def _ended(server: RedisServer, *words: str | int) -> None:
    with pytest.raises(exceptions.ResponseError):
        server.call(*words)


def _hint(store: RedisStore) -> str | None:
    try:
        store.counts(Filter())
    except StoreUnavailable as error:
        return error.hint
    return None


@contextmanager
def unwilling(server: RedisServer) -> Iterator[None]:
    """Let a server refuse all changes and answer all questions."""
    server.call("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        yield
    finally:
        server.call("CONFIG", "SET", "min-replicas-to-write", 0)


def test_a_refusal_after_only_reads_means_that_nothing_was_done(server: RedisServer) -> None:
    ground = RedisGround(server)
    store: Any = ground.open()
    store.add([in_state("completed", "a"), in_state("completed", "b")])
    with unwilling(server), pytest.raises(StoreUnavailable, match="NOREPLICAS"):
        store.purge(Filter(), 9)

    def purge_twice(line: Any) -> None:
        purge.purge(line, Filter(), 1, store._moment())
        with unwilling(server):
            purge.purge(line, Filter(), 1, store._moment())

    with pytest.raises(OutcomeUnknown, match="a part was done before"):
        store.session.write(purge_twice)
    assert store.counts(Filter()).total() == 1
    ground.close()


def test_too_few_replicas_make_the_store_unavailable(server: RedisServer) -> None:
    ground = RedisGround(server)
    store = ground.open()
    store.add([new_job("a")])
    with unwilling(server), pytest.raises(StoreUnavailable) as caught:
        store.add([new_job("b")])
    assert (
        caught.value.hint
        == "fewer replicas are connected than min-replicas-to-write requires; try again later"
    )
    assert store.counts(Filter()).total() == 1
    ground.close()
