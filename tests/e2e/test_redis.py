"""Events for workers that only Redis causes: the loss of its memory, full memory, and an archive that cannot be
reached."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from urllib.parse import quote

import pytest

from e2e.databases import MongoDatabase, RedisDatabase
from e2e.harness import Place, WorkerProcess
from e2e.test_mongo import lines_of, said
from facts import eventually
from queuectl.domain.query import Filter
from servers.mongo import MongoServer
from servers.redis import RedisServer

pytestmark = pytest.mark.timeout(120)
PRINTING = 'echo x | tee -a "ran-$QUEUECTL_JOB_ID"'


class Load:
    """A client that enqueues ten jobs at a time without end, and repeats each ten until they are stored."""

    def __init__(self, place: Place) -> None:
        self.stored: list[str] = []
        self._place = place
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._enough.is_set():
            ids = [f"load-{len(self.stored) + n}" for n in range(10)]
            lines = "".join(json.dumps({"id": id, "command": PRINTING}) + "\n" for id in ids)
            while self._place.invoke("enqueue", "-", input=lines).returncode:
                pass
            self.stored += ids

    @contextmanager
    def on(self) -> Iterator["Load"]:
        """Run the load during the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._enough.set()
            self._thread.join(60)


def ended(place: Place) -> int:
    """The number of ended commands, by their files."""
    return len(list(place.work.glob("ran-*")))


def until_completed(place: Place, count: int) -> None:
    """Wait for so many results: by the queue alone, which needs no archive for that."""
    eventually(
        lambda: place.store.counts(Filter()).of("completed") == count, within=60, what=f"{count} results"
    )


def exactly_once(place: Place, ids: list[str]) -> None:
    """Each has run once, and is there once, with its result and what it printed."""
    jobs = {job.id: job for job in place.until_all_ended(within=60)}
    assert sorted(jobs) == sorted(ids)
    assert {id: lines_of(place, f"ran-{id}") for id in ids} == {id: ["x"] for id in ids}
    assert {(job.state, job.attempts, job.losses) for job in jobs.values()} == {("completed", 1, 0)}
    assert {id: place.output(id) for id in ids} == dict.fromkeys(ids, b"x\n")


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["valkey", "archived"])
class TestKilledUnderLoad:
    """With `appendfsync always`, acknowledged writes are on the disk of the server after any kind of end."""

    KILLS = 20

    @pytest.fixture
    def server(self, kind: str) -> Iterator[RedisServer]:
        """A server that needs a moment to load its log and refuses commands meanwhile."""
        with closing(RedisServer("valkey" if kind == "valkey" else "redis")) as server:
            server.start()
            server.call("DEBUG", "POPULATE", 200_000, "ballast")
            server.call("BGREWRITEAOF")
            eventually(lambda: server.info("persistence")["aof_rewrite_in_progress"] == "0", within=30)
            yield server

    @pytest.fixture
    def database(self, kind: str, server: RedisServer, request: pytest.FixtureRequest) -> RedisDatabase:
        """A queue in this server."""
        archive = MongoDatabase(request.getfixturevalue("mongo_server")) if kind == "archived" else None
        return RedisDatabase(server, archive)

    def test_no_acknowledged_job_is_lost_or_runs_twice(self, place: Place, server: RedisServer) -> None:
        worker = place.start_worker("--count", "2", "--log-format", "json")
        agent = place.agent_pid(worker)
        with Load(place).on() as load:
            for _ in range(self.KILLS):
                before = ended(place)
                eventually(lambda before=before: ended(place) > before, within=30, what="a command ended")  # type: ignore[misc]
                server.kill()
                server.start()
        assert len(load.stored) >= 2 * self.KILLS, "the point of this test is that there is a load"
        until_completed(place, len(load.stored))
        exactly_once(place, load.stored)
        assert (worker.process.poll(), place.agent_pid(worker)) == (None, agent)
        assert "Traceback" not in worker.log.read_text()


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["redis", "archived"])
class TestMuchOutput:
    """Large output is stored in the memory of a server and in documents of at most 16 MB."""

    def test_64_mib_of_output_are_stored_byte_for_byte(self, place: Place, database: RedisDatabase) -> None:
        place.enqueue("--id", "j", "--output-limit", "64MiB", "seq 8000000 | tee printed")
        place.start_worker()
        job = place.until("j", "completed", within=60)
        printed = (place.work / "printed").read_bytes()
        assert job.history[0].output_bytes == len(printed) > 60_000_000
        if database.archive:
            eventually(lambda: not database.holds(job.number), within=60, what="all of it in the archive")
        shown = place.invoke("logs", "j", "--raw").stdout
        assert hashlib.sha256(shown).digest() == hashlib.sha256(printed).digest()


