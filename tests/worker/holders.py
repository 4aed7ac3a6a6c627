"""A real holder process for a test; the test acts as its agent."""

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from facts import eventually
from queuectl.worker.host import process_table
from queuectl.worker.host.liveness import dead_workers
from queuectl.worker.protocol import PROTOCOL, Fields, Reader, frame, from_fields

IGNORE_TERM = "trap '' TERM; echo $$; while :; do sleep 60 & wait; done"
WITHIN = 15.0
Fact = TypeVar("Fact")
_numbers = itertools.count(1)
FAKE_AGENT = Path(__file__).with_name("fake_agent.py")
SOURCES = Path(__file__).parents[2] / "src"


class HungUp(AssertionError):
    """The holder closed the connection while the test still waited for something."""


class Agent:
    """The test's end of the holder's socket, and the process that replaces the agent."""

    def __init__(self, sock: socket.socket, pid: int, control: socket.socket) -> None:
        self.sock, self.pid, self._control = sock, pid, control
        self._process = process_table.look(pid)
        self._reader = Reader()
        self.inbox: list[tuple[Fields, bytes]] = []

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        self.sock.sendall(frame(json.dumps({"type": kind, **fields}).encode(), payload))

    def hello(self) -> Fields:
        self.send("hello", protocol=PROTOCOL, pid=self.pid)
        return self.expect("welcome")[0]

    def start(self, command: str | None, *, stdin: bytes | None = None, **order: Any) -> str:
        """Start a command and return the attempt id."""
        order = {"attempt_id": os.urandom(16).hex(), "job_id": f"job-{next(_numbers)}", **order}
        defaults = {
            "attempt": 1,
            "queue": "default",
            "grace": 10.0,
            "output_limit": 1 << 20,
            "command": command,
        }
        self.send("start", stdin or b"", **{**defaults, "has_stdin": stdin is not None, **order})
        return str(order["attempt_id"])

    def run(self, command: str | None, *, within: float = WITHIN, **order: Any) -> tuple[Fields, bytes]:
        """Order a command, wait for its end, acknowledge; its `exited` and all its output."""
        attempt_id = self.start(command, **order)
        ended = self.exited(attempt_id, within=within)
        self.ack(attempt_id)
        return ended, self.output(attempt_id)

    def exited(self, attempt_id: str, *, within: float = WITHIN) -> Fields:
        return self.expect("exited", attempt_id, within=within)[0]

    def started(self, attempt_id: str) -> Fields:
        return self.expect("started", attempt_id)[0]

    def output(self, attempt_id: str) -> bytes:
        """The output so far, each chunk once."""
        chunks = {m["n"]: data for m, data in self.of("output", attempt_id)}
        return b"".join(data for _, data in sorted(chunks.items()))

    def until_output(self, attempt_id: str, wanted: bytes) -> None:
        self.wait(lambda: wanted in self.output(attempt_id), what=f"{wanted!r} in the output")

    def ack(self, *attempt_ids: str) -> None:
        for attempt_id in attempt_ids:
            chunks = [m["n"] for m, _ in self.of("output", attempt_id)]
            self.send("ack_output", attempt_id=attempt_id, n=max(chunks, default=0))
        self.send("ack", attempt_ids=list(attempt_ids))

    def of(self, kind: str, attempt_id: str | None = None) -> list[tuple[Fields, bytes]]:
        return [
            (m, p) for m, p in self.inbox if m["type"] == kind and attempt_id in (None, m.get("attempt_id"))
        ]

    def expect(
        self, kind: str, attempt_id: str | None = None, *, within: float = WITHIN
    ) -> tuple[Fields, bytes]:
        """The latest such message, once there is one."""
        return self.wait(lambda: self.of(kind, attempt_id), within=within, what=f"{kind} of {attempt_id}")[-1]

    def wait(self, fact: Callable[[], Fact], *, within: float = WITHIN, what: str = "") -> Fact:
        deadline = time.monotonic() + within
        while not (answer := fact()):
            left = deadline - time.monotonic()
            assert left > 0, f"not within {within} s: {what}; came: {[m for m, _ in self.inbox][-5:]}"
            self.hear(left)
        return answer

    def hear(self, timeout: float) -> None:
        """Take in what comes within `timeout`, at least once."""
        if not select.select([self.sock], [], [], timeout)[0]:
            return
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise HungUp("the holder closed the connection")
        self.inbox += [(complete(fields), payload) for fields, payload in self._reader.feed(data)]

    def hung_up(self, *, within: float = WITHIN) -> None:
        """Wait until the holder closes the connection."""
        try:
            self.wait(lambda: False, within=within, what="end of the connection")
        except HungUp:
            return

    def close(self) -> None:
        self.sock.close()
        self._control.close()

    def clean_up(self) -> None:
        """A process that a test has stopped does not go by itself."""
        self.close()
        if self._process is not None:
            process_table.signal_process(self._process, signal.SIGKILL)

    def die(self) -> None:
        """End the agent as SIGKILL does: its process and its connection end at once."""
        os.kill(self.pid, signal.SIGKILL)
        self.close()


