"""Whose turn it is to look through everything: of all workers one does it now and then.

Who has the turn keeps it for a minute at a time while it looks; so if it dies, or cannot finish, another one begins.
"""

from typing import Literal

from queuectl.store.redis.connect import Line

What = Literal["repair", "audit"]
EVERY: dict[What, float] = {"repair": 3600.0, "audit": 86_400.0}
"""Seconds after which it is looked through again, unless something may be lost before."""
A_MINUTE = 60.0


def take(line: Line, what: What) -> bool:
    """Whether it is ours to look now."""
    return bool(line.run("turn", what, _millis(A_MINUTE)))


def keep(line: Line, what: What) -> None:
    """We are still looking."""
    _set(line, what, A_MINUTE)


def done(line: Line, what: What) -> None:
    """We have looked through all of it."""
    _set(line, what, EVERY[what])


def _set(line: Line, what: What, seconds: float) -> None:
    line.call("PEXPIRE", line.key(f"turn:{what}"), _millis(seconds))


def _millis(seconds: float) -> int:
    return int(1000 * seconds)
