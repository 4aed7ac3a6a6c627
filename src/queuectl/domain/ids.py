"""Job ids: text a person can read aloud, made by the client, so that an enqueue with unknown result can be repeated."""

from datetime import datetime

from queuectl.errors import InvalidInput

LONGEST = 128
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | frozenset("._:-")

RANDOM_BITS = 60


def make_id(moment: datetime, randomness: int) -> str:
    """26 hex digits that sort by time: 11 of milliseconds, 15 of chance (`randomness` below 2**60)."""
    return f"{int(moment.timestamp() * 1000):011x}{randomness % (1 << RANDOM_BITS):015x}"


def check_id(id: str) -> str:
    """The id itself, if it is one. Raises InvalidInput."""
    if 0 < len(id) <= LONGEST and id[0] in _FIRST and _REST.issuperset(id):
        return id
    shown = id if len(id) <= 40 else id[:40] + "…"
    raise InvalidInput(
        f"id {shown!r} is not allowed",
        f"a letter or digit, then letters, digits and . _ : -, at most {LONGEST} characters",
    )
