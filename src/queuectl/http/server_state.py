"""What all requests of one server process share."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from msgspec import Struct, field
from starlette.requests import Request

from queuectl.http.caller import NOBODY, Caller
from queuectl.http.carrier import Carrier
from queuectl.http.event_feed import EventFeed
from queuectl.http.health import Health
from queuectl.http.metrics import Metrics
from queuectl.http.streaming import Streams
from queuectl.service.queue import Queue

THREADS, WAITERS = 16, 64


class Limits(Struct, frozen=True):
    """The bounds of one request. Sizes are bytes, times are seconds.

    line    one of several JSON lines: the longest job has about half of it, unless its text is escaped
    listed  how many stored jobs the answer to JSON lines lists, if it is to list them
    """

    body: int = 16 * 1024**2
    bulk: int = 1024**3
    timeout: float = 30.0
    line: int = 8 * 1024**2
    listed: int = 100_000


class Authenticator(Protocol):
    """Finds the user who sends a request."""

    def known_caller(self, request: Request) -> Caller | None:
        """The caller, if this is known without a call of the store; else None. It is called in the event loop."""

    def caller(self, request: Request) -> Caller | None:
        """The caller; None if the request has no token. Raises Unauthenticated for a wrong one."""

    def admits(self, caller: Caller) -> bool:
        """Whether the token of this caller is still valid. A stream that goes on asks every few seconds."""


class ServerState(Struct):
    """What all requests share.

    accepts_host  whether this server answers requests with this `Host`, given in lower case with its port
    root          the path below which the server is reached, such as `/queue`; empty for none
    public_url    the URL by which clients reach the server; empty if no such URL was given
    anonymous     the caller of a request without a token
    read_only     refuse every request that changes something
    fault         why the store could not be opened yet; None if the store was reached
    ending        is set when the server begins to end: no new jobs, and a stream says goodbye and ends. It must be set
                  and awaited in the event loop of the server
    worker_drains the worker of this server drains: no new jobs, while reads, streams and other changes continue
    pool          the threads in which handlers call the queue
    waiters       the threads in which requests wait for the end of jobs, and imports for their bodies
    carrier       the operations that this server carries on
    waiting       how many requests wait for the end of jobs
    imports       how many imports are running
    routes        the rows of the route table that the application answers
    openapi       the OpenAPI document, which is made at the first request for it
    streams       the open streams
    feed          the newest events, while streams follow them
    health        what the probe of the store in the background found
    metrics       the numbers of this process
    """

    queue: Queue
    authenticator: Authenticator
    accepts_host: Callable[[str], bool]
    limits: Limits = Limits()
    root: str = ""
    public_url: str = ""
    anonymous: Caller = NOBODY
    read_only: bool = False
    access_log: bool = False
    fault: str | None = None
    worker_drains: bool = False
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="queuectl-call")
    )
    streams: Streams = field(default_factory=Streams)
    feed: EventFeed = field(default_factory=EventFeed)
    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)
    waiters: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(WAITERS, thread_name_prefix="queuectl-wait")
    )
    waiting: int = 0
    carrier: Carrier = field(default_factory=Carrier)
    imports: int = 0
    routes: Sequence[Any] = ()
    openapi: dict[str, Any] | None = None

    @property
    def draining(self) -> bool:
        """Whether the server refuses new jobs, because it or its worker is about to end."""
        return self.worker_drains or self.ending.is_set()
