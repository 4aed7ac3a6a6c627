"""Events over HTTP: the list, and the stream: each event, in order, over reconnects, for many and for slow readers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import takewhile
from typing import Any

import pytest

from cli.acting import Actor
from event_stream import EventStream
from facts import Stopwatch, eventually
from http_client import Client
from http_remote import opened
from http_server import Running, running
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput, StoreUnavailable
from queuectl.http import event_feed, event_reader, streaming
from queuectl.http.caller import Caller
from queuectl.http.server_state import ServerState
from queuectl.service.events import Selected, kinds_of
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest

PATH = "/v1/events"
Open = Callable[..., EventStream]


@pytest.fixture
def running_server(state: ServerState) -> Iterator[Running]:
    with running(state) as server:
        yield server


@pytest.fixture
def client(running_server: Running) -> Client:
    return Client(running_server.port, "admin")


@pytest.fixture
def connect(running_server: Running) -> Iterator[Open]:
    with ExitStack() as stack:

        def connect(query: str = "", last_id: str | None = None, **options: Any) -> EventStream:
            stream = EventStream(running_server.port, PATH + query, last_id, **options)
            return stack.enter_context(stream)

        yield connect


@pytest.fixture
def actor(queue: LocalQueue) -> Actor:
    return Actor(queue._store)


def enqueue(queue: LocalQueue, /, *ids: str, **fields: Any) -> None:
    queue.enqueue([JobRequest(id=id, command="true", **fields) for id in ids])


def ids(count: int, begin: int = 0) -> list[str]:
    return [f"j{n:04}" for n in range(begin, begin + count)]


def jobs(stream: EventStream, last: str) -> list[str]:
    """The jobs of the events up to the first one of the job `last`."""
    found = list[str]()
    for event in stream:
        if event.name.startswith("job."):
            found.append(event.data["job"])
            if found[-1] == last:
                return found
    raise AssertionError(f"no event of {last}: {found}")


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "queuectl-events"]


class Counted:
    """Counts the calls of `read_events`, by thread."""

    def __init__(self, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads, read = list[str](), queue._store.read_events

        def reading(*given: Any) -> Any:
            self.threads.append(threading.current_thread().name)
            return read(*given)

        monkeypatch.setattr(queue._plain, "read_events", reading, raising=False)


class TestList:
    def test_pages_go_on_until_the_cursor_stays(self, client: Client, queue: LocalQueue) -> None:
        enqueue(queue, *ids(5))
        found, cursor = list[str](), "1h"
        while True:
            page = client("GET", f"{PATH}?since={cursor}&limit=2").document
            found += [each["job"] for each in page["events"]]
            if page["next"] == cursor:
                break
            cursor = page["next"]
        assert (found, page) == (ids(5), {"schema": 1, "events": [], "next": cursor, "gap": False})

    def test_kinds_and_a_filter(self, client: Client, queue: LocalQueue) -> None:
        enqueue(queue, "a", queue="mail")
        enqueue(queue, "b")
        list(queue.cancel(["a", "b"]))
        page = client("GET", f"{PATH}?type=cancelled&where=queue:mail").document
        [event] = page["events"]
        assert (event["event"], event["job"], event["schema"]) == ("job.cancelled", "a", 1)

    def test_limit_zero_answers_a_cursor(self, client: Client, queue: LocalQueue) -> None:
        enqueue(queue, "a")
        now = client("GET", f"{PATH}?since=now&limit=0").document
        assert now["events"] == []
        assert client("GET", f"{PATH}?since={now['next']}").document["events"] == []
        enqueue(queue, "b")
        assert [e["job"] for e in client("GET", f"{PATH}?since={now['next']}").document["events"]] == ["b"]

    def test_deleted_events_are_a_gap(self, client: Client, queue: LocalQueue) -> None:
        enqueue(queue, *ids(5))
        queue._store.trim_events(queue.now().replace(year=1971), 2, 100)
        page = client("GET", f"{PATH}?since=1").document
        assert (page["gap"], [each["job"] for each in page["events"]]) == (True, ids(2, 3))

    @pytest.mark.parametrize(
        "query",
        ["since=x", "since=1-2", "type=nothing", "where=nonsense", "limit=1001", "limit=-1", "topics=jobs"],
    )
    def test_bad_input(self, client: Client, query: str) -> None:
        assert client("GET", f"{PATH}?{query}").status == 400


class TestStream:
    def test_begins_now_and_goes_on(self, connect: Open, queue: LocalQueue) -> None:
        enqueue(queue, "before")
        stream = connect()
        assert (stream.status, stream.headers["content-type"][:17]) == (200, "text/event-stream")
        first = next(iter(stream))
        assert first.name == ":"
        watch = Stopwatch()
        enqueue(queue, "after")
        event = stream.until("job.enqueued")[-1]
        watch.check(1.0)
        assert (event.data["job"], event.data["id"], event.data["schema"]) == ("after", event.id, 1)
        assert event.data["event"] == event.name

    def test_the_first_lines_and_the_last_ones(
        self, connect: Open, running_server: Running, queue: LocalQueue
    ) -> None:
        stream = connect()
        parts = stream.parts()
        assert next(parts) == f": queuectl\nretry: 2000\nid: {queue.events().cursor(None)}\n\n".encode()
        watch = Stopwatch()
        running_server.end()
        assert b"".join(parts) == b"event: bye\nretry: 1000\ndata: {}\n\n"
        watch.check(1.0)
        assert stream.is_complete

    @pytest.mark.parametrize("place", ["since", "last id"])
    def test_goes_on_behind_a_cursor(self, connect: Open, queue: LocalQueue, place: str) -> None:
        enqueue(queue, *ids(300))
        cursor = queue.events().page(None, 100).next
        stream = connect(f"?since={cursor}") if place == "since" else connect("?since=now", cursor)
        assert jobs(stream, "j0299") == ids(200, 100)
        enqueue(queue, "live")
        assert jobs(stream, "live") == ["live"]

    def test_selects(self, connect: Open, queue: LocalQueue) -> None:
        enqueue(queue, "a", queue="mail")
        stream = connect("?since=1h&type=cancelled&where=queue:mail")
        enqueue(queue, "b")
        list(queue.cancel(["b"]))
        list(queue.cancel(["a"]))
        assert [event.data["job"] for event in stream.until("job.cancelled")[1:]] == ["a"]
        enqueue(queue, "c", queue="mail")
        list(queue.cancel(["c"]))
        assert [event.data["job"] for event in stream.until("job.cancelled")] == ["c"]

    def test_a_gap_is_said_and_the_oldest_follow(self, connect: Open, queue: LocalQueue) -> None:
        enqueue(queue, *ids(5))
        queue._store.trim_events(queue.now().replace(year=1971), 2, 100)
        stream = connect("?since=1")
        assert stream.until("events.gap")[-1].data == {"schema": 1, "event": "events.gap"}
        assert jobs(stream, "j0004") == ids(2, 3)

    def test_a_gap_of_the_thread_is_a_gap_of_each_stream(
        self, connect: Open, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        streams = [connect() for _ in range(2)]
        for stream in streams:
            stream.until(":")
        enqueue(queue, "a")
        for stream in streams:
            assert jobs(stream, "a") == ["a"]
        away, read = threading.Event(), queue._store.read_events

        def reading(*given: Any) -> Any:
            if away.is_set():
                raise StoreUnavailable("away")
            return read(*given)

        monkeypatch.setattr(queue._plain, "read_events", reading, raising=False)
        away.set()
        enqueue(queue, *ids(5))
        queue._store.trim_events(queue.now().replace(year=1971), 2, 100)
        away.clear()
        enqueue(queue, "last")
        for stream in streams:
            stream.until("events.gap")
            assert jobs(stream, "last") == [*ids(2, 3), "last"]

    @pytest.mark.parametrize("query", ["?since=x", "?since=1-2", "?topics=nothing", "?type=x"])
    def test_bad_input(self, connect: Open, query: str) -> None:
        assert connect(query).status == 400

    def test_a_last_id_that_is_none_is_refused(self, connect: Open) -> None:
        assert connect("", "x").status == 400

    def test_a_cursor_behind_the_end_is_a_gap(self, connect: Open, queue: LocalQueue) -> None:
        enqueue(queue, "a")
        stream = connect("?since=999")
        stream.until("events.gap")
        assert jobs(stream, "a") == ["a"]

    def test_says_that_it_is_there_and_how_far_it_is(
        self, connect: Open, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_reader, "BEAT", 0.05)
        stream = connect("?type=dead")
        stream.until(":")
        enqueue(queue, "a")
        end = queue.events().cursor(None)
        beats = list(takewhile(lambda event: event.id != end, stream))
        assert {event.data for event in beats} <= {"no events"}

    def test_stays_open_while_the_store_is_away(
        self, connect: Open, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_reader, "BEAT", 0.05)
        stream = connect()
        stream.until(":")
        away, read = threading.Event(), queue._store.read_events

        def reading(*given: Any) -> Any:
            if away.is_set():
                raise StoreUnavailable("away")
            return read(*given)

        monkeypatch.setattr(queue._plain, "read_events", reading, raising=False)
        away.set()
        assert any(event.data == "store away" for event in stream)
        away.clear()
        enqueue(queue, "a")
        assert jobs(stream, "a") == ["a"]


class TestOverviews:
    def test_counts_come_first_and_when_they_change(self, connect: Open, queue: LocalQueue) -> None:
        enqueue(queue, "a", queue="mail")
        stream = connect("?topics=counts")
        shown = stream.until("counts")[-1]
        assert (shown.data["jobs"]["pending"], shown.data["queues"][0]["name"]) == (1, "mail")
        assert shown.id is None
        enqueue(queue, "b", queue="mail")
        shown = stream.until("counts")[-1]
        assert (shown.data["schema"], shown.data["jobs"]["pending"]) == (1, 2)

    def test_topics_are_sent_together(self, connect: Open, queue: LocalQueue, actor: Actor) -> None:
        stream = connect("?topics=jobs,counts,queues,workers")
        enqueue(queue, "a")
        actor.enters("w1")
        names = set[str]()
        while names < {"job.enqueued", "counts", "queues", "workers"}:
            names.add(next(iter(stream)).name)

    def test_counts_are_read_at_most_once_a_second_for_all(
        self, connect: Open, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read, counts = list[int](), queue._store.counts
        monkeypatch.setattr(
            queue._plain, "counts", lambda *given: (read.append(1), counts(*given))[1], raising=False
        )
        watch = Stopwatch()
        streams = [connect("?topics=counts") for _ in range(20)]
        for stream in streams:
            stream.until("counts")
        for id in ids(20):
            enqueue(queue, id)
        while stream.until("counts")[-1].data["jobs"]["pending"] < 20:
            pass
        assert len(read) <= watch.seconds + 2


class TestMany:
    def test_forty_streams_cost_the_store_as_much_as_one(
        self, connect: Open, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also those that connect again behind an event that is still in memory."""
        first = connect()
        first.until(":")
        eventually(readers)
        counted = Counted(queue, monkeypatch)
        cursor = queue.events().cursor(None)
        enqueue(queue, *ids(100))
        assert jobs(first, "j0099") == ids(100)
        streams = [connect("", cursor, token="view" if n % 2 else "admin") for n in range(39)]
        for stream in streams:
            assert jobs(stream, "j0099") == ids(100)
        for n in range(100, 120):
            enqueue(queue, *ids(1, n))
        for stream in (first, *streams):
            assert jobs(stream, "j0119") == ids(20, 100)
        assert set(counted.threads) == {"queuectl-events"}
        eventually(lambda: len(readers()) == 1)

    def test_nobody_reads_when_no_stream_is_open(self, connect: Open) -> None:
        stream = connect()
        stream.until(":")
        eventually(readers)
        stream.close()
        eventually(lambda: not readers())
        again = connect()
        again.until(":")
        eventually(readers)

    def test_a_reader_that_falls_behind_the_kept_events_gets_all(
        self, connect: Open, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_feed, "KEPT", 50)
        monkeypatch.setattr(event_feed, "PAGE", 10)
        slow, quick = connect(buffer=4096), connect()
        slow.until(":")
        for n in range(0, 3000, 300):
            enqueue(queue, *ids(300, n))
        assert jobs(quick, "j2999") == ids(3000)
        assert jobs(slow, "j2999") == ids(3000)

    def test_joins_while_events_are_written(self, connect: Open, queue: LocalQueue) -> None:
        """The change from the store to the kept events has neither a gap nor a repetition."""
        first = connect()
        first.until(":")
        done = threading.Event()

        def write() -> None:
            for id in ids(400):
                enqueue(queue, id)
            enqueue(queue, "last")
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        found = list[list[str]]()
        while not done.is_set() and len(found) < 15:
            stream = connect("?since=1h")
            found.append(jobs(stream, "last") if len(found) == 14 else jobs_so_far(stream))
            stream.close()
        writer.join()
        everything = [*ids(400), "last"]
        for each in found:
            assert each == everything[: len(each)]
        assert jobs(first, "last") == everything

    def test_the_number_is_bounded(self, connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "MOST_OF_TOKEN", 2)
        monkeypatch.setattr(streaming, "MOST", 3)
        held = [connect() for _ in range(2)]
        refused = connect()
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert connect(token="view").status == 200
        assert connect(token="operate").status == 429
        held[0].close()
        eventually(lambda: connect().status == 200)

    def test_the_stream_of_a_revoked_token_is_closed(
        self, connect: Open, state: ServerState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streaming, "CHECK", 0.05)
        revoked, other = connect(token="view"), connect()
        for stream in (revoked, other):
            stream.until(":")
        monkeypatch.setattr(state.authenticator, "admits", lambda caller: caller.name != "token:view")
        assert not [event for event in revoked if event.name != ":"]
        enqueue(state.queue, "a")  # type: ignore[arg-type]
        assert jobs(other, "a") == ["a"]


