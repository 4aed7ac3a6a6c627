"""The references on a command line. The argument `-` means the references on stdin."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from queuectl.cli.texts import MARK_BYTES
from queuectl.errors import InvalidInput

if TYPE_CHECKING:
    from queuectl.cli.session import Session
    from queuectl.domain.job import Job

JOB_HELP = "number, id, unique prefix of an id, or @last; - reads it from stdin"
JOBS_HELP = "numbers, ids, unique prefixes of generated ids, @last; - reads ids from stdin"


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


def own_job(session: "Session") -> "Job | None":
    """The job whose command runs this program, if the job is in the store of this call."""
    id = os.environ.get("QUEUECTL_JOB_ID")
    return session.queue.running_job(id, os.environ.get("QUEUECTL_ATTEMPT_ID")) if id else None
