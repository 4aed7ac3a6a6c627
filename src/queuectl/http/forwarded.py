"""Requests that come through a reverse proxy: the path below which it serves, and the address of its client."""

from collections import Counter
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from queuectl.http.guessing import address_key
from queuectl.http.proxies import IsProxy


class Forwarded:
    """Gives the application the address of the client instead of that of a trusted proxy, and bounds each client.

    A request beyond the bound has `is_beyond_bound` in its state. The application refuses it, so that its answer is in
    the logs and metrics, and answers probes.
    """

    def __init__(self, application: ASGIApp, root: str, is_proxy: IsProxy, per_client: int) -> None:
        self._application, self._root = application, root
        self._is_proxy, self._per_client = is_proxy, per_client
        self._running = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["root_path"] = self._root
        peer = scope["client"][0] if scope.get("client") else ""
        if not self._is_proxy(peer):
            await self._application(scope, receive, send)
            return
        client = _client(scope, self._is_proxy) or peer
        scope["client"] = (client, 0)
        key = address_key(client)
        if self._running[key] >= self._per_client:
            scope["state"]["is_beyond_bound"] = True
            await self._application(scope, receive, send)
            return
        self._running[key] += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]


def _client(scope: Scope, is_proxy: IsProxy) -> str | None:
    """The last address in `X-Forwarded-For` that is not a trusted proxy. Earlier ones may be written by the client."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    for text in reversed(",".join(given).split(",")):
        try:
            address = str(ip_address(text.strip()))
        except ValueError:
            return None
        if not is_proxy(address):
            return address
    return None
