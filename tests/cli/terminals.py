"""A command on its own terminal: its output, typed keys, the size and the modes of the terminal."""

import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Any

from launcher import Launched, Launcher

LONGEST = 30.0


class Terminal:
    """One process whose stdin, stdout and stderr are a terminal. `launcher`: starts a command `python -m …`."""

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 80,
        lines: int = 40,
        launcher: Launcher | None = None,
        **variables: str,
    ) -> None:
        self._ours, self._theirs = pty.openpty()
        ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {"TERM": "xterm-256color", **os.environ, **variables}
        environment.pop("COLUMNS", None)
        self._process: Launched | subprocess.Popen[bytes]
        if launcher:
            streams = (self._theirs, self._theirs, self._theirs)
            module, *words = command[2:]
            self._process = launcher.start(words, environment, Path.cwd(), streams, module)
        else:
            self._process = subprocess.Popen(
                command, env=environment, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs,
                start_new_session=True, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
            )  # fmt: skip
        self._text = b""
        self.pid = self._process.pid

    @property
    def text(self) -> str:
        """The output so far."""
        return self._text.decode().replace("\r\n", "\n")

    @property
    def modes(self) -> list[Any]:
        """The modes of the terminal now."""
        return termios.tcgetattr(self._theirs)

    def read(self) -> str:
        """The output until now."""
        while select.select([self._ours], [], [], 0)[0]:
            self._text += os.read(self._ours, 1 << 16)
        return self.text

    def type(self, keys: str) -> None:
        """Send these keys."""
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int = 40) -> None:
        """Change the size; a signal notifies the command."""
        ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait(self) -> int:
        """Wait for the end, read the rest of the output, and return the exit code."""
        deadline = time.monotonic() + LONGEST
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"still runs:\n{self.text}"
            select.select([self._ours], [], [], 0.05)
            self.read()
        self.read()
        assert self._process.returncode is not None
        return self._process.returncode

    def close(self) -> None:
        """End the command if it still runs, and let go of the terminal."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)
        os.close(self._theirs)
