"""How a delivery asks for the time of its next attempt: by the last line that it prints.

The job is processing while it prints, so the delivery cannot change its own start time. The worker that reads the event
of the failed attempt does it, before the first retry is due. A delivery needs no access to the store for this.
"""

import re
from datetime import timedelta

MOST = timedelta(days=1)
"""A receiver that asks for more time gets a request after a day."""
_LINE = re.compile(r"^queuectl: retry after (\d{1,9}) s\n?\Z", re.MULTILINE)


def line(wait: timedelta) -> str:
    """The line that asks for this."""
    return f"queuectl: retry after {round(wait.total_seconds())} s"


def retry_after(output_tail: str) -> timedelta | None:
    """The time for which the last line of an output asks, or None."""
    found = _LINE.search(output_tail)
    return min(timedelta(seconds=int(found[1])), MOST) if found else None
