"""The holder's side of its agent: a process that may die, hang or be replaced at any moment.

Normally there is one. While it is replaced there are two for a moment: the one that said hello last is
listened to, the connection of the other is dropped with whatever it still holds.
"""

import os
import selectors
import signal
import socket
from collections.abc import Callable
from functools import partial

from queuectl.clock import boottime
from queuectl.worker.holder.timers import NEVER, Alarm
from queuectl.worker.protocol import Hello, MalformedFrame, Message, Reader, from_fields

FIRST_PAUSE, LONGEST_PAUSE, LONG_LIFE = 0.1, 5.0, 60.0
PATIENCE = 5.0
"""Seconds that an agent without a connection has to exit."""

GIVE_UP = 10.0
"""Seconds at the end of a worker that an agent has to take the results, or to go after `bye`."""

SPACING = 0.002
"""Seconds between two sends: waking the agent costs more than what it is told, so news of a busy worker is bundled."""

_RECEIVE = 1 << 18

Say = Callable[..., None]


class Connection:
    """One agent process and the socket to it. A connection that has not said hello hears nothing."""

    def __init__(self, pid: int, sock: socket.socket, born: float) -> None:
        self.pid, self.sock, self.born = pid, sock, born
        self.reader = Reader()
        self.out = bytearray()
        self.open = True


class Agents:
    """Starts agents, restarts them with growing pauses, and carries frames to and from the current one."""

    def __init__(
        self,
        argv: list[str],
        selector: selectors.BaseSelector,
        receive: Callable[[Message, bytes], None],
        ours: set[int],
        say: Say,
    ) -> None:
        self._argv, self._selector, self._receive, self._ours, self._say = argv, selector, receive, ours, say
        self._all: dict[int, Connection] = {}
        self._newest: Connection | None = None
        self._current: Connection | None = None
        self._pause = 0.0
        self._start = Alarm(0.0)
        self._doomed: dict[int, float] = {}
        self._flush_at = 0.0
        self._buffer = memoryview(bytearray(_RECEIVE))

    @property
    def connected(self) -> bool:
        """Whether an agent has said hello and is there."""
        return self._current is not None

    @property
    def gone(self) -> bool:
        """Whether no agent process is left."""
        return not self._all

    def post(self, frame: bytes) -> None:
        """Queue a frame for the current agent; without one, it is the next welcome's business."""
        if self._current is not None:
            self._current.out += frame

    def due(self) -> float:
        """When `tick` or `flush` has something to do."""
        flush_at = self._flush_at if self._current is not None and self._current.out else NEVER
        return min(self._start.at, flush_at, min(self._doomed.values(), default=NEVER))

    def tick(self, now: float) -> None:
        """Start what is to be started, kill what should have exited."""
        if self._start.rings(now):
            self.start(now)
        for pid in [pid for pid, at in self._doomed.items() if now >= at]:
            del self._doomed[pid]
            # Our child, and not reaped: else `reaped` would have taken it from the list.
            os.kill(pid, signal.SIGKILL)

    def start(self, now: float) -> None:
        """Start an agent now. It may find an older one still connected."""
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                pid = self._spawn(theirs.fileno())
        except OSError as error:
            self._say("agent_not_started", f"cannot start the agent: {error}", errno=error.errno)
            self._start_later(now)
            return
        self._start.clear()
        ours.setblocking(False)
        self._newest = self._all[pid] = Connection(pid, ours, now)
        self._ours.add(pid)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._ready, self._newest))

    def stop_starting(self) -> None:
        """The end is near: an agent that exits is not replaced any more."""
        self._start.clear()
        self._newest = None

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """An agent has ended. False if the pid is none of theirs."""
        connection = self._all.pop(pid, None)
        if connection is None:
            return False
        self._doomed.pop(pid, None)
        self._drop(connection)
        if connection is self._newest:
            if now - connection.born >= LONG_LIFE:
                self._pause = 0.0
            self._start_later(now)
            how = _ending(status)
            self._say("agent_exited", f"the agent (pid {pid}) {how}; starting another", pid=pid, status=how)
        return True

    def flush(self, now: float) -> None:
        """Send what waits; what the socket does not take is sent when it can."""
        connection = self._current
        if connection is None or not connection.out or now < self._flush_at:
            return
        self._flush_at = now + SPACING
        try:
            with memoryview(connection.out) as view:
                sent = connection.sock.send(view)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._flush_at = NEVER  # it is gone; reading or reaping will tell
            return
        del connection.out[:sent]
        if connection.out:  # it is full: being writable wakes us, time does not
            self._flush_at = NEVER
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.out else 0)
        key = self._selector.get_key(connection.sock)
        if key.events != events:
            self._selector.modify(connection.sock, events, key.data)

    def end_all(self) -> None:
        """Kill whatever agent is left: the worker is over."""
        for pid in self._all:
            os.kill(pid, signal.SIGKILL)

    def _spawn(self, descriptor: int) -> int:
        # A copy by dup2 is inheritable even when the numbers are equal, so nothing of ours leaks through the
        # flag.
        return os.posix_spawnp(
            self._argv[0],
            [*self._argv, "--fd", "3"],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, 3)],
            setsid=True,
            setsigmask=(),
            setsigdef=[s for s in signal.valid_signals() if signal.getsignal(s) != signal.SIG_DFL],
        )

    def _start_later(self, now: float) -> None:
        self._start.set(now + self._pause)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)

    def _ready(self, connection: Connection) -> None:
        """Take in what has come. Being writable again wakes us too: then there may be nothing to read."""
        if self._flush_at == NEVER:
            self._flush_at = 0.0
        try:
            count = connection.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except ConnectionResetError:
            count = 0
        if not count:
            self._hung_up(connection)
            return
        try:
            self._dispatch(connection, self._buffer[:count])
        except (MalformedFrame, KeyError, TypeError, ValueError) as error:
            self._say("agent_malformed", f"the agent sent what cannot be understood, replacing it: {error!r}")
            os.kill(connection.pid, signal.SIGKILL)
            self._hung_up(connection)

    def _dispatch(self, connection: Connection, data: memoryview) -> None:
        for fields, payload in connection.reader.feed(data):
            message = from_fields(fields)
            if isinstance(message, Hello):
                self._greeted(connection)
            if message is not None and connection is self._current:
                self._receive(message, payload)
            if not connection.open:
                return

    def _greeted(self, connection: Connection) -> None:
        if self._current is not None and self._current is not connection:
            self._hung_up(self._current)
        self._current = connection
        self._flush_at = 0.0

    def _hung_up(self, connection: Connection) -> None:
        """The connection is over; its process is expected to follow soon."""
        self._drop(connection)
        if connection.pid in self._all:
            self._doomed[connection.pid] = boottime() + PATIENCE

    def _drop(self, connection: Connection) -> None:
        if connection.open:
            connection.open = False
            self._selector.unregister(connection.sock)
            connection.sock.close()
        if connection is self._current:
            self._current = None


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exited with status {code}" if code >= 0 else f"was killed by signal {-code}"
