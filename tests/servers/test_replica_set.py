"""The replica sets of the tests elect a primary and work again after each disturbance."""

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import NotPrimaryError, OperationFailure, ServerSelectionTimeoutError
from pymongo.write_concern import WriteConcern

from e2e.harness import alive
from facts import eventually
from servers.mongo import connect
from servers.replica_set import Member, ReplicaSet

SURE = WriteConcern(w="majority", j=True)


@pytest.fixture
def alone(mongo_set: ReplicaSet) -> Iterator[ReplicaSet]:
    """A set of one, with nothing noted."""
    yield mongo_set
    forget(mongo_set)


@pytest.fixture
def trio(mongo_trio: ReplicaSet) -> Iterator[ReplicaSet]:
    """A set of three, with nothing noted."""
    yield mongo_trio
    forget(mongo_trio)


@pytest.fixture(params=["alone", "trio"])
def either(request: pytest.FixtureRequest) -> ReplicaSet:
    """The set of one and the set of three."""
    chosen: ReplicaSet = request.getfixturevalue(request.param)
    return chosen


def note(servers: ReplicaSet, word: str, **options: Any) -> None:
    """Store a word durably and once."""
    with MongoClient(servers.url(), retryWrites=False, **options) as client:
        client.test.get_collection("noted", write_concern=SURE).insert_one({"_id": word})


def words(servers: ReplicaSet) -> list[str]:
    """The stored words."""
    with MongoClient(servers.url()) as client:
        return sorted(document["_id"] for document in client.test.noted.find())


def forget(servers: ReplicaSet) -> None:
    """Delete all stored words."""
    servers.start()
    with MongoClient(servers.url()) as client:
        client.test.noted.drop()


def election(member: Member) -> Any:
    """The identity of the election in which this member became primary."""
    with connect(member) as client:
        return client.admin.command("hello")["electionId"]


def test_a_started_set_has_elected_a_primary(either: ReplicaSet) -> None:
    note(either, "kept")
    assert words(either) == ["kept"]
    assert either.primary in either.members


def test_a_wrong_password_is_refused(either: ReplicaSet) -> None:
    with (
        MongoClient(either.url().replace("sesame", "barley")) as client,
        pytest.raises(OperationFailure, match="Authentication failed"),
    ):
        client.test.noted.find_one()


def test_a_set_supports_transactions(alone: ReplicaSet) -> None:
    with (
        MongoClient(alone.url()) as client,
        client.start_session() as session,
        session.start_transaction(),
    ):
        client.test.noted.insert_one({"_id": "undone"}, session=session)
        session.abort_transaction()
    assert words(alone) == []


def test_all_members_receive_a_write(trio: ReplicaSet) -> None:
    with MongoClient(trio.url()) as client:
        client.test.noted.with_options(write_concern=WriteConcern(w=3)).insert_one({"_id": "everywhere"})
    for member in trio.members:
        with connect(member) as client:
            assert client.test.noted.find_one() == {"_id": "everywhere"}


def test_the_only_member_is_elected_again_after_a_step_down(alone: ReplicaSet) -> None:
    before = election(alone.primary)
    assert alone.step_down() is alone.members[0]
    assert election(alone.primary) > before


def test_another_member_is_elected_after_a_step_down(trio: ReplicaSet) -> None:
    former = trio.primary
    assert trio.step_down() is not former
    note(trio, "after")
    with connect(former, retryWrites=False) as client, pytest.raises(NotPrimaryError):
        client.test.noted.drop()


def test_a_set_can_be_without_a_primary(either: ReplicaSet) -> None:
    with either.without_primary(), pytest.raises(ServerSelectionTimeoutError):
        note(either, "inside", serverSelectionTimeoutMS=1500)  # an election takes less
    note(either, "after")
    assert words(either) == ["after"]


def test_another_member_with_all_data_is_elected_after_a_kill(trio: ReplicaSet) -> None:
    note(trio, "before")
    killed = trio.kill_primary()
    assert not killed.running
    assert trio.primary is not killed
    note(trio, "meanwhile")
    trio.restart(killed)
    assert words(trio) == ["before", "meanwhile"]


def test_another_member_is_elected_while_the_primary_is_paused(trio: ReplicaSet) -> None:
    paused = trio.primary
    trio.pause(paused)
    assert trio.primary is not paused
    trio.resume(paused)
    with connect(paused) as client:
        eventually(lambda: client.admin.command("hello")["secondary"], within=30, what="its place")


def test_an_acknowledged_write_survives_a_kill_of_all_members(either: ReplicaSet) -> None:
    note(either, "kept")
    for member in either.members:
        member.kill()
    either.start()
    assert words(either) == ["kept"]


def test_a_start_restarts_dead_and_paused_members(trio: ReplicaSet) -> None:
    trio.kill_primary()
    trio.pause(trio.primary)
    trio.start()
    assert all(member.awake for member in trio.members)
    assert trio.primary


def test_closing_ends_all_members_and_removes_their_directories() -> None:
    servers = ReplicaSet(2)
    servers.start()
    servers.pause(servers.members[1])
    servers.close()
    servers.close()
    assert not any(alive(member.pid) or member.directory.exists() for member in servers.members)
