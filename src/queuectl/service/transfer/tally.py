"""The numbers of an export and of an import, with their JSON objects."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import asdict

from queuectl.service.shapes.record import build

OnConflict = Literal["error", "skip", "replace"]
ON_CONFLICT: tuple[OnConflict, ...] = ("error", "skip", "replace")
ENTRIES = ("schedule", "queue", "setting")
"""The kinds of lines that are entries of a shared table."""


class Exported(Struct):
    """What an export has written so far.

    counts    lines per kind
    left_out  jobs that cannot be decoded, or that an import has not finished
    sha256    of all lines before the last one; None until the export is complete
    """

    counts: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    sha256: str | None = None

    @property
    def jobs(self) -> int:
        """The number of jobs."""
        return self.counts.get("job", 0)


class Count(Struct):
    """What an import has done with the lines of one kind. `replaced` are among `added`."""

    added: int = 0
    existing: int = 0
    skipped: int = 0
    replaced: int = 0


class Imported(Struct):
    """What an import has done so far.

    by_kind     for each kind of line: added; there with the same content; skipped; added in place of another
    renumbered  added jobs that got another number
    complete    False if the file is cut or changed
    """

    by_kind: dict[str, Count] = field(default_factory=lambda: {kind: Count() for kind in ("job", *ENTRIES)})
    renumbered: int = 0
    complete: bool = True

    @property
    def jobs(self) -> int:
        """Added jobs, those that replaced others included."""
        return self.by_kind["job"].added

    @property
    def entries(self) -> int:
        """Added settings, queues and schedules, those that replaced others included."""
        return sum(self.by_kind[kind].added for kind in ENTRIES)

    @property
    def existing(self) -> int:
        """Jobs and entries that were there with the same content."""
        return sum(count.existing for count in self.by_kind.values())

    @property
    def skipped(self) -> int:
        """Jobs and entries that were there with other content, and jobs whose unique key is taken."""
        return sum(count.skipped for count in self.by_kind.values())

    @property
    def replaced(self) -> int:
        """The jobs and entries that replaced others."""
        return sum(count.replaced for count in self.by_kind.values())

    @property
    def so_far(self) -> str:
        """How much is imported, for the sentence about a conflict."""
        return f"{self.jobs} {'job is' if self.jobs == 1 else 'jobs are'} imported"


_SUMS = ("jobs", "entries", "existing", "skipped", "replaced", "renumbered", "complete")


def shown(done: Imported) -> dict[str, Any]:
    """The JSON object of an import: the sums over all kinds, then the counts of each."""
    kinds = {kind: asdict(count) for kind, count in done.by_kind.items()}
    return {**{name: getattr(done, name) for name in _SUMS}, "by_kind": kinds}


def imported_of(shown: Mapping[str, Any]) -> Imported:
    """The import in a JSON object."""
    return build(shown, Imported)


def words_of(counts: Iterable[tuple[str, int]]) -> str:
    """Counts per kind as words: `3 jobs, 1 schedule and 2 settings`. Jobs are always named."""
    words = [f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts if count or kind == "job"]
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
