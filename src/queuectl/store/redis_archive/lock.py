"""The lock of an audit, so that only one worker at a time compares queue and archive.

The lock holds for a minute and is renewed while the audit runs, so another worker begins if this one dies or fails.
After a complete audit it holds for a day. It is void as soon as the server's history changes (`take_lock.lua`).
"""

from queuectl.store.redis.connect import Line
from queuectl.store.redis_archive.scripts import run

RUNNING, COMPLETE = 60.0, 86_400.0


def take(line: Line) -> bool:
    """Take the lock. Returns False if another worker has it, or has completed an audit within a day."""
    return bool(run(line, "take_lock", int(1000 * RUNNING)))


def keep(line: Line, seconds: float) -> None:
    """Set the remaining time of the lock."""
    line.call("PEXPIRE", line.key("turn:audit"), int(1000 * seconds))
