"""Places where a test can kill this process, like a power cut: `QUEUECTL_CRASH_AT=name` or `name:k`.

A crash point is one comparison with None unless the variable is set, so it stays in the product's code.
"""

import os

VARIABLE = "QUEUECTL_CRASH_AT"


def _wanted() -> tuple[str | None, int]:
    name, _, count = os.environ.get(VARIABLE, "").partition(":")
    return name or None, int(count) if count.isdecimal() else 1


_name, _left = _wanted()


def reach(name: str) -> None:
    """Kill this process if this is the requested place and the process has passed it often enough."""
    global _left
    if _name is None or name != _name:
        return
    _left -= 1
    if _left == 0:
        import signal  # takes 2 ms, which a short command must not pay

        os.kill(os.getpid(), signal.SIGKILL)
