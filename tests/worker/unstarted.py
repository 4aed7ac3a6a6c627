"""An agent without processes: its parts on a memory store, with a fake connection and a stepped clock."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from queuectl import bootstrap
from queuectl.domain.job import Job
from queuectl.store.memory import MemoryStore
from queuectl.worker.agent import context
from queuectl.worker.agent.assembly import assemble
from queuectl.worker.agent.log import Log
from queuectl.worker.protocol import Fields, Message, Welcome, from_fields, to_fields
from service.scenes import put

AGENT = "w1"
MOST_WAITS = 1000


class FakeConnection:
    """Remembers what is sent, and hands out what a test has put into `incoming`."""

    def __init__(self) -> None:
        self.sent: list[Fields] = []
        self.incoming: list[tuple[Message, bytes]] = []
        self.woken = 0
        self.waits: list[float] = []

    def queue(self, message: Message, _payload: bytes = b"") -> None:
        self.sent.append(to_fields(message))

    send = queue

    def flush(self) -> None:
        pass

    def wake(self) -> None:
        self.woken += 1

    def receive(self, timeout: float) -> list[tuple[Message, bytes]]:
        self.waits.append(timeout)
        assert len(self.waits) < MOST_WAITS, "the agent spins"
        messages, self.incoming = self.incoming, []
        return messages

    def unread(self, messages: list[tuple[Message, bytes]]) -> None:
        self.incoming = messages + self.incoming

    def of(self, kind: str) -> list[Fields]:
        """The sent messages of one type."""
        return [message for message in self.sent if message["type"] == kind]


class Unstarted:
    """The agent. `now` is CLOCK_BOOTTIME for all its parts."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, store: MemoryStore, **welcome: Any
    ) -> None:
        self.now, self.store, self.connection, self._said = 1000.0, store, FakeConnection(), io.StringIO()
        for name in [name for name in sys.modules if name.startswith("queuectl.worker.agent.")]:
            if hasattr(sys.modules[name], "boottime"):
                monkeypatch.setattr(sys.modules[name], "boottime", lambda: self.now)
        monkeypatch.setattr(bootstrap, "open_store", lambda *_, **__: store)
        monkeypatch.setattr(bootstrap, "refuse_shared", lambda _: None)
        monkeypatch.setattr(context, "open_log", lambda *_: Log(out=self._said))
        own = {"url": f"sqlite:///{directory}/q.db", "directory": str(directory), "options": {}}
        own |= welcome.pop("config", {})
        said = {
            "protocol": 1, "config": own, "worker": {"id": AGENT, "name": "one", "host": "atlas"}, "count": 2,
            "phase": "running", "attempts": [], "holder_pid": 7, "boot_id": "boot", "started_at": 0.0,
        }  # fmt: skip
        self.parts = assemble(self.connection, Welcome(**(said | welcome)))  # type: ignore[arg-type]
        self.context = self.parts.context

    def duty(self, kind: type[Any]) -> Any:
        """The duty of a class."""
        [found] = [duty for duty in self.parts.duties if isinstance(duty, kind)]
        return found

    @property
    def recorder(self) -> Any:
        """The recorder of results."""
        return self.parts.session._recorder

    def is_due(self, kind: type[Any]) -> bool:
        """Whether a duty wants to run now."""
        due: float = self.duty(kind).due(self.now)
        return due <= self.now

    def run(self, kind: type[Any]) -> None:
        """Run a duty, as the loop does."""
        self.duty(kind).run(self.now)

    def round(self) -> list[str]:
        """Run all duties that are due, in order; the classes of those that ran."""
        ran = []
        for duty in self.parts.duties:
            if duty.due(self.now) <= self.now:
                duty.run(self.now)
                ran.append(type(duty).__name__)
        return ran

    def hears(self, kind: str, payload: bytes = b"", /, **fields: Any) -> None:
        """Receive a message from the holder."""
        message = from_fields({"type": kind, **fields})
        assert message is not None
        self.parts.inbox.handle(message, payload)

    def claims(self, *ids: str, **fields: Any) -> list[Job]:
        """Put jobs and let this agent claim them."""
        for id in ids:
            put(self.store, id, **fields)
        self.parts.claiming.run(self.now)
        return [claim.job for claim in self.context.claims if claim.job.id in ids]

    def starts(self, job: Job, slot: int = 0) -> None:
        """The holder has started the command of a claimed job."""
        self.hears("started", attempt_id=job.attempt_id, slot=slot, pid=77, at=self.store.now().timestamp())

    def ends(self, job: Job, exit_code: int = 0, seconds: float | None = None) -> None:
        """The command of a claimed job has exited."""
        end = {"attempt_id": job.attempt_id, "job_id": job.id, "kind": "exited", "exit_code": exit_code}
        if seconds is not None:
            end |= {"started_at": 100.0, "finished_at": 100.0 + seconds, "pid": 77, "slot": 0}
        self.hears("exited", **end)

    def said(self) -> list[str]:
        """The lines of the log since the last call, without the time."""
        self.context.log.flush()
        lines = self._said.getvalue().splitlines()
        self._said.truncate(0)
        self._said.seek(0)
        return [line[21:] for line in lines]
