"""The output of a job as a stream: every byte once and in order, over retries, reconnects and outages."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache

import pytest

from cli.acting import Actor
from event_stream import Event, EventStream, parsed
from facts import Stopwatch, eventually
from http_server import Running, running
from queuectl.errors import StoreUnavailable
from queuectl.http import live_output, output_reader, streaming
from queuectl.http.caller import Caller
from queuectl.http.server_state import ServerState
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest

PATH = "/v1/jobs/a/output"
Open = Callable[..., EventStream]


@pytest.fixture
def actor(queue: LocalQueue) -> Actor:
    return Actor(queue._store)


@pytest.fixture
def job(queue: LocalQueue) -> str:
    queue.enqueue([JobRequest(id="a", command="x", max_retries=3, split=True)])
    return "a"


@pytest.fixture
def server(state: ServerState) -> Iterator[Running]:
    with running(state) as server:
        yield server


@pytest.fixture
def connect(server: Running) -> Iterator[Open]:
    """Opens a stream of the output of job a."""
    with ExitStack() as stack:

        def connect(last_id: str | None = None, query: str = "", **options: str | None) -> EventStream:
            stream = EventStream(server.port, PATH + query, last_id, **options)  # type: ignore[arg-type]
            return stack.enter_context(stream)

        yield connect


def output(events: Sequence[Event]) -> bytes:
    return b"".join(event.bytes for event in events if event.name == "output")


def told(events: Sequence[Event]) -> list[Event]:
    """The events without comments."""
    return [event for event in events if event.name != ":"]


def history(actor: Actor) -> None:
    """Job a runs three times: with characters cut by chunks, bytes that are no text, two streams, and a gap."""
    actor.take("a")
    actor.prints(
        "a", "naïve ".encode()[:3], "naïve ".encode()[3:], "日本\n".encode()[:4], "日本\n".encode()[4:]
    )
    actor.ends("a", exit_code=1)
    actor.take("a")
    actor.prints("a", b"out", stream=1)
    actor.prints("a", b"err \xff\xfe", stream=2)
    actor.prints("a", b"\xe6\x97", stream=1)
    actor.prints("a", b"tail", stream=2, skip=7)
    actor.ends("a", exit_code=1)
    actor.take("a")
    actor.prints("a", b"last\n")
    actor.ends("a")


@pytest.mark.usefixtures("job")
class TestEvents:
    def test_a_whole_stream(self, connect: Open, actor: Actor) -> None:
        actor.runs("a", b"one\n", b"two\n")
        stream = connect()
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-accel-buffering"] == "no"
        first, attempt, one, two, end = list(stream)
        assert first.name == ":"
        assert (attempt.name, attempt.id) == ("attempt", "a-1:0")
        assert set(attempt.data) == {"attempt", "attempt_id", "worker", "started_at"}
        assert (one.name, one.id) == ("output", "a-1:4")
        assert set(one.data) == {"n", "stream", "at", "offset", "text"}
        assert (two.data["text"], two.data["offset"], two.id) == ("two\n", 4, "a-1:8")
        assert end == Event(
            "end", {"state": "completed", "outcome": "exited", "exit_code": 0, "signal": None}, "end:8"
        )
        assert stream.is_complete

    def test_a_client_that_comes_back_after_the_end_is_told_to_stop(
        self, connect: Open, actor: Actor
    ) -> None:
        actor.runs("a", b"x")
        last = list(connect())[-1].id
        assert connect(last).status == 204

    def test_it_goes_on_through_retries_until_the_job_has_ended(self, connect: Open, actor: Actor) -> None:
        stream = connect()
        for text, code in ((b"first", 1), (b"second", 1), (b"third", 0)):
            actor.take("a")
            actor.prints("a", text)
            actor.ends("a", exit_code=code)
        events = told(stream.until("end"))
        assert [event.data["attempt"] for event in events if event.name == "attempt"] == [1, 2, 3]
        assert output(events) == b"firstsecondthird"

    def test_text_is_never_cut_inside_a_character(self, connect: Open, actor: Actor) -> None:
        text = "aß日🎉" * 20_000
        data = text.encode()
        actor.take("a")
        stream = connect()
        for at in range(0, len(data), 20_011):
            actor.prints("a", data[at : at + 20_011])
        actor.ends("a")
        events = stream.until("end")
        assert "".join(event.data["text"] for event in events if event.name == "output") == text

    def test_one_attempt_and_one_stream(self, connect: Open, actor: Actor) -> None:
        history(actor)
        events = told(connect(query="?attempt=2&stream=stderr").until("end"))
        assert output(events) == b"err \xff\xfetail"
        assert Event("omitted", {"from": 11, "to": 18}, "a-2:18") in events

    def test_from_an_offset(self, connect: Open, actor: Actor) -> None:
        actor.runs("a", b"one\n", b"two\n")
        attempt, two, _end = told(list(connect(query="?from=5")))
        assert (attempt.name, attempt.id, two.data["text"]) == ("attempt", "a-1:5", "wo\n")

    def test_a_job_that_never_runs_ends_its_streams(self, connect: Open, queue: LocalQueue) -> None:
        stream = connect()
        next(iter(stream))
        for _ in queue.cancel(["a"]):
            pass
        assert stream.until("end")[-1].data["state"] == "cancelled"

    def test_output_arrives_within_a_second(self, connect: Open, actor: Actor) -> None:
        actor.take("a")
        events = iter(connect())
        while next(events).name != "attempt":
            pass
        watch = Stopwatch()
        actor.prints("a", b"now")
        assert next(events).data["text"] == "now"
        watch.check(1.0)

    def test_bytes_that_are_followed_arrive_while_the_command_runs(self, connect: Open, actor: Actor) -> None:
        actor.take("a")
        stream = connect(query="?follow=1", accept="*/*")
        parts = stream.parts()
        actor.prints("a", b"so far")
        assert next(parts) == b"so far"
        actor.ends("a")
        assert list(parts) == []
        assert stream.is_complete

    def test_the_first_lines_and_the_last_ones_say_when_to_connect_again(
        self, connect: Open, server: Running
    ) -> None:
        stream = connect()
        parts = stream.parts()
        assert next(parts) == b": queuectl\nretry: 2000\nid: 1:0\n\n"
        server.end()
        assert b"".join(parts) == b"event: bye\nretry: 1000\ndata: {}\n\n"
        assert stream.is_complete

    @pytest.mark.parametrize("offset", [0, 20, 30, 50, 70])
    def test_output_that_is_not_kept_is_named_once(self, connect: Open, actor: Actor, offset: int) -> None:
        actor.take("a")
        actor.prints("a", *([b"x" * 10] * 9))
        actor.forgets("a", 3, 8)
        actor.ends("a")
        events = told(connect(f"a-1:{offset}").until("end"))
        gap = [event.data for event in events if event.name == "omitted"]
        assert gap == ([{"from": max(offset, 30), "to": 70}] if offset < 70 else [])
        assert len(output(events)) == max(30 - offset, 0) + 20
        assert events[-1].id == "end:90"

    def test_bytes_of_one_stream_of_one_attempt_from_an_offset(self, connect: Open, actor: Actor) -> None:
        history(actor)
        stream = connect(query="?follow=1&attempt=2&stream=stderr&from=5", accept="*/*")
        assert b"".join(stream.parts()) == b"r \xff\xfetail"
        assert (stream.headers["queuectl-attempt"], stream.headers["queuectl-from"]) == ("2", "5")
        assert stream.is_complete

    @pytest.mark.parametrize("last_id", ["x", "a-1:", "a-1:-1", "a-1:1e3", "a-1:²", ":5", "a-1:" + "9" * 30])
    def test_an_id_that_is_none_is_refused(self, connect: Open, last_id: str) -> None:
        assert connect(last_id.encode().decode("latin-1")).status == 400

    def test_an_id_of_an_unknown_attempt_begins_with_the_oldest_known(
        self, connect: Open, actor: Actor
    ) -> None:
        """The history has dropped the attempt of a client that was away for long: all known ones are later."""
        actor.runs("a", b"x", exit_code=1)
        actor.runs("a", b"y")
        assert output(list(connect("other:7"))) == b"xy"


@pytest.mark.usefixtures("job")
class TestReconnect:
    def test_at_every_byte_of_a_recorded_stream(self, connect: Open, actor: Actor) -> None:
        history(actor)
        record = b"".join(connect("a-1:0").parts())
        whole = told([parsed(block) for block in record.split(b"\n\n")[:-1]])
        assert {event.name for event in whole} == {"output", "omitted", "attempt", "end"}

        @cache
        def rest(last_id: str) -> list[Event]:
            return told(list(connect(last_id)))

        for cut in range(len(record)):
            seen = told([parsed(block) for block in record[:cut].split(b"\n\n")[:-1]])
            last_id = seen[-1].id if seen else "a-1:0"
            assert last_id is not None
            assert [*seen, *rest(last_id)] == whole

    def test_at_every_byte_of_the_output(self, connect: Open, actor: Actor) -> None:
        history(actor)
        whole = output(list(connect("a-1:0")))
        for offset in range(15):
            assert output(list(connect(f"a-1:{offset}"))) == whole[offset:]

    def test_while_the_command_runs(self, connect: Open, actor: Actor) -> None:
        actor.take("a")
        actor.prints("a", b"one")
        first = connect()
        assert output(first.until("output")) == b"one"
        second = connect("a-1:1")
        assert output(second.until("output")) == b"ne"
        actor.prints("a", b"two")
        actor.ends("a")
        assert output(first.until("end")) == output(second.until("end")) == b"two"

    @pytest.mark.parametrize("last", ["of the first block", "of the attempt"])
    def test_before_an_attempt_has_started_misses_none(self, connect: Open, actor: Actor, last: str) -> None:
        """The first id names the attempt by its number: if it is given back, the next one has another id."""
        if last == "of the attempt":
            actor.take("a")
        stream = connect()
        seen = stream.until(":" if last == "of the first block" else "attempt")[-1]
        stream.close()
        if last == "of the attempt":
            actor.gives_back("a")
        for text in (b"first", b"second", b"third"):
            actor.take("a")
            actor.prints("a", text)
            actor.ends("a", exit_code=1 if text != b"third" else 0)
        events = told(connect(seen.id).until("end"))
        assert output(events) == b"firstsecondthird"
        assert [event.data["attempt"] for event in events if event.name == "attempt"] == [1, 2, 3]

    def test_with_the_number_of_an_attempt(self, connect: Open, actor: Actor) -> None:
        history(actor)
        attempt, *events = told(connect("2:11").until("end"))
        assert (attempt.data["attempt_id"], attempt.id) == ("a-2", "a-2:11")
        assert output(events) == b"taillast\n"

    def test_reads_little_of_the_output_before(
        self, connect: Open, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        actor.take("a")
        actor.prints("a", *([b"x" * 1000] * 1000))
        actor.ends("a")
        read, read_output = list[object](), actor.store.read_output

        def reading(*given: object) -> object:
            chunks = read_output(*given)  # type: ignore[arg-type]
            read.extend(chunks)
            return chunks

        monkeypatch.setattr(actor.store, "read_output", reading)
        assert output(connect("a-1:999000").until("end")) == b"x" * 1000
        assert len(read) < 15


@pytest.mark.usefixtures("job")
class TestManyReaders:
    def test_one_thread_reads_for_all_and_none_when_nobody_looks(
        self, connect: Open, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        actor.take("a")
        actor.prints("a", b"one")
        readers, read = set[str](), actor.store.read_output

        def reading(*given: object) -> object:
            readers.add(threading.current_thread().name)
            return read(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(actor.store, "read_output", reading)
        streams = [connect() for _ in range(20)]
        for stream in streams:
            stream.until("output")
        eventually(lambda: len(followers()) == 1)
        readers.clear()
        actor.prints("a", b"two")
        for stream in streams:
            assert output(stream.until("output")) == b"two"
        assert readers == {"queuectl-output"}
        for stream in streams:
            stream.close()
        eventually(lambda: not followers())

    def test_a_reader_that_joins_later_gets_nothing_twice(self, connect: Open, actor: Actor) -> None:
        actor.take("a")
        first = connect()
        first.until("attempt")
        eventually(followers)
        actor.prints("a", b"one")
        first.until("output")
        second = connect()
        assert output(second.until("output")) == b"one"
        actor.prints("a", b"two")
        actor.ends("a")
        assert [event.name for event in told(second.until("end"))] == ["output", "end"]

    def test_a_slow_reader_gets_everything_and_delays_nobody(
        self, connect: Open, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live_output, "KEPT", 1000)
        actor.take("a")
        slow, quick = connect(), connect()
        slow.until("attempt")
        data = b""
        for n in range(300):
            piece = b"%d " % n * 5000
            data += piece
            actor.prints("a", piece)
        actor.ends("a")
        assert output(quick.until("end")) == data
        assert output(slow.until("end")) == data

    def test_the_number_of_streams_is_bounded(self, connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "MOST_OF_TOKEN", 2)
        monkeypatch.setattr(streaming, "MOST", 3)
        held = [connect() for _ in range(2)]
        refused = connect()
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert connect(token="view").status == 200
        assert connect(token="operate").status == 429
        held[0].close()
        eventually(lambda: connect().status == 200)


def followers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "queuectl-output"]


@pytest.mark.usefixtures("job")
class TestEnd:
    def test_three_hundred_streams_say_goodbye_within_a_second(
        self, state: ServerState, server: Running, actor: Actor
    ) -> None:
        state.anonymous = Caller("anonymous", frozenset(("view",)))
        actor.take("a")
        streams = [
            EventStream(server.port, PATH, token=None, source=f"127.0.0.{2 + n // 60}") for n in range(300)
        ]
        for stream in streams:
            stream.until("attempt")
        watch = Stopwatch()
        server.end()
        for stream in streams:
            assert stream.until("bye")
            stream.close()
        watch.check(1.0)

    def test_bytes_are_cut_off_so_that_nobody_takes_them_for_complete(
        self, connect: Open, server: Running, actor: Actor
    ) -> None:
        actor.take("a")
        actor.prints("a", b"x")
        stream = connect(query="?follow=1", accept="*/*")
        parts = stream.parts()
        next(parts)
        server.end()
        assert list(parts) == []
        assert not stream.is_complete

    def test_bytes_for_a_revoked_token_are_cut_off(
        self, connect: Open, state: ServerState, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streaming, "CHECK", 0.05)
        actor.take("a")
        actor.prints("a", b"x")
        stream = connect(query="?follow=1", accept="*/*", token="view")
        parts = stream.parts()
        assert next(parts) == b"x"
        monkeypatch.setattr(state.authenticator, "admits", lambda caller: False)
        assert list(parts) == []
        assert not stream.is_complete

    def test_the_streams_of_a_revoked_token_are_closed_and_no_others(
        self, connect: Open, state: ServerState, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streaming, "CHECK", 0.05)
        actor.take("a")
        revoked, other = connect(token="view"), connect()
        for stream in (revoked, other):
            stream.until("attempt")
        monkeypatch.setattr(state.authenticator, "admits", lambda caller: caller.name != "token:view")
        assert told(list(revoked)) == []
        actor.prints("a", b"x")
        assert output(other.until("output")) == b"x"


def outage(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, the threads of the server cannot read jobs."""
    away, get = threading.Event(), actor.store.get

    def answer(ids: Sequence[str]) -> object:
        if away.is_set() and threading.current_thread().name.startswith("queuectl"):
            raise StoreUnavailable("the store is away")
        return get(ids)

    monkeypatch.setattr(actor.store, "get", answer)
    return away


