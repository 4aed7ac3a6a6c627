"""Single parts of the MongoDB driver: URLs, large output, forked processes, and closing."""

import os

import pytest

from contract.grounds import MongoGround
from factories import LEASE, NOW, new_job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable, StoreUnusable


@pytest.fixture
def ground(mongo_ground: MongoGround) -> MongoGround:
    return mongo_ground


def test_64_mib_of_output_are_stored_byte_for_byte(ground: MongoGround) -> None:
    store = ground.open()
    store.add([new_job("a")])
    [job] = store.claim("w1", (), 1, LEASE)
    attempt, piece = job.attempt_id or "", 1 << 20
    block = os.urandom(piece)
    for start in range(0, 64, 8):
        chunks = [
            Chunk("a", attempt, n + 1, n % 2 + 1, NOW, n * piece, bytes([n]) + block[1:])
            for n in range(start, start + 8)
        ]
        assert store.write_output(chunks) == set()
    place = 0
    while found := store.read_output(attempt, place, limit=7):
        assert [chunk.n for chunk in found] == list(range(place + 1, place + 1 + len(found)))
        assert all(chunk.data == bytes([chunk.n - 1]) + block[1:] for chunk in found)
        place = found[-1].n
    assert place == 64
    [largest] = ground.base["output"].aggregate(
        [{"$group": {"_id": None, "size": {"$max": {"$bsonSize": "$$ROOT"}}}}]
    )
    assert largest["size"] < 2 * piece
    [size] = ground.base["jobs"].aggregate([{"$project": {"size": {"$bsonSize": "$$ROOT"}}}])
    assert size["size"] < 10_000


def test_the_child_of_a_fork_is_refused_and_the_parent_continues(ground: MongoGround) -> None:
    store = ground.open()
    store.add([new_job("a")])
    child = os.fork()
    if not child:
        answer = 1
        try:
            store.counts(Filter())
        except StoreUnusable:
            answer = 0
        finally:
            os._exit(answer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert set(store.get(["a"])) == {"a"}


def test_a_closed_store_refuses_every_call(ground: MongoGround) -> None:
    store = ground.open()
    store.add([new_job("a")])
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed already"):
        store.counts(Filter())
    never = ground.open()
    never.close()
    with pytest.raises(StoreUnavailable, match="closed already"):
        never.add([new_job("b")])