def jobs_so_far(stream: EventStream) -> list[str]:
    """The jobs of the first fifty events."""
    found = list[str]()
    for event in stream:
        if event.name.startswith("job."):
            found.append(event.data["job"])
            if len(found) == 50:
                break
    return found


class TestRights:
    MAIL = Caller("token:mail", frozenset(("view", "operate")), frozenset(("mail",)))

    @pytest.fixture(autouse=True)
    def of_mail(self, state: ServerState, monkeypatch: pytest.MonkeyPatch) -> None:
        """The token `view` is restricted to the queue mail."""
        given = state.authenticator.caller
        monkeypatch.setattr(
            state.authenticator,
            "caller",
            lambda request: self.MAIL if (found := given(request)) and found.name == "token:view" else found,
        )

    def test_a_restricted_token_gets_the_events_of_its_queues(
        self, connect: Open, client: Client, queue: LocalQueue
    ) -> None:
        stored, live = connect("?since=1h", token="view"), connect(token="view")
        live.until(":")
        for n in range(3):
            enqueue(queue, f"other{n}")
            enqueue(queue, f"mail{n}", queue="mail")
        wanted = ["mail0", "mail1", "mail2"]
        assert jobs(stored, "mail2") == jobs(live, "mail2") == wanted
        page = Client(client.port, "view")("GET", PATH).document
        assert [each["job"] for each in page["events"]] == wanted

    def test_a_change_has_the_name_of_its_token(self, client: Client, queue: LocalQueue) -> None:
        client("POST", "/v1/jobs", {"id": "a", "command": "true", "queue": "mail"})
        Client(client.port, "view")("POST", "/v1/jobs/a/cancel", {})
        client("DELETE", "/v1/jobs/a")
        found = [(event.event, event.by, event.via) for _, event in queue.events().page(None, 9).events]
        assert found == [
            ("job.enqueued", "token:admin", "http"),
            ("job.cancelled", "token:mail", "http"),
            ("job.deleted", "token:admin", "http"),
        ]


