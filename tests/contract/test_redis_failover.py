"""A replica replaces the primary: changes that it had not received are lost, and calls that depend on them are refused.

`power-safe` promises no more; but a claim that is lost is fenced. What a worker then reports of it is refused, even
where the job has been claimed or changed again meanwhile, and has come to the same version.
"""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from contract.grounds import SteppedClock
from factories import LEASE, NOW, new_job, report, statuses
from facts import eventually
from queuectl.domain import lifecycle
from queuectl.domain.event import between
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.errors import OutcomeUnknown, StoreUnavailable, StoreUnusable
from queuectl.store.protocol import AttemptRef
from queuectl.store.redis import RedisStore
from servers.endpoint import free_port
from servers.proxy import Proxy
from servers.redis import RedisServer, replica_of
from servers.talk import RedisTalk


class Pair:
    """A primary and its replica, behind an address that leads to one of them."""

    def __init__(self, primary: RedisServer, replica: RedisServer, proxy: Proxy) -> None:
        self.primary, self.replica, self.proxy = primary, replica, proxy
        self.name = f"test_{secrets.token_hex(6)}"
        self.clock = SteppedClock()

    def open(self, **options: Any) -> RedisStore:
        """A handle on a queue at that address."""
        url = self.primary.url(name=self.name, host=self.proxy.host, port=self.proxy.port)
        return RedisStore(url, patience=2.0, clock=self.clock, **options)

    def caught_up(self) -> None:
        """Wait until the replica has all, and a complete log."""
        eventually(lambda: everything(self.replica) == everything(self.primary), what="the replica has all")
        eventually(lambda: has_log(self.replica), what="its log is complete")

    def part(self) -> None:
        """Disconnect the replica."""
        self.replica.call("REPLICAOF", self.primary.host, free_port())

    def promote(self) -> None:
        """The primary dies, and the replica takes its place and its address."""
        self.primary.kill()
        self.take_over()

    def take_over(self) -> None:
        """Give the address of the primary to the replica."""
        self.replica.call("REPLICAOF", "NO", "ONE")
        self.proxy.lead_to(self.replica.host, self.replica.port)


def has_log(server: RedisServer) -> bool:
    """Whether what it got from its primary is on its own disk."""
    return server.info("persistence")["aof_rewrite_in_progress"] == "0"


def everything(server: RedisServer) -> dict[bytes, bytes]:
    """All data of a server except keys that expire."""
    return {key: server.call("DUMP", key) for key in server.call("KEYS", "*") if b":rang:" not in key}


