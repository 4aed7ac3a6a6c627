"""Events of a real server process: it is killed while readers follow it, and many streams cost little."""

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from event_stream import EventStream
from facts import Stopwatch, eventually
from http_site import Rest, Site, memory
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.service.settings import Sources
from queuectl.store.sqlite import SqliteStore

PATH = "/v1/events"


@contextmanager
def writer(site: Site) -> Iterator[LocalQueue]:
    """The queue of the store, beside the server."""
    store = SqliteStore(f"{site.root}/queue.db")
    store.migrate()
    queue = LocalQueue(store, Sources({}, None, lambda text: None))
    yield queue
    queue.close()


def enqueue(queue: LocalQueue, begin: int, count: int) -> None:
    for n in range(begin, begin + count):
        queue.enqueue([JobRequest(id=f"j{n}", command="true")])


def follow_through_kills(site: Site, kills: int) -> None:
    """Events are written before, during and after each outage; the command prints each of them in order."""
    chance = random.Random(kills)
    with writer(site) as queue:
        server = site.serve()
        local, site.env["QUEUECTL_STORE"] = site.env["QUEUECTL_STORE"], f"http://127.0.0.1:{site.port}"
        follower = site.start("events", "--follow", "--since", "1h", "--jsonl")
        site.env["QUEUECTL_STORE"] = local
        assert follower.stdout is not None
        count, found = 0, list[tuple[str, str]]()

        def read() -> None:
            shown = json.loads(follower.stdout.readline())  # type: ignore[union-attr]
            found.append((shown["id"], shown["job"]))

        for kill in range(kills + 1):
            enqueue(queue, count, 8)
            for _ in range(chance.randint(0, 8) if kill < kills else 0):
                read()
            if kill < kills:
                server.kill()
                enqueue(queue, count + 8, 3)
                server = site.serve()
                count += 11
        last = f"j{count + 7}"
        while not found or found[-1][1] != last:
            read()
    assert [job for _, job in dict.fromkeys(found)] == [f"j{n}" for n in range(count + 8)]


def test_events_are_followed_through_three_kills_of_the_server(site: Site) -> None:
    follow_through_kills(site, 3)


@pytest.mark.proof
def test_events_are_followed_through_fifty_kills_of_the_server(site: Site) -> None:
    follow_through_kills(site, 50)


def test_open_streams_need_little_memory_and_end_with_the_process(site: Site) -> None:
    """Each stream gets three hundred events. Then the process gets TERM."""
    site.env["MALLOC_ARENA_MAX"] = "1"
    with writer(site) as queue:
        server = site.serve()

        def opened(count: int, first: int) -> list[EventStream]:
            found = [
                EventStream(site.port, PATH, token=None, source=f"127.0.0.{first + n // 50}")
                for n in range(count)
            ]
            for stream in found:
                stream.until(":")
            return found

        streams = opened(20, 2)
        enqueue(queue, 0, 300)
        for stream in streams:
            assert [event.data["job"] for _, event in zip(range(300), stream, strict=False)][-1] == "j299"
        eventually(Rest(server.pid), what="the warm-up is over")
        before = memory(server.pid)
        streams += opened(150, 10)
        enqueue(queue, 300, 300)
        for stream in streams:
            assert [event.data["job"] for _, event in zip(range(300), stream, strict=False)][-1] == "j599"
        eventually(Rest(server.pid), what="the server has sent everything")
        assert (memory(server.pid) - before) / 150 <= 64 * 1024
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
    token = site.run("token", "create", "board", "--scope", "view").decode().strip()
    with EventStream(site.port, PATH, token=token) as stream:
        stream.until(":")
        site.run("token", "revoke", "board")
        watch = Stopwatch()
        assert not [event for event in stream if event.name.startswith("job.")]
        watch.check(5.0)


def test_a_change_with_the_local_token_has_the_name_of_the_user(site: Site) -> None:
    site.serve()
    local, site.env["QUEUECTL_STORE"] = site.env["QUEUECTL_STORE"], f"http://127.0.0.1:{site.port}"
    site.run("enqueue", "--id", "a", "true")
    site.env["QUEUECTL_STORE"] = local
    site.run("cancel", "a")
    one, two = map(json.loads, site.run("events", "--jsonl").splitlines())
    assert (one["by"].partition(":")[0], one["via"]) == ("local", "http")
    assert (two["by"].count("@"), two["via"]) == (1, "cli")
