"""What the client of a server makes of each fault on the way: the right error, and nothing is done twice."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.acting import Actor
from facts import eventually
from http_client import Client
from http_cutter import MOMENTS, Cutter, Moment, cutting
from http_impostor import answering, flooding, holding, reply
from http_remote import SHORT, fault, opened
from queuectl import __version__
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Page
from queuectl.domain.queue import QueueChange
from queuectl.errors import (
    Changed,
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    StoreUnavailable,
    Unauthenticated,
)
from queuectl.http.client import channel as channels
from queuectl.http.client import tries, waiting
from queuectl.http.client.address import address_of
from queuectl.http.client.channel import Channel, Patience
from queuectl.http.client.credentials import Credentials
from queuectl.http.client.remote_queue import RemoteQueue
from queuectl.http.server_state import ServerState
from queuectl.service.changing import Change
from queuectl.service.enqueueing import JobSummary
from queuectl.service.following import Begin, End, Part, Position, start_of
from queuectl.service.local_queue import LocalQueue
from queuectl.service.operation import Operation
from queuectl.service.request.fields import JobRequest
from queuectl.service.settings import Sources
from queuectl.service.shapes import output as shapes
from queuectl.store.sqlite import SqliteStore
from servers.endpoint import free_port
from servers.proxy import Proxy


def token_of_a_file(text: str) -> Credentials:
    return Credentials(text, "the local server's file")


@pytest.fixture
def cutter(server: Client) -> Iterator[Cutter]:
    with cutting(server.port) as cutter:
        yield cutter


@pytest.fixture
def remote(cutter: Cutter) -> Iterator[RemoteQueue]:
    """A queue whose connections can be cut."""
    with opened(cutter.url, patience=Patience(5, 5)) as queue:
        yield queue


class TestAddress:
    @pytest.mark.parametrize(
        "url", ["http://ada:s3cret@h:1", "https://token@h", "http://h:1?x=1", "https://h/#a"]
    )
    def test_a_url_with_a_user_or_a_query_is_refused_and_not_shown(self, url: str) -> None:
        with pytest.raises(InvalidInput) as raised:
            address_of(url)
        assert "s3cret" not in raised.value.message

    @pytest.mark.parametrize(
        ("url", "where"),
        [
            ("http://h", ("h", 80, "", None)),
            ("https://h/queue/", ("h", 443, "/queue", None)),
            ("http://[::1]:7733", ("::1", 7733, "", None)),
            ("http+unix:///run/q.sock", ("localhost", 80, "", "/run/q.sock")),
        ],
    )
    def test_a_url_names_host_port_path_or_socket(self, url: str, where: tuple[object, ...]) -> None:
        assert tuple(address_of(url)[2:]) == where

    def test_a_token_does_not_go_to_another_host_in_clear(self) -> None:
        error = fault("http://192.0.2.1:7733")
        assert isinstance(error, InvalidInput)
        assert "--insecure-http" in (error.hint or "")


class TestUnreachable:
    def test_nobody_listens(self) -> None:
        error = fault(f"http://127.0.0.1:{free_port()}")
        assert type(error) is StoreUnavailable
        assert "cannot reach http://127.0.0.1:" in error.message

    def test_a_restart_of_the_server_is_not_noticed(self, server: Client) -> None:
        port = free_port()
        with opened(f"http://127.0.0.1:{port}", patience=Patience(5, 5)) as queue:
            found: list[object] = []
            thread = threading.Thread(target=lambda: found.append(queue.status()))
            thread.start()
            with cutting(server.port, port):
                thread.join()
        assert len(found) == 1

    def test_a_wait_outlives_several_servers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each server holds the request and is killed. The patience is for one outage, not for all of them."""
        now = [0.0]
        for module in (tries, channels):
            monkeypatch.setattr(module, "boottime", lambda: now[0])

        def hold() -> None:
            now[0] += SHORT.reads + 1

        ended = b'{"schema":1,"done":true,"jobs":[],"missing":["a"],"waiting":0,"obstacles":[]}'
        ok = reply("200 OK", ended, Queuectl_Version=__version__)
        with holding(hold, *[b""] * 6, ok) as server:
            channel = Channel(address_of(server.url), lambda: None, SHORT)
            assert waiting.ask(channel, ["a"], 50, any_one=False)["done"]
            channel.close()
        assert len(server.requests) == 7

    def test_a_server_that_breaks_each_connection_at_once_ends_the_patience_of_a_wait(self) -> None:
        with answering(b"") as server:
            channel = Channel(address_of(server.url), lambda: None, SHORT)
            with pytest.raises(StoreUnavailable):
                waiting.ask(channel, ["a"], 50, any_one=False)
            channel.close()

    def test_a_socket_that_is_not_there(self) -> None:
        assert type(fault("http+unix:///nowhere/serve.sock")) is StoreUnavailable

    def test_an_unknown_host_is_reported_at_once(self) -> None:
        assert "not known" in fault("https://queuectl.invalid").message