@pytest.fixture(params=["redis", "valkey"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with ExitStack() as stack:
        primary = stack.enter_context(closing(RedisServer(request.param)))
        primary.start()
        replica = stack.enter_context(closing(replica_of(primary)))
        proxy = stack.enter_context(closing(Proxy(primary.host, primary.port, talk=RedisTalk)))
        yield Pair(primary, replica, proxy)


@pytest.fixture
def store(pair: Pair) -> Iterator[RedisStore]:
    """A handle, with two jobs that have reached the replica: `a` is held by w1, `b` waits."""
    with closing(pair.open()) as store:
        store.add([new_job("a"), new_job("b")])
        assert [job.id for job in store.claim("w1", (), 1, LEASE)] == ["a"]
        pair.caught_up()
        yield store


def ended(job: Job, **fields: Any) -> Job:
    return lifecycle.finish(job, report(now=NOW, **fields), now=NOW, random_number=0.5)


def held(job: Job) -> AttemptRef:
    return AttemptRef(job.id, job.attempt_id or "")


@pytest.fixture
def lost_claim(pair: Pair, store: RedisStore) -> Job:
    """Job `b`, which w2 claimed before the failover; the new primary never received this claim."""
    pair.part()
    [claimed] = store.claim("w2", (), 1, LEASE)
    assert claimed.id == "b"
    pair.promote()
    return claimed


def test_a_reader_of_lost_events_gets_all_later_ones_and_a_gap(pair: Pair, store: RedisStore) -> None:
    jobs = [new_job(f"c{n}") for n in range(5)]
    events = [between(None, job) for job in jobs]
    store.add(jobs[:2], events[:2])
    kept = store.event_cursor(None)
    pair.caught_up()
    pair.part()
    store.add(jobs[2:4], events[2:4])
    lost = store.event_cursor(None)
    pair.promote()
    page = store.read_events(lost, 10)
    assert (page.events, page.next, page.gap) == ([], kept, True)
    assert store.read_events(kept, 10).gap is False
    store.add(jobs[4:], events[4:])
    for cursor, gap in ((lost, True), (kept, False), (page.next, False)):
        page = store.read_events(cursor, 10)
        assert ([event.job for _, event in page.events], page.gap) == (["c4"], gap)
    assert milliseconds(page.next) > milliseconds(lost) + 16 * 60_000, "the clock of the server may be behind"


def milliseconds(cursor: str) -> int:
    return int(cursor.partition("-")[0])


def test_the_store_continues_at_the_same_address(pair: Pair, store: RedisStore) -> None:
    pair.promote()
    assert store.counts(Filter()).states() == {"pending": 1, "processing": 1}
    assert store.add([new_job("c")])[0].status == "added"
    assert [job.id for job in store.claim("w2", (), 9, LEASE)] == ["b", "c"]
    assert store.describe(thorough=True).faults == ()


def test_only_changes_that_the_replica_had_not_received_are_lost(pair: Pair, store: RedisStore) -> None:
    assert store.describe().durability == "power-safe"
    pair.part()
    assert store.add([new_job("c")])[0].status == "added"
    pair.promote()
    assert set(store.get(["a", "b", "c"])) == {"a", "b"}
    assert store.add([new_job("c")])[0].status == "added"
    assert store.describe(thorough=True).faults == ()


def test_a_replicated_claim_stays_valid(pair: Pair, store: RedisStore) -> None:
    mine = store.get(["a"])["a"]
    pair.part()
    pair.promote()
    [renewed] = store.renew("w1", [held(mine)], LEASE)
    assert renewed.attempt_id == mine.attempt_id
    assert statuses(store.save([ended(renewed)])) == ["accepted"]


def test_the_result_of_a_replicated_claim_is_accepted(pair: Pair, store: RedisStore) -> None:
    mine = store.get(["a"])["a"]
    pair.promote()
    assert statuses(store.save([ended(mine)])) == ["accepted"]


def test_a_lost_claim_is_not_renewed(store: RedisStore, lost_claim: Job) -> None:
    assert store.renew("w2", [held(lost_claim)], LEASE) == []
    assert store.get(["b"])["b"].state == "pending"


def test_output_of_a_lost_claim_is_refused(store: RedisStore, lost_claim: Job) -> None:
    chunk = Chunk("b", held(lost_claim).attempt_id, 1, 0, NOW, 0, b"x")
    assert store.write_output([chunk]) == {held(lost_claim).attempt_id}


def test_the_result_of_a_lost_claim_is_refused(store: RedisStore, lost_claim: Job) -> None:
    assert statuses(store.save([ended(lost_claim)])) == ["stale"]
    assert store.get(["b"])["b"].state == "pending"


def test_the_result_of_a_lost_claim_is_refused_after_another_claim(
    store: RedisStore, lost_claim: Job
) -> None:
    """Without a fence the two claims would have the same version."""
    [other] = store.claim("w3", (), 1, LEASE)
    assert other.id == "b"
    assert other.attempt_id != lost_claim.attempt_id
    assert statuses(store.save([ended(lost_claim)])) == ["stale"]
    assert statuses(store.save([ended(other)])) == ["accepted"]


def test_the_result_of_a_lost_claim_is_refused_after_another_change(
    store: RedisStore, lost_claim: Job
) -> None:
    waiting = store.get(["b"])["b"]
    cancelled = lifecycle.cancel(waiting, by="ada", reason=None, now=NOW)
    assert statuses(store.save([cancelled])) == ["accepted"]
    assert statuses(store.save([ended(lost_claim)])) == ["stale"]
    assert store.get(["b"])["b"].state == "cancelled"


def test_a_save_returns_the_version_raised_by_the_failover(store: RedisStore, lost_claim: Job) -> None:
    """Versions continue above all versions that may have been lost: `version + 1` would be stale at once."""
    waiting = store.get(["b"])["b"]
    [answer] = store.save([lifecycle.cancel(waiting, by="ada", reason=None, now=NOW)])
    assert answer.job == store.get(["b"])["b"]
    assert answer.job.version > waiting.version + 1
    assert lost_claim.id == "b"


def test_the_result_of_a_lost_claim_is_refused_after_two_failovers(
    pair: Pair, store: RedisStore, lost_claim: Job
) -> None:
    """The new primary reads from the queue that a first failover happened."""
    with closing(replica_of(pair.replica)) as third:
        [other] = store.claim("w3", (), 1, LEASE)
        eventually(lambda: everything(third) == everything(pair.replica) and has_log(third))
        pair.replica.kill()
        third.call("REPLICAOF", "NO", "ONE")
        pair.proxy.lead_to(third.host, third.port)
        assert statuses(store.save([ended(lost_claim)])) == ["stale"]
        assert statuses(store.save([ended(other)])) == ["accepted"]


def test_a_restart_is_not_treated_as_a_failover(pair: Pair, store: RedisStore) -> None:
    mine = store.get(["a"])["a"]
    pair.primary.restart()
    assert statuses(store.save([ended(mine)])) == ["accepted"]


def test_the_store_leaves_a_primary_that_became_a_replica(pair: Pair, store: RedisStore) -> None:
    """The connection to this server is still open."""
    pair.replica.call("REPLICAOF", "NO", "ONE")
    pair.primary.call("REPLICAOF", pair.replica.host, pair.replica.port)
    with pytest.raises(StoreUnavailable) as caught:
        store.claim("w2", (), 1, LEASE)
    assert caught.value.hint == (
        "the server has become a read-only replica: try again later; if it stays one, connect to the primary"
    )
    with pytest.raises(StoreUnusable, match="is a read-only replica") as refused:
        store.claim("w2", (), 1, LEASE)
    assert refused.value.hint == f"connect to the primary: {pair.replica.host}:{pair.replica.port}"
    pair.take_over()
    assert [job.id for job in store.claim("w2", (), 1, LEASE)] == ["b"]


def test_a_primary_that_was_a_replica_meanwhile_has_a_new_history(pair: Pair, store: RedisStore) -> None:
    """The connections to this server are still open, but the server has lost a claim."""
    lines_before = lines(store)
    pair.part()
    [lost] = store.claim("w2", (), 1, LEASE)
    pair.replica.call("REPLICAOF", "NO", "ONE")
    pair.primary.call("REPLICAOF", pair.replica.host, pair.replica.port)
    eventually(lambda: pair.primary.follows and has_log(pair.primary))
    pair.primary.call("REPLICAOF", "NO", "ONE")
    [other] = store.claim("w3", (), 1, LEASE)
    assert other.id == lost.id == "b"
    assert lines(store) == lines_before
    assert statuses(store.save([ended(lost)])) == ["stale"]
    assert statuses(store.save([ended(other)])) == ["accepted"]


def lines(store: RedisStore) -> set[int]:
    """The first two connections of the store, by their ids in the server."""

    def both(line: Any) -> set[int]:
        return {line.call("CLIENT", "ID"), store.session.read(lambda other: other.call("CLIENT", "ID"))}

    return store.session.read(both)


DOUBTFUL = [
    "READONLY You can't write against a read only replica.",
    "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "LOADING Redis is loading the dataset in memory",
    "CLUSTERDOWN Hash slot not served",
    "",
]


@pytest.mark.parametrize("text", DOUBTFUL)
def test_after_an_error_of_one_connection_all_are_checked_again(
    pair: Pair, store: RedisStore, text: str
) -> None:
    before = lines(store)
    with pytest.raises(StoreUnavailable):
        store.session.read(lambda _: refuse(text))
    assert len(lines(store) - before) == 2


def test_after_another_kind_of_refusal_other_connections_are_kept(pair: Pair, store: RedisStore) -> None:
    before = lines(store)
    with pytest.raises(StoreUnavailable):
        store.session.read(lambda _: refuse("OOM command not allowed when used memory > 'maxmemory'."))
    assert len(lines(store) - before) == 1


def refuse(text: str) -> None:
    """Send this error, or close the connection."""
    raise BaseParser.parse_error(text) if text else exceptions.ConnectionError("Connection closed by server.")


def test_a_server_is_checked_once_per_connection(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(pair.open()) as store:
        looks = list[object]()
        greet = store.session._greet
        monkeypatch.setattr(store.session, "_greet", lambda line: (looks.append(line), greet(line)))
        store.add([new_job("c")])
        store.add([new_job("d")])
        store.counts(Filter())
        assert len(looks) == 1


def test_without_a_server_the_store_is_unavailable(pair: Pair, store: RedisStore) -> None:
    pair.primary.kill()
    for _ in range(3):
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            store.claim("w2", (), 1, LEASE)
    pair.take_over()
    assert [job.id for job in store.claim("w2", (), 1, LEASE)] == ["b"]
