"""The references on a command line. The argument `-` means the references on stdin."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from queuectl.cli.texts import MARK_BYTES
from queuectl.domain.ids import is_several
from queuectl.errors import InvalidInput

if TYPE_CHECKING:
    from queuectl.cli.session import Session
    from queuectl.domain.job import Job

JOB_HELP = "number, id, unique prefix of an id, or @last; - reads it from stdin"
JOBS_HELP = (
    "numbers, ranges (1-5,9), ids, prefixes of generated ids, @last, @last:5, @batch:NAME; -: from stdin"
)


def references(words: Sequence[str]) -> list[str]:
    """All references on the command line. Raises InvalidInput if there is none."""
    named: list[str] = []
    for word in words:
        named += _read_stdin().split() if word == "-" else [word]
    if not named:
        raise InvalidInput("no job is given", "give ids, numbers, or @last")
    return named


def _read_stdin() -> str:
    return sys.stdin.buffer.read().removeprefix(MARK_BYTES).decode("utf-8", "surrogateescape")


def reference(word: str) -> str:
    """The single reference of an argument. Raises InvalidInput if stdin contains several references."""
    named = references([word])
    if len(named) > 1:
        raise InvalidInput(f"{len(named)} jobs are given, one is expected", "one at a time: … | xargs -n 1")
    return named[0]


def single_references(session: "Session") -> Sequence[str]:
    """References to one job each. A single reference is kept, because a command that reads takes a prefix of any id."""
    named = references(session.args.job)
    return named if len(named) == 1 and not is_several(named[0]) else session.queue.resolve(named)


def own_job(session: "Session") -> "Job | None":
    """The job whose command runs this program, if the job is in the store of this call."""
    id = os.environ.get("QUEUECTL_JOB_ID")
    return session.queue.running_job(id, os.environ.get("QUEUECTL_ATTEMPT_ID")) if id else None