class TestLoad:
    def test_retry_after_is_obeyed(self, server: Client) -> None:
        busy = b'{"code":"store_unavailable","detail":"the store is away","hint":null,"exit_code":5}'
        away = reply("503 Service Unavailable", busy, Queuectl_Version=__version__, Retry_After="0")
        ok = reply("200 OK", server("GET", "/v1/status").body, Queuectl_Version=__version__)
        with answering(away, ok) as proxy, opened(proxy.url) as queue:
            queue.status()
        assert len(proxy.requests) == 2

    def test_a_pause_longer_than_the_patience_is_not_waited_for(self) -> None:
        body = b'{"code":"too_many","detail":"too many requests","hint":null,"exit_code":5}'
        with answering(reply("429 Too Many Requests", body, Queuectl_Version="1", Retry_After="60")) as busy:
            error = fault(busy.url)
        assert error.exit_code == 5
        assert error.message == "too many requests"
        assert len(busy.requests) == 1


class TestTokens:
    def test_without_a_token(self, server: Client) -> None:
        with (
            opened(f"http://127.0.0.1:{server.port}", token=None) as queue,
            pytest.raises(Unauthenticated) as raised,
        ):
            queue.status()
        assert raised.value.message == f"http://127.0.0.1:{server.port} needs a token"
        assert raised.value.hint == f"queuectl login http://127.0.0.1:{server.port} keeps one"

    def test_the_error_for_a_wrong_token_says_where_the_token_is_from(self, server: Client) -> None:
        with (
            opened(f"http://127.0.0.1:{server.port}", token="wrong") as queue,
            pytest.raises(Unauthenticated, match=r"^the token of QUEUECTL_TOKEN is refused: "),
        ):
            queue.status()

    def test_the_error_of_a_stream_says_where_the_token_is_from(self, server: Client) -> None:
        with (
            opened(f"http://127.0.0.1:{server.port}", token="wrong") as queue,
            pytest.raises(Unauthenticated, match=r"^the token of QUEUECTL_TOKEN is refused: "),
        ):
            list(queue.follow("1"))

    def test_the_token_is_read_again_after_a_restart(self, server: Client) -> None:
        sources = Sources({}, None, lambda text: None)
        sources.environment = {"QUEUECTL_TOKEN": "of-the-last-start"}
        queue = RemoteQueue(address_of(f"http://127.0.0.1:{server.port}"), sources, patience=SHORT)
        with pytest.raises(Unauthenticated):
            queue.status()
        sources.environment["QUEUECTL_TOKEN"] = "admin"
        queue.status()
        queue.close()

    def test_a_server_may_restart_several_times_during_one_request(self) -> None:
        """Each start of a local server makes another token; after a kill there is none until the next start."""
        refusal = b'{"code":"unauthenticated","detail":"the token is not known","hint":null,"exit_code":1}'
        unknown = reply("401 Unauthorized", refusal, Queuectl_Version=__version__)
        ok = reply("200 OK", b'{"schema":1}', Queuectl_Version=__version__)
        tokens = [*map(token_of_a_file, ("first", "second")), None, token_of_a_file("third")]
        with answering(unknown, unknown, unknown, ok) as server:
            channel = Channel(address_of(server.url), lambda: tokens.pop(0), SHORT)
            channel.read("/v1/status")
            channel.close()
        assert [b"Bearer" in request for request in server.requests] == [True, True, False, True]

    def test_another_thread_may_have_read_the_new_token(self) -> None:
        tokens = [token_of_a_file("old")]
        channel = Channel(address_of("http://127.0.0.1:1"), lambda: tokens[-1], SHORT)
        sent = channel.authorized({})
        tokens.append(token_of_a_file("new"))
        assert channel.renew_token(sent)
        assert channel.renew_token(sent), (
            "the second thread was refused with the old token, and has to try the new one"
        )
        assert not channel.renew_token(channel.authorized({}))


