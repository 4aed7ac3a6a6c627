"""Writes without waiting for the reader, which may be a pager, a stopped terminal, or a pipe that is never read."""

import os
import select

PIECE = 4096
"""Bytes that a writable pipe accepts in one write (PIPE_BUF on Linux)."""


def write(descriptor: int, data: bytes) -> bool:
    """Write as much as the descriptor accepts without waiting. Returns whether everything was written.

    The descriptor stays in blocking mode, because this process shares it with the shell.
    """
    poll = select.poll()
    try:
        poll.register(descriptor, select.POLLOUT)
        for start in range(0, len(data), PIECE):
            if not any(events & select.POLLOUT for _, events in poll.poll(0)):
                return False
            os.write(descriptor, data[start : start + PIECE])
    except OSError:  # EPIPE, EIO, ENOSPC, closed: the worker continues without this output
        return False
    return True
