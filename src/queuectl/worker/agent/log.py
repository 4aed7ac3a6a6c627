"""The log of a worker: one line per event, plain or JSON. The text of most events is here."""

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

import msgspec

from queuectl.config import Settings
from queuectl.domain.ids import handle
from queuectl.domain.instant import format_instant
from queuectl.domain.job import Job
from queuectl.domain.outcome import Outcome
from queuectl.domain.quantity import format_duration
from queuectl.store.protocol import Store
from queuectl.worker import nonblocking
from queuectl.worker.agent.live_log import LiveLog, open_live_log
from queuectl.worker.wording import counted


class Log:
    """Writes events. A slow or missing reader never delays the worker: lines are lost, and `lost` counts them."""

    def __init__(
        self,
        format: str = "plain",
        out: TextIO | None = None,
        *,
        quiet: bool = False,
        live: LiveLog | None = None,
    ) -> None:
        self._json = format == "json"
        self._quiet = quiet
        self._out = out or sys.stdout
        self._descriptor = None if out is not None else sys.stdout.fileno()
        self.lost = 0
        self._lines: list[str] = []
        self._live = None if quiet else live

    def started(self, job: Job, slot: int, pid: int) -> None:
        """Log the start of a command."""
        if self._quiet:
            return
        if self._live is not None:
            if not self._live.folding:
                where = f"attempt {job.attempts}, slot {slot}, pid {pid}: " if self._live.verbose else ""
                self._lines.append(self._live.line("start", where + job.spec.title(), handle(job)))
            return
        self._event(
            "start", job, f"attempt {job.attempts}, slot {slot}, pid {pid}: {_title(job)}", slot=slot, pid=pid
        )

    def finished(self, before: Job, after: Job, outcome: Outcome, seconds: float | None) -> None:
        """Log the outcome of an attempt and the new state of its job."""
        if self._quiet:
            return
        left = after.history[-1].ended_processes if after.history else 0
        event = {"completed": "done", "failed": "retry", "pending": "requeued"}.get(after.state, after.state)
        if self._live is not None:
            if not self._live.ended(event) or left:
                text = _short_ending(after, outcome, seconds) + _left_running(left)
                self._lines.append(self._live.line(event, f"{text}  {before.spec.title()}", handle(before)))
            return
        took = "" if seconds is None else f" after {run_time(seconds)}"
        text = f"{outcome.describe()}{took}: {after.state}"
        text += _left_running(left)
        run_at = format_instant(after.run_at) if after.state == "failed" else None
        if run_at:
            text += f", retry {after.failures} at {run_at}"
        self._event(
            event,
            before,
            text,
            outcome=outcome.kind,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
            error=outcome.error,
            seconds=seconds,
            state=after.state,
            run_at=run_at,
            ended_processes=left,
        )

    def fenced(self, job: Job) -> None:
        """Log that a result came too late: another attempt has the lease."""
        self._event("fenced", job, "the lease passed to another attempt; this result is not recorded")

    def recovered(self, job: Job) -> None:
        """Log that the claim of a dead worker, or of one without heartbeats, was taken back."""
        self._event("recovered", job, f"{job.last_error or 'never started'}: {job.state}", state=job.state)

    def note(self, event: str, text: str, **fields: Any) -> None:
        """Log an event of the worker itself."""
        self._write(event, text, fields)

    def flush(self) -> None:
        """Write the lines since the last call. If lines were lost, first write their number."""
        if self._live is not None:
            self._lines = self._live.frame(self._lines)
        if not self._lines:
            return
        count = len(self._lines)
        if self.lost:
            self.note("unheard", f"{counted(self.lost, 'line')} before this could not be written")
            self._lines.insert(0, self._lines.pop())
        lines, self._lines = self._lines, []
        self.lost = 0 if self._put(lines) else self.lost + count

    def _put(self, lines: list[str]) -> bool:
        """Write the lines. Returns whether all lines were written."""
        if self._descriptor is not None:
            return nonblocking.write(self._descriptor, "".join(lines).encode("utf-8", "replace"))
        try:
            self._out.writelines(lines)
            self._out.flush()
        except (OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        """Write the remaining lines."""
        if self._live is not None:
            self._live.close()
        self.flush()

    def _event(self, event: str, job: Job, text: str, **fields: Any) -> None:
        if self._live is not None:
            self._lines.append(self._live.line(event, text, handle(job)))
            return
        self._write(event, f"{job.id} {text}", {"job": job.id, "attempt": job.attempts, **fields})

    def _write(self, event: str, text: str, fields: dict[str, Any]) -> None:
        if self._quiet:
            return
        if self._live is not None:
            self._lines.append(self._live.line(event, text))
            return
        now = time.time()
        if self._json:
            at = format_instant(datetime.fromtimestamp(now, UTC))
            body = {"time": at, "event": event, "message": text, **fields}
            self._lines.append(msgspec.json.encode(body).decode() + "\n")
        else:
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
            self._lines.append(f"{at} {event:<9} {_printable(text)}\n")


def open_log(own: dict[str, Any], settings: Settings, store: Store) -> Log:
    """The log in the format of a worker's configuration."""
    live = open_live_log(own, settings, store)
    return Log(own.get("log_format", "plain"), quiet=bool(own.get("quiet")), live=live)


def run_time(seconds: float) -> str:
    """A run time as text, for example `12ms`, `3.2s` or `1h5m`."""
    return format_duration(timedelta(seconds=round(max(seconds, 0.0), 3 if seconds < 1 else 1)))


def _short_ending(after: Job, outcome: Outcome, seconds: float | None) -> str:
    """The end of an attempt and its consequence, for a terminal. After a success only the duration."""
    took = "" if seconds is None else run_time(seconds)
    if after.state == "completed":
        return f"{took:>6}"
    text = f"{outcome.describe()}{f' after {took}' if took else ''}"
    if after.state == "failed":
        delay = max(after.run_at - after.updated_at, timedelta(0))
        text += f", retry {after.failures} in {run_time(delay.total_seconds())}"
    return text + ":"


def _left_running(count: int) -> str:
    if not count:
        return ""
    return f" (ended {counted(count, 'process')} it left running; --allow-detached keeps them)"


def _title(job: Job) -> str:
    title = job.spec.title()
    return title if len(title) <= 100 else title[:99] + "…"


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
