"""What the client of a server makes of each fault on the way: the right error, and nothing is done twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from http_client import Client
from http_cutter import Cutter, cutting
from http_impostor import answering, reply
from queuectl import __version__
from queuectl.errors import (
    CommandFailed,
    InvalidInput,
    NotFound,
    QueuectlError,
    StoreUnavailable,
    StoreUnusable,
    Unauthenticated,
)
from queuectl.http.client.address import address_of
from queuectl.http.client.channel import Patience
from queuectl.http.client.remote_queue import RemoteQueue
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.service.settings import Sources
from servers.endpoint import free_port

SHORT = Patience(0.4, 0.4)
HTML = b"<html><body>Bad Gateway \x1b[31m</body></html>"


@contextmanager
def opened(url: str, *, patience: Patience = SHORT, token: str | None = "admin") -> Iterator[RemoteQueue]:
    """The queue behind a server, with a token from the environment."""
    sources = Sources({}, None, lambda text: None)
    sources.environment = {} if token is None else {"QUEUECTL_TOKEN": token}
    queue = RemoteQueue(address_of(url), sources, patience=patience)
    try:
        yield queue
    finally:
        queue.close()


@pytest.fixture
def cutter(server: Client) -> Iterator[Cutter]:
    with cutting(server.port) as cutter:
        yield cutter


@pytest.fixture
def remote(cutter: Cutter) -> Iterator[RemoteQueue]:
    """A queue whose connections can be cut."""
    with opened(cutter.url, patience=Patience(5, 5)) as queue:
        yield queue


def fault(url: str, call: Callable[[RemoteQueue], object] = RemoteQueue.status) -> QueuectlError:
    """The error of a call."""
    with opened(url) as queue, pytest.raises(QueuectlError) as raised:
        call(queue)
    return raised.value


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

    def test_a_socket_that_is_not_there(self) -> None:
        assert type(fault("http+unix:///nowhere/serve.sock")) is StoreUnavailable

    def test_an_unknown_host_is_reported_at_once(self) -> None:
        assert "not known" in fault("https://queuectl.invalid").message


class TestForeignAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            reply("200 OK", b"<html>hello</html>", Content_Type="text/html"),
            reply("200 OK", b'{"hello":"world"}', Content_Type="application/json"),
            reply("200 OK", b"[]", Content_Type="application/json", Queuectl_Version=__version__),
            reply("404 Not Found", b'{"message":"not here"}', Content_Type="application/json"),
        ],
    )
    def test_another_program_is_not_understood(self, answer: bytes) -> None:
        with answering(answer) as other:
            error = fault(other.url)
        assert type(error) is StoreUnusable
        assert error.exit_code == 5

    def test_the_first_words_of_a_proxy_are_quoted_without_control_characters(self) -> None:
        with answering(reply("502 Bad Gateway", HTML, Content_Type="text/html")) as proxy:
            error = fault(proxy.url)
        assert error.exit_code == 5
        assert "502" in error.message
        assert "Bad Gateway" in error.message
        assert "\x1b" not in error.message

    def test_a_redirect_is_not_followed(self) -> None:
        with answering(reply("307 Temporary Redirect", b"")) as other:
            answer = reply("307 Temporary Redirect", b"", Location=other.url)
            with answering(answer) as first:
                error = fault(first.url)
            assert not other.requests
        assert error.exit_code == 5
        assert other.url in error.message

    def test_what_is_not_http_is_not_understood(self) -> None:
        with answering(b"SSH-2.0-OpenSSH_9.9\r\n") as other:
            assert fault(other.url).exit_code == 5

    def test_a_server_without_this_route_is_of_another_version(self) -> None:
        body = b'{"code":"not_found","detail":"there is no path /v1/status","hint":null,"exit_code":3}'
        with answering(reply("404 Not Found", body, Queuectl_Version="0.1.0")) as old:
            error = fault(old.url)
        assert type(error) is CommandFailed
        assert f"the server is queuectl 0.1.0, this is {__version__}" in error.message


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
            pytest.raises(Unauthenticated),
        ):
            queue.status()

    def test_the_token_is_read_again_after_a_restart(self, server: Client) -> None:
        sources = Sources({}, None, lambda text: None)
        sources.environment = {"QUEUECTL_TOKEN": "of-the-last-start"}
        queue = RemoteQueue(address_of(f"http://127.0.0.1:{server.port}"), sources, patience=SHORT)
        with pytest.raises(Unauthenticated):
            queue.status()
        sources.environment["QUEUECTL_TOKEN"] = "admin"
        queue.status()
        queue.close()


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

    @pytest.mark.parametrize(
        "moment", ["within the request", "after the request", "after the head of the reply"]
    )
    def test_a_read_is_repeated_when_the_connection_breaks(
        self, remote: RemoteQueue, cutter: Cutter, moment: str
    ) -> None:
        cutter.cut(b"GET /v1/status", moment, times=2)  # type: ignore[arg-type]
        remote.status()
        assert cutter.cuts == 2
