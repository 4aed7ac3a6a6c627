"""The progress that running commands have reported and no renewal has stored yet."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from queuectl.domain.job import Progress


def progress_of(fields: Mapping[str, Any], at: float) -> Progress:
    """The progress in a message. `at`: its time by the store's clock, in epoch seconds."""
    return Progress(
        attempt_id=fields["attempt_id"],
        percent=fields["percent"],
        message=fields["message"],
        at=datetime.fromtimestamp(at, UTC),
    )


class UnsavedProgress:
    """The newest progress of each attempt. The loop adds, and the renewing thread reads and removes."""

    def __init__(self) -> None:
        self._newest: dict[str, Progress] = {}

    def __len__(self) -> int:
        return len(self._newest)

    def add(self, progress: Progress) -> bool:
        """Add a progress. Returns whether there was none before, of any attempt."""
        first = not self._newest
        self._newest[progress.attempt_id] = progress
        return first

    def copy(self) -> dict[str, Progress]:
        """The progress of each attempt that has a new one."""
        return self._newest.copy()

    def remove(self, attempt_id: str, stored: Progress | None = None) -> None:
        """Remove the progress of an attempt: if `stored` is given, only this one, and no newer one."""
        if stored is None or self._newest.get(attempt_id) is stored:
            self._newest.pop(attempt_id, None)
