"""Ends all processes of a test run after any kind of end of the run.

A pytest process that is killed cannot end the workers of its tests. So each pytest process starts this program, which
reads its standard input until the end. The kernel closes that pipe when pytest is gone, whatever ended pytest. Then the
program kills every process that works below the temporary directory of that run. Without it, two workers lived on for
minutes after each run that a time limit had ended. `test_reaper.py` kills a run and counts what is left.

Servers are not found like this: they have directories of their own, and `servers/daemon.py` ends them.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from facts import eventually

WITHIN = 10.0
GUARDS_NEED = 2.0
"""Seconds for the guard of a worker to end the commands of a holder that was killed."""


class Reaper:
    """The program beside one pytest process. `directory`: what the processes that it ends work below."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-S", __file__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, env={}, cwd="/", start_new_session=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{directory}\n".encode())
        self._process.stdin.flush()

    def close(self) -> None:
        """The run has ended in good order."""
        self._process.communicate()


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory, watched = sys.stdin.readline().strip(), os.getppid()
    while sys.stdin.read(4096):
        pass
    start = time.monotonic()
    eventually(
        lambda: not end(below(directory, watched), start), within=WITHIN, what="nothing left of the run"
    )


def end(left: set[int], start: float) -> set[int]:
    """Kill what is left; guards come last."""
    spared = guards(left) if time.monotonic() < start + GUARDS_NEED else set()
    for pid in left - spared:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def below(directory: str, watched: int) -> set[int]:
    """The processes whose environment or working directory is below a directory; not those that are dead already."""
    pids = {int(name) for name in os.listdir("/proc") if name.isdecimal()} - {os.getpid(), watched}
    return {pid for pid in pids if mentions(pid, directory + "/")}


def mentions(pid: int, directory: str) -> bool:
    """Whether the working directory of a process is below a directory. An unreadable process does not count."""
    process = Path("/proc") / str(pid)
    try:
        return directory.encode() in (process / "environ").read_bytes() or (
            f"{os.readlink(process / 'cwd')}/".startswith(directory)
        )
    except OSError:
        return False


def guards(pids: set[int]) -> set[int]:
    """The guards: they end the commands of a dead holder, also commands that do not name the test."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            if (Path("/proc") / str(pid) / "comm").read_text() == "queuectl-guard\n":
                found.add(pid)
    return found


if __name__ == "__main__":
    main()
