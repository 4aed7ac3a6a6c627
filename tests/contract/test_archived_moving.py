"""A job on its way from the queue to its archive: every verb sees one job."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from contract.grounds import ArchivedGround
from factories import in_state
from queuectl.domain.query import Filter
from queuectl.store.archived import ArchivedStore
from queuectl.store.archived.past import Past
from queuectl.store.redis import RedisStore
from servers.mongo import GivenMongo, MongoServer
from servers.redis import GivenRedis, RedisServer


@pytest.fixture
def archived(
    redis_server: RedisServer | GivenRedis, mongo_server: MongoServer | GivenMongo
) -> Iterator[ArchivedStore]:
    """A queue and its archive; nothing is moved but where a test says so."""
    with closing(ArchivedGround(redis_server, mongo_server)) as ground:
        live = RedisStore(ground.url, clock=ground.clock, archives=True)
        with closing(ArchivedStore(live, Past(ground.past.url, 10))) as store:
            yield store


def test_a_job_that_is_purged_while_it_is_moved_is_purged_once(
    archived: ArchivedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived.add([in_state("completed", "a"), in_state("completed", "b")])
    past, gone = archived._past, []
    keep, let_go = past.keep, past.let_go

    def purge_when_kept(*batch: object) -> None:
        keep(*batch)
        gone.extend(archived.purge(Filter(), 1))

    def purge_before_it_is_let_go(number: int, below: int) -> bool:
        gone.extend(archived.purge(Filter(), 1))
        return let_go(number, below)

    monkeypatch.setattr(past, "keep", purge_when_kept)
    monkeypatch.setattr(past, "let_go", purge_before_it_is_let_go)
    archived.mover.move()
    assert gone == ["a", "b"]
    assert archived.counts(Filter()).total() == 0
