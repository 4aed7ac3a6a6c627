"""Streams of a real server process: it is killed while they are open, and slow readers do not fill its memory."""

import itertools
import os
import random
import signal

import pytest

from cli.acting import Actor
from e2e.databases import PostgresDatabase
from event_stream import EventStream
from facts import Stopwatch, eventually
from http_site import Rest, Site, memory
from queuectl.http.wire_limits import WireLimits
from queuectl.store.sqlite import SqliteStore
from servers.postgres import PostgresServer

PATH = "/v1/jobs/a/output"
ATTEMPTS = 4
COMMAND = f"""
echo x >> tries; n=0
while [ ! -e stop ]; do
    echo "line $n naïve 日本"; n=$((n + 1))
    [ $n -ge 60 ] && [ $(wc -l < tries) -lt {ATTEMPTS} ] && exit 1
    sleep 0.02
done
echo the end
"""


def follow_through_kills(site: Site, kills: int) -> None:
    """Follow a job while the server is killed again and again; every byte arrives once."""
    site.run("enqueue", "--id", "a", "--retries", str(ATTEMPTS - 1), "--backoff-factor", "10ms", COMMAND)
    site.start("worker", "start", "--count", "1")
    chance = random.Random(kills)
    found, attempts, last_id = b"", list[int](), "none:0"
    waiting: int | None = None  # the named attempt, if it had not started: a new stream names it again
    for kill in range(kills + 1):
        server, survives = site.serve(), chance.randint(1, 6)
        if kill == kills:
            (site.root / "stop").touch()
        with EventStream(site.port, PATH, last_id, token=None) as stream:
            for event in stream:
                last_id = event.id or last_id
                if event.name == "attempt":
                    if event.data["attempt"] != waiting:
                        attempts.append(event.data["attempt"])
                    waiting = None if event.data["started_at"] else event.data["attempt"]
                elif event.name == "output":
                    found += event.bytes
                    survives -= 1
                if survives == 0 and kill < kills:
                    server.kill()
            assert (kill == kills) == stream.is_complete
    printed = [site.run("logs", "a", "--raw", "--attempt", str(n)) for n in range(1, max(attempts) + 1)]
    assert attempts == list(range(1, max(attempts) + 1))
    assert found == b"".join(printed)
    assert found.endswith(b"the end\n")


def test_a_log_is_followed_through_five_kills_of_the_server(site: Site) -> None:
    follow_through_kills(site, 5)


@pytest.mark.proof
def test_a_log_is_followed_through_fifty_kills_of_the_server(site: Site) -> None:
    follow_through_kills(site, 50)


@pytest.mark.proof
def test_logs_follows_through_fifty_kills_of_the_server(site: Site) -> None:
    site.run("enqueue", "--id", "a", "--retries", str(ATTEMPTS - 1), "--backoff-factor", "10ms", COMMAND)
    site.start("worker", "start", "--count", "1")
    server = site.serve()
    local, site.env["QUEUECTL_STORE"] = site.env["QUEUECTL_STORE"], f"http://127.0.0.1:{site.port}"
    logs, printed = site.start("logs", "-f", "--raw", "a"), bytearray()
    site.env["QUEUECTL_STORE"] = local
    assert logs.stdout is not None
    for kill in range(50):
        while len(printed) < 300 * (kill + 1):  # more than what was under way at the kill before
            printed += os.read(logs.stdout.fileno(), 65536)
        server.kill()
        server = site.serve()
    (site.root / "stop").touch()
    printed += logs.stdout.read()
    attempts = [site.run("logs", "a", "--raw", "--attempt", str(n)) for n in range(1, ATTEMPTS + 1)]
    assert bytes(printed) == b"".join(attempts)


