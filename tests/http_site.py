"""Server processes on a port that stays the same, before a store in a directory, and what they need."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from servers.endpoint import free_port

QUEUECTL = (sys.executable, "-m", "queuectl")


class Site:
    """A store in a directory, with a server on a port that stays the same, and perhaps a worker."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(root), "PYTHONPATH": os.pathsep.join(sys.path),
            "XDG_RUNTIME_DIR": str(root), "QUEUECTL_STORE": f"sqlite:///{root}/queue.db", "LANG": "C.UTF-8",
        }  # fmt: skip
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, *words: str, input: bytes = b"") -> bytes:
        done = subprocess.run(
            [*QUEUECTL, *words], env=self.env, cwd=self.root, input=input, capture_output=True, check=False
        )
        assert done.returncode == 0, done
        return done.stdout

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        log = (self.root / f"{words[0]}.log").open("ab")
        process = subprocess.Popen(
            [*QUEUECTL, *words], env=self.env, cwd=self.root, stdout=subprocess.PIPE, stderr=log
        )
        log.close()
        self._processes.append(process)
        return process

    def serve(self) -> "subprocess.Popen[bytes]":
        """A server that accepts connections, and lets everybody read."""
        server = self.start("serve", "--port", str(self.port), "--anonymous", "view")
        assert server.stdout is not None
        self.port = int(server.stdout.readline().split()[2].rpartition(b":")[2])
        return server

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


def memory(pid: int) -> int:
    """The resident bytes of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


class Rest:
    """Whether all threads of a process have waited for something else than a processor for half a second."""

    def __init__(self, pid: int) -> None:
        self._tasks, self._used, self._since = Path(f"/proc/{pid}/task"), 0, time.monotonic()

    def __call__(self) -> bool:
        try:
            stats = [(task / "stat").read_text() for task in self._tasks.iterdir()]
        except (FileNotFoundError, ProcessLookupError):  # a thread ended just now
            stats = []
        fields = [stat.rsplit(")", 1)[1].split() for stat in stats]
        used = sum(int(ticks) for each in fields for ticks in each[11:13])
        if used != self._used or any(each[0] != "S" for each in fields):
            self._used, self._since = used, time.monotonic()
        return time.monotonic() - self._since > 0.5
