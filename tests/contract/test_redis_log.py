"""The log of the server is cut at any byte, as by a loss of power: the rest is a queue whose indexes agree with its
jobs.

Each change is one script, and a script is one transaction of the log: it is there as a whole or not at all. So a queue
needs no repair after a real loss of its log (decision 22).
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contract import redis_integrity
from contract.grounds import RedisGround
from contract.test_redis_scripts import live
from queuectl.domain.query import Filter, Page
from queuectl.store.redis import RedisStore
from servers.redis import Product, RedisServer

CUTS = 24


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server whose log is never rewritten."""
    product: Product = request.param
    with closing(RedisServer(product, auto_aof_rewrite_percentage=0)) as server:
        server.start()
        yield server


def _log(server: RedisServer) -> Path:
    """The log file of the server."""
    found = [path for path in (server.directory / "data").rglob("*.aof") if "base" not in path.name]
    assert len(found) == 1, found
    return found[0]


def test_a_log_cut_at_any_byte_is_a_consistent_queue(server: RedisServer, tmp_path: Path) -> None:
    ground = RedisGround(server)
    marks: dict[str, int] = {}
    for verb in live(ground.open()):
        marks[verb] = _log(server).stat().st_size
    length = max(marks.values())
    assert length > 5_000
    server.kill()
    whole = tmp_path / "whole"
    shutil.copytree(server.directory / "data", whole)
    begun = marks["beat"]
    for cut in range(CUTS):
        _restore(server, whole, begun + (length - begun) * cut // CUTS + cut)
        with closing(RedisStore(ground.url, clock=ground.clock)) as store:
            assert redis_integrity.faults(server.call, ground.tag) == {}
            _is_whole(store)
        server.kill()
    server.start()
    ground.close()


def _restore(server: RedisServer, whole: Path, length: int) -> None:
    data = server.directory / "data"
    shutil.rmtree(data)
    shutil.copytree(whole, data)
    log = _log(server)
    with log.open("r+b") as file:
        file.truncate(length)
    server.start()


def _is_whole(store: Any) -> None:
    """Check that the remaining jobs can be found, counted and run."""
    jobs = store.find(Filter(), Page()).jobs
    assert store.counts(Filter()).total() == len(jobs)
    assert len(store.get([job.id for job in jobs])) == len(jobs)
