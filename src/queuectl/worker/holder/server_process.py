"""The HTTP server of `worker start --serve`: a child that is replaced when it dies, and that ends last.

The holder keeps the listening sockets open, and gives a copy to each server process. So the port stays the same and
connections wait while no server runs. It does not restart the server when the worker ends.

Invariant: the agent starts only after the first server accepts requests. Otherwise a worker whose server cannot
start would claim jobs before it exits. Test: `test_a_worker_whose_server_cannot_start_starts_no_agent`.
"""

import json
import os
import selectors
import signal
import socket
from collections.abc import Callable
from typing import Any

from queuectl.clock import boottime
from queuectl.worker.holder import child
from queuectl.worker.holder.log import Log
from queuectl.worker.holder.timers import NEVER, Deadline
from queuectl.worker.server_channel import BEGIN, DRAIN, LEAVE

FIRST_PAUSE, LONGEST_PAUSE, LONG_LIFE = 0.1, 30.0, 10.0
"""Seconds: the pauses before a restart, and how long a server must run to get the first pause again."""

START_PATIENCE = 60.0
"""Seconds in which a server has to accept requests."""
END_PATIENCE = 12.0
"""Seconds in which a server has to end that is replaced, or that has closed its channel. Its requests have 10 s."""
LEAVE_PATIENCE = 6.0
"""Seconds in which a server has to end after `LEAVE`. Its last replies have 5 s."""


class ServerProcess:
    """The server process of a worker, if its configuration has one.

    `on_first` is called when the first server accepts requests. The keys of `config` are:

        argv         how to start the server
        environment  variables for the server alone; may contain a password
        sockets      descriptors of the listening sockets
    """

    def __init__(
        self,
        config: dict[str, Any] | None,
        selector: selectors.BaseSelector,
        own: set[int],
        log: Log,
        on_first: Callable[[], None],
    ) -> None:
        self._config: dict[str, Any] = config or {"argv": [], "environment": {}, "sockets": []}
        self._selector, self._own, self._log, self._on_first = selector, own, log, on_first
        self._sockets: list[int] = self._config["sockets"]
        for descriptor in self._sockets:  # commands must not inherit them
            os.set_inheritable(descriptor, False)
        self._pid = 0
        self._channel: socket.socket | None = None
        self._said = bytearray()
        self._born = 0.0
        self._pause = FIRST_PAUSE
        self._start = Deadline(0.0 if config else NEVER)
        self._kill = Deadline()
        self._too_long, self._killed = "", ""
        self._draining = self._replacing = self._leaving = False
        self.url: str | None = None
        """The URL of the server. None before the first server accepts requests, and without a server."""
        self.fault: str | None = None
        """Why the first server could not start."""
        self.abandoned = False
        """Whether the worker ends without an agent, because its drain began before the first server was ready."""

    @property
    def gone(self) -> bool:
        """Whether no server process runs."""
        return not self._pid

    def due(self) -> float:
        """When `run_due` must be called."""
        return min(self._start.at, self._kill.at)

    def run_due(self, now: float) -> None:
        """Start the next server if its pause is over. Kill a server that should have started or ended."""
        if self._start.fires(now):
            self._start_now(now)
        if self._kill.fires(now):
            self._killed = self._too_long
            self.kill()

    def drain(self) -> None:
        """Let the server refuse new jobs: this one, and each that replaces it.

        A first server that does not accept requests yet is killed: there is nothing that it could end.
        """
        self._draining = True
        if self.url is None and self._config["argv"]:
            self.abandoned = self._leaving = True
            self._start.clear()
            self.kill()
        else:
            self._send(DRAIN)

    def replace(self, now: float) -> None:
        """End the server, and start another one from the installed version."""
        if self._pid and not self._leaving:
            self._replacing = True
            os.kill(self._pid, signal.SIGTERM)
            self._end_within(END_PATIENCE, now)

    def leave(self, now: float) -> None:
        """Let the server send its last replies and end, because the worker has left the registry."""
        self._leaving = True
        self._send(LEAVE)
        self._kill.set(now + LEAVE_PATIENCE if self._pid else NEVER)
        while self._sockets:  # otherwise later clients would connect, and wait for an answer
            os.close(self._sockets.pop())

    def kill(self) -> None:
        """Kill the server process."""
        if self._pid:  # this pid still belongs to our child: `reaped` clears it
            os.kill(self._pid, signal.SIGKILL)

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """Handle the end of a child. Returns whether the child was the server."""
        if pid != self._pid:
            return False
        self._read()  # a fault may have arrived together with the signal
        fault = _value(self._said, "fault")
        why = f"cannot serve: {fault}" if fault else self._killed or child.ending(status)
        self._disconnect()
        self._own.discard(pid)
        self._pid = 0
        self._kill.clear()
        if not self._leaving:
            self._ended(pid, why, now)
        return True

    def _ended(self, pid: int, why: str, now: float) -> None:
        if self.url is None:
            self.fault = f"the server {why}"
        elif self._replacing:
            self._replacing = False
            self._log.write("server_replaced", f"the server (pid {pid}) is replaced", pid=pid)
            self._start.set(now)
        else:
            self._log.write(
                "server_exited", f"the server (pid {pid}) {why}; starting another", pid=pid, why=why
            )
            self._start_later(now)

    def _start_now(self, now: float) -> None:
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(ours, [BEGIN + DRAIN if self._draining else BEGIN], self._sockets)
                environ = {**os.environ, **self._config["environment"]}
                argv = [*self._config["argv"], "--supervised", str(child.DESCRIPTOR)]
                self._pid = child.spawn(argv, environ, theirs.fileno())
        except OSError as error:
            self._not_started(error, now)
            return
        ours.setblocking(False)
        self._channel, self._born = ours, now
        self._said.clear()
        self._own.add(self._pid)
        self._selector.register(ours, selectors.EVENT_READ, self._read)
        self._kill.set(now + START_PATIENCE)
        self._too_long, self._killed = f"did not accept requests within {START_PATIENCE:.0f} s", ""

    def _not_started(self, error: OSError, now: float) -> None:
        sentence = f"cannot start the server: {error}"
        if self.url is None:
            self.fault = sentence
            return
        self._log.write("server_not_started", sentence, errno=error.errno)
        self._start_later(now)

    def _start_later(self, now: float) -> None:
        if now - self._born >= LONG_LIFE:
            self._pause = FIRST_PAUSE
        self._start.set(now + self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _send(self, byte: bytes) -> None:
        if self._channel is not None:
            try:
                self._channel.send(byte)
            except OSError:
                return  # the server has ended, or reads nothing: reaping it, or the deadline, will show which

    def _read(self) -> None:
        """Read the line of the server."""
        if self._channel is None:
            return
        try:
            data = self._channel.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._disconnect()
            if boottime() + END_PATIENCE < self._kill.at:
                self._end_within(END_PATIENCE, boottime())
            return
        self._said += data
        if url := _value(self._said, "url"):
            self._listens(url)

    def _listens(self, url: str) -> None:
        if not self._leaving and not self._replacing:
            self._kill.clear()
        if self.url is None and not self._leaving:
            self.url = url
            self._log.write("listening", f"listening on {url}", url=url, pid=self._pid)
            self._on_first()

    def _end_within(self, seconds: float, now: float) -> None:
        self._kill.set(now + seconds)
        self._too_long = f"did not end within {seconds:.0f} s"

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None


def _value(said: bytearray, key: str) -> str | None:
    """A value of the line that the server has sent. None if the line is not complete, or has no such value."""
    line, end, _ = said.partition(b"\n")
    try:
        value = json.loads(line)[key] if end else None
    except (ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None
