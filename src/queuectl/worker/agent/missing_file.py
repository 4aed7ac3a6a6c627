"""The database file of a worker was deleted, moved or replaced: what the worker does then.

It waits as long as it holds something that belongs into the old file, which may be put back. After that there is no
reason to keep the old one open: a fresh agent opens what stands there now, and if that is no queue the worker leaves.
"""

import os
from collections.abc import Sequence

from queuectl.clock import boottime
from queuectl.errors import QueuectlError, StoreAbsent, StoreGone
from queuectl.store.protocol import AttemptRef
from queuectl.worker.agent.connection import Connection
from queuectl.worker.agent.log import Log

PATIENCE = 10.0
"""Seconds that a file may be missing, or half copied, before a worker with nothing to deliver leaves."""
_NAMED = 5


class MissingFile:
    """How long a worker has been without its file. For a store that is a file; other stores come back by themselves."""

    def __init__(self, path: str | None, link: Connection, journal: Log) -> None:
        self._path, self._link, self._journal = path, link, journal
        self._since: float | None = None

    def regained(self) -> None:
        """The file is there again."""
        self._since = None

    def waits_for(self, fault: QueuectlError, held: Sequence[AttemptRef]) -> str:
        """What to say of the fault: it names the jobs whose results keep this worker."""
        jobs = list(dict.fromkeys(item.job_id for item in held))
        if not self._is_gone(fault) or not jobs:
            return f"{fault.message}; commands run on, results wait"
        names = ", ".join(jobs[:_NAMED]) + (f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else "")
        return f"{fault.message}; waiting for it with what belongs into it: {names}"

    def face(self, fault: QueuectlError, held: Sequence[AttemptRef]) -> None:
        """Act on a fault: have the holder start another agent, which opens what is there (SystemExit), or leave."""
        if not self._is_gone(fault) or self._path is None:
            return
        self._since = boottime() if self._since is None else self._since
        if held:
            return
        if isinstance(fault, StoreGone) and fault.was_open and os.path.exists(self._path):
            self._journal.note("store", "another file stands there; opening it")
            self._link.send({"type": "reload"})
            raise SystemExit(0)
        if boottime() - self._since >= PATIENCE:
            why = f"{fault.message}, and nothing is left to deliver to it"
            self._link.send({"type": "leave", "why": why})

    def _is_gone(self, fault: QueuectlError) -> bool:
        return self._path is not None and isinstance(fault, StoreAbsent | StoreGone)
