"""The line with which a command reports its progress: `ATTEMPT_ID progress PERCENT [MESSAGE]`.

A command writes it to the named pipe `$QUEUECTL_PIPE` of its worker. A line that is not valid is ignored: a progress
must never become an error of the job.
"""

import re
from typing import NamedTuple

LONGEST_MESSAGE = 200
LONGEST_LINE = 1024
"""Maximum number of bytes of a line. It is below PIPE_BUF, so that a write of one line is atomic."""

_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class ProgressLine(NamedTuple):
    """A valid line."""

    attempt_id: str
    percent: int | float
    message: str | None


def read(line: bytes) -> ProgressLine | None:
    """The content of a line without its line end, or None if it is not valid."""
    words = line.split(None, 3)
    if len(line) > LONGEST_LINE or len(words) < 3 or words[1] != b"progress":
        return None
    percent = percent_of(words[2].decode("ascii", "replace"))
    message = message_of(words[3].decode("utf-8", "replace")) if len(words) == 4 else None
    if percent is None or len(message or "") > LONGEST_MESSAGE:
        return None
    return ProgressLine(words[0].decode("ascii", "replace"), percent, message)


def write(attempt_id: str, percent: str, message: str) -> bytes:
    """The line with these words."""
    text = f"{attempt_id} progress {percent} {message_of(message) or ''}".rstrip()
    return text.encode("utf-8", "replace") + b"\n"


def percent_of(text: str) -> int | float | None:
    """A number from 0 to 100, or None."""
    if not _PERCENT.fullmatch(text):
        return None
    percent = float(text)
    if percent > 100:
        return None
    return int(percent) if percent == int(percent) else percent


def message_of(text: str) -> str | None:
    """A message as one line without control characters; None if nothing is left."""
    return _CONTROL.sub(" ", text).strip() or None
