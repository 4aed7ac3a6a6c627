"""The states of a job between the queue in Redis and the archive in MongoDB, the arrows, and the repair after a
crash.

The invariant: a job is in Redis, in the archive, or for a short time in both, and never in neither. **Redis alone
decides which.** A document in the archive is a job only if its id is in `past`, with its version; every other
document is a copy that is no job: of a job that is still in Redis, that was restored, or that was deleted. Each arrow
is one Lua script, which Redis runs as a whole or not at all. What happens in MongoDB before and after an arrow only
writes or deletes copies; it may be done by any process, and again.

Without this rule, an archiver that is held up between its read and its write would bring back a job that was deleted
meanwhile, or show a retried job twice. `tests/contract/test_archived_kills.py` kills a process after each step, and
`test_archived_moving.py` lets another process change the job between any two steps.

`tests/contract/test_archived_lifecycle.py` compares this table with the scripts.
"""

from typing import Literal, NamedTuple

State = Literal["live", "copying", "archived", "restoring", "deleting", "gone"]

STATES: dict[State, str] = {
    "live": "In Redis: its id is in `ids`.",
    "copying": "In Redis, ended, and entered into `stream`, from which archivers read. The archive may have a copy.",
    "archived": "In the archive: its id and version are in `past`. Redis has nothing else of it but its count.",
    "restoring": "In Redis and in `arriving`: not ready, because the archive still has a copy of an older version.",
    "deleting": "Deleted, and in `leaving`: the archive may still have a copy.",
    "gone": "Nowhere. `gone` remembers the deletion for a day.",
}


class Arrow(NamedTuple):
    """A change of state: the script that makes it, the keys of the archive that the script names, and the repair.

    `before` and `after` are the actions of a process in MongoDB before and after the script. `repair` describes the
    repair after the death of this process.
    """

    source: State
    target: State
    script: str
    keys: frozenset[str]
    before: str
    after: str
    repair: str


def _keys(names: str) -> frozenset[str]:
    return frozenset(names.split())


ENDED = ("add", "swap", "save", "restore")
"""The scripts that also do the step live → copying: they enter a job into the stream in the step in which it ends."""

_RECOUNT = "past_counts recounting:past_counts touched:past_counts recount:past_counts"

ARROWS = (
    Arrow(
        "live", "copying", "archive_ended", _keys("archive stream"),
        before="", after="",
        repair="The next audit looks through all ended jobs again.",
    ),
    Arrow(
        "copying", "archived", "archive_done", _keys(f"past stream gone {_RECOUNT}"),
        before="Write output and job (majority, journal).",
        after="Delete copies of jobs that changed or were deleted meanwhile; then `drop_entries`.",
        repair="The entry stays in the stream, and another archiver reads it after 30 s.",
    ),
    Arrow(
        "copying", "live", "keep_live", _keys("stream"),
        before="Find that the job is larger than a document may be, or cannot be decoded.",
        after="",
        repair="The entry stays in the stream, and another archiver finds the same.",
    ),
    Arrow(
        "copying", "deleting", "purge", _keys("archive leaving gone"),
        before="", after="Delete copies; then `delete_done`.",
        repair="Each archiver finishes what it finds in `leaving`.",
    ),
    Arrow(
        "archived", "restoring", "restore", _keys(f"past arriving arrivals archive stream {_RECOUNT}"),
        before="Read the job.", after="Delete the copy below the new version; then `restore_done`.",
        repair="Each archiver finishes what it finds in `arriving`.",
    ),
    Arrow(
        "restoring", "live", "restore_done", _keys("arriving"),
        before="Delete the copy below the new version.", after="",
        repair="The note stays in `arriving`, and each archiver finishes it.",
    ),
    Arrow(
        "archived", "deleting", "delete_archived", _keys(f"archive past leaving gone {_RECOUNT}"),
        before="Read the job.", after="Delete job and output; then `delete_done`.",
        repair="Each archiver finishes what it finds in `leaving`.",
    ),
    Arrow(
        "deleting", "gone", "delete_done", _keys("leaving gone"),
        before="Delete job and output.", after="",
        repair="The number stays in `leaving`, and each archiver finishes it.",
    ),
    Arrow(
        "archived", "gone", "forget_missing", _keys("past"),
        before="Find that the archive has no copy: it was set back in time.", after="",
        repair="The next audit compares all of `past` again.",
    ),
    Arrow(
        "gone", "archived", "audit_compare", _keys(f"past gone leaving {_RECOUNT}"),
        before="Find a copy that Redis does not know: Redis was set back in time.", after="",
        repair="The next audit compares all copies again.",
    ),
)  # fmt: skip
