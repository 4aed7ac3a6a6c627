"""The network proxy of the tests with MongoDB: single replies are lost completely."""

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ConnectionFailure

from facts import eventually
from servers.mongo import GivenMongo, MongoServer, connect
from servers.proxy import Proxy


@pytest.fixture
def direct(mongo_server: MongoServer | GivenMongo) -> Iterator[MongoClient]:
    """A client that passes the network by, with nothing noted."""
    with connect(mongo_server) as client:
        yield client
        client.test.noted.drop()


@pytest.fixture
def through(
    mongo_server: MongoServer | GivenMongo, mongo_proxy: Proxy, direct: MongoClient
) -> Iterator[MongoClient]:
    """A client through the proxy that sends each request once."""
    with client_of(mongo_server.url(host=mongo_proxy.host, port=mongo_proxy.port)) as client:
        yield client


def client_of(url: str, **options: Any) -> MongoClient:
    """A client that sends each request once and waits for at most two seconds."""
    limits = {"socketTimeoutMS": 2000, "serverSelectionTimeoutMS": 2000}
    return MongoClient(url, directConnection=True, retryWrites=False, **limits, **options)


def note(client: MongoClient, word: str, more: str = "") -> None:
    """Store a word."""
    client.test.noted.insert_one({"_id": word, "more": more})


def words(client: MongoClient) -> list[str]:
    """The stored words."""
    return sorted(document["_id"] for document in client.test.noted.find())


def test_the_proxy_passes_data_through(through: MongoClient) -> None:
    note(through, "long", "a" * 5_000_000)
    assert len(through.test.noted.find_one()["more"]) == 5_000_000


def test_a_reply_is_lost_after_the_work_is_done(
    through: MongoClient, mongo_proxy: Proxy, direct: MongoClient
) -> None:
    mongo_proxy.lose_reply(b"precious")
    note(through, "ordinary")
    assert not mongo_proxy.lost.is_set()
    with pytest.raises(AutoReconnect):
        note(through, "precious")
    assert mongo_proxy.lost.is_set()
    assert words(direct) == ["ordinary", "precious"]


def test_a_lost_reply_can_be_selected_by_its_command(
    through: MongoClient, mongo_proxy: Proxy, direct: MongoClient
) -> None:
    note(through, "taken")
    mongo_proxy.lose_reply(b"findAndModify")
    with pytest.raises(AutoReconnect):
        through.test.noted.find_one_and_delete({})
    assert words(direct) == []


def test_the_reply_to_a_request_in_pieces_is_lost_after_the_last_piece(
    through: MongoClient, mongo_proxy: Proxy, direct: MongoClient
) -> None:
    mongo_proxy.lose_reply(b"at its beginning")
    with pytest.raises(AutoReconnect):
        note(through, "at its beginning", "a" * 10_000_000)
    assert words(direct) == ["at its beginning"]


def test_a_reply_can_be_lost_without_a_disconnection(
    through: MongoClient, mongo_proxy: Proxy, direct: MongoClient
) -> None:
    mongo_proxy.black_hole_reply(b"unheard")
    with pytest.raises(AutoReconnect, match="timed out"):
        note(through, "unheard")
    assert mongo_proxy.lost.is_set()
    assert words(direct) == ["unheard"]


def test_only_one_reply_is_lost(through: MongoClient, mongo_proxy: Proxy, direct: MongoClient) -> None:
    mongo_proxy.lose_reply(b"twice")
    with pytest.raises(AutoReconnect):
        note(through, "twice")
    note(through, "not twice")
    assert words(direct) == ["not twice", "twice"]


def test_a_monitoring_connection_can_be_disconnected(
    mongo_server: MongoServer | GivenMongo, mongo_proxy: Proxy
) -> None:
    mongo_proxy.lose_reply(b"topologyVersion")  # in the one request that is answered without end
    url = mongo_server.url(host=mongo_proxy.host, port=mongo_proxy.port)
    with client_of(url, heartbeatFrequencyMS=500) as client:
        assert mongo_proxy.lost.wait(10)
        assert eventually(lambda: client.admin.command("ping")["ok"])


def test_a_refusing_proxy_accepts_no_connection(through: MongoClient, mongo_proxy: Proxy) -> None:
    note(through, "before")
    mongo_proxy.refuse()
    with pytest.raises(ConnectionFailure):
        note(through, "in vain")
    mongo_proxy.pass_through()
    note(through, "after")
    assert words(through) == ["after", "before"]
