"""Syncs the log for `durability=fast`: commits are not synced one by one, but a thread syncs once per interval."""

import os
import threading


class Saver:
    """Syncs the write-ahead log while it has unsynced commits. A power cut loses at most one interval of them."""

    def __init__(self, log: str, interval: float) -> None:
        self._log, self._interval = log, interval
        self._dirty, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: OSError | None = None

    def committed(self) -> None:
        """Record that a commit was not synced."""
        self._dirty.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queuectl-saver", daemon=True)
            self._thread.start()

    def save(self) -> None:
        """Sync now, if there is an unsynced commit.

        SQLite has no lock on the log file, so closing this descriptor drops none.
        """
        if not self._dirty.is_set():
            return
        self._dirty.clear()
        try:
            handle = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self) -> None:
        """End the thread and sync the rest."""
        self._closing.set()
        self._dirty.set()
        if self._thread is not None:
            self._thread.join()
        self.save()

    def _run(self) -> None:
        while self._dirty.wait() and not self._closing.wait(self._interval):
            try:
                self.save()
                self.failure = None
            except OSError as error:
                self.failure = error
