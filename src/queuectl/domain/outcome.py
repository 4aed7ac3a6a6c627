"""How an attempt ended: a closed set of outcomes, and the report that contains one.

Exit code and signal are kept apart, never folded into `128 + n`.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from queuectl.domain.job import Progress

Kind = Literal["exited", "signalled", "timed_out", "cancelled", "spawn_error", "lost", "fenced"]

INTERRUPTED = "interrupted: the worker was told to stop at once"


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One outcome. `exit_code` and `signal` are the kernel's report about the leader, if there is one.

    `error` is a sentence for people: why the command could not start, why the attempt was lost, which limit it passed.
    """

    kind: Kind
    exit_code: int | None = None
    signal: int | None = None
    core: bool = False
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the command ended by itself with exit code 0."""
        return self.kind == "exited" and self.exit_code == 0

    def describe(self) -> str:
        """The outcome in a few words, for `last_error`, logs and lists."""
        if self.kind == "exited":
            return f"exit code {self.exit_code}"
        if self.kind == "signalled":
            return f"killed by signal {self.signal}" + (" (core dumped)" if self.core else "")
        return self.error or self.kind.replace("_", " ")


class Report(Struct, frozen=True, kw_only=True):
    """The data of an ended attempt. CPU times are in seconds, `max_rss` and `output_bytes` in bytes.

    `ended_processes` is how many processes the command left running, and the worker then ended.
    """

    outcome: Outcome
    finished_at: datetime
    started_at: datetime | None = None
    host: str | None = None
    pid: int | None = None
    user_cpu: float | None = None
    system_cpu: float | None = None
    max_rss: int | None = None
    output_bytes: int = 0
    ended_processes: int = 0
    output_tail: str = ""
    progress: Progress | None = None
