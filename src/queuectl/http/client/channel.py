"""Requests to one server, repeated within a patience, and their answers as documents or errors.

Repeating is safe: an enqueue carries the ids of its jobs, a retry and an edit carry the version of the job, and all
other changes have the same result when they are made twice.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from queuectl.clock import boottime
from queuectl.errors import OutcomeUnknown, QueuectlError, StoreUnavailable, Unauthenticated
from queuectl.http.client import faults
from queuectl.http.client.address import Address
from queuectl.http.client.connection import Connections, NotSent, Reply, ReplyLost, Request, Silent
from queuectl.http.client.credentials import Credentials

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two tries: the pause doubles from the first to the longest."""

REPLY_TIMEOUT = 45.0
"""Seconds without a byte of the reply, after which it counts as lost. The server answers within 30 s, if at all."""

SHORTEST_WAIT = 5.0
"""Seconds that a read waits for its reply at least, however short the patience is."""

HELD = 0.5
"""Seconds after which a server that holds a request, because the request waits for something, counts as reached."""

FindToken = Callable[[], Credentials | None]


class Patience(NamedTuple):
    """How many seconds a call goes on trying: calls that only read, and calls that change something."""

    reads: float = 10.0
    changes: float = 10.0


class Answer(NamedTuple):
    """A successful answer.

    repeated  the request was sent before, and the reply was lost: this answer may show what that first request did
    refused   the error, if the caller handles errors of this status itself
    """

    status: int
    document: dict[str, Any]
    headers: Mapping[str, str]
    repeated: bool = False
    refused: QueuectlError | None = None


