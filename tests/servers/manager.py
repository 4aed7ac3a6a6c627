"""A host's service manager, for pages that stop and start a server: `systemctl stop NAME`, `systemctl start NAME`."""

import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

CLIENT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as talk:
    talk.connect(sys.argv[1])
    talk.sendall(" ".join(sys.argv[2:]).encode() + b"\\n")
    sys.exit(talk.makefile().read() or 0)
"""


class Service(NamedTuple):
    """Starts, stops and kills a server of the tests."""

    stop: Callable[[], None]
    start: Callable[[], None]


class Manager:
    """Stops and starts servers on demand of other processes. `tool`: the script that replaces `systemctl`."""

    def __init__(self, path: Path, services: Mapping[str, Service]) -> None:
        class Talk(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                verb, name = self.rfile.readline().decode().split()
                try:
                    getattr(services[name], verb)()
                except Exception as error:  # the caller raises the error
                    self.wfile.write(repr(error).encode())

        self._server: Any = socketserver.ThreadingUnixStreamServer(str(path), Talk)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        client = path.with_suffix(".py")
        client.write_text(CLIENT)
        self.tool = f'exec {sys.executable} {client} {path} "$@"'

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
