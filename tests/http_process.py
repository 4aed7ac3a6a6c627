"""`queuectl serve` as a process in a home of its own, and requests to it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

QUEUECTL = (sys.executable, "-W", "always::ResourceWarning", "-m", "queuectl")


class Home:
    """A home in which servers run. Its paths are short, because the address of a Unix socket is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"
        self.run.mkdir(mode=0o700)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "XDG_RUNTIME_DIR": str(self.run),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LANG": "C.UTF-8",
        }
        self.servers: list[Served] = []

    @property
    def database(self) -> Path:
        return self.root / ".local" / "share" / "queuectl" / "queue.db"

    def serve(self, *words: str, **env: str) -> "Served":
        """A server that has said that it listens."""
        log = (self.root / f"server-{len(self.servers)}.log").open("wb")
        process = subprocess.Popen(
            [*QUEUECTL, "serve", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**self.env, **env},
            cwd=self.root,
        )
        log.close()
        server = Served(process, Path(str(log.name)))
        self.servers.append(server)
        server.read_first_line()
        return server

    def run_cli(self, *words: str, code: int = 0, **env: str) -> "subprocess.CompletedProcess[str]":
        """A command that ends by itself."""
        done = subprocess.run(
            [*QUEUECTL, *words],
            env={**self.env, **env},
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done
        return done

    def close(self) -> None:
        for server in self.servers:
            server.kill()


class Served:
    """One server process."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process, self._log = process, log
        self.first_line = ""

    def read_first_line(self) -> None:
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline().decode().rstrip("\n")
        assert self.first_line, self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def port(self) -> int:
        return int(self.first_line.split(" and ")[0].split()[2].rpartition(":")[2])

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """The status and the document of a request by TCP."""
        return answer(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10), path, headers)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


class UnixConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def answer(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    try:
        connection.request("GET", path, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def self_signed(folder: Path, names: str) -> tuple[str, str]:
    """The files of a certificate for these names that signs itself, and of its key."""
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subject = ("-subj", "/CN=localhost", "-addext", f"subjectAltName={names}")
    made = ["openssl", "req", *kind, *subject, "-keyout", key, "-out", certificate]
    subprocess.run(made, check=True, capture_output=True)
    return certificate, key
