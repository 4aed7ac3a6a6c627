"""Each script documents its arguments and its result, uses only keys of its queue, and may be forgotten by the
server."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.grounds import RedisGround
from contract.test_workers import worker
from factories import LEASE, NOW, in_state, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.event import Actor, between
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Filter, Page
from queuectl.store import redis, redis_archive
from queuectl.store.protocol import AttemptRef, Swap
from queuectl.store.redis import rows, write
from queuectl.store.redis.scripts import FOLDER, PREFIX, script, uses
from queuectl.store.redis_archive.scripts import FOLDER as ARCHIVE
from servers.redis import GivenRedis, RedisServer

FILES = {path.stem: path for folder in (FOLDER, ARCHIVE) for path in sorted(Path(folder).glob("*.lua"))}
LIBRARIES = {
    path.stem: path for folder in (FOLDER, ARCHIVE) for path in sorted(Path(folder, "lib").glob("*.lua"))
}
PACKAGES = [Path(package.__file__).parent for package in (redis, redis_archive)]
SOURCES = "\n".join(path.read_text() for package in PACKAGES for path in package.glob("*.py"))
READ_VERBS = {"EXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "SMEMBERS", "ZCARD", "ZRANGE", "ZSCORE"}
READ_VERBS |= {"GET", "TIME", "XINFO", "XRANGE", "XREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE"}


def text(name: str) -> str:
    return FILES[name].read_text()


def header(name: str) -> str:
    """The comment at the beginning of a script."""
    return re.match(r"(?:--.*\n)+", text(name))[0]  # type: ignore[index]


def code(lua: str) -> str:
    """The code of a script without comments."""
    return re.sub(r"--.*", "", lua)


def whole(name: str) -> str:
    """The code of a script with its libraries."""
    return code(script(name, str(FILES[name].parent)).text)


def defined(lua: str) -> set[str]:
    """The names that a file defines at its top level."""
    functions = re.findall(r"^local function (\w+)", code(lua), re.MULTILINE)
    values = re.findall(r"^local (\w+(?:, \w+)*) =", code(lua), re.MULTILINE)
    return {*functions, *(name for names in values for name in names.split(", "))}


def named(lua: str) -> set[str]:
    """The names in its code; fields, keys of tables and words in texts left out."""
    bare = re.sub(r"'[^']*'", "", code(lua))
    return set(re.findall(r"(?<![.\w])[A-Za-z_]\w*\b(?! *=[^=])", bare)) - defined(lua)


OF_LIBRARY = {name: library for library, path in LIBRARIES.items() for name in defined(path.read_text())}


@pytest.mark.parametrize("path", [*FILES.values(), *LIBRARIES.values()], ids=lambda path: path.stem)
def test_a_file_names_exactly_the_libraries_that_it_uses(path: Path) -> None:
    lua = path.read_text()
    used = {OF_LIBRARY[name] for name in named(lua) if name in OF_LIBRARY} - {PREFIX}
    assert uses(lua) == sorted(used)


def test_no_name_is_defined_in_two_libraries() -> None:
    names = [name for path in LIBRARIES.values() for name in defined(path.read_text())]
    assert len(names) == len(set(names))


def test_a_script_follows_its_libraries_in_order_of_dependency() -> None:
    found = script("purge").text
    order = [found.index(LIBRARIES[name].read_text()) for name in (PREFIX, "waits", "erase")]
    assert order == sorted(order)
    assert all(found.count(path.read_text()) <= 1 for path in LIBRARIES.values())
    assert found.endswith(text("purge"))


@pytest.mark.parametrize("name", FILES)
class TestEachScript:
    def test_a_script_documents_purpose_arguments_and_result(self, name: str) -> None:
        said = header(name)
        assert re.match(r"-- .*[.:]", said), "a sentence"
        assert "\n-- KEYS  the hash tag\n" in said
        assert ("ARGV" in code(text(name))) == ("\n-- ARGV  " in said)
        assert bool(re.search(r"\breturn\b(?! end|\n)", code(text(name)).rpartition("\nend")[2])) == (
            "\n-- Answers " in said
        )

    def test_a_script_is_used(self, name: str) -> None:
        assert re.search(rf'\b(run\(\s*(?:line,)?|_ask\(|_run\(|write\(run,|read\(run,)\s*"{name}"', SOURCES)

    def test_a_script_uses_no_scan_and_only_the_clock_of_the_server(self, name: str) -> None:
        verbs = set(re.findall(r"redis\.p?call\('([A-Z]+)'", whole(name)))
        assert verbs
        assert not verbs & {
            "KEYS",
            "SCAN",
            "HSCAN",
            "ZSCAN",
            "SSCAN",
            "RANDOMKEY",
            "EVAL",
            "SELECT",
            "FLUSHDB",
        }
        assert "os.time" not in text(name)

    def test_a_script_writes_unless_it_is_marked_as_reading(self, name: str) -> None:
        words = set(re.findall(r"'([A-Z]{3,})'", whole(name)))
        changes = bool(words - READ_VERBS - {"COUNT", "LIMIT", "STREAM", "WITHSCORES"})
        assert changes != script(name, str(FILES[name].parent)).reads

    def test_a_script_uses_only_keys_with_the_tag_of_the_queue(self, name: str) -> None:
        calls = re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '[A-Z]+')?(?:, *([^,)]+))?", whole(name))
        keys = {word for verb, word in calls if verb not in ("TIME", "INFO", "PUBLISH")}
        known = re.findall(r"(\w+)(?:, \w+)* = (?:\w+, )*P \.\. ", whole(name))
        strange = [
            w
            for w in keys
            if not w.startswith("P ..") and w not in (*known, "verb", "chunks_of_attempt", "fresh")
        ]
        assert not strange


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server without other queues, so that all its keys can be read."""
    with closing(RedisServer()) as server:
        server.start()
        yield server


