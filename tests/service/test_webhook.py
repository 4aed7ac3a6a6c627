"""The delivery of a webhook: what is sent, how it is signed, and what becomes of every bad answer.

The check of the signature is written from the specification of Standard Webhooks, with no code of the product.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from facts import Stopwatch
from http_process import self_signed
from queuectl.errors import CommandFailed
from queuectl.service.hooks.retry_after import MOST, line, retry_after
from queuectl.service.hooks.webhook import Delivery, deliver, signature
from receiver import DRIP, HANG_UP, SILENCE, Received, Receiver

KEY = b"a key of 24 random bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = '{"schema":1,"event":"job.dead","job":"ä"}'.encode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


def sent(receiver: Receiver, **given: Any) -> int:
    fields = {
        "url": receiver.url,
        "id": "hook_h_7",
        "body": BODY,
        "headers": {},
        "timeout": timedelta(seconds=10),
    }
    return deliver(Delivery(**(fields | given))).status


def verified(request: Received, key: bytes) -> bool:
    """Whether the request is signed with this key: HMAC-SHA256 over id.timestamp.body."""
    headers = request.headers
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    content = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), request.body))
    expected = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return any(
        version == "v1" and hmac.compare_digest(given, expected)
        for version, _, given in (each.partition(",") for each in headers["webhook-signature"].split())
    )


def test_the_event_is_posted(receiver: Receiver) -> None:
    assert sent(receiver, headers={"X-Source": "queuectl"}) == 204
    [request] = receiver.requests
    assert (request.target, request.body) == ("/hook?a=1", BODY)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "hook_h_7"
    assert request.headers["x-source"] == "queuectl"
    assert "webhook-signature" not in request.headers


class TestSignature:
    @pytest.mark.parametrize(("secret", "key"), [(SECRET, KEY), ("plain words", b"plain words")])
    def test_it_is_that_of_standard_webhooks(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, secret: str, key: bytes
    ) -> None:
        monkeypatch.setenv("HOOK_KEY", secret)
        sent(receiver, secret="env:HOOK_KEY")
        [request] = receiver.requests
        assert verified(request, key)
        assert not verified(request, b"another key")
        assert not verified(request._replace(body=BODY + b" "), key)
        assert not verified(request._replace(headers={**request.headers, "webhook-id": "x"}), key)

    def test_the_example_of_the_specification(self) -> None:
        body = b'{"test": 2432232314}'
        found = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body
        )
        assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    def test_a_file_with_a_line_end(self, receiver: Receiver, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(f"{SECRET}\n")
        sent(receiver, secret=f"file:{tmp_path}/key")
        assert verified(receiver.requests[0], KEY)

    @pytest.mark.parametrize(
        ("reference", "said"),
        [
            ("env:NO_SUCH_VARIABLE", "secret: env:NO_SUCH_VARIABLE is not set on this worker"),
            ("env:EMPTY", "secret: env:EMPTY is empty on this worker"),
            ("file:/nowhere/key", "secret: file:/nowhere/key cannot be read on this worker: No such file"),
        ],
    )
    def test_a_reference_that_is_not_to_be_found_is_named(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, reference: str, said: str
    ) -> None:
        monkeypatch.setenv("EMPTY", "")
        with pytest.raises(CommandFailed) as failed:
            sent(receiver, secret=reference)
        assert failed.value.message.startswith(said)
        assert receiver.requests == []

    def test_a_secret_that_is_not_base64_is_not_shown(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOOK_KEY", "whsec_n0t*base64")
        with pytest.raises(CommandFailed) as failed:
            sent(receiver, secret="env:HOOK_KEY")
        assert "n0t" not in failed.value.message

    def test_a_header_and_a_url_by_reference(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AUTH", "Bearer t0ken")
        monkeypatch.setenv("ADDRESS", receiver.url)
        assert sent(receiver, url="env:ADDRESS", headers={"Authorization": "env:AUTH"}) == 204
        assert receiver.requests[0].headers["authorization"] == "Bearer t0ken"

    def test_a_value_that_is_no_header_is_not_shown(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AUTH", "s3cret\nX: y")
        with pytest.raises(CommandFailed) as failed:
            sent(receiver, headers={"Authorization": "env:AUTH"})
        assert "s3cret" not in failed.value.message


class TestBadReceivers:
    @pytest.mark.parametrize("status", [200, 202, 302, 307, 400, 404, 410, 429, 500, 503])
    def test_the_status_is_returned(self, receiver: Receiver, status: int) -> None:
        receiver.answers.append((status, {"Location": receiver.url, "Content-Length": "0"}))
        assert sent(receiver) == status
        assert len(receiver.requests) == 1  # no redirect is followed

    def test_a_receiver_that_is_down(self, receiver: Receiver) -> None:
        with pytest.raises(CommandFailed, match=r"no answer from 127\.0\.0\.1: .*refused"):
            sent(receiver, url="http://127.0.0.1:1/")

    def test_a_receiver_that_hangs_up(self, receiver: Receiver) -> None:
        receiver.answers.append((HANG_UP, {}))
        with pytest.raises(CommandFailed, match="no answer"):
            sent(receiver)

    @pytest.mark.parametrize("how", [SILENCE, DRIP])
    def test_a_receiver_that_is_slow(self, receiver: Receiver, how: int) -> None:
        receiver.answers.append((how, {}))
        watch = Stopwatch()
        with pytest.raises(CommandFailed, match=r"no answer from 127\.0\.0\.1"):
            sent(receiver, timeout=timedelta(milliseconds=300))
        watch.check(3)

    def test_a_name_that_is_unknown(self, receiver: Receiver) -> None:
        with pytest.raises(CommandFailed, match=r"no answer from nowhere\.invalid"):
            sent(receiver, url="http://nowhere.invalid/")

    def test_a_certificate_that_nobody_has_signed(self, tmp_path: Path) -> None:
        with (
            Receiver(self_signed(tmp_path, "IP:127.0.0.1")).serving() as receiver,
            pytest.raises(CommandFailed, match="certificate"),
        ):
            sent(receiver)
        assert receiver.requests == []

    def test_a_certificate_that_the_host_trusts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate = self_signed(tmp_path, "IP:127.0.0.1")
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
        with Receiver(certificate).serving() as receiver:
            assert sent(receiver) == 204


class TestProxies:
    def test_the_variables_of_the_environment_are_ignored(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert sent(receiver) == 204

    def test_a_given_proxy_gets_the_request(self, receiver: Receiver) -> None:
        proxy = receiver.url.partition("/hook")[0]
        assert sent(receiver, url="http://chat.example/room?b=2", proxy=proxy) == 204
        [request] = receiver.requests
        assert (request.target, request.headers["host"]) == ("http://chat.example/room?b=2", "chat.example")


class TestRetryAfter:
    @pytest.mark.parametrize(("text", "seconds"), [("120", 120), ("0", 0), ("soon", None), ("-5", None)])
    def test_it_is_read(self, receiver: Receiver, text: str, seconds: int | None) -> None:
        receiver.answers.append((503, {"Retry-After": text}))
        answer = deliver(Delivery(receiver.url, "x", BODY, {}, timedelta(seconds=10)))
        found = answer.retry_after
        assert (None if found is None else found.total_seconds()) == seconds

    def test_a_date(self, receiver: Receiver) -> None:
        at = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
        receiver.answers.append((429, {"Retry-After": at}))
        found = deliver(Delivery(receiver.url, "x", BODY, {}, timedelta(seconds=10))).retry_after
        assert found is not None
        assert 290 < found.total_seconds() <= 300

    @pytest.mark.parametrize(
        ("output", "found"),
        [
            (f"503 not accepted\n{line(timedelta(minutes=2))}\n", timedelta(minutes=2)),
            (f"{line(timedelta(days=9))}\n", MOST),
            (f"{line(timedelta(minutes=2))}\nsomething else\n", None),
            ("", None),
        ],
    )
    def test_the_last_line_of_the_output_asks_for_it(self, output: str, found: timedelta | None) -> None:
        assert retry_after(output) == found
