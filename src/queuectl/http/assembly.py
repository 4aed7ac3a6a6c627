"""Puts a server together: the store, the sockets, the application, and the announcement that it accepts connections."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from queuectl.http import hosts, listen, local_token, store_opening
from queuectl.http.app import application
from queuectl.http.auth import TokenAuthenticator
from queuectl.http.bind_rules import check_bind, has_token
from queuectl.http.caller import NOBODY, Caller
from queuectl.http.forwarded import Forwarded
from queuectl.http.options import Options, check
from queuectl.http.read_only_queue import read_only
from queuectl.http.routes import ROUTES
from queuectl.http.server import Server
from queuectl.http.server_state import Authenticator, Limits, ServerState
from queuectl.http.supervision import Supervision
from queuectl.http.wire_limits import Connections, WireLimits
from queuectl.service.queue import Queue
from queuectl.service.settings import Sources

FILES = 4096
"""Open files that a server may need: each connection is one, and the store has some."""

USUAL = WireLimits()


class Listening(NamedTuple):
    """What a server announces when it accepts connections.

    fault  why the store does not answer; None if it was reached
    """

    url: str | None
    socket: str | None
    fault: str | None


def serve(
    sources: Sources,
    options: Options,
    announce: Callable[[Listening], None],
    wire: WireLimits = USUAL,
    supervision: Supervision | None = None,
) -> None:
    """Serve until a signal, or the worker of this server, ends the process.

    Raises InvalidInput, CommandFailed, StoreUnusable.
    """
    public_url, is_proxy, tls, addresses = check(options)
    queue, fault = store_opening.first(sources, read_only=options.read_only)
    with closing(queue):
        # While the store does not answer, it is unknown whether it has a token; but then nobody can use the server.
        check_bind(
            options.host or "",
            addresses,
            has_token=fault is not None or has_token(queue),
            is_encrypted=options.is_encrypted,
        )
        with (
            closing(_sockets(options, addresses, supervision)) as sockets,
            _local_token(options, sockets) as local,
        ):
            authenticator = TokenAuthenticator(
                queue, local=local.secret if local else None, notes_uses=not options.read_only
            )
            options = replace(options, public_url=public_url)
            state = _state(options, sockets, queue, authenticator, fault)
            app = Forwarded(application(state, ROUTES), state.root, is_proxy, wire.per_peer)
            server = Server(app, state, Connections(wire, is_proxy, state.root), tls=tls)
            listening = Listening(_url(options, sockets), options.socket, fault)
            server.on_start = lambda: _begin(server, state, supervision, announce, listening)
            if local is not None:
                # Before the port is free: else clients would send requests to another user's program that takes it.
                server.on_end = local.remove
            if fault:
                server.beside = lambda: store_opening.until_reached(state, sources)
            _allow_files()
            os.chdir(options.job_cwd)
            queue.time_verbs(state.metrics.note_verb)
            state.metrics.auth_failures = lambda: authenticator.guessing.failures
            with state.health.probing(queue, wait=fault is None):
                server.run(sockets.all)
            for threads in (state.pool, state.waiters):
                threads.shutdown(wait=False, cancel_futures=True)


def _sockets(options: Options, addresses: list[str], supervision: Supervision | None) -> listen.Sockets:
    """The listening sockets. Those for TCP come from the worker, if there is one."""
    if supervision is not None:
        return listen.inherited(supervision.listeners, options.socket)
    return listen.open_all(options.host or "", addresses, options.port, options.socket)


def _begin(
    server: Server,
    state: ServerState,
    supervision: Supervision | None,
    announce: Callable[[Listening], None],
    listening: Listening,
) -> None:
    announce(listening)
    if not state.read_only:
        state.carrier.start(state)
    if supervision is not None:
        supervision.obey(server, state)


@contextmanager
def _local_token(options: Options, sockets: listen.Sockets) -> Iterator[local_token.LocalToken | None]:
    """The local token of a server that listens at loopback addresses alone; its file is deleted at the end."""
    if not sockets.addresses or not all(map(listen.is_loopback, sockets.addresses)):
        yield None
        return
    made = local_token.create(options.scheme, sockets.addresses, sockets.port)
    try:
        yield made
    finally:
        made.remove()


def _state(
    options: Options,
    sockets: listen.Sockets,
    queue: Queue,
    authenticator: Authenticator,
    fault: str | None,
) -> ServerState:
    bound = [(name, sockets.port) for name in (options.host, *sockets.addresses) if name]
    return ServerState(
        read_only(queue) if options.read_only else queue,
        authenticator,
        hosts.accepted(
            bound, options.scheme, options.allow_host, options.public_url, unix=options.socket is not None
        ),
        limits=Limits(options.max_body, options.max_bulk, options.request_timeout),
        root=urlsplit(options.public_url).path,
        public_url=options.public_url,
        anonymous=Caller("anonymous", frozenset(("view",))) if options.anonymous else NOBODY,
        read_only=options.read_only,
        access_log=options.access_log,
        fault=fault,
    )


def _url(options: Options, sockets: listen.Sockets) -> str | None:
    if options.host is None:
        return None
    shown = f"[{options.host}]" if ":" in options.host else options.host
    return f"{options.scheme}://{shown}:{sockets.port}"


def _allow_files() -> None:
    """Raise the soft limit of open files, which is often just the number of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