@pytest.mark.usefixtures("job")
class TestOutage:
    def test_a_stream_stays_open_while_the_store_is_away(
        self, connect: Open, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output_reader, "BEAT", 0.05)
        monkeypatch.setattr(live_output, "RETRY", 0.05)
        monkeypatch.setattr(live_output, "SILENCE", 60.0)
        actor.take("a")
        stream = connect()
        stream.until("attempt")
        away = outage(actor, monkeypatch)
        away.set()
        events = iter(stream)
        for _ in range(2):
            while next(events) != Event(":", "store away"):
                pass
        assert connect().status == 503
        away.clear()
        actor.prints("a", b"back")
        assert output(stream.until("output")) == b"back"

    def test_attempts_of_an_outage_are_not_missed(
        self, connect: Open, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output_reader, "BEAT", 0.05)
        monkeypatch.setattr(live_output, "RETRY", 0.05)
        away = outage(actor, monkeypatch)
        stream = connect()
        events = iter(stream)
        next(events)
        eventually(followers)
        away.set()
        while next(events) != Event(":", "store away"):
            pass
        for text in (b"first", b"second"):
            actor.take("a")
            actor.prints("a", text)
            actor.ends("a", exit_code=1)
        actor.take("a")
        actor.ends("a")
        away.clear()
        assert output(stream.until("end")) == b"firstsecond"

    def test_a_quiet_stream_says_that_it_is_still_there(
        self, connect: Open, actor: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output_reader, "BEAT", 0.02)
        actor.take("a")
        events = iter(connect())
        while next(events) != Event(":", "no output"):
            pass
