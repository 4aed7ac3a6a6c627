"""A MongoDB that refuses requests: requests that were not executed are repeated, others have an unknown outcome."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from circles import turns
from contract.grounds import MongoGround
from contract.test_workers import worker
from factories import LEASE, NOW, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput, OutcomeUnknown, StoreUnavailable, StoreUnusable
from queuectl.store.protocol import AttemptRef, Store
from servers.mongo import GivenMongo, MongoServer, fail_command
from servers.replica_set import ReplicaSet

NO_PRIMARY = {91: "ShutdownInProgress", 189: "PrimarySteppedDown", 10107: "NotWritablePrimary",
              11600: "InterruptedAtShutdown", 11602: "InterruptedDueToReplStateChange"}  # fmt: skip
"""The codes of a server that is not, or no longer, the primary."""
TOO_SLOW = 50
OURS = {"appName": "queuectl"}
QUICK = "&heartbeatFrequencyMS=500"
"""A real server reports a change of its state at once; a simulated failure is detected by the next check."""


@pytest.fixture
def alone(mongo_server: MongoServer | GivenMongo) -> Iterator[MongoGround]:
    """A database in a standalone server."""
    ground = MongoGround(mongo_server)
    yield ground
    ground.close()


@pytest.fixture
def replicated(mongo_set: ReplicaSet) -> Iterator[MongoGround]:
    """A database in a replica set."""
    ground = MongoGround(mongo_set)
    yield ground
    ground.close()


def prepared(ground: MongoGround, patience: float = 5.0, **options: Any) -> Store:
    """A handle, and some jobs: two that are held and one that waits."""
    ground.url += QUICK if QUICK not in ground.url else ""
    store = ground.open(patience=patience, **options)
    store.add([new_job("a"), new_job("b"), new_job("c")])
    assert [job.id for job in store.claim("w1", (), 2, LEASE)] == ["a", "b"]
    return store


def saving(store: Store) -> Any:
    jobs = store.get(["a", "b"]).values()
    ended = [lifecycle.finish(job, report(now=NOW), now=NOW, random_number=0.5) for job in jobs]
    return statuses(store.save(ended))


def adding(store: Store) -> Any:
    return [added.status for added in store.add([new_job("x"), new_job("y")])]


def claiming(store: Store) -> Any:
    return [job.id for job in store.claim("w1", (), 5, LEASE)]


def renewing(store: Store) -> Any:
    held = [(job.id, job.attempt_id or "") for job in store.get(["a", "b"]).values()]
    return [job.id for job in store.renew("w1", [AttemptRef(*each) for each in held], LEASE)]


def beating(store: Store) -> Any:
    return store.heartbeat(worker("w1"))


# Each verb, the command with which it changes something, and what it answers where that is done.
REPEATED: dict[str, tuple[Callable[[Store], Any], str, Any]] = {
    "add": (adding, "insert", ["added", "added"]),
    "save": (saving, "update", ["accepted", "accepted"]),
    "heartbeat": (beating, "findAndModify", None),
}
SAID_ONCE: dict[str, tuple[Callable[[Store], Any], str, Any]] = {
    "claim": (claiming, "update", ["c"]),
    "renew": (renewing, "update", ["a", "b"]),
}
"""The driver does not repeat a request that changes many documents."""
VERBS = REPEATED | SAID_ONCE


def sound(store: Store, jobs: int) -> None:
    assert store.counts(Filter()).total() == jobs
    assert store.describe(thorough=True).faults == ()


@pytest.mark.parametrize(
    ("verb", "code"),
    turns([*product(VERBS, (11600, TOO_SLOW)), ("add", 91), ("save", 10107), ("claim", 11602)], 2),
)
def test_a_refusal_of_a_standalone_server_changes_nothing(
    alone: MongoGround, mongo_server: MongoServer, verb: str, code: int
) -> None:
    store = prepared(alone)
    work, command, answer = VERBS[verb]
    with (
        fail_command(mongo_server, command, errorCode=code, **OURS),
        pytest.raises((OutcomeUnknown, StoreUnavailable)),
    ):
        work(store)
    assert work(store) == answer
    sound(store, 5 if verb == "add" else 3)


@pytest.mark.parametrize(
    ("verb", "code"),
    turns([*product(("add",), NO_PRIMARY), *product(("save", "heartbeat"), (189, 11600))], 2),
)
def test_a_request_during_an_election_is_repeated_silently(
    replicated: MongoGround, mongo_set: ReplicaSet, verb: str, code: int
) -> None:
    store = prepared(replicated)
    work, command, answer = REPEATED[verb]
    with fail_command(mongo_set.primary, command, mode={"times": 1}, errorCode=code, **OURS) as failure:
        before = failure.times
        assert work(store) == answer
        assert failure.times == before + 1
    sound(store, 5 if verb == "add" else 3)


@pytest.mark.parametrize(
    ("verb", "code"),
    turns([*product(VERBS, (TOO_SLOW,)), ("add", 11602), ("save", 91), ("claim", 10107)], 2),
)
def test_a_set_that_refuses_repeatedly_fails_within_the_timeout(
    replicated: MongoGround, mongo_set: ReplicaSet, verb: str, code: int
) -> None:
    # pymongo repeats a refused write without a pause until its time is over: each second costs one of CPU.
    store = prepared(replicated, patience=3.0)
    work, command, answer = VERBS[verb]
    with (
        fail_command(mongo_set.primary, command, errorCode=code, **OURS),
        pytest.raises((OutcomeUnknown, StoreUnavailable)),
    ):
        work(store)
    assert work(store) == answer
    sound(store, 5 if verb == "add" else 3)


DONE_ALREADY = {"add": ["existing", "existing"], "save": ["stale", "stale"], "claim": []}


@pytest.mark.parametrize(
    ("verb", "code"), [("add", 64), ("save", 64), ("claim", 64), ("add", 91), ("claim", 11602)]
)
def test_a_write_concern_error_of_a_standalone_server_is_unknown(
    alone: MongoGround, mongo_server: MongoServer, verb: str, code: int
) -> None:
    store = prepared(alone)
    work, command, _ = VERBS[verb]
    jobs = list(store.get(["a", "b"]).values())
    unsure = {"code": code, "errmsg": "waiting for replication"}
    with (
        fail_command(mongo_server, command, writeConcernError=unsure, **OURS),
        pytest.raises(OutcomeUnknown),
    ):
        work(store)
    if verb == "save":
        ended = [lifecycle.finish(job, report(now=NOW), now=NOW, random_number=0.5) for job in jobs]
        assert statuses(store.save(ended)) == DONE_ALREADY[verb]
    else:
        assert work(store) == DONE_ALREADY[verb]
    sound(store, 5 if verb == "add" else 3)


@pytest.mark.parametrize("verb", ["add", "save"])
def test_a_write_concern_error_of_a_replica_set_is_repeated(
    replicated: MongoGround, mongo_set: ReplicaSet, verb: str
) -> None:
    store = prepared(replicated)
    work, command, answer = REPEATED[verb]
    unsure = {"code": 11602, "errmsg": "stepping down"}
    with fail_command(
        mongo_set.primary, command, mode={"times": 1}, writeConcernError=unsure, errorLabels=["RetryableWriteError"],
        **OURS,
    ):  # fmt: skip
        assert work(store) == answer
    sound(store, 5 if verb == "add" else 3)


@pytest.mark.parametrize(("verb", "times"), [("add", 1), ("save", 1), ("claim", 1), ("add", 1000)])
def test_a_connection_closed_without_an_answer_leaves_no_partial_change(
    replicated: MongoGround, alone: MongoGround, mongo_set: ReplicaSet, mongo_server: MongoServer, verb: str, times: int
) -> None:  # fmt: skip
    work, command, answer = VERBS[verb]
    for ground, server in ((replicated, mongo_set.primary), (alone, mongo_server)):
        store = prepared(ground)
        heals = ground is replicated and times == 1 and verb in REPEATED
        with fail_command(server, command, mode={"times": times}, closeConnection=True, **OURS):
            if heals:
                assert work(store) == answer
            else:
                with pytest.raises(OutcomeUnknown):
                    work(store)
        if not heals:
            assert work(store) == answer
        sound(store, 5 if verb == "add" else 3)


@pytest.mark.parametrize("command", ["find", "aggregate"])
def test_a_refused_read_is_unavailable_and_changes_nothing(
    alone: MongoGround, mongo_server: MongoServer, command: str
) -> None:
    store = prepared(alone)
    before = list(alone.base["jobs"].find())
    looks = {"find": lambda: store.get(["a"]), "aggregate": lambda: store.claim("w2", (), 1, LEASE)}
    for code in (TOO_SLOW, 11600):
        with (
            fail_command(mongo_server, command, errorCode=code, **OURS),
            pytest.raises(StoreUnavailable),
        ):
            looks[command]()
    assert list(alone.base["jobs"].find()) == before


def test_a_removed_right_is_reported_with_a_hint(alone: MongoGround, mongo_server: MongoServer) -> None:
    store = prepared(alone)
    with (
        fail_command(mongo_server, "insert", errorCode=13, **OURS),
        pytest.raises(StoreUnusable) as caught,
    ):
        adding(store)
    assert "grantRolesToUser" in (caught.value.hint or "")
    assert alone.name in (caught.value.hint or "")


def test_a_job_that_is_too_large_is_refused_as_invalid(
    alone: MongoGround,
) -> None:
    store = prepared(alone)
    with pytest.raises(InvalidInput):
        store.add([new_job("large", command="x" * 17_000_000)])
    assert adding(store) == ["added", "added"]
    sound(store, 5)


def test_a_full_disk_is_reported_with_a_hint(alone: MongoGround, mongo_server: MongoServer) -> None:
    store = prepared(alone)
    with (
        fail_command(mongo_server, "insert", errorCode=14031, **OURS),
        pytest.raises(StoreUnavailable) as caught,
    ):
        adding(store)
    assert "space" in (caught.value.hint or "")