class TestReads:
    def test_a_job_that_is_shown_is_the_one_in_the_store(
        self, remote: RemoteQueue, queue: LocalQueue
    ) -> None:
        [added] = queue.enqueue([JobRequest(command="true", tags=["a"], stdin="x")])
        assert remote.show(added.job.id) == added.job
        assert remote.show("@last") == added.job

    @pytest.mark.parametrize("reference", ["", ".", "..", "nothing", "a/b", "é", "%2e"])
    def test_a_reference_to_nothing(self, remote: RemoteQueue, reference: str) -> None:
        with pytest.raises(NotFound):
            remote.show(reference)

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_a_read_is_repeated_when_the_connection_breaks(
        self, remote: RemoteQueue, cutter: Cutter, moment: Moment
    ) -> None:
        cutter.cut(b"GET /v1/status", moment, times=2)
        remote.status()
        assert cutter.cuts == 2


def changes(steps: Operation[Sequence[Change]]) -> list[Change]:
    return [change for step in steps for change in step]


def one(steps: Operation[Sequence[Change]]) -> Job:
    """The job of an operation on one job, which was changed."""
    [change] = changes(steps)
    assert change.changed
    assert change.job
    return change.job


class Case(NamedTuple):
    """A change of the job `a`.

    request  how its request begins
    make     makes the change, and returns the job after it, if there is one
    after    what the store then has
    """

    request: bytes
    make: Callable[[RemoteQueue], Job | None]
    after: dict[str, Any]


CASES = {
    "cancel": Case(
        b"POST /v1/jobs/a/cancel", lambda q: one(q.cancel(["a"])), {"state": "cancelled", "version": 2}
    ),
    "hold": Case(b"POST /v1/jobs/a/hold", lambda q: one(q.hold(["a"])), {"state": "held", "version": 2}),
    "edit": Case(
        b"PATCH /v1/jobs/a", lambda q: one(q.edit(["a"], priority=3)), {"priority": 3, "version": 2}
    ),
    "queue": Case(
        b"PATCH /v1/queues/q",
        lambda q: q.change_queue("q", QueueChange(paused=True)) and None,
        {"version": 1},
    ),
    "setting": Case(b"PUT /v1/config/lease", lambda q: q.set("lease", "1m") and None, {"version": 1}),
}


