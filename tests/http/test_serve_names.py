"""By which names a server answers, alone and behind a proxy, and whom it takes for the client."""

from typing import Any

import pytest

from http_client import Client
from http_server import running, serving
from queuectl.errors import InvalidInput
from queuectl.http import hosts
from queuectl.http.bind_rules import check_bind
from queuectl.http.proxies import proxies
from queuectl.http.server_state import ServerState


class TestHost:
    def accepts(self, host: str, **given: Any) -> bool:
        usual = {
            "bound": [("127.0.0.1", 7733)],
            "scheme": "http",
            "allowed": (),
            "public": "",
            "unix": False,
        }
        return hosts.accepted(**(usual | given))(host)

    @pytest.mark.parametrize("host", ["127.0.0.1:7733", "localhost:7733", "[::1]:7733"])
    def test_a_server_on_loopback_answers_by_the_names_of_loopback_with_its_port(self, host: str) -> None:
        assert self.accepts(host)

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "localhost",
            "127.0.0.1",
            "localhost:80",
            "evil.example:7733",
            "127.0.0.1.evil:7733",
            "127.1:7733",
        ],
    )
    def test_it_answers_by_no_other(self, host: str) -> None:
        assert not self.accepts(host)

    def test_the_usual_port_may_be_left_out(self) -> None:
        assert self.accepts("localhost", bound=[("127.0.0.1", 80)])
        assert self.accepts("localhost", bound=[("127.0.0.1", 443)], scheme="https")
        assert not self.accepts("localhost", bound=[("127.0.0.1", 443)])

    def test_allowed_names_are_taken_with_its_port_and_as_they_are(self) -> None:
        for host in ("ops.lan:7733", "ops.lan", "other:8443"):
            assert self.accepts(host, allowed=("OPS.lan", "other:8443"))
        assert not self.accepts("other:7734", allowed=("other:8443",))

    def test_a_public_url_brings_its_own_name_and_port(self) -> None:
        assert self.accepts("ops.example.org", public="https://ops.example.org/queue")
        assert self.accepts("ops.example.org:443", public="https://ops.example.org")
        assert self.accepts("ops.example.org:8443", public="https://Ops.example.org:8443")
        assert not self.accepts("ops.example.org", public="https://ops.example.org:8443")
        assert not self.accepts("ops.example.org:7733", public="https://ops.example.org")

    @pytest.mark.parametrize(
        ("host", "answers"),
        [
            ("192.0.2.7:7733", True),
            ("[2001:db8::1]:7733", True),
            ("192.0.2.7:80", False),
            ("evil.example:7733", False),
        ],
    )
    def test_a_server_on_all_addresses_answers_by_any_address(self, host: str, answers: bool) -> None:
        assert self.accepts(host, bound=[("0.0.0.0", 7733)]) is answers

    def test_a_unix_socket_has_no_port(self) -> None:
        assert self.accepts("localhost", bound=[], unix=True)

    @pytest.mark.parametrize(
        "text",
        [
            "ops.example.org",
            "ftp://h",
            "https://",
            "https://u:p@h",
            "https://h?x",
            "https://h:x",
            "https://h#f",
        ],
    )
    def test_a_public_url_that_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidInput, match="--public-url"):
            hosts.public_url(text)


class TestBind:
    @pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.9.9.9", "::1"], []])
    def test_loopback_needs_nothing(self, addresses: list[str]) -> None:
        check_bind("host", addresses, has_token=False, is_encrypted=False)

    @pytest.mark.parametrize(
        ("has_token", "is_encrypted", "missing"),
        [(False, False, "token and no encryption"), (True, False, "encryption"), (False, True, "token")],
    )
    @pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0"])
    def test_beyond_it_says_what_is_missing(
        self, address: str, has_token: bool, is_encrypted: bool, missing: str
    ) -> None:
        with pytest.raises(InvalidInput, match=f"and there is no {missing}$"):
            check_bind("host", ["127.0.0.1", address], has_token=has_token, is_encrypted=is_encrypted)

    def test_with_both_it_may(self) -> None:
        check_bind("host", ["0.0.0.0"], has_token=True, is_encrypted=True)


class TestProxy:
    def test_below_the_path_of_the_public_url_and_without_it_the_same_is_answered(
        self, state: ServerState
    ) -> None:
        state.root = "/queue"
        with serving(state) as port:
            client = Client(port, "view")
            for path in ("/queue/v1/jobs", "/v1/jobs", "/queue/healthz", "/healthz"):
                assert client("GET", path).status == 200
            assert client("GET", "/queue/healthz", Host="anything").status == 200
            for path in ("/queues/v1/jobs", "/queue/queue/v1/jobs", "/queue"):
                assert client("GET", path).status == 404
                assert client("GET", path, Host="evil.example").status == 421

    @pytest.mark.parametrize(
        ("trusted", "forwarded", "client"),
        [
            ((), "192.0.2.1", "127.0.0.1"),
            (("127.0.0.1",), "192.0.2.1", "192.0.2.1"),
            (("127.0.0.0/8",), "192.0.2.1", "192.0.2.1"),
            (("127.0.0.1",), "198.51.100.9, 192.0.2.1", "192.0.2.1"),
            (("127.0.0.1", "192.0.2.1"), "198.51.100.9, 192.0.2.1", "198.51.100.9"),
            (("127.0.0.1",), "192.0.2.1, nonsense", "127.0.0.1"),
            (("127.0.0.1",), "", "127.0.0.1"),
            (("10.0.0.1",), "192.0.2.1", "127.0.0.1"),
        ],
    )
    def test_the_client_is_the_last_address_that_no_trusted_proxy_has(
        self,
        state: ServerState,
        caplog: pytest.LogCaptureFixture,
        trusted: tuple[str, ...],
        forwarded: str,
        client: str,
    ) -> None:
        state.access_log = True
        caplog.set_level("INFO", "queuectl.http.access")
        with running(state, trusted=trusted) as server:
            Client(server.port, None)("GET", "/healthz", X_Forwarded_For=forwarded)
        assert caplog.messages[-1].startswith(f"{client} GET /healthz 200 ")

    def test_an_address_that_is_none_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match=r"'proxy\.lan' is no address"):
            proxies(["proxy.lan"])

    def test_a_path_writes_no_line_of_the_log(
        self, state: ServerState, caplog: pytest.LogCaptureFixture
    ) -> None:
        state.access_log = True
        caplog.set_level("INFO", "queuectl.http.access")
        with serving(state) as port:
            Client(port, None)("GET", "/x%0Aevil%0D%1b%5B31m")
        assert "\n" not in caplog.messages[-1]
        assert "\x1b" not in caplog.messages[-1]
