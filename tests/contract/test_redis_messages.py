"""What Redis, Valkey and networks say of a connection or a command that fails, and what people are told."""

import socket
import socketserver
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
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.redis import RedisStore, purge
from queuectl.store.redis.address import parse
from queuectl.store.redis.faults import RIGHTS, Place
from servers.endpoint import free_port
from servers.redis import RedisServer

SHOWN = "redis://ada@db/0?name=jobs"
GRANT = "let an administrator run: ACL SETUSER ada"
COMMANDS, KEYS, CHANNELS = f"{GRANT} {RIGHTS}", f"{GRANT} '~{{jobs}}*'", f"{GRANT} '&{{jobs}}*'"
PASSWORD = "look at user and password; in the URL, special characters are written as %XX"
LATER = "try again later"
REPLICA = "it has become a read-only replica: try again later, and if it stays one, connect to the primary"
ROOM = "raise maxmemory, or delete jobs: queuectl purge --older-than 1d"
MOVES = "it moves to another node of the cluster; try again later"
IN_SCRIPT = "Error running script (call to f_d32b27d5cef39335eae387): @user_script:1: @user_script: 1: "

SAID = [
    ("WRONGPASS invalid username-password pair or user is disabled.", StoreUnusable,
     "WRONGPASS invalid username-password pair or user is disabled", PASSWORD),
    ("NOAUTH Authentication required.", StoreUnusable, "NOAUTH Authentication required", PASSWORD),
    ("ERR AUTH <password> called without any password configured for the default user. Are you sure your "
     "configuration is correct?", StoreUnusable, None, "leave the password out of the URL"),
    ("NOPERM this user has no permissions to run the 'eval' command or its subcommand", StoreUnusable,
     "NOPERM this user has no permissions to run the 'eval' command or its subcommand", COMMANDS),
    ("NOPERM No permissions to access a key", StoreUnusable, "NOPERM No permissions to access a key", KEYS),
    ("NOPERM this user has no permissions to access one of the keys used as arguments", StoreUnusable, None, KEYS),
    ("NOPERM this user has no permissions to access one of the channels used as arguments", StoreUnusable, None,
     CHANNELS),
    ("ERR ACL failure in script: No permissions to access a channel script: on @user_script:1.", StoreUnusable,
     "ERR ACL failure in script: No permissions to access a channel", CHANNELS),
    (f"ERR {IN_SCRIPT}The user executing the script can't publish to the channel mentioned in the command",
     StoreUnusable, None, CHANNELS),
    ("DENIED Redis is running in protected mode because protected mode is enabled", StoreUnusable, None,
     "give the server a password, or say which hosts it may listen to (bind)"),
    ("ERR SELECT is not allowed in cluster mode", StoreUnusable, "ERR SELECT is not allowed in cluster mode",
     "a cluster has only the database 0: end the URL with /0"),
    ("ERR DB index is out of range", StoreUnusable, "ERR DB index is out of range",
     "look at the number after the / of the URL; a cluster has only /0"),
    (f"ERR {IN_SCRIPT}-OOM command not allowed when used memory > 'maxmemory'.", StoreUnavailable,
     "OOM command not allowed when used memory > 'maxmemory'", ROOM),
    ("OOM command not allowed when used memory > 'maxmemory'. script: on @user_script:1.", StoreUnavailable,
     "OOM command not allowed when used memory > 'maxmemory'", ROOM),
    ("READONLY You can't write against a read only replica.", StoreUnavailable,
     "READONLY You can't write against a read only replica", REPLICA),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", StoreUnavailable,
     "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'", REPLICA),
    ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable, "NOREPLICAS Not enough good replicas to write",
     "fewer replicas are there than min-replicas-to-write asks for; try again later"),
    ("LOADING Redis is loading the dataset in memory", StoreUnavailable,
     "LOADING Redis is loading the dataset in memory", "it reads its data from disk; try again later"),
    ("MISCONF Errors writing to the AOF file: No space left on device", StoreUnavailable,
     "MISCONF Errors writing to the AOF file: No space left on device",
     "the server cannot write to its disk: look at the room there, and at its log"),
    ("BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", StoreUnavailable,
     None, "another script runs there; try again later, and if it never ends, run: redis-cli SCRIPT KILL"),
    ("ERR Error running script (call to f_1): @user_script:1: Script killed by user with SCRIPT KILL...",
     StoreUnavailable, None, LATER),
    ("CLUSTERDOWN Hash slot not served", StoreUnavailable, "CLUSTERDOWN Hash slot not served",
     "a node of the cluster is away: redis-cli CLUSTER NODES tells which; try again later"),
    ("ASK 3999 127.0.0.1:6381", StoreUnavailable, "ASK 3999 127.0.0.1:6381", MOVES),
    ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable,
     "TRYAGAIN Multiple keys request during rehashing of slot", MOVES),
    ("MOVED 3999 127.0.0.1:6381", StoreUnavailable, "MOVED 3999 127.0.0.1:6381",
     "the nodes of the cluster do not agree where it is; try again later"),
    ("ERR max number of clients reached", StoreUnavailable, None, "end idle clients, or raise maxclients"),
    ("ERR unknown command `EVALSHA`, with args beginning with: `a`, ", StoreUnusable, None,
     "does Redis run there? look at host and port"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "said", "hint"), SAID, ids=[text[:40] for text, *_ in SAID])
