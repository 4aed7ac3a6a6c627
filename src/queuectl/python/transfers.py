"""The methods of `Queue` that write a queue to a file, and read it from one."""

import io
from os import PathLike, fspath
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import asdict

from queuectl.errors import CommandFailed, InvalidInput
from queuectl.python.opening import Opening
from queuectl.service.transfer import tally
from queuectl.service.transfer.tally import OnConflict

File = str | PathLike[str] | BinaryIO
"""The path of a file, or an open file or stream of bytes."""


class Exported(Struct, frozen=True):
    """What an export has written.

    counts    lines per kind: `job`, `output`, `setting`, `queue`, `schedule`
    left_out  jobs that cannot be decoded, or that an import has not finished
    sha256    of all lines before the last one, which contains it
    """

    jobs: int
    counts: dict[str, int]
    left_out: tuple[str, ...]
    sha256: str | None


class Count(Struct, frozen=True):
    """What an import has done with one kind of line. `replaced` are among `added`."""

    added: int
    existing: int
    skipped: int
    replaced: int


class Imported(Struct, frozen=True):
    """What an import has done.

    jobs, entries  added; entries are settings, queues and schedules
    existing       were there with the same content; `skipped`: with other content
    renumbered     added jobs that got another number
    complete       False if the file is cut or changed
    by_kind        the counts of `job`, `schedule`, `queue` and `setting`
    """

    jobs: int
    entries: int
    existing: int
    skipped: int
    replaced: int
    renumbered: int
    complete: bool
    by_kind: dict[str, Count]


class Transfers(Opening):
    """Exports and imports."""

    def export_to(self, file: File, *, where: str | None = None, output: bool = True) -> Exported:
        """Write jobs with their output, settings, queues and schedules as JSON lines.

        A file that is named by its path is private, appears when it is complete, and is compressed if the name ends in
        `.gz`. `where`: only the jobs that match, without settings, queues and schedules. `output`: what the commands
        printed. Through a server the token needs the scope `admin`.
        """
        target = _path_of(file)
        transfer = self._open().transfer()
        steps = transfer.export(
            target if isinstance(target, str) else target.write, where=where, output=output
        )
        for _ in steps:
            pass
        done = steps.done
        return Exported(done.jobs, done.counts, tuple(done.left_out), done.sha256)

    def import_from(
        self, file: File, *, on_conflict: OnConflict = "error", partial: bool = False, dry_run: bool = False
    ) -> Imported:
        """Bring the jobs, settings, queues and schedules of an export into this queue. To repeat it is safe.

        A file that is named by its path is read through first: if it is cut or was changed, nothing is imported, and
        `CommandFailed` is raised; `partial` imports what is there. An open file is imported as it comes. Raises
        `Conflict` for the first job or entry that is there with other content; `on_conflict="skip"` keeps what is
        there, and `"replace"` replaces it (of jobs only ended ones). `dry_run` only counts.
        """
        if on_conflict not in tally.ON_CONFLICT:
            raise InvalidInput(f"on_conflict: {on_conflict!r} is not one of {', '.join(tally.ON_CONFLICT)}")
        source = _path_of(file)
        steps = (
            self._open().transfer().read(source, on_conflict=on_conflict, partial=partial, dry_run=dry_run)
        )
        try:
            steps.check()
        except CommandFailed as fault:
            raise CommandFailed(f"{source}: {fault.message}; nothing is imported", fault.hint) from fault
        for _ in steps:
            pass
        found = tally.shown(steps.done)
        by_kind = {kind: Count(**asdict(count)) for kind, count in steps.done.by_kind.items()}
        return Imported(**{**found, "by_kind": by_kind})


def _path_of(file: File) -> str | BinaryIO:
    """The path, or the open file. Raises InvalidInput for an open file of text."""
    if isinstance(file, str | PathLike):
        return fspath(file)
    if isinstance(file, io.TextIOBase):
        raise InvalidInput("the file is open for text", 'open it for bytes: open(path, "rb") or "wb"')
    return file
