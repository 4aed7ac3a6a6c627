"""The process that serves the application over sockets that are already open."""

import socket
from collections.abc import Sequence

import uvicorn
from starlette.applications import Starlette


def run(application: Starlette, sockets: Sequence[socket.socket]) -> None:
    """Serve until a signal ends the process."""
    # Forwarded headers would let every client choose its address: uvicorn trusts them from loopback by default.
    config = uvicorn.Config(application, log_level="warning", proxy_headers=False, server_header=False)
    uvicorn.Server(config).run(list(sockets))
