"""Delivers an event to a URL: one signed POST request, as Standard Webhooks describes it (standardwebhooks.com).

References are resolved here, in the process of the delivery on the host of a worker. Their values go into the request
and nowhere else: they are in no argument, no table, no output.
"""

import base64
import hashlib
import hmac
import http.client
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import FrameType
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from queuectl.errors import CommandFailed
from queuectl.service.hooks.definition import is_reference

_PREFIX = "whsec_"


class Delivery(NamedTuple):
    """One request. `url`, `secret` and the values of `headers` may be references."""

    url: str
    id: str
    body: bytes
    headers: Mapping[str, str]
    timeout: timedelta
    secret: str | None = None
    proxy: str | None = None


class Answer(NamedTuple):
    """The status of the answer, and for how long the receiver asks to wait."""

    status: int
    retry_after: timedelta | None = None


def deliver(delivery: Delivery) -> Answer:
    """Send the request, and return the answer, whatever its status. Raises CommandFailed if there is none.

    Redirects are not followed, and certificates are always verified.
    """
    url = urlsplit(resolved("url", delivery.url))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise CommandFailed("the url is neither http:// nor https://")
    headers = {name: resolved(f"header {name}", text) for name, text in delivery.headers.items()}
    headers |= {"Content-Type": "application/json", **_identity(delivery)}
    try:
        with _deadline(delivery.timeout):
            return _posted(url, delivery, headers)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Not the message of every error: that of an invalid header contains the value of the header.
        why = str(error) if isinstance(error, OSError) else type(error).__name__
        raise CommandFailed(f"no answer from {url.hostname}: {why or type(error).__name__}") from None


def resolved(what: str, text: str) -> str:
    """The value of a reference, or a text that is none. Raises CommandFailed that names the reference only."""
    if not is_reference(text):
        return text
    kind, _, name = text.partition(":")
    try:
        value = os.environ[name] if kind == "env" else _first_line(name)
    except KeyError:
        raise CommandFailed(f"{what}: {text} is not set on this worker") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise CommandFailed(f"{what}: {text} cannot be read on this worker: {why}") from None
    if not value:
        raise CommandFailed(f"{what}: {text} is empty on this worker")
    return value


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """The signature of a message. A secret with the prefix `whsec_` is base64; another one is used as it is."""
    key = secret.encode()
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except ValueError:
            raise CommandFailed("the secret begins with whsec_, and its rest is not base64") from None
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _first_line(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline(65536).rstrip("\r\n")


def _identity(delivery: Delivery) -> dict[str, str]:
    """The headers that identify and sign the message."""
    now = int(time.time())
    found = {"webhook-id": delivery.id, "webhook-timestamp": str(now)}
    if delivery.secret is not None:
        secret = resolved("secret", delivery.secret)
        found["webhook-signature"] = signature(secret, delivery.id, now, delivery.body)
    return found


def _posted(url: SplitResult, delivery: Delivery, headers: Mapping[str, str]) -> Answer:
    connection, target = _connection(url, delivery)
    try:
        connection.request("POST", target, delivery.body, dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, _wait(answer.getheader("Retry-After")))
    finally:
        connection.close()


def _connection(url: SplitResult, delivery: Delivery) -> tuple[http.client.HTTPConnection, str]:
    """The connection, and the target of the request line. http.client itself reads no proxy variables."""
    assert url.hostname
    seconds = delivery.timeout.total_seconds()
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    proxy = urlsplit(delivery.proxy) if delivery.proxy else None
    host, port = (proxy.hostname or "", proxy.port or 80) if proxy else (url.hostname, url.port)
    if url.scheme == "http":
        target = f"http://{url.netloc}{path}" if proxy else path
        return http.client.HTTPConnection(host, port, timeout=seconds), target
    context = ssl.create_default_context()
    tls = http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
    if proxy:
        tls.set_tunnel(url.hostname, url.port or 443)
    return tls, path


def _wait(text: str | None) -> timedelta | None:
    """The value of the header `Retry-After`: seconds or a date. None if it is neither, or is over."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return timedelta(seconds=int(text.strip()[:9]))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    left = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)
    return left if left > timedelta(0) else None


@contextmanager
def _deadline(timeout: timedelta) -> Iterator[None]:
    """Raise TimeoutError in the block after this time. The timeout of a socket begins again with each byte."""

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not within {timeout.total_seconds():g} s")

    before: Callable[..., object] | int | None = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, timeout.total_seconds())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
