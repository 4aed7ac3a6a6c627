"""Places where a test can have this process die as if the power went: `QUEUECTL_CRASH_AT=name` or `name:k`.

A crash point is one comparison with None unless the variable is set, so it stays in the product's code.
"""

import os

VARIABLE = "QUEUECTL_CRASH_AT"


def _wanted() -> tuple[str | None, int]:
    name, _, count = os.environ.get(VARIABLE, "").partition(":")
    return name or None, int(count) if count.isdecimal() else 1


_name, _left = _wanted()


def reach(name: str) -> None:
    """Die here, uncleanly, if this is the place asked for and it has been passed often enough."""
    global _left
    if _name is None or name != _name:
        return
    _left -= 1
    if _left == 0:
        import signal  # 2 ms that no short command is to pay

        os.kill(os.getpid(), signal.SIGKILL)
