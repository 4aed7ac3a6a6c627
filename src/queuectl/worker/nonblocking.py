"""Writing without waiting for the reader: a pager, a stopped terminal, a pipe that nobody empties."""

import os
import select

PIECE = 4096
"""Bytes that a writable pipe takes at once (PIPE_BUF on Linux)."""


def write(descriptor: int, data: bytes) -> bool:
    """Write all of it, or as much as is taken without waiting; whether all was written.

    The descriptor stays blocking: the shell that gave it to us shares it.
    """
    poll = select.poll()
    try:
        poll.register(descriptor, select.POLLOUT)
        for start in range(0, len(data), PIECE):
            if not any(events & select.POLLOUT for _, events in poll.poll(0)):
                return False
            os.write(descriptor, data[start : start + PIECE])
    except OSError:  # EPIPE, EIO, ENOSPC, closed: the worker goes on without this output
        return False
    return True
