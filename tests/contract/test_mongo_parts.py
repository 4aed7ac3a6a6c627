"""The parts of the MongoDB driver by themselves: its URLs, large output, processes that fork, and the end."""

import os
from collections.abc import Iterator

import pytest

from contract.grounds import MongoGround
from factories import LEASE, NOW, new_job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput, StoreUnavailable, StoreUnusable
from queuectl.store.mongo.address import identity, parse
from servers.mongo import GivenMongo, MongoServer


@pytest.fixture
def ground(mongo_server: MongoServer | GivenMongo) -> Iterator[MongoGround]:
    ground = MongoGround(mongo_server)
    yield ground
    ground.close()


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("mongodb://u:secret@h:27018/d", "mongodb://u@h:27018/d"),
            ("mongodb://u:secret@h/d", "mongodb://u@h/d"),
            ("mongodb://h", "mongodb://h/queuectl"),
            ("mongodb://h/?replicaSet=rs", "mongodb://h/queuectl"),
            ("mongodb://u:secret@a:1,b:27017,c/d?tls=true", "mongodb://u@a:1,b,c/d"),
            ("mongodb+srv://u:s%2Fe%40cret@cluster.example.net/d", "mongodb+srv://u@cluster.example.net/d"),
            ("mongodb://u:secret@[::1]:27018/d", "mongodb://u@[::1]:27018/d"),
            ("mongodb://h/d?w=majority&journal=true&listen=no", "mongodb://h/d"),
        ],
    )
    def test_what_is_shown_carries_no_password(self, url: str, shown: str) -> None:
        assert parse(url).shown == shown

    @pytest.mark.parametrize(
        "url",
        [
            "mongodb:u:secret@h/d",
            "mongodb://u:secret@h:port/d",
            "mongodb://u:secret@h:70000/d",
            "mongodb://u:secret#x@h/d",
            "mongodb://u:se/cret@h/d",
            "mongodb://u:se?secret@h/d",
            "mongodb://u:x/d?w=secret@h/d",
            "mongodb://u:x/d?listen=secret@h/d",
            "mongodb://u:x/d?timeoutMS=secret@h",
            "mongodb://u:secret@secret@h/d",
            "mongodb://u:secret:secret@h/d",
            "mongodb://u:secret@/d",
            "mongodb://u:secret@h/a.b",
            "mongodb://u:secret@h/d?x",
            f"mongodb://u:secret@h/{'d' * 39}",
        ],
    )
    def test_what_is_not_understood_is_refused_without_the_password(self, url: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            parse(url)
        assert "secret" not in caught.value.message + (caught.value.hint or "")

    @pytest.mark.parametrize(
        "option",
        ["w=1", "w=0", "journal=false", "j=false", "readPreference=secondary", "READPREFERENCE=nearest",
         "retryWrites=false", "timeoutMS=5", "socketTimeoutMS=1", "wTimeoutMS=1", "listen=maybe"],
    )  # fmt: skip
    def test_what_would_weaken_a_promise_is_refused(self, option: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            parse(f"mongodb://u:secret@h/d?{option}")
        assert option.partition("=")[0] in caught.value.message

    def test_one_queue_is_one_queue_whoever_comes_and_however(self) -> None:
        same = {
            identity("mongodb://a:x@h:27017,G/d"),
            identity("mongodb://b:y@g,h/d?listen=no&tls=true"),
        }
        assert len(same) == 1
        places = ("h,g/e", "h:2,g/d", "h/d", "h,g")
        assert len({identity(f"mongodb://{place}") for place in places} | same) == 5


def test_64_mib_of_output_come_back_byte_for_byte(ground: MongoGround) -> None:
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


def test_in_the_child_of_a_fork_it_is_refused_and_the_parent_goes_on(ground: MongoGround) -> None:
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


def test_a_closed_store_is_closed(ground: MongoGround) -> None:
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
