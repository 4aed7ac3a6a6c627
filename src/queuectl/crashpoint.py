"""Points in the code at which a test can kill this process: `QUEUECTL_CRASH_AT=name` or `name:k`.

A crash point is one comparison with None unless the variable is set, so it stays in the product's code.
"""

import os

VARIABLE = "QUEUECTL_CRASH_AT"


def _wanted() -> tuple[str | None, int]:
    name, _, count = os.environ.get(VARIABLE, "").partition(":")
    return name or None, int(count) if count.isdecimal() else 1


_name, _left = _wanted()


def reach(name: str) -> None:
    """Kill this process if this is the requested point, and this is the k-th time that the process reaches it."""
    global _left
    if _name is None or name != _name:
        return
    _left -= 1
    if _left == 0:
        import signal  # imported here: it takes 2 ms

        os.kill(os.getpid(), signal.SIGKILL)
