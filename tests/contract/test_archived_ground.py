"""The contract tests cover the archive, because ended jobs are in the archive before the first read."""

from contextlib import closing

from contract.grounds import ArchivedGround
from factories import in_state
from queuectl.domain.query import Filter, Page
from servers.mongo import GivenMongo, MongoServer
from servers.redis import GivenRedis, RedisServer


def test_ended_jobs_are_in_the_archive_before_the_first_read(
    redis_server: RedisServer | GivenRedis, mongo_server: MongoServer | GivenMongo
) -> None:
    with closing(ArchivedGround(redis_server, mongo_server)) as ground:
        store = ground.open()
        store.add([in_state("completed", "past"), in_state("pending", "live")])
        assert {job.id for job in store.find(Filter(), Page()).jobs} == {"past", "live"}
        assert [job["id"] for job in ground.past.base["jobs"].find()] == ["past"]
        assert redis_server.call("ZCARD", f"{ground.tag}:ended") == 0
        ground.empty()
        assert ground.past.base["jobs"].find_one() is None
        assert redis_server.call("KEYS", f"{ground.tag}*") == []