@pytest.mark.parametrize("kind", ["redis"])
class TestMemoryFull:
    """With full memory, output cannot be stored, but all other changes can."""

    @contextmanager
    def full(self, server: RedisServer) -> Iterator[None]:
        server.call("CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            server.call("CONFIG", "SET", "maxmemory", 0)

    def test_only_jobs_with_output_wait_for_free_memory(self, place: Place, own_redis: RedisServer) -> None:
        place.quick()
        place.enqueue("--id", "loud", "echo x > begun; until [ -e go ]; do sleep 0.05; done; echo loud")
        worker = place.start_worker("--log-format", "json")
        eventually(lambda: lines_of(place, "begun"), what="the command")
        quiet = place.run("enqueue", "-", input="true\n" * 3).split()
        with self.full(own_redis):
            (place.work / "go").touch()
            for id in quiet:
                place.until(id, "completed")
            seen = self.heartbeat(place)
            eventually(lambda: self.heartbeat(place) > seen, what="a beat")
            assert place.job("loud").state == "processing"
            assert len(self.notes(worker)) == 1
        job = place.until("loud", "completed")
        assert (job.attempts, job.losses, place.output("loud")) == (1, 0, b"loud\n")
        eventually(lambda: len(self.notes(worker)) == 2, what="one line for the begin, one for the end")
        assert said(worker) == [], "to the worker the store was never away"

    def notes(self, worker: WorkerProcess) -> list[str]:
        notes = [json.loads(line) for line in worker.lines() if line.startswith("{")]
        return [note["message"] for note in notes if note["event"] == "output"]

    def heartbeat(self, place: Place) -> datetime:
        [worker] = place.store.workers()
        assert worker.heartbeat is not None
        return worker.heartbeat


@pytest.mark.parametrize("kind", ["archived"])
@pytest.mark.waits
class TestArchiveOutage:
    """MongoDB cannot be reached for a while; the queue does not wait for MongoDB."""

    def test_the_queue_continues_and_jobs_are_archived_later(
        self, place: Place, database: RedisDatabase, own_mongo: MongoServer
    ) -> None:
        place.quick()
        worker = place.start_worker("--count", "2", "--log-format", "json")
        ids: list[str] = []
        for _ in range(2):
            ids += self.run(place, 20)
            eventually(lambda: self.archived(database) > 0, within=30, what="a first one in the archive")
            own_mongo.kill()
            ids += self.run(place, 20)
            until_completed(place, len(ids))
            assert place.json("status")["jobs"]["completed"] == len(ids)
            self.until_said(worker, "wait in the queue")
            own_mongo.start()
            self.until_said(worker, "the archive is back")
        eventually(lambda: self.archived(database) == len(ids), within=30, what="all in the archive")
        eventually(lambda: not database.waiting(), what="none waits for it any more")
        exactly_once(place, ids)
        assert self.archived(database) == len(ids)
        assert len(self.notes(worker, "archive")) == 4, "one line for each loss, one for each return"
        assert self.notes(worker, "store") == [], "to the worker the store was never away"
        assert not [secret for secret in database.passwords if secret in worker.log.read_text()]

    def notes(self, worker: WorkerProcess, event: str) -> list[str]:
        notes = [json.loads(line) for line in worker.lines() if line.startswith("{")]
        return [note["message"] for note in notes if note["event"] == event]

    def until_said(self, worker: WorkerProcess, words: str) -> None:
        eventually(lambda: words in "".join(self.notes(worker, "archive")[-1:]), within=30, what=words)

    def run(self, place: Place, count: int) -> list[str]:
        return place.run("enqueue", "-", input=f"{PRINTING}\n" * count).split()

    def archived(self, database: RedisDatabase) -> int:
        assert database.archive is not None
        return int(database.archive.base["jobs"].count_documents({}))


@pytest.mark.parametrize("kind", ["redis"])
class TestUser:
    """The Redis user of a worker is deleted."""

    def test_a_deleted_user_ends_no_command_and_is_logged_without_password(
        self, place: Place, database: RedisDatabase
    ) -> None:
        place.quick()
        place.enqueue(
            "--id",
            "j",
            "until [ -e go ]; do echo tick >> ticks; sleep 0.1; done; echo end >> ticks; echo done",
        )
        worker = place.start_worker("--log-format", "json")
        eventually(lambda: lines_of(place, "ticks"), what="the command")
        database.dismiss()
        eventually(lambda: said(worker), what="the reason")
        before = len(lines_of(place, "ticks"))
        eventually(lambda: len(lines_of(place, "ticks")) > before + 20, what="ticks for longer than a lease")
        (place.work / "go").touch()
        eventually(lambda: "end" in lines_of(place, "ticks"), what="the command went on to its end")
        database.admit()
        job = place.until("j", "completed", within=20)
        assert (job.attempts, job.losses, place.output("j")) == (1, 0, b"done\n")
        eventually(lambda: self.is_back(worker), what="one line for the loss, one for the return")
        for secret in (database.password, quote(database.password, safe="")):
            assert secret not in worker.log.read_text()

    def is_back(self, worker: WorkerProcess) -> bool:
        return said(worker)[-1:] == ["the store is back"]


class TestLargeVersions:
    """After a restart, versions begin far above 2³¹, also in the archive."""

    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        with closing(RedisServer()) as server:
            server.start()
            yield server

    @pytest.fixture
    def database(self, server: RedisServer, mongo_server: MongoServer) -> RedisDatabase:
        return RedisDatabase(server, MongoDatabase(mongo_server))

    def test_a_job_archived_after_a_restart_is_shown_as_json(
        self, place: Place, server: RedisServer, database: RedisDatabase
    ) -> None:
        place.enqueue("--id", "before", "true")
        server.restart()
        place.enqueue("--id", "after", "true")
        place.run("worker", "start", "--drain")
        assert place.job("after").version > 2**53 / 2**10
        assert server.call("HLEN", f"{database.tag}:ids") == 0, "all of it is in the archive"
        assert {job["id"] for job in place.json("list")["jobs"]} == {"before", "after"}
        for words in (("show", "after"), ("status", "after"), ("dlq", "list"), ("wait", "after")):
            place.json(*words)
        assert len(place.run("list", "--jsonl").splitlines()) == 2
