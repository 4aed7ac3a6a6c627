"""The numbers of an import."""

from typing import Literal

from msgspec import Struct

OnConflict = Literal["error", "skip", "replace"]
ON_CONFLICT: tuple[OnConflict, ...] = ("error", "skip", "replace")


class Imported(Struct):
    """What an import has done so far.

    jobs        added jobs, those that replaced others included
    entries     added settings, queues and schedules, those that replaced others included
    existing    jobs and entries that were there with the same content
    skipped     jobs and entries that were there with other content, and jobs whose unique key is taken
    replaced    the jobs and entries that replaced others
    renumbered  added jobs that got another number
    complete    False if the file is cut or changed
    """

    jobs: int = 0
    entries: int = 0
    existing: int = 0
    skipped: int = 0
    replaced: int = 0
    renumbered: int = 0
    complete: bool = True

    @property
    def so_far(self) -> str:
        """How much is imported, for the sentence about a conflict."""
        return f"{self.jobs} {'job is' if self.jobs == 1 else 'jobs are'} imported"
