"""The holder's side of its agent: a process that may die, hang or be replaced at any time.

Normally there is one agent. While it is replaced there may be two.

Invariant: the holder acts only on messages of the agent that sent `Hello` last. It closes the connection of an older
agent with all unread input. Otherwise the holder could start a job for an agent that was stopped for a while,
although its successor has given this job back to the queue, and the job would run twice. Tests:
`test_an_unread_start_message_is_dropped_with_its_agent`,
`test_a_reload_drops_the_old_agent_with_its_unread_messages`.
"""

import os
import selectors
import signal
import socket
from collections.abc import Callable
from functools import partial

from queuectl.clock import boottime
from queuectl.worker.holder import child
from queuectl.worker.holder.log import Log
from queuectl.worker.holder.timers import NEVER, Deadline
from queuectl.worker.protocol import Hello, MalformedFrame, Message, Reader, from_fields

FIRST_PAUSE, LONGEST_PAUSE, LONG_LIFE = 0.1, 5.0, 60.0
EXIT_PATIENCE = 5.0
"""Seconds that an agent without a connection has to exit."""

SEND_INTERVAL = 0.002
"""Seconds between two sends. Waking the agent costs more than a message, so a busy worker sends several at once."""

_RECEIVE = 1 << 18


class AgentProcess:
    """One agent process and the socket to it. Before an agent has sent `Hello`, nothing is sent to it."""

    def __init__(self, pid: int, sock: socket.socket, born: float) -> None:
        self.pid, self.sock, self.born = pid, sock, born
        self.reader = Reader()
        self.out = bytearray()
        self.open = True


class AgentProcesses:
    """Starts agents, replaces them after growing pauses, and exchanges frames with the current agent."""

    def __init__(
        self,
        argv: list[str],
        selector: selectors.BaseSelector,
        receive: Callable[[Message, bytes], None],
        own: set[int],
        log: Log,
        start_at: float = 0.0,
    ) -> None:
        self._argv, self._selector, self._receive, self._own, self._log = argv, selector, receive, own, log
        self._all: dict[int, AgentProcess] = {}
        self._newest: AgentProcess | None = None
        self._current: AgentProcess | None = None
        self._pause = 0.0
        self._start = Deadline(start_at)
        self._starting = True
        self._kill_at: dict[int, float] = {}
        self._send_at = 0.0
        self._buffer = memoryview(bytearray(_RECEIVE))

    @property
    def connected(self) -> bool:
        """Whether an agent has sent `Hello` and is still connected."""
        return self._current is not None

    def send(self, frame: bytes) -> None:
        """Queue a frame for the current agent.

        If there is no agent, drop the frame: the `Welcome` to the next agent contains all running attempts, and every
        unacknowledged result and chunk follows it.
        """
        if self._current is not None:
            self._current.out += frame

    def due(self) -> float:
        """When `run_due` or `flush` must be called."""
        send_at = self._send_at if self._current is not None and self._current.out else NEVER
        return min(self._start.at, send_at, min(self._kill_at.values(), default=NEVER))

    def run_due(self, now: float) -> None:
        """Start the next agent if its pause is over. Kill an agent that should have exited."""
        if self._start.fires(now):
            self.start(now)
        if self._kill_at:
            self._kill_old(now)

    def _kill_old(self, now: float) -> None:
        for pid in [pid for pid, at in self._kill_at.items() if now >= at]:
            del self._kill_at[pid]
            # This pid still belongs to our child: `reaped` removes the pid of a reaped child.
            os.kill(pid, signal.SIGKILL)

    def start(self, now: float) -> None:
        """Start an agent now, unless the worker ends. An older agent may still be connected."""
        if not self._starting:
            return
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                argv = [*self._argv, "--fd", str(child.DESCRIPTOR)]
                pid = child.spawn(argv, os.environ, theirs.fileno())
        except OSError as error:
            self._log.write("agent_not_started", f"cannot start the agent: {error}", errno=error.errno)
            self._start_later(now)
            return
        self._start.clear()
        ours.setblocking(False)
        self._newest = self._all[pid] = AgentProcess(pid, ours, now)
        self._own.add(pid)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._ready, self._newest))

    def stop_starting(self) -> None:
        """Start no agent from now on, because the worker ends."""
        self._starting = False
        self._start.clear()
        self._newest = None

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """Handle the end of a child. Returns whether the child was an agent."""
        agent = self._all.pop(pid, None)
        if agent is None:
            return False
        self._kill_at.pop(pid, None)
        self._disconnect(agent)
        if agent is self._newest:
            if now - agent.born >= LONG_LIFE:
                self._pause = 0.0
            self._start_later(now)
            how = child.ending(status)
            self._log.write(
                "agent_exited", f"the agent (pid {pid}) {how}; starting another", pid=pid, status=how
            )
        return True

    def flush(self, now: float) -> None:
        """Send the queued frames. What the socket does not accept is sent when the socket is writable again."""
        agent = self._current
        if agent is None or not agent.out or now < self._send_at:
            return
        self._send_at = now + SEND_INTERVAL
        try:
            with memoryview(agent.out) as view:
                sent = agent.sock.send(view)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._send_at = NEVER  # the agent has exited; reading or reaping will report this
            return
        del agent.out[:sent]
        if agent.out:  # the socket is full, and wakes the loop when it is writable
            self._send_at = NEVER
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if agent.out else 0)
        key = self._selector.get_key(agent.sock)
        if key.events != events:
            self._selector.modify(agent.sock, events, key.data)

    def kill_all(self) -> None:
        """Kill all remaining agents, because the worker ends."""
        for pid in self._all:
            os.kill(pid, signal.SIGKILL)

    def _start_later(self, now: float) -> None:
        self._start.set(now + self._pause)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)

    def _ready(self, agent: AgentProcess) -> None:
        """Read the received bytes. The loop also wakes for a writable socket, so there may be nothing to read."""
        if self._send_at == NEVER:
            self._send_at = 0.0
        try:
            count = agent.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except ConnectionResetError:
            count = 0
        if not count:
            self._let_go(agent)
            return
        try:
            self._dispatch(agent, self._buffer[:count])
        except (MalformedFrame, KeyError, TypeError, ValueError) as error:
            self._log.write(
                "agent_malformed", f"the agent sent what cannot be understood, replacing it: {error!r}"
            )
            os.kill(agent.pid, signal.SIGKILL)
            self._let_go(agent)

    def _dispatch(self, agent: AgentProcess, data: memoryview) -> None:
        for fields, payload in agent.reader.feed(data):
            message = from_fields(fields)
            if isinstance(message, Hello):
                self._greeted(agent)
            if message is not None and agent is self._current:
                self._receive(message, payload)
            if not agent.open:
                return

    def _greeted(self, agent: AgentProcess) -> None:
        if self._current is not None and self._current is not agent:
            self._let_go(self._current)
        self._current = agent
        self._send_at = 0.0

    def _let_go(self, agent: AgentProcess) -> None:
        """Disconnect an agent. If its process does not exit within `EXIT_PATIENCE`, it is killed."""
        self._disconnect(agent)
        if agent.pid in self._all:
            self._kill_at[agent.pid] = boottime() + EXIT_PATIENCE

    def _disconnect(self, agent: AgentProcess) -> None:
        if agent.open:
            agent.open = False
            self._selector.unregister(agent.sock)
            agent.sock.close()
        if agent is self._current:
            self._current = None
