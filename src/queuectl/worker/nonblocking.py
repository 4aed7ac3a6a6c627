"""Saying something without waiting for whoever listens: a pager, a stopped terminal, a pipe that nobody empties."""

import os
import select

PIECE = 4096
"""Bytes that a pipe which reports room takes at once (PIPE_BUF on Linux)."""


def say(descriptor: int, data: bytes) -> bool:
    """Write all of it, or as much as is taken without waiting; whether it was all.

    The descriptor is not switched to non-blocking: it is shared with the shell that gave it to us.
    """
    poll = select.poll()
    try:
        poll.register(descriptor, select.POLLOUT)
        for start in range(0, len(data), PIECE):
            if not any(events & select.POLLOUT for _, events in poll.poll(0)):
                return False
            os.write(descriptor, data[start : start + PIECE])
    except OSError:  # EPIPE, EIO, ENOSPC, closed: the work goes on unseen
        return False
    return True
