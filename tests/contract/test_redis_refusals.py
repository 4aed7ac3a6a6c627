"""A Redis or a Valkey that could lose jobs is refused, with the reason and a command that corrects it."""

import shlex
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from contract.grounds import RedisGround
from factories import new_job
from facts import eventually
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.redis import RedisStore, schema
from queuectl.store.redis.description import Server, refuse_unfit
from servers.daemon import Daemon
from servers.endpoint import free_port
from servers.redis import PROGRAMS, RedisServer, installed, replica_of

FOR_LONG = 100_000
"""Microseconds for which a server rests after each key, while it writes its log."""
KEYS = 2000


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """One of each; what is changed of it is put back."""
    return request.getfixturevalue("own_redis" if request.param == "redis" else "valkey_server")


@pytest.fixture
def ground(server: RedisServer) -> Iterator[RedisGround]:
    ground = RedisGround(server)
    yield ground
    ground.close()


@contextmanager
def told(server: RedisServer, **settings: Any) -> Iterator[None]:
    """Let a server be set up otherwise for a while."""
    names = {name.replace("_", "-"): value for name, value in settings.items()}
    before = {name: server.call("CONFIG", "GET", name)[1] for name in names}
    for name, value in names.items():
        server.call("CONFIG", "SET", name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            server.call("CONFIG", "SET", name, value)


def refusal(ground: RedisGround, kind: type[Exception] = StoreUnusable, **params: Any) -> tuple[str, str]:
    """The error of a new handle."""
    with (
        closing(RedisStore(ground.server.url(name=ground.name, **params))) as store,
        pytest.raises(kind) as caught,
    ):
        store.counts(Filter())
    return caught.value.message, caught.value.hint  # type: ignore[attr-defined]


def described(ground: RedisGround, **params: Any) -> Any:
    with closing(RedisStore(ground.server.url(name=ground.name, **params))) as store:
        return store.describe()


UNSAFE: dict[str, tuple[str, str]] = {
    "appendonly": ("no", "yes"),
    "appendfsync": ("everysec", "always"),
    "no-appendfsync-on-rewrite": ("yes", "no"),
}
"""A setting, how it loses jobs, and how not."""


@pytest.mark.parametrize("setting", UNSAFE)
def test_a_setting_that_would_lose_jobs_is_refused_with_a_correction(
    ground: RedisGround, server: RedisServer, setting: str
) -> None:
    wrong, right = UNSAFE[setting]
    with told(server, **{setting: wrong}):
        message, hint = refusal(ground)
        assert message.endswith(f"would lose acknowledged jobs at a power failure: {setting} = {wrong}")
        command, _, rest = hint.removeprefix("run: ").partition("; ")
        assert rest == f"write it into {server.product}.conf as well; or accept it with ?durability=fast"
        program, *words = shlex.split(command)
        assert program == f"{server.product}-cli"
        server.call(*words)
        assert server.call("CONFIG", "GET", setting)[1].decode() == right
        eventually(lambda: described(ground, durability="fast").durability == "power-safe")
        with closing(RedisStore(ground.url)) as store:
            assert store.add([new_job("a")])[0].status == "added"


@pytest.mark.parametrize("setting", UNSAFE)
def test_durability_fast_accepts_a_setting_that_may_lose_jobs(
    ground: RedisGround, server: RedisServer, setting: str
) -> None:
    wrong, _ = UNSAFE[setting]
    with told(server, **{setting: wrong}):
        found = described(ground, durability="fast")
        assert found.durability == "memory-safe"
        assert found.faults == (
            f"an acknowledged job may be lost at a power failure of the server: {setting} = {wrong}",
        )
        assert found.details[setting.replace("-", "_")] == wrong
    eventually(lambda: described(ground, durability="fast").durability == "power-safe")


def test_the_setting_appendfsync_no_is_refused(ground: RedisGround, server: RedisServer) -> None:
    with told(server, appendfsync="no"):
        assert "appendfsync = no" in refusal(ground)[0]


@pytest.mark.parametrize("params", [{}, {"durability": "fast"}])
@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_an_eviction_policy_is_refused_with_any_durability(
    ground: RedisGround, server: RedisServer, policy: str, params: dict[str, str]
) -> None:
    with told(server, maxmemory_policy=policy):
        message, hint = refusal(ground, **params)
    assert message.endswith(f"maxmemory-policy = {policy}")
    assert hint.startswith(f"run: {server.product}-cli CONFIG SET maxmemory-policy noeviction; write it")


def test_a_later_connection_is_checked_too(ground: RedisGround, server: RedisServer) -> None:
    with closing(RedisStore(ground.url)) as store:
        store.counts(Filter())
        with told(server, appendfsync="everysec"):
            store.counts(Filter())
            server.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(StoreUnusable, match="appendfsync = everysec"):
                eventually(lambda: answered(store) is None)
                answered(store)
        store.counts(Filter())


def test_a_replica_is_refused_with_the_address_of_its_primary(
    ground: RedisGround, server: RedisServer
) -> None:
    with closing(replica_of(server)) as replica:
        aside = RedisGround(replica)
        for params in ({}, {"durability": "fast"}):
            message, hint = refusal(aside, **params)
            assert message.endswith("is a read-only replica")
            assert hint == f"connect to the primary: {server.host}:{server.port}"


def test_a_user_that_cannot_read_the_settings_is_refused_with_a_hint(
    ground: RedisGround, server: RedisServer
) -> None:
    server.call("ACL", "SETUSER", "guest", "on", ">word", "~*", "&*", "+@all", "-config")
    login = {"user": "guest", "password": "word"}
    message, hint = refusal(ground, **login)
    assert message.endswith("appendfsync cannot be read")
    assert (
        hint == "let an administrator run: ACL SETUSER guest +config|get; or accept it with ?durability=fast"
    )
    assert described(ground, durability="fast", **login).details["appendfsync"].startswith("unseen")
    server.call("ACL", "SETUSER", "guest", "+config|get")
    assert described(ground, **login).durability == "power-safe"
    server.call("ACL", "DELUSER", "guest")


@pytest.fixture
def sentinel() -> Iterator[int]:
    """The port of a Sentinel."""
    daemon, port = Daemon("sentinel", ended_by=signal.SIGKILL), free_port()
    program = daemon.directory / "redis-sentinel"
    program.write_bytes(installed("redis").read_bytes())
    program.chmod(0o700)
    conf = daemon.directory / "conf"
    conf.write_text(f"port {port}\nbind 127.0.0.1\n")
    daemon.hand_over(daemon.directory)
    daemon.start(program, conf, "--sentinel", ready=lambda: "Sentinel ID" in daemon.log_text())
    yield port
    daemon.close()


def test_a_sentinel_is_recognized_and_refused(sentinel: int) -> None:
    for path in ("", "/0"):
        url = f"redis://127.0.0.1:{sentinel}{path}"
        with closing(RedisStore(url)) as store, pytest.raises(StoreUnusable, match="is a Sentinel"):
            store.counts(Filter())


FOUND = Server(
    product="Redis", version=(6, 2, 14), role="master", primary=None, mode="standalone", loading=False, history="",
    log=True, first_log=False, fsync="always", lazy="no", eviction="noeviction", memory=1, maxmemory=0, replicas=0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("version", "fit"), [((6, 0, 16), False), ((5,), False), ((6, 2), True), ((7, 0, 1), True)]
)
def test_a_server_that_is_too_old_is_refused(version: tuple[int, ...], fit: bool) -> None:
    found = replace(FOUND, version=version)
    if fit:
        refuse_unfit(found, "redis://one/0", None, fast=False)
        return
    with pytest.raises(StoreUnusable) as caught:
        refuse_unfit(found, "redis://one/0", None, fast=True)
    assert caught.value.message == f"redis://one/0 is Redis {'.'.join(map(str, version))}"
    assert caught.value.hint == "Redis 6.2 or later, or Valkey, is needed"


def test_a_memory_that_is_nearly_full_is_a_fault(ground: RedisGround, server: RedisServer) -> None:
    described(ground)  # the keys of the queue exist
    used = int(server.info("memory")["used_memory"])
    with told(server, maxmemory=int(used * 1.5)):
        assert described(ground).faults == ()
    with told(server, maxmemory=int(used * 1.05)):
        [fault] = described(ground).faults
    assert fault.endswith("% of maxmemory is used: raise it, or delete jobs: queuectl purge --older-than 1d")
    assert described(ground).faults == ()


def test_doctor_shows_the_settings_of_the_server(ground: RedisGround, server: RedisServer) -> None:
    details = described(ground).details
    assert details[server.product] == server.info("server")[f"{server.product}_version"]
    assert details["appendfsync"] == "always"
    assert details["no_appendfsync_on_rewrite"] == "no"
    assert details["maxmemory"] == "none"
    assert details["replicas"] == "0"
    assert int(details["bytes"]) > 0
    assert "waits_for_disk" not in details


def test_doctor_shows_the_schema_of_the_queue(ground: RedisGround, server: RedisServer) -> None:
    assert described(ground).schema == schema.NEWEST
    with closing(RedisStore(ground.url)) as store:
        store.counts(Filter())
        server.call("SET", f"{ground.tag}:schema", schema.NEWEST + 1)
        assert store.describe().schema == schema.NEWEST + 1
    with pytest.raises(StoreUnusable, match="knows schemas up to"):
        described(ground)


# A log that is not complete yet


@pytest.fixture(params=list(PROGRAMS))
def own_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server without data of other tests, which has not started yet."""
    with closing(RedisServer(request.param)) as server:
        yield server


def filled(server: RedisServer) -> RedisServer:
    """Start the server with some keys, and let it rewrite its log slowly."""
    server.settings = {**server.settings, "rdb_key_save_delay": FOR_LONG}
    server.start()
    words = [word for n in range(KEYS) for word in (f"stranger:{n}", "x" * 50)]
    server.call("MSET", *words)
    return server


def rewrites(server: RedisServer) -> bool:
    return server.info("persistence")["aof_rewrite_in_progress"] == "1"


def test_a_first_log_that_is_still_being_written_is_refused(own_server: RedisServer) -> None:
    own_server.settings = {"appendonly": "no"}
    server = filled(own_server)
    ground = RedisGround(server)
    server.call("CONFIG", "SET", "appendonly", "yes")
    for written in ("nothing", "something"):
        message, hint = refusal(ground, StoreUnavailable)
        assert message.endswith("is still writing the first"), written
        assert hint == "try again when it is complete, or accept it with ?durability=fast"
        server.call("SET", "stranger:0", "more")
    assert described(ground, durability="fast").durability == "memory-safe"
    server.call("CONFIG", "SET", "rdb-key-save-delay", 0)
    for writer in psutil.Process(server.pid).children():
        writer.kill()  # the next one is quick
    eventually(lambda: described(ground, durability="fast").durability == "power-safe", within=30)
    with closing(RedisStore(ground.url)) as store:
        store.add([new_job("a")])
        server.settings = {}
        server.kill()
        server.start()
        assert eventually(lambda: answered(store)) == 1


def answered(store: RedisStore) -> int | None:
    try:
        return store.counts(Filter()).total()
    except StoreUnavailable:
        return None


def test_a_first_log_that_failed_and_will_be_restarted_is_refused(own_server: RedisServer) -> None:
    own_server.settings = {"appendonly": "no"}
    server = filled(own_server)
    ground = RedisGround(server)
    server.call("CONFIG", "SET", "appendonly", "yes")
    server.call("CONFIG", "SET", "rdb-key-save-delay", FOR_LONG)
    first = [child.pid for child in psutil.Process(server.pid).children()]
    for pid in first:
        psutil.Process(pid).kill()
    eventually(lambda: not any(map(psutil.pid_exists, first)))
    assert refusal(ground, StoreUnavailable)[0].endswith("is still writing the first")


@pytest.mark.parametrize("fresh", [True, False], ids=["never written anew", "after a restart"])
def test_a_log_that_is_being_rewritten_is_accepted(own_server: RedisServer, fresh: bool) -> None:
    """A busy server rewrites its log frequently."""
    server = filled(own_server)
    ground = RedisGround(server)
    if not fresh:
        server.restart()
    server.call("BGREWRITEAOF")
    for n in range(3):
        assert rewrites(server)
        with closing(RedisStore(ground.url)) as store:
            assert store.describe().durability == "power-safe"
            assert store.add([new_job(f"a{n}")])[0].status == "added"
    server.kill()
    server.start()
    with closing(RedisStore(ground.url)) as store:
        assert store.counts(Filter()).total() == 3
