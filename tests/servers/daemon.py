"""A server program as a child process: in its own directory, ended by its pid, and removed with its files."""

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from facts import eventually

SLOWEST = 30.0
"""The seconds after which a server that has neither started nor stopped never will."""

ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

EXECUTOR = """
    cat > /dev/null
    if read -r pid < "$1/pid"; then
        kill -s "$2" "$pid"
        while kill -s 0 "$pid"; do sleep 0.1; done
    fi
    rm -rf "$1"
"""
"""Waits until its input is closed or the tests have died; then ends the server and removes its files."""


class Daemon:
    """One server program. Servers refuse to run as root: if the tests run as root, the servers run as the user
    `nobody`."""

    def __init__(self, name: str, *, ended_by: signal.Signals) -> None:
        self.name = name
        self._ended_by = ended_by
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        parent = "/tmp" if self._user else None  # a TMPDIR of root's may be closed to anybody else
        self.directory = Path(tempfile.mkdtemp(prefix=f"queuectl-{name}-", dir=parent))
        self.log = self.directory / "log"
        self.hand_over(self.directory)
        self._pid_file = self.directory / "pid"
        self._process: subprocess.Popen[bytes] | None = None
        self._children: list[psutil.Process] = []
        self._executor = self._appoint_executor()

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def hand_over(self, root: Path) -> None:
        """Make a file, or a directory with what is in it, the server's own."""
        for path in (root, *root.rglob("*")) if self._user else ():
            os.chown(path, self._user.pw_uid, self._user.pw_gid, follow_symlinks=False)

    def run(self, *command: str | Path) -> "subprocess.CompletedProcess[bytes]":
        """Run a program to its end, as the server's user and with its log; the caller judges the exit status."""
        with self.log.open("ab") as log:
            return subprocess.run(command, check=False, timeout=SLOWEST, **self._circumstances(log))

    def start(self, *command: str | Path, ready: Callable[[], bool]) -> None:
        """Start the program after its last process has ended; returns when the program is `ready`."""
        assert not self.running, f"{self.name} runs already"
        self._await_children()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, start_new_session=True, **self._circumstances(log))
        self._pid_file.write_text(f"{self.pid}\n")
        eventually(lambda: not self.running or ready(), within=SLOWEST, what=f"{self.name} ready")
        if not self.running:
            self._pid_file.unlink()
            raise RuntimeError(f"{self.name} ended at once:\n{self.log_text()}")

    def send(self, number: int) -> None:
        """Send it a signal that it outlives. Harmless when it does not run."""
        if self.running:
            self._process.send_signal(number)

    def end(self, number: int) -> None:
        """Send it a signal that means the end, and wait for that. Harmless when it does not run."""
        if not self.running:
            return
        self._children = psutil.Process(self.pid).children(recursive=True)
        self._process.send_signal(number)
        if (
            number == signal.SIGKILL
        ):  # this ends children too; otherwise a child of Redis may write for minutes
            self._kill_children()
        self._process.wait(SLOWEST)
        self._pid_file.unlink()

    def log_text(self) -> str:
        """The whole output."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def close(self) -> None:
        """End it and what it started, and remove the directory. Twice is harmless."""
        self.end(self._ended_by)
        self._kill_children()
        self._await_children()
        self._executor.stdin.close()
        self._executor.wait(SLOWEST)

    def _kill_children(self) -> None:
        for child in self._living():
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def _await_children(self) -> None:
        eventually(lambda: not self._living(), within=SLOWEST, what=f"all children of {self.name} gone")

    def _living(self) -> list[psutil.Process]:
        return [child for child in self._children if _alive(child)]

    def _appoint_executor(self) -> "subprocess.Popen[bytes]":
        will = ("sh", "-c", EXECUTOR, "sh", self.directory, self._ended_by.name.removeprefix("SIG"))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
        return subprocess.Popen(will, stdin=subprocess.PIPE, start_new_session=True, **quiet)

    def _circumstances(self, log: Any) -> dict[str, Any]:
        user = (
            {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        )
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        return {"cwd": self.directory, "env": ENVIRONMENT, **streams, **user}


def _alive(process: psutil.Process) -> bool:
    """Whether the process runs; a zombie does not run."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.is_running())
    except psutil.NoSuchProcess:
        return False
