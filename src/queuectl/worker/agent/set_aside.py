"""Logs the jobs that were set aside because they cannot be decoded."""

from queuectl.service import unreadable
from queuectl.store.protocol import Store
from queuectl.worker.agent.log import Log


class SetAsideReport:
    """Logs each unreadable job once for all workers: the first worker that finds it notes it in a table."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store, self._log = store, log

    def report(self, *, expired: bool = False) -> bool:
        """Log the jobs that were set aside since the last call. Returns whether there are any.

        `expired`: before that, set aside the unreadable jobs whose lease has expired.
        """
        found = self._store.set_aside(expired=expired)
        for each in unreadable.record(self._store, found):
            error = unreadable.refusal(each)
            text = f"{error.message}; it is set aside ({error.hint})"
            self._log.note("unreadable", text, job=each.id, number=each.number)
        return bool(found)