class TestChanges:
    """A reply is lost: the request is sent once more, and changes nothing twice."""

    @pytest.fixture(autouse=True)
    def a(self, queue: LocalQueue) -> None:
        queue.enqueue([JobRequest(command="true", id="a")])

    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize("name", CASES)
    def test_a_change_is_made_once(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter, name: str, moment: Moment
    ) -> None:
        case = CASES[name]
        cutter.cut(case.request, moment)
        shown = case.make(remote)
        assert cutter.cuts == 1
        stored = queue.show("a")
        assert {key: getattr(stored, key) for key in case.after} == case.after
        assert shown in (None, stored)

    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize("name", ["cancel", "hold", "edit"])
    def test_a_change_of_one_version_is_made_once(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter, name: str, moment: Moment
    ) -> None:
        """The first request has changed the version that the second one names."""
        make: dict[str, Callable[[], Operation[Sequence[Change]]]] = {
            "cancel": lambda: remote.cancel(["a"], version=1),
            "hold": lambda: remote.hold(["a"], version=1),
            "edit": lambda: remote.edit(["a"], priority=3, version=1),
        }
        cutter.cut(CASES[name].request, moment)
        assert one(make[name]()) == queue.show("a")
        assert queue.show("a").version == 2
        assert [type(each.refused) for each in changes(make[name]())] == [Changed]

    def test_a_held_job_of_one_version_is_released_once(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter
    ) -> None:
        changes(queue.hold(["a"]))
        cutter.cut(b"POST /v1/jobs/a/release", "after the request")
        assert one(remote.release(["a"], version=2)).state == "pending"
        assert queue.show("a").version == 3

    def test_a_job_of_one_version_that_has_changed_meanwhile_is_an_unknown_result(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter
    ) -> None:
        cutter.meanwhile = lambda: changes(queue.release(["a"]))
        cutter.cut(b"POST /v1/jobs/a/hold", "after the request")
        with pytest.raises(OutcomeUnknown):
            changes(remote.hold(["a"], version=1))

    @pytest.mark.parametrize("name", ["queue", "set", "unset"])
    def test_an_entry_whose_version_the_first_request_may_have_changed_is_an_unknown_result(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter, name: str
    ) -> None:
        if name == "unset":
            queue.set("lease", "2m")
        make: dict[str, tuple[bytes, Callable[[], object]]] = {
            "queue": (b"PATCH", lambda: remote.change_queue("q", QueueChange(paused=True), version=0)),
            "set": (b"PUT", lambda: remote.set("lease", "1m", version=0)),
            "unset": (b"DELETE", lambda: remote.unset("lease", version=1)),
        }
        request, change = make[name]
        cutter.cut(request, "after the request")
        with pytest.raises(OutcomeUnknown):
            change()
        assert cutter.cuts == 1
        with pytest.raises(Changed):
            change()

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_a_job_is_retried_once(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter, moment: Moment
    ) -> None:
        changes(queue.cancel(["a"]))
        cutter.cut(b"POST /v1/jobs/a/retry", moment)
        assert one(remote.retry(["a"])).state == "pending"
        assert cutter.cuts == 1
        assert queue.show("a").version == 3

    def test_a_retry_that_may_have_run_already_is_not_repeated(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter
    ) -> None:
        """The reply is lost, and the job has run and ended again before the request is repeated."""
        changes(queue.cancel(["a"]))
        cutter.meanwhile = lambda: changes(queue.cancel(["a"]))
        cutter.cut(b"POST /v1/jobs/a/retry", "after the request")
        with pytest.raises(OutcomeUnknown):
            changes(remote.retry(["a"]))
        assert queue.show("a").state == "cancelled"

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_a_job_is_deleted(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter, moment: Moment
    ) -> None:
        changes(queue.cancel(["a"]))
        cutter.cut(b"DELETE /v1/jobs/a", moment)
        [change] = changes(remote.delete(["a"]))
        assert change.changed
        assert cutter.cuts == 1
        assert queue.get(["a"]) == {}

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_jobs_are_stored_once_and_in_order(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter, moment: Moment
    ) -> None:
        cutter.cut(b"POST /v1/jobs?", moment)
        added = remote.enqueue([JobRequest(command=f"echo {n}", tags=["new"]) for n in range(3)], whole=True)
        assert cutter.cuts == 1
        stored = queue.list(Filter(tag="new"), Page()).jobs
        assert [job.spec.command for job in reversed(stored)] == ["echo 0", "echo 1", "echo 2"]
        assert [item.job for item in added] == list(reversed(stored))

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_jobs_are_answered_briefly_unless_the_caller_asks_for_whole_jobs(
        self, remote: RemoteQueue, queue: LocalQueue, cutter: Cutter, moment: Moment
    ) -> None:
        cutter.cut(b"POST /v1/jobs ", moment)
        [added] = remote.enqueue([JobRequest(command="true", id="new")])
        changes(queue.cancel(["new"]))
        ended = queue.show("new")
        [again, refused] = remote.enqueue(
            [JobRequest(command="true", id="new"), JobRequest(command="false", id="a")]
        )
        assert cutter.cuts == 1
        assert added.job == JobSummary("new", ended.number, "pending")
        assert (again.status, again.job) == (
            "existing",
            JobSummary("new", ended.number, "cancelled", ended.finished_at),
        )
        assert (refused.job, type(refused.refused)) == (None, Conflict)

    def test_a_reply_that_never_comes_is_an_unknown_result_with_the_ids(
        self, queue: LocalQueue, cutter: Cutter
    ) -> None:
        cutter.cut(b"POST /v1/jobs ", "after the request", times=1000)
        with opened(cutter.url) as remote, pytest.raises(OutcomeUnknown) as raised:
            remote.enqueue([JobRequest(command="echo"), JobRequest(command="echo", id="mine")])
        assert raised.value.exit_code == 75
        assert set(raised.value.ids) == {job.id for job in queue.list(Filter(), Page()).jobs} - {"a"}

    def test_a_request_that_was_never_sent_is_no_unknown_result(self, queue: LocalQueue) -> None:
        error = fault(f"http://127.0.0.1:{free_port()}", lambda q: q.enqueue([JobRequest(command="echo")]))
        assert type(error) is StoreUnavailable
        assert len(queue.list(Filter(), Page()).jobs) == 1

    def test_a_timeout_of_the_server_is_an_unknown_result(self) -> None:
        body = b'{"code":"unknown","detail":"the store did not answer in time","hint":null,"exit_code":75}'
        with answering(reply("504 Gateway Timeout", body, Queuectl_Version=__version__)) as server:
            error = fault(server.url, lambda q: q.enqueue([JobRequest(command="echo")]))
        assert type(error) is OutcomeUnknown
        assert (
            error.message == "the request was sent, and its reply is lost: the store did not answer in time"
        )
        assert len(server.requests) > 1


def printed(parts: Iterable[Part]) -> bytes:
    return b"".join(part.data for part in parts if isinstance(part, Chunk))


def fail_twice_and_end(actor: Actor) -> None:
    for text in (b"first", b"second"):
        actor.runs("a", text, exit_code=1)
    actor.runs("a", b"third")


