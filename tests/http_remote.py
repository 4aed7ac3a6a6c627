"""The client of a server in this process: a queue with a short patience, and the error of a call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from queuectl.errors import QueuectlError
from queuectl.http.client.address import address_of
from queuectl.http.client.channel import Patience
from queuectl.http.client.remote_queue import RemoteQueue
from queuectl.service.settings import Sources

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


def fault(url: str, call: Callable[[RemoteQueue], object] = RemoteQueue.status) -> QueuectlError:
    """The error of a call."""
    with opened(url) as queue, pytest.raises(QueuectlError) as raised:
        call(queue)
    return raised.value