class TestRemote:
    def test_pages_and_cursors(self, client: Client, queue: LocalQueue) -> None:
        enqueue(queue, "a", queue="mail")
        enqueue(queue, "b")
        local = queue.events()
        with opened(f"http://127.0.0.1:{client.port}") as remote:
            events = remote.events()
            for selected in (
                Selected(),
                Selected(kinds_of("dead,enqueued")),
                Selected(where=parse("queue:mail", queue.now())),
            ):
                assert events.page(None, 9, selected) == local.page(None, 9, selected)
            assert events.cursor(None) == local.cursor(None)
            assert events.page("1", 5000) == local.page("1", 5000)
            with pytest.raises(InvalidInput, match="no cursor"):
                events.page("1-2", 9)

    def test_follows_through_broken_connections(
        self, client: Client, queue: LocalQueue, state: ServerState
    ) -> None:
        said = list[str]()
        with opened(f"http://127.0.0.1:{client.port}") as remote:
            events = remote.events()
            found = events.follow(events.cursor(None), notice=said.append)
            for n in range(5):
                enqueue(queue, f"a{n}", f"b{n}")
                assert [name(next(found)), name(next(found))] == [f"a{n}", f"b{n}"]
                state.streams._close({each.caller for each in state.streams._open}, "refused")

    def test_a_gap_is_none(self, client: Client, queue: LocalQueue) -> None:
        enqueue(queue, *ids(5))
        queue._store.trim_events(queue.now().replace(year=1971), 2, 100)
        with opened(f"http://127.0.0.1:{client.port}") as remote:
            found = remote.events().follow("1")
            assert [next(found), name(next(found)), name(next(found))] == [None, "j0003", "j0004"]


def name(found: Any) -> str:
    """The job of an event."""
    return str(found[1].job)