class TestFollow:
    @pytest.fixture
    def actor(self, queue: LocalQueue) -> Actor:
        """Acts on job a."""
        queue.enqueue([JobRequest(id="a", command="x", max_retries=3)])
        return Actor(queue._store)

    def test_output_goes_on_at_the_same_byte_after_broken_connections(
        self, server: Client, queue: LocalQueue, tmp_path: Path
    ) -> None:
        queue.enqueue([JobRequest(command="true", id="a")])
        actor = Actor(SqliteStore(f"{tmp_path}/queue.db"))
        actor.take("a")
        proxy = Proxy("127.0.0.1", server.port)
        found: list[Part] = []
        with opened(f"http://127.0.0.1:{proxy.port}", patience=Patience(5, 5)) as remote:
            thread = threading.Thread(target=lambda: found.extend(remote.follow("a")))
            thread.start()
            for n in range(5):
                actor.prints("a", b"line %d\n" % n)
                eventually(lambda: proxy.connections > 0)
                proxy.reset()
            actor.ends("a")
            thread.join()
        proxy.close()
        actor.store.close()
        assert printed(found) == b"".join(b"line %d\n" % n for n in range(5))
        assert isinstance(found[-1], End)

    @pytest.mark.parametrize("is_taken", [False, True], ids=["no attempt", "an attempt that is given back"])
    def test_no_attempt_is_missed_when_the_connection_breaks_before_its_output(
        self, server: Client, actor: Actor, *, is_taken: bool
    ) -> None:
        if is_taken:
            actor.take("a")
        proxy = Proxy("127.0.0.1", server.port)
        found: list[Part] = []
        looks: list[Job] = []
        with opened(f"http://127.0.0.1:{proxy.port}", patience=Patience(5, 5)) as remote:
            parts = remote.follow("a", look=looks.append)
            thread = threading.Thread(target=lambda: found.extend(parts))
            thread.start()
            eventually(lambda: len(looks) >= 2)  # the first one is before the stream is open
            proxy.refuse()
            if is_taken:
                actor.gives_back("a")
            fail_twice_and_end(actor)
            proxy.pass_through()
            thread.join()
        proxy.close()
        assert printed(found) == b"firstsecondthird"

    @pytest.mark.parametrize("is_taken", [False, True], ids=["no attempt", "an attempt that is given back"])
    def test_no_attempt_is_missed_by_a_reader_that_continues_at_its_position(
        self, server: Client, actor: Actor, *, is_taken: bool
    ) -> None:
        with opened(f"http://127.0.0.1:{server.port}") as remote:
            position = start_of(remote.show("a"))
            if is_taken:
                actor.take("a")
                position = position.after(next(iter(remote.follow("a", after=position))))
                assert position.attempt_id == "a-1"
                actor.gives_back("a")
            fail_twice_and_end(actor)
            assert printed(remote.follow("a", after=position)) == b"firstsecondthird"

    def test_an_attempt_that_is_named_again_is_returned_once(self, server: Client, actor: Actor) -> None:
        actor.take("a")
        with opened(f"http://127.0.0.1:{server.port}") as remote:
            position = Position("", 0).after(next(iter(remote.follow("a"))))
            actor.ends("a")
            assert [type(part) for part in remote.follow("a", after=position)] == [End]

    def test_a_reader_that_stops_ends_its_thread_and_its_stream(
        self, server: Client, state: ServerState, actor: Actor
    ) -> None:
        actor.take("a")
        with opened(f"http://127.0.0.1:{server.port}") as remote:
            next(iter(remote.follow("a")))
            eventually(lambda: not readers())
        eventually(lambda: len(state.streams) == 0)

    def test_a_slow_reader_delays_the_server_and_needs_little_memory(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        begin = shapes.begin(Begin(1, "a-1"))
        chunk = shapes.chunk(Chunk("a", "a-1", 1, 0, datetime.now(UTC), 0, b"x" * 32_000))
        first, piece = (
            b"id: a-1:0\nevent: %b\ndata: %b\n\n" % (name, json.dumps(data).encode())
            for name, data in ((b"attempt", begin), (b"output", chunk))
        )
        with flooding(head + first, piece) as flood, opened(flood.url) as remote:
            parts = remote.follow("a", after=Position("", 0, 1))
            assert isinstance(next(parts), Begin)
            eventually(flood.has_stopped)
            assert flood.sent < 16 * 1024 * 1024  # most of it is in the buffers of the two sockets
            before = flood.sent
            for _ in range(600):
                assert isinstance(next(parts), Chunk)
            assert flood.sent > before
            del parts
            eventually(lambda: not readers())


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "queuectl-follow"]
