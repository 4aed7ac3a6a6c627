"""The instants of a rule, without a store."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile

from msgspec import Struct

from queuectl.domain import recurrence
from queuectl.errors import InvalidInput

MOST = 10_000
"""Number of instants that a preview lists at most."""


class Preview(Struct, frozen=True):
    """A rule in words, its instants, and what a reader may not expect."""

    description: str
    instants: Sequence[datetime]
    notes: Sequence[str]


def preview(
    when: str,
    timezone: str,
    start: datetime,
    *,
    inclusive: bool = False,
    count: int = 5,
    end: datetime | None = None,
) -> Preview:
    """The instants of a rule after `start` (`inclusive`: from then on): `count` of them, or all until `end`.

    Raises InvalidInput.
    """
    if not 0 < count <= MOST:
        raise InvalidInput(f"--next {count} is out of range", f"from 1 to {MOST}")
    if end is not None and end < start:
        raise InvalidInput("--to lies before --from")
    rule = recurrence.parse(when, timezone, start)
    found = rule.forward(start - timedelta(microseconds=1) if inclusive else start)
    if end is None:
        shown = list(islice(found, count))
    else:
        shown = list(islice(takewhile(lambda instant: instant <= end, found), MOST))
    until = end or (shown[-1] if shown else None)
    return Preview(rule.describe(), shown, rule.notes(start, until))
