"""Requests to one server, repeated within a patience, and their answers as documents or errors.

Repeating is safe: an enqueue carries the ids of its jobs, a retry and an edit carry the version of the job, and all
other changes have the same result when they are made twice.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from queuectl.clock import boottime
from queuectl.errors import OutcomeUnknown, QueuectlError, StoreError, Unauthenticated
from queuectl.http.client import faults
from queuectl.http.client.address import Address
from queuectl.http.client.connection import Connections, NotSent, Reply, ReplyLost, Request, Silent
from queuectl.http.client.credentials import Credentials
from queuectl.http.client.tries import Tries, refused_again

FindToken = Callable[[], Credentials | None]


class Patience(NamedTuple):
    """How many seconds a call goes on trying: calls that only read, and calls that change something."""

    reads: float = 10.0
    changes: float = 10.0


class Answer(NamedTuple):
    """A successful answer.

    repeated  the change was requested before, and the reply was lost: this answer may show what that first request did
    refused   the error, if the caller handles errors of this status itself
    """

    status: int
    document: dict[str, Any]
    headers: Mapping[str, str]
    repeated: bool = False
    refused: QueuectlError | None = None

    @property
    def unhandled(self) -> QueuectlError | None:
        """What is raised for `refused` if the caller does not handle it after all."""
        return refused_again(self.refused) if self.refused and self.repeated else self.refused


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

        `timeout`: seconds for the reply to a read that waits on the server.
        `handled`: the statuses of errors that are returned instead of raised. `tries.py` has a table of what is known
        after each kind of answer: a change that is not done raises its error, and one that may be done OutcomeUnknown.
        """
        raw = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        of_body = {} if raw is None else {"Content-Type": "application/json"}
        given = {"Accept": "application/json", **(headers or {}), **of_body}
        target = self.target(path, query)
        usual = self.patience.changes if changes else self.patience.reads
        usual = usual if patience is None else patience
        tries = Tries(usual, self.pause, changes=changes, waits=timeout is not None)
        while True:
            request = Request(method, target, raw, self.authorized(given), timeout or tries.reply_timeout)
            if (reply := self._reply(request, tries)) and (
                answer := self._answer(request, *reply, tries, handled)
            ):
                return answer

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

    def _reply(self, request: Request, tries: Tries) -> tuple[Reply, dict[str, Any]] | None:
        """The reply of our server with its document; None if the request is to be tried again."""
        begun = boottime()
        try:
            reply = self.connections.exchange(request, tries.connect_timeout, self.host)
            return reply, faults.document_of(reply, self.address.url)
        except NotSent as error:
            tries.not_done(faults.unreachable(error, self.address))
        except ReplyLost as error:
            held = 0.0 if isinstance(error, Silent) else boottime() - begun
            tries.lost(faults.without_reply(error, self.address, tries.seconds), held)
        except faults.ProxyFault as error:
            tries.lost(error)
        except StoreError as error:
            raise tries.refusal(error) from error
        return None

    def _answer(
        self,
        request: Request,
        reply: Reply,
        document: dict[str, Any],
        tries: Tries,
        handled: Sequence[int],
    ) -> Answer | None:
        """The answer of our server; None if the request is to be tried again."""
        error = None if reply.status < 400 else faults.error_of(reply, document, self.address.url)
        if error and self._tries_again(request, reply, error, tries):
            return None
        if error and reply.status not in handled:
            raise tries.refusal(self.explained(error))
        return Answer(reply.status, document, reply.headers, tries.may_be_done, error)

    def _tries_again(self, request: Request, reply: Reply, error: QueuectlError, tries: Tries) -> bool:
        """Whether the request is to be tried again after this error, now that the time for it has come."""
        after = reply.headers.get("retry-after", "")
        if isinstance(error, OutcomeUnknown | faults.ProxyFault):
            tries.lost(error)
        elif reply.status in (429, 503) and after.isdecimal():
            tries.not_done(error, int(after))
        else:
            return isinstance(error, Unauthenticated) and self.renew_token(request.headers)
        return True


def _authorization(token: Credentials | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.token}"} if token else {}


def part(text: str) -> str:
    """A name as a part of a path. A slash is written `~`, because proxies change `%2F`."""
    return quote(text.replace("/", "~"), safe="~@", errors="surrogateescape")


def if_match(version: int | None) -> dict[str, str]:
    """The header of a request that is carried out only in this version; none if any version is right."""
    return {} if version is None else {"If-Match": f'"{version}"'}
