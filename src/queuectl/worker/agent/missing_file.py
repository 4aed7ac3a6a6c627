"""Handles a database file that was deleted, moved or replaced while a worker uses it.

While the worker has results for the old file it waits, because a person may put the file back. Without such results a
new agent opens the file that now has the path. If that file contains no queue, the worker exits.
"""

import os
from collections.abc import Sequence

from queuectl import bootstrap
from queuectl.clock import boottime
from queuectl.errors import QueuectlError, StoreAbsent, StoreGone
from queuectl.store.protocol import AttemptRef
from queuectl.worker.agent.context import Context
from queuectl.worker.protocol import Reload, StoreLost

PATIENCE = 10.0
"""Seconds for which a file may be missing or incomplete before a worker without results exits."""
_NAMED = 5


class MissingFile:
    """Measures how long the file has been missing. Used only for SQLite: a server recovers without the worker."""

    def __init__(self, context: Context) -> None:
        self._path = bootstrap.file_of(context.config["url"])
        self._connection, self._log = context.connection, context.log
        self._since: float | None = None

    def found(self) -> None:
        """The file can be used again: forget that it was missing."""
        self._since = None

    def describe(self, fault: QueuectlError, open_attempts: Sequence[AttemptRef]) -> str:
        """The log line. It names the jobs for whose results this worker waits."""
        jobs = list(dict.fromkeys(item.job_id for item in open_attempts))
        if not self._is_gone(fault) or not jobs:
            return f"{fault.message}; commands run on, results wait"
        names = ", ".join(jobs[:_NAMED]) + (f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else "")
        return f"{fault.message}; waiting for the file, to deliver the results of {names}"

    def handle(self, fault: QueuectlError, open_attempts: Sequence[AttemptRef]) -> None:
        """If there is another file, let the holder start another agent (SystemExit).

        Otherwise exit after `PATIENCE`.
        """
        if not self._is_gone(fault) or self._path is None:
            return
        self._since = boottime() if self._since is None else self._since
        if open_attempts:
            return
        if isinstance(fault, StoreGone) and fault.was_open and os.path.exists(self._path):
            self._log.note("store", "another file is there; opening it")
            self._connection.send(Reload())
            raise SystemExit(0)
        if boottime() - self._since >= PATIENCE:
            why = f"{fault.message}, and nothing is left to deliver to it"
            self._connection.send(StoreLost(why))

    def _is_gone(self, fault: QueuectlError) -> bool:
        return self._path is not None and isinstance(fault, StoreAbsent | StoreGone)