class Channel:
    """The way to one server. Safe to use from several threads."""

    def __init__(self, address: Address, find_token: FindToken, patience: Patience) -> None:
        self.address, self.patience = address, patience
        self.connections = Connections(address)
        self._find_token = find_token
        self._token: Credentials | None = None
        self._has_token = False
        self._idle = threading.Event()  # is never set

    def read(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The document at a path."""
        return self.call("GET", path, query=query, changes=False).document

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        changes: bool = True,
        timeout: float | None = None,
        patience: float | None = None,
        handled: Sequence[int] = (),
    ) -> Answer:
        """Send a request until it is answered or the patience ends.

        `timeout`: seconds for the reply to a read that waits on the server. Its patience begins again after each server
        that held it for a while, because a long wait outlives several servers.
        `handled`: the statuses of errors that are returned instead of raised. Raises StoreUnavailable if the request
        was never sent, and OutcomeUnknown if a change was sent and no reply came.
        """
        raw = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        of_body = {} if raw is None else {"Content-Type": "application/json"}
        given = {"Accept": "application/json", **(headers or {}), **of_body}
        target = self.target(path, query)
        tries = _Tries(self, changes, patience, waits=timeout is not None)
        while True:
            sent, within = self.authorized(given), timeout or tries.reply_timeout
            request = Request(method, target, raw, sent, within)
            begun = boottime()
            try:
                reply = self.connections.exchange(request, tries.connect_timeout, self.host)
                document = faults.document_of(reply, self.address.url)
            except (NotSent, ReplyLost, faults.NoServer) as error:
                tries.failed(error, within, boottime() - begun)
                continue
            refused = None if reply.status < 400 else self._refused(reply, document, tries, sent)
            if reply.status < 400 or (refused and reply.status in handled):
                return Answer(reply.status, document, reply.headers, tries.was_sent, refused)
            if refused:
                raise refused

    def target(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """The path and the query of a request. Values of the query that are None are left out."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self.address.root + path + ("?" + urlencode(given, doseq=True) if given else "")

    @property
    def host(self) -> str | None:
        """The host to connect to, if the token is for one address of the host of the URL."""
        return self._token.address if self._token else None

    def authorized(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers with the token, if there is one."""
        if not self._has_token:
            self._token, self._has_token = self._find_token(), True
        return {**headers, **_authorization(self._token)}

    def renew_token(self, sent: Mapping[str, str]) -> bool:
        """Read the token again after a request with these headers was refused. Returns whether it is another one now.

        A server that was restarted has another token. The comparison is with what was sent, not with what is known:
        another thread may have read the new token since. A server that was killed has none until the next one begins.
        """
        self._token = self._find_token()
        return _authorization(self._token).get("Authorization") != sent.get("Authorization")

    def explained(self, error: QueuectlError) -> QueuectlError:
        """The error; if the server does not accept the caller, with what the client knows: where the token is from."""
        if not isinstance(error, Unauthenticated):
            return error
        if self._token is None:
            url = self.address.url
            return Unauthenticated(f"{url} needs a token", f"queuectl login {url} keeps one")
        return Unauthenticated(f"the token of {self._token.source} is refused: {error.message}", error.hint)

    def pause(self, seconds: float) -> None:
        """Wait until the next try."""
        self._idle.wait(seconds)

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    def _refused(
        self, reply: Reply, document: dict[str, Any], tries: "_Tries", sent: Mapping[str, str]
    ) -> QueuectlError | None:
        """The error of a problem; None if the request is to be tried again."""
        error = faults.error_of(reply, document, self.address.url)
        if isinstance(error, OutcomeUnknown):
            tries.lost(error)
        elif reply.status in (429, 503) and (after := reply.headers.get("retry-after", "")).isdecimal():
            tries.refused(error, int(after))
        elif not (isinstance(error, Unauthenticated) and self.renew_token(sent)):
            return self.explained(error)
        return None


class _Tries:
    """The tries of one request: how long each may take, the pauses between them, and what is raised at the end."""

    def __init__(self, channel: Channel, changes: bool, patience: float | None, *, waits: bool) -> None:
        self._channel, self._changes, self._waits = channel, changes, waits
        usual = channel.patience.changes if changes else channel.patience.reads
        self._patience = usual if patience is None else patience
        self._deadline = boottime() + self._patience
        self._pauses = _pauses()
        self._silence = 0.0
        self.was_sent = False

    @property
    def connect_timeout(self) -> float:
        """Seconds that the next connection may take."""
        return max(self._deadline - boottime(), 0.5)

    @property
    def reply_timeout(self) -> float:
        """Seconds without a byte of the reply, after which it counts as lost. A reader is not kept much longer than the
        patience; the second reply to a change comes soon or not at all."""
        if self.was_sent:
            return max(self._deadline - boottime(), 0.5)
        return REPLY_TIMEOUT if self._changes else min(max(3 * self._patience, SHORTEST_WAIT), REPLY_TIMEOUT)

    def failed(self, error: "NotSent | ReplyLost | faults.NoServer", seconds: float, held: float) -> None:
        """Wait until the next try after this one got no answer of a server.

        `seconds`: how long a reply would have been waited for; `held`: how long the try took.
        """
        url = self._channel.address.url
        if isinstance(error, NotSent):
            self._next(
                StoreUnavailable(f"cannot reach {url}: {error}", "is the server running? queuectl serve")
            )
        elif isinstance(error, Silent):
            self._silence += seconds
            self.lost(
                StoreUnavailable(
                    f"{url} did not answer within {self._silence:.0f} s",
                    "is it the URL of queuectl serve? --patience 1m waits longer",
                )
            )
        elif isinstance(error, ReplyLost):
            if self._waits and held > HELD:
                self.was_sent, self._pauses = False, _pauses()
            hint = "is it https:// instead?" if self._channel.address.scheme == "http" else None
            self.lost(StoreUnavailable(f"{url} did not answer: {error}", hint))
        elif error.may_be_done:
            self.lost(error)
        else:
            self._next(error)

    def refused(self, error: QueuectlError, after: float) -> None:
        """Wait as long as the server asks."""
        self._next(error, after)

    def lost(self, error: QueuectlError) -> None:
        """Wait until the next try after a reply was lost. The patience begins at the first loss."""
        if not self.was_sent:
            self.was_sent, self._deadline = True, boottime() + self._patience
        self._next(error)

    def _next(self, error: QueuectlError, pause: float | None = None) -> None:
        pause = next(self._pauses) if pause is None else pause
        if boottime() + pause <= self._deadline:
            self._channel.pause(pause)
            return
        if self.was_sent and self._changes:
            raise OutcomeUnknown(
                f"the request was sent, and its reply is lost: {error.message}",
                "repeating the same command is safe",
            ) from error
        raise error


def _authorization(token: Credentials | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.token}"} if token else {}


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_PAUSE)


def part(text: str) -> str:
    """A name as a part of a path. A slash is written `~`, because proxies change `%2F`."""
    return quote(text.replace("/", "~"), safe="~@", errors="surrogateescape")
