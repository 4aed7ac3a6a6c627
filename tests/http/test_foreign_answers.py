"""What the client says about answers that are not of queuectl: of proxies, of other programs, of other versions."""

import socket

import pytest

from http_client import Client
from http_impostor import answering, reply
from http_remote import HTML, fault, opened
from queuectl import __version__
from queuectl.errors import CommandFailed, OutcomeUnknown, StoreUnavailable, StoreUnusable
from queuectl.http.client.channel import Patience
from queuectl.service.request.fields import JobRequest


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

    def test_a_page_of_a_proxy_is_quoted_by_its_title(self) -> None:
        page = b"<html>\r\n<head><title>502 Bad Gateway</title></head><body><hr>nginx</body></html>"
        with answering(reply("502 Bad Gateway", page, Content_Type="text/html")) as proxy:
            error = fault(proxy.url)
        assert error.message == f"the proxy at {proxy.url} reaches no server (status 502): 502 Bad Gateway"
        assert error.hint == "is there a queuectl serve behind it?"

    @pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
    def test_a_restart_of_the_server_behind_a_proxy_is_not_noticed(self, server: Client, status: str) -> None:
        away = reply(status, HTML, Content_Type="text/html")
        ok = reply("200 OK", server("GET", "/v1/status").body, Queuectl_Version=__version__)
        with answering(away, away, ok) as proxy, opened(proxy.url, patience=Patience(5, 5)) as queue:
            queue.status()
        assert len(proxy.requests) == 3

    @pytest.mark.parametrize(
        "status",
        [
            "500 Error",
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway Timeout",
            "520 Unknown Error",
        ],
    )
    def test_a_change_whose_reply_a_proxy_may_have_lost_is_an_unknown_result(self, status: str) -> None:
        """nginx sends 502 also if the server behind it ends after it has stored the job."""
        with answering(reply(status, HTML, Content_Type="text/html")) as proxy:
            error = fault(proxy.url, lambda q: q.enqueue([JobRequest(command="echo")]))
        assert type(error) is OutcomeUnknown
        assert len(proxy.requests) > 1

    @pytest.mark.parametrize(
        ("status", "hint"),
        [
            ("401 Unauthorized", "a login of its own"),
            ("404 Not Found", "--public-url"),
            ("413 Too Large", "nginx"),
        ],
    )
    def test_the_hint_for_an_answer_of_a_proxy_depends_on_the_status(self, status: str, hint: str) -> None:
        with answering(reply(status, HTML, Content_Type="text/html")) as proxy:
            assert hint in (fault(proxy.url).hint or "")

    def test_a_redirect_to_another_address_of_the_server_names_this_address(self) -> None:
        away = reply("301 Moved Permanently", b"", Location="https://queue.example/x/v1/status")
        with answering(away) as first:
            assert fault(first.url).hint == "if that is the server: --store https://queue.example/x"

    def test_a_server_that_is_silent_is_left_soon_and_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("queuectl.http.client.tries.SHORTEST_WAIT", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            error = fault(url)
        assert type(error) is StoreUnavailable
        assert error.message.startswith(f"{url} did not answer within ")
        assert "--patience 1m" in (error.hint or "")

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

    def test_a_server_that_closes_the_connection_may_want_tls(self) -> None:
        with answering(b"") as encrypted:
            error = fault(encrypted.url)
        assert error.exit_code == 5
        assert error.hint == "is it https:// instead?"

    def test_a_server_without_this_route_is_of_another_version(self) -> None:
        body = b'{"code":"not_found","detail":"there is no path /v1/status","hint":null,"exit_code":3}'
        with answering(reply("404 Not Found", body, Queuectl_Version="0.0.9")) as old:
            error = fault(old.url)
        assert type(error) is CommandFailed
        assert f"the server is queuectl 0.0.9, this is {__version__}" in error.message

    def test_a_server_of_the_same_version_without_this_route_has_another_path(self) -> None:
        body = b'{"code":"not_found","detail":"there is no path /x/v1/status","hint":null,"exit_code":3}'
        with answering(reply("404 Not Found", body, Queuectl_Version=__version__)) as same:
            error = fault(same.url)
        assert type(error) is CommandFailed
        assert error.message == f"{same.url} is not the URL of the server: there is no path /x/v1/status"
        assert "--public-url" in (error.hint or "")