@pytest.mark.proof
@pytest.mark.parametrize("outage", ["refuse", "black_hole"])
def test_a_stream_outlives_an_outage_of_its_database(
    site: Site, postgres_server: PostgresServer, outage: str
) -> None:
    database = PostgresDatabase(postgres_server)
    proxy, url = database.by_way()
    site.env["QUEUECTL_STORE"] = database.url
    site.run("enqueue", "--id", "a", "--retries", str(ATTEMPTS - 1), "--backoff-factor", "10ms", COMMAND)
    site.start("worker", "start", "--count", "1")
    site.env["QUEUECTL_STORE"] = url
    site.serve()
    site.env["QUEUECTL_STORE"] = database.url
    with EventStream(site.port, PATH, token=None) as stream:
        events = stream.until("output")
        getattr(proxy, outage)()
        for _ in range(2):
            for event in stream:
                events.append(event)
                if event.data == "store away":
                    break
        proxy.pass_through()
        (site.root / "stop").touch()
        events += stream
    assert sum(event.data == "store away" for event in events) >= 2
    attempts = [event.data["attempt"] for event in events if event.name == "attempt"]
    printed = [site.run("logs", "a", "--raw", "--attempt", str(n)) for n in attempts]
    assert b"".join(event.bytes for event in events if event.name == "output") == b"".join(printed)
    proxy.close()
    database.close()


def test_open_streams_and_slow_readers_need_little_memory(site: Site) -> None:
    """glibc has one arena here. Otherwise each thread of the pool keeps free memory, however many streams are open."""
    site.env["MALLOC_ARENA_MAX"] = "1"
    server = site.serve()
    site.run("enqueue", "--id", "a", "x")
    store = SqliteStore(f"{site.root}/queue.db")
    actor = Actor(store)
    actor.take("a")

    numbers = itertools.count()

    def opened(count: int) -> list[EventStream]:
        found = []
        for n in itertools.islice(numbers, count):
            found.append(
                EventStream(site.port, PATH, token=None, source=f"127.0.0.{2 + n // 50}", buffer=4096)
            )
        for stream in found:
            stream.until("attempt")
        return found

    warm_up = opened(20)
    eventually(Rest(server.pid), what="the warm-up is over")
    before = memory(server.pid)
    idle = opened(200)
    eventually(Rest(server.pid), what="the server waits for output")
    idle_bytes = memory(server.pid) - before
    assert idle_bytes / len(idle) <= 64 * 1024
    for stream in (*idle, *warm_up):
        stream.close()
    for n in range(96):
        actor.prints("a", bytes([65 + n % 26]) * 256 * 1024)
    watch = Stopwatch()
    some = opened(20)
    eventually(Rest(server.pid), what="the server has sent what it can")
    before = memory(server.pid)
    slow = opened(60)
    eventually(Rest(server.pid), what="the server has sent what it can")
    grown = memory(server.pid) - before
    watch.check(WireLimits().body_time)  # later the server cuts off the first readers and frees their memory
    assert grown / len(slow) <= 512 * 1024
    for stream in (*some, *slow):
        stream.close()
    store.close()


@pytest.mark.parametrize("each", [20, pytest.param(100, marks=pytest.mark.proof)])
def test_the_process_ends_within_a_second_of_term(site: Site, each: int) -> None:
    """Five jobs have this many streams each."""
    server = site.serve()
    jobs = [f"job-{n}" for n in range(5)]
    site.run(
        "enqueue",
        "--file",
        "-",
        input=b"".join(b'{"id": "%b", "command": "x"}\n' % id.encode() for id in jobs),
    )
    streams = [
        EventStream(site.port, f"/v1/jobs/{id}/output", token=None, source=f"127.0.0.{2 + n // 10}")
        for id in jobs
        for n in range(each)
    ]
    for stream in streams:
        assert stream.until(":")
    watch = Stopwatch(of=server.pid)
    server.send_signal(signal.SIGTERM)
    eventually(lambda: os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    watch.check(1.0)
    assert server.wait(10) == 0
    for stream in streams:
        assert stream.until("bye")
        stream.close()
    assert "Traceback" not in (site.root / "serve.log").read_text()


def test_the_stream_of_a_revoked_token_is_closed_within_five_seconds(site: Site) -> None:
    site.serve()
    site.run("enqueue", "--id", "a", "x")
    token = site.run("token", "create", "board", "--scope", "view").decode().strip()
    with EventStream(site.port, PATH, token=token) as stream:
        stream.until(":")
        site.run("token", "revoke", "board")
        watch = Stopwatch()
        assert not [event for event in stream if event.name != ":"]
        watch.check(5.0)