def complete(fields: Fields) -> Fields:
    """The received fields, with defaults for missing ones."""
    message = from_fields(fields)
    assert message is not None
    return message._asdict() | fields


def name_of(pid: int) -> str:
    """The name of a process, or nothing after its end."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


class Worker:
    """A holder process. `agent` is the newest of its agents, greeted unless `greet=False`."""

    def __init__(
        self,
        tmp: Path,
        *,
        count: int = 2,
        greet: bool = True,
        env: dict[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
        keep_open: tuple[int, ...] = (),
        **config: Any,
    ) -> None:
        self.directory = tmp / "workers"
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.id = f"worker-{os.urandom(4).hex()}"
        self.log = tmp / f"{self.id}.log"
        self._control = socket.socket(socket.AF_UNIX)
        control_path = str(tmp / f"{self.id[-8:]}.sock")
        self._control.bind(control_path)
        self._control.listen()
        document = {
            "worker": {"id": self.id, "name": "test", "host": "here"},
            "count": count,
            "directory": str(self.directory),
            "agent": {"secret": "s3cret"},
            "agent_argv": [sys.executable, "-S", str(FAKE_AGENT), control_path],
            "log_format": "plain",
            "ready_fd": None,
            "drain_timeout": None,
            "on_hangup": "drain",
            **config,
        }
        self.process = self._launch(document, env or {}, preexec, keep_open)
        self.agents: list[Agent] = []
        if greet:
            self.next_agent()

    @property
    def agent(self) -> Agent:
        return self.agents[-1]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def slots_file(self) -> Path:
        return self.directory / f"{self.id}.slots"

    def next_agent(self, *, greet: bool = True) -> Agent:
        """Wait until an agent process is started, and take over its socket."""
        self._control.settimeout(WITHIN)
        connection, _ = self._control.accept()
        text, descriptors, _, _ = socket.recv_fds(connection, 64, 1)
        agent = Agent(socket.socket(fileno=descriptors[0]), int(text), connection)
        self.agents.append(agent)
        if greet:
            agent.hello()
        return agent

    def guard_pid(self) -> int:
        """The holder's child that calls itself guard."""
        children = [p.pid for p in process_table.processes() if p.ppid == self.pid]
        return next((pid for pid in children if name_of(pid) == "queuectl-guard"), 0)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def exit_status(self, within: float = WITHIN) -> int:
        return self.process.wait(within)

    def clean_up(self) -> None:
        """End all processes after any kind of test."""
        guard = self.guard_pid() if self.process.poll() is None else 0
        self.process.kill()
        self.process.wait()
        if guard:
            eventually(lambda: not alive(guard))
        for dead in dead_workers(self.directory):
            with dead:
                dead.kill(within=5)
                dead.remove()
        for agent in self.agents:
            agent.clean_up()
        self._control.close()

    def _launch(
        self,
        document: dict[str, Any],
        env: dict[str, str],
        preexec: Callable[[], None] | None,
        keep_open: tuple[int, ...],
    ) -> subprocess.Popen[bytes]:
        reader, writer = os.pipe()
        os.write(writer, json.dumps(document).encode())
        os.close(writer)
        passed = [reader, *keep_open] + ([document["ready_fd"]] if document["ready_fd"] is not None else [])
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "queuectl.worker.holder", "--config-fd", str(reader)],
                pass_fds=passed, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=preexec,
                env={**os.environ, "PYTHONPATH": str(SOURCES), **env},
            )  # fmt: skip
        os.close(reader)
        return process


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    process = process_table.look(pid)
    return process is not None and process.state not in "ZX"


def all_dead(pids: list[int], within: float = 1.0) -> None:
    eventually(lambda: not any(map(alive, pids)), within=within, what=f"{pids} dead")


def pids_in(path: Path, count: int = 1) -> list[int]:
    """The pids that commands wrote into a file, once there are `count` of them."""
    return eventually(lambda: found if len(found := numbers(path)) >= count else [])


def numbers(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []
