"""Tells systemd the state of the server, over the datagram socket that `Type=notify` names."""

import os
import socket


def notify(state: str) -> None:
    """Send `READY=1` or `STOPPING=1`. Does nothing if no supervisor listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path  # systemd writes an abstract address with @
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
        try:
            datagrams.sendto(state.encode(), address)
        except OSError:  # the supervisor is gone; the server serves on
            return
