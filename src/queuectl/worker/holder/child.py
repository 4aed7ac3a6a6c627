"""Starts the programs of queuectl that a holder supervises: its agent and its HTTP server."""

import os
import signal
from collections.abc import Mapping

DESCRIPTOR = 3
"""The descriptor of a child for its socket to the holder."""


def spawn(argv: list[str], environ: Mapping[str, str], descriptor: int) -> int:
    """Start a program in its own session, with this descriptor of ours as its `DESCRIPTOR`. Returns its pid."""
    # dup2 makes an inheritable copy even if both numbers are equal, so our own descriptors can stay close-on-exec.
    return os.posix_spawnp(
        argv[0],
        argv,
        environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, DESCRIPTOR)],
        setsid=True,
        setsigmask=(),
        setsigdef=[s for s in signal.valid_signals() if signal.getsignal(s) != signal.SIG_DFL],
    )


def ending(status: int) -> str:
    """How a child ended, in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exited with status {code}" if code >= 0 else f"was killed by signal {-code}"
