"""Job ids: readable text. The client makes the id, so that it can repeat an enqueue whose result is unknown."""

import re
from datetime import datetime
from typing import Protocol

from queuectl.domain.names import check_name
from queuectl.errors import InvalidInput

RANDOM_BITS = 60

MADE = 26
"""The length of an id from `make_id`."""
_HEX = frozenset("0123456789abcdef")


def make_id(at: datetime, random_number: int) -> str:
    """26 hex digits that sort by time: 11 of milliseconds, 15 random ones (`random_number` below 2**60)."""
    return f"{int(at.timestamp() * 1000):011x}{random_number % (1 << RANDOM_BITS):015x}"


def check_id(id: str) -> str:
    """Return the id if it is valid, otherwise raise InvalidInput."""
    return check_name("id", id)


def check_new_id(id: str) -> str:
    """Return the id if a new job may have it. Raises InvalidInput.

    A plain number is refused: `queuectl cancel 1` means the job with the number 1.
    """
    if is_number(id):
        raise InvalidInput(
            f"id {id!r} is a plain number, which would name another job",
            f"put a word before it: job-{id}",
        )
    return check_name("id", id)


def is_number(text: str) -> bool:
    """Whether a text names a job by its number."""
    return text.isascii() and text.isdecimal() and len(text) < 18 and (text == "0" or text[0] != "0")


def is_several(reference: str) -> bool:
    """Whether a reference may name several jobs: `1-5,9`, `@last:5`, `@batch:NAME`. An id may look like a range."""
    return reference.startswith(("@last:", "@batch:")) or (
        ("-" in reference or "," in reference) and _RANGES.fullmatch(reference) is not None
    )


def ranges_of(reference: str) -> list[tuple[int, int]]:
    """The ranges of numbers in a reference such as `1-5,9`. Raises InvalidInput for an empty range."""
    ranges = []
    for part in reference.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high:
            raise InvalidInput(f"the range {part} is empty", f"write {high}-{low}")
        ranges.append((low, high))
    return ranges


_RANGES = re.compile(r"(?:N|N-N)(?:,(?:N|N-N))*".replace("N", r"(?:0|[1-9][0-9]{0,16})"), re.ASCII)


def is_made(id: str) -> bool:
    """Whether `make_id` made this id. Other ids were given by a person."""
    return len(id) == MADE and _HEX.issuperset(id)


class Numbered(Protocol):
    """A job, or a value that names one."""

    @property
    def id(self) -> str:
        """The id of the job."""

    @property
    def number(self) -> int:
        """The number of the job."""


def handle(job: Numbered) -> str:
    """The short name of a job for people: its number, or the id that a person gave it."""
    return str(job.number) if is_made(job.id) else job.id
