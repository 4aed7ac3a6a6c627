"""The real servers of the tests: started at their first use and ended after the last test."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import closing

import pytest

from launcher import Launcher
from reaper import Reaper
from servers.bouncer import Bouncer
from servers.mongo import GivenMongo, MongoServer, mongo_of
from servers.postgres import GivenServer, PostgresServer, postgres_of
from servers.proxy import Proxy
from servers.redis import GivenRedis, RedisServer, redis_of
from servers.redis_cluster import RedisCluster
from servers.replica_set import ReplicaSet
from servers.talk import MongoTalk, PostgresTalk, RedisTalk

pytest_plugins = ["circles", "again"]

# If compiled files cannot be stored, every process that a test starts compiles the whole package, and so does pytest.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A script that starts the suite in the background leaves SIGINT ignored, and nohup leaves SIGHUP ignored. Programs
# that the tests start would inherit that, and a worker keeps an ignored signal ignored: it would not receive the
# Ctrl+C of a test.
for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)


REAPER = pytest.StashKey[Reaper]()


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    runs_tests = hasattr(config, "workerinput") or not config.getoption("numprocesses", None)
    if runs_tests and not config.option.collectonly:
        base: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
        config.stash[REAPER] = Reaper(base.getbasetemp())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the thousands of collected tests from the garbage collector: nothing of them becomes garbage before the end.

    Otherwise each full collection during the run goes through all of them, in each process of the run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    if REAPER in config.stash:
        config.stash[REAPER].close()


@pytest.fixture(scope="session")
def launcher(pytestconfig: pytest.Config) -> Iterator[Launcher | None]:
    """Starts processes of the command line without an interpreter for each. None in `make proof`."""
    if pytestconfig.getoption("circle") == "proof":
        yield None
        return
    with closing(Launcher()) as launcher:
        yield launcher


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | GivenServer]:
    """A PostgreSQL with an administrator's rights: one for all tests of this process."""
    server = postgres_of(os.environ)
    yield server
    server.close()


@pytest.fixture
def own_postgres(postgres_server: PostgresServer | GivenServer) -> PostgresServer:
    """The same, where it may be stopped and killed."""
    if not isinstance(postgres_server, PostgresServer):
        pytest.skip("the server of QUEUECTL_TEST_POSTGRES is not ours to stop")
    return postgres_server


@pytest.fixture(scope="session")
def bouncer(postgres_server: PostgresServer | GivenServer) -> Iterator[Bouncer]:
    """A pool in front of it that gives a connection away after each transaction."""
    if not Bouncer.available():
        pytest.skip("there is no pgbouncer here: it is in Debian's package pgbouncer")
    bouncer = Bouncer(postgres_server)
    bouncer.start()
    yield bouncer
    bouncer.close()


@pytest.fixture
def proxy(postgres_server: PostgresServer | GivenServer) -> Iterator[Proxy]:
    """A network between us and the server, for `postgres_server.url(host=proxy.host, port=proxy.port)`."""
    proxy = Proxy(postgres_server.host, postgres_server.port, talk=PostgresTalk)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[MongoServer | GivenMongo]:
    """A MongoDB with an administrator's rights: one for all tests of this process."""
    server = mongo_of(os.environ)
    yield server
    server.close()


@pytest.fixture
def own_mongo(mongo_server: MongoServer | GivenMongo) -> MongoServer:
    """The same, where it may be stopped and killed."""
    if not isinstance(mongo_server, MongoServer):
        pytest.skip("the server of QUEUECTL_TEST_MONGODB is not ours to stop")
    return mongo_server


@pytest.fixture
def mongo_proxy(mongo_server: MongoServer | GivenMongo) -> Iterator[Proxy]:
    """A network between us and the server, for `mongo_server.url(host=mongo_proxy.host, port=mongo_proxy.port)`."""
    proxy = Proxy(mongo_server.host, mongo_server.port, talk=MongoTalk)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def mongo_set() -> Iterator[ReplicaSet]:
    """A MongoDB that is a set of one, and can do what only sets can. It is left as it was found."""
    with closing(ReplicaSet(1)) as alone:
        alone.start()
        yield alone


@pytest.fixture(scope="module")
def three_mongos() -> Iterator[ReplicaSet]:
    """The three servers that `mongo_trio` restores."""
    with closing(ReplicaSet(3)) as trio:
        yield trio


@pytest.fixture
def mongo_trio(three_mongos: ReplicaSet) -> ReplicaSet:
    """A MongoDB of three servers; all three run at the start of each test."""
    three_mongos.start()
    return three_mongos


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer | GivenRedis]:
    """A Redis with an administrator's rights: one for all tests of this process."""
    with closing(redis_of(os.environ)) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    """The same of Valkey, always our own."""
    with closing(RedisServer("valkey")) as server:
        server.start()
        yield server


@pytest.fixture
def own_redis(redis_server: RedisServer | GivenRedis) -> RedisServer:
    """The Redis, where it may be stopped and killed."""
    if not isinstance(redis_server, RedisServer):
        pytest.skip("the server of QUEUECTL_TEST_REDIS is not ours to stop")
    return redis_server


@pytest.fixture
def redis_proxy(redis_server: RedisServer | GivenRedis) -> Iterator[Proxy]:
    """A network between us and the server, for `redis_server.url(host=redis_proxy.host, port=redis_proxy.port)`."""
    with closing(Proxy(redis_server.host, redis_server.port, talk=RedisTalk)) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A cluster of three Redis, all there and well."""
    with closing(RedisCluster()) as cluster:
        cluster.start()
        yield cluster