def live(store: Any) -> Iterator[str]:
    """Every verb, one after the other; answers what has been done so far."""
    store.heartbeat(worker("w1"))
    yield "beat"
    jobs = [new_job("a", priority=1, tags=("t",), unique_key="k"), new_job("b"), in_state("completed", "c")]
    store.add(jobs, [between(None, job) for job in jobs])
    yield "add"
    store.add([new_job("late", run_at=NOW + timedelta(hours=1))])
    (running,) = store.claim("w1", (), 1, LEASE, tell=True)
    yield "claim"
    attempt_id = running.lease.attempt_id
    (running,) = store.renew("w1", [AttemptRef(running.id, attempt_id)], LEASE)
    yield "renew"
    store.write_output(
        [Chunk("a", attempt_id, n, 0, NOW, n, b"x") for n in (1, 2, 3)], [Trim("a", attempt_id, 1, 3)]
    )
    yield "write_output"
    assert [chunk.n for chunk in store.read_output(attempt_id, 0)] == [1, 3]
    yield "read_output"
    finished = lifecycle.finish(running, report(), now=NOW, random_number=0)
    assert statuses(store.save([finished], [between(running, finished)])) == ["accepted"]
    yield "save"
    assert store.instruct("w1", "drain")
    assert store.pending_instruction("w1") == "drain"
    yield "ask"
    assert store.swap([Swap("queues", "default", {"paused": False, "limit": 3}, 0)])[0]
    yield "swap"
    assert len(store.find(Filter(), Page()).jobs) == 4
    assert len(store.get(["a", "b"])) == 2
    assert store.counts(Filter()).total() == 4
    assert store.expired_leases(9) == []
    yield "find"
    assert store.purge(Filter(), 1, tell=Actor()) == ["c"] or store.purge(Filter(), 9)
    yield "purge"
    assert len(store.read_events(store.event_cursor(NOW), 9).events) > 2
    assert store.trim_events(NOW, 1, 2) == 2
    yield "events"
    store.forget("w1")
    yield "forget"


def test_every_verb_works_after_the_server_forgot_the_scripts(redis_server: RedisServer | GivenRedis) -> None:
    with closing(RedisGround(redis_server)) as ground:
        for _ in live(ground.open()):
            redis_server.call("SCRIPT", "FLUSH")


def test_all_keys_begin_with_one_hash_tag(server: RedisServer) -> None:
    ground = RedisGround(server)
    for _ in live(ground.open()):
        pass
    keys = server.call("KEYS", "*")
    assert len(keys) > 10
    assert not [key for key in keys if not key.startswith(f"{ground.tag}:".encode())]


def test_two_queues_on_one_server_are_independent(redis_server: RedisServer | GivenRedis) -> None:
    with closing(RedisGround(redis_server)) as one, closing(RedisGround(redis_server)) as other:
        store, strange = one.open(), other.open()
        store.add([new_job("a")])
        assert strange.get(["a"]) == {}
        assert strange.claim("w1", (), 9, LEASE) == []


def test_a_batch_is_also_divided_by_its_size_in_bytes(
    redis_server: RedisServer | GivenRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "BYTES_AT_ONCE", 10_000)
    with closing(RedisGround(redis_server)) as ground:
        store: Any = ground.open()
        sent: list[int] = []
        jobs = [new_job(f"j{n}", command="x" * 3000) for n in range(10)]
        store.session.write(lambda line: _counted(line, sent, lambda: write.add(line, jobs, "")))
        assert len(sent) > 2
        assert max(sent) <= 14_000
        assert [job.id for job in store.find(Filter(), Page()).jobs] == [f"j{n}" for n in reversed(range(10))]


def _counted(line: Any, sent: list[int], work: Any) -> Any:
    """The number of bytes of each call."""
    run = line.run
    line.run = lambda name, *values: (sent.append(sum(len(v) for v in values)), run(name, *values))[1]
    try:
        return work()
    finally:
        del line.run


def test_an_older_version_can_read_what_this_version_writes() -> None:
    """An older version refuses a `rest` with more parts than it knows, so later values have their own fields."""
    packed = msgspec.msgpack.decode(rows.changed(lifecycle.hold(new_job("a"), now=NOW)))
    first = 15  # priority, failures, losses, slot, pid, …, finished_at
    assert len(msgspec.json.decode(packed["rest"])) == first
    assert packed["cause"] == "person"
