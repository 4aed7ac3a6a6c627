"""What all requests of one server process share."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from msgspec import Struct, field
from starlette.requests import Request

from queuectl.http.call import Caller
from queuectl.service.queue import Queue

THREADS = 16


class Limits(Struct, frozen=True):
    """The bounds of one request. Sizes are bytes, times are seconds."""

    body: int = 16 * 1024**2
    bulk: int = 1024**3
    timeout: float = 30.0


class Authenticator(Protocol):
    """Finds out who sends a request."""

    def caller(self, request: Request) -> Caller | None:
        """The caller; None if the request has no token. Raises Unauthenticated for a wrong one."""


class ServerState(Struct):
    """What all requests share.

    hosts      the values of `Host` that this server accepts, in lower case with the port
    root       the path below which the server is reached, such as `/queue`; empty for none
    read_only  refuse every request that changes something
    draining   the server is about to end: no new jobs
    pool       the threads in which handlers call the queue
    """

    queue: Queue
    authenticator: Authenticator
    accepts_host: Callable[[str], bool]
    limits: Limits = Limits()
    root: str = ""
    read_only: bool = False
    draining: bool = False
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="queuectl-call")
    )
