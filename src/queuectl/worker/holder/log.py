"""The log of a holder: one line per event on stderr, and one line for the process that waits for its start."""

import json
import os
import time
from typing import Any

from queuectl.worker import nonblocking
from queuectl.worker.wording import counted

_CLEAR_LINE = "" if os.environ.get("TERM") == "dumb" else "\x1b[2K\x1b[G"


class Log:
    """Writes lines for people ("plain") or for programs ("json"). A missing reader causes no error."""

    def __init__(self, name: str, form: str, ready_fd: int | None) -> None:
        self.name, self._json, self._ready_fd = name, form == "json", ready_fd
        self.on_terminal = not self._json and os.isatty(2)
        self._lost = 0
        if ready_fd is not None:
            os.set_inheritable(ready_fd, False)

    def write(self, event: str, sentence: str, **fields: Any) -> None:
        """Log an event under its stable name. If earlier lines were lost, first log their number."""
        lines = [self._line(event, sentence, fields)]
        if self._lost:
            lost = f"{counted(self._lost, 'line')} before this could not be written"
            lines.insert(0, self._line("unheard", lost, {}))
        self._lost = 0 if _write(2, "\n".join(lines)) else self._lost + 1

    def _line(self, event: str, sentence: str, fields: dict[str, Any]) -> str:
        if self._json:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            body = {"time": now, "event": event, "worker": self.name, "message": sentence, **fields}
            return json.dumps(body)
        if self.on_terminal:  # in the format of the agent's lines; the cursor may be in the agent's live line
            return f"{_CLEAR_LINE}{time.strftime('%H:%M:%S')} worker    {sentence}"
        return f"worker {self.name}: {sentence}"

    def next_signal(self, before: int) -> str:
        """The next signal in words, for example `a second Ctrl+C`."""
        return f"{('a', 'a second', 'a third')[before]} {'Ctrl+C' if self.on_terminal else 'signal'}"

    def ready(self, url: str | None = None) -> None:
        """Report that the worker has started, with the URL of the server. Only the first call has an effect."""
        self._answer_starter(f"ready {url}" if url else "ready")

    def not_ready(self, why: str) -> None:
        """Report that the worker failed before it was ready. Has no effect after `ready`."""
        self._answer_starter(why)

    def _answer_starter(self, line: str) -> None:
        if self._ready_fd is not None:
            _write(self._ready_fd, line)
            os.close(self._ready_fd)
            self._ready_fd = None


def _write(descriptor: int, line: str) -> bool:
    return nonblocking.write(descriptor, line.encode("utf-8", "replace") + b"\n")


def draining(running: int, again: str) -> str:
    """The log line of a drain: what it waits for, and what the next signal (`again`) does."""
    if not running:
        return "draining: nothing runs; jobs and retries that wait stay in the queue"
    ends = "ends it and gives it" if running == 1 else "ends them and gives them"
    waits = f"draining: waiting for {counted(running, 'running command')}"
    return f"{waits}, nothing more is started; {again} {ends} back to the queue"


def ending(phase: str, running: int, again: str | None) -> str:
    """The log line of a stop: what it ends, and what the next signal (`again`) does."""
    if not running or again is None:
        return f"{phase}: {counted(running, 'command')} running"
    return f"{phase}: ending {counted(running, 'command')}; {again} kills what still runs"