def test_what_a_server_says_is_passed_on_with_what_to_do(
    text: str, kind: type[QueuectlError], said: str | None, hint: str
) -> None:
    """As the library understands it, whose own kinds of errors tell less."""
    place = Place(parse("redis://ada:word@db/0?name=jobs"))
    error = BaseParser.parse_error(text)
    told = [place.said(error), place.unreachable(error)]
    assert [type(one) for one in told] == [kind, kind]
    assert {one.hint for one in told} == {hint}
    if said is not None:
        assert {one.message for one in told} == {f"{SHOWN}: {said.removeprefix('ERR ')}"}


def test_what_is_not_known_is_repeated() -> None:
    place = Place(parse("redis://h"))
    error = place.said(
        BaseParser.parse_error("WRONGTYPE Operation against a key holding the wrong kind of value")
    )
    assert type(error) is StoreUnusable
    assert error.message == (
        "redis://h/0: Redis says: WRONGTYPE Operation against a key holding the wrong kind of value"
    )


def test_a_server_that_says_no_in_the_middle_has_done_nothing(valkey_server: RedisServer) -> None:
    """The library takes LOADING for a broken connection, of which one could not know what was done."""
    ground = RedisGround(valkey_server)
    store: Any = ground.open()
    store.counts(Filter())

    def refuse(_line: Any) -> None:
        raise BaseParser.parse_error("LOADING Redis is loading the dataset in memory")

    with pytest.raises(StoreUnavailable) as caught:
        store.session.write(refuse)
    assert caught.value.hint == "it reads its data from disk; try again later"
    ground.close()


# On the way there


def refusal(url: str) -> QueuectlError:
    """What whoever uses this URL is told."""
    with closing(RedisStore(url, patience=1.0)) as store, pytest.raises(QueuectlError) as caught:
        store.counts(Filter())
    return caught.value


def test_where_nobody_listens_that_is_said() -> None:
    error = refusal(f"redis://127.0.0.1:{free_port()}/0")
    assert type(error) is StoreUnavailable
    assert error.hint == "does Redis run there? look at host and port"


def test_a_host_that_there_is_not_is_said_to_be() -> None:
    error = refusal("redis://no-such-host.invalid/0")
    assert type(error) is StoreUnavailable
    assert error.hint == "look at the name of the host"


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of a server that speaks of other things."""

    class Web(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_server_that_is_none_of_redis_is_told_apart(stranger: int) -> None:
    error = refusal(f"redis://127.0.0.1:{stranger}/0")
    assert error.hint == "does Redis run there? look at host and port"


def test_a_server_without_tls_is_told_apart(own_redis: RedisServer) -> None:
    error = refusal(f"rediss://127.0.0.1:{own_redis.port}/0")
    assert type(error) is StoreUnavailable
    assert (error.hint or "").endswith("look at host and port; or does it not speak TLS?")


@pytest.mark.parametrize("login", ["", ":open-barley@", "ada:open-barley@"])
def test_a_wrong_password_is_refused_and_not_repeated(own_redis: RedisServer, login: str) -> None:
    error = refusal(f"redis://{login}127.0.0.1:{own_redis.port}/0")
    assert type(error) is StoreUnusable
    assert error.hint == PASSWORD
    assert "barley" not in f"{error.message}{error.hint}"


def test_a_database_that_there_is_not_is_refused(own_redis: RedisServer) -> None:
    error = refusal(own_redis.url(99))
    assert type(error) is StoreUnusable
    assert error.hint == "look at the number after the / of the URL; a cluster has only /0"


def test_too_many_clients_are_told_what_to_do(valkey_server: RedisServer) -> None:
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
    """One of each."""
    return request.getfixturevalue("own_redis" if request.param == "redis" else "valkey_server")


def test_who_has_no_rights_is_told_the_command_that_gives_them(server: RedisServer) -> None:
    """And with them all can be done that a queue asks for, on a cluster as well."""
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
        store.wait(0.1)
        assert store._listener.follows
    for forbidden in ("FLUSHALL", "CONFIG SET maxmemory 1", "SHUTDOWN", "GET another"):
        with pytest.raises(exceptions.NoPermissionError):
            _as_bob(server, *forbidden.split())
    server.call("ACL", "DELUSER", "bob")
    ground.close()


def _as_bob(server: RedisServer, *words: str) -> None:
    from servers.redis import Caller, GivenRedis

    with closing(Caller(GivenRedis(server.url(user="bob", password="word")))) as caller:
        caller.call(*words)


def test_a_script_that_hangs_holds_nobody_up_for_ever(server: RedisServer) -> None:
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
        hint == "another script runs there; try again later, and if it never ends, run: redis-cli SCRIPT KILL"
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


def test_who_has_only_looked_before_it_was_refused_has_done_nothing(server: RedisServer) -> None:
    ground = RedisGround(server)
    store: Any = ground.open()
    store.add([in_state("completed", "a"), in_state("completed", "b")])
    with unwilling(server), pytest.raises(StoreUnavailable, match="NOREPLICAS"):
        store.purge(Filter(), 9)

    def purge_twice(line: Any) -> None:
        purge.purge(line, Filter(), 1, store.moment)
        with unwilling(server):
            purge.purge(line, Filter(), 1, store.moment)

    with pytest.raises(OutcomeUnknown, match="a part was done before"):
        store.session.write(purge_twice)
    assert store.counts(Filter()).total() == 1
    ground.close()


def test_too_few_replicas_are_no_place_to_write(server: RedisServer) -> None:
    ground = RedisGround(server)
    store = ground.open()
    store.add([new_job("a")])
    with unwilling(server), pytest.raises(StoreUnavailable) as caught:
        store.add([new_job("b")])
    assert (
        caught.value.hint == "fewer replicas are there than min-replicas-to-write asks for; try again later"
    )
    assert store.counts(Filter()).total() == 1
    ground.close()
