"""Processes of the command line that skip the start of an interpreter and its imports.

`Launcher` starts one Python process that has imported the command line and the drivers. For each command this process
forks, and the child becomes the command, with the arguments, the environment, the directory and the streams that a test
gives it. A command then takes a tenth of the CPU time of a new interpreter.

`make test` uses it where a test needs a process and not an interpreter; `make proof` starts an interpreter each time.
What depends on the interpreter always gets one: encodings, Ctrl+C during the start, imports, workers.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import Any

LONGEST_REQUEST = 1 << 17
LONGEST = 60.0
OF_THE_INTERPRETER = ("PYTHON", "LC_", "LANG")
"""How variables begin that the start of an interpreter reads."""


LONG = frozenset(("demo", "serve", "worker"))
"""Commands that become or start processes of their own, which tests find by their environment in /proc."""


def needs_interpreter(words: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Whether a command gets an interpreter of its own. `variables`: those that the test adds."""
    return not LONG.isdisjoint(words) or any(name.startswith(OF_THE_INTERPRETER) for name in variables)


class Launcher:
    """The process that forks. Several commands may run at once."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            environment = {"PYTHONPATH": os.pathsep.join(sys.path), "LANG": "C.UTF-8"}
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, cwd="/", start_new_session=True
            )

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        streams: tuple[int, int, int],
        module: str = "queuectl",
    ) -> "Launched":
        """Start `python -m MODULE WORDS` with these descriptors as stdin, stdout and stderr."""
        request = json.dumps([module, list(words), dict(environment), str(folder)]).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [request], [theirs.fileno(), *streams])
        return Launched(words, ours)

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], folder: Path, data: bytes | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run `queuectl WORDS` and collect what it prints. `data`: its stdin, which is empty without."""
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(data or b"")
            given.seek(0)
            started = self.start(words, environment, folder, (given.fileno(), out.fileno(), err.fileno()))
            code = started.wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(["queuectl", *words], code, out.read(), err.read())

    def close(self) -> None:
        """End the process. A command that still runs keeps running."""
        self._control.close()
        self._process.wait(timeout=30)


class Launched:
    """One command, as `subprocess.Popen` has it."""

    def __init__(self, words: Sequence[str], status: socket.socket) -> None:
        self._words, self._status = list(words), status
        status.settimeout(LONGEST)
        self.pid = int(status.recv(64))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code if it has ended."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self, timeout: float = LONGEST) -> int:
        """Its exit code, once it has ended. It is killed if that takes too long."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                self.returncode = os.waitstatus_to_exitcode(int(self._status.recv(64)))
            except TimeoutError:
                self.kill()
                raise subprocess.TimeoutExpired(self._words, timeout) from None
            finally:
                self._status.close()
        return self.returncode

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)


def _serve(control: socket.socket) -> None:
    """Fork for each request, and answer on its socket with the pid of the child and later with its wait status."""
    running = dict[int, tuple[int, socket.socket]]()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                pid, status = running.pop(descriptor)
                poll.unregister(descriptor)
                os.close(descriptor)
                _answer(status, os.waitpid(pid, 0)[1])
                status.close()
                continue
            data, given, _, _ = socket.recv_fds(control, LONGEST_REQUEST, 4)
            if not data:
                return
            pid, status = _fork(control, data, given)
            ended = os.pidfd_open(pid)
            running[ended] = pid, status
            poll.register(ended, select.POLLIN)


def _answer(status: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # the test does not wait for the command any more
        status.send(str(number).encode())


def _fork(control: socket.socket, data: bytes, given: list[int]) -> tuple[int, socket.socket]:
    status = socket.socket(fileno=given[0])
    child = os.fork()
    if child == 0:
        control.close()
        status.close()
        try:
            _become(*json.loads(data), given[1:])
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        except BaseException:
            traceback.print_exc()
        os._exit(70)
    for descriptor in given[1:]:
        os.close(descriptor)
    _answer(status, child)
    return child, status


def _become(
    module: str, words: list[str], environment: dict[str, str], folder: str, streams: list[int]
) -> None:
    """Run the module in this process. A terminal as stdin becomes the controlling terminal."""
    os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    if os.isatty(0):
        ioctl(0, termios.TIOCSCTTY, 0)
    os.closerange(3, 1 << 16)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.argv = [module, *words]
    sys.stdin = open(0, encoding="utf-8", errors=sys.stdin.errors)  # noqa: SIM115  open as long as the process runs
    sys.stdout = open(1, "w", encoding="utf-8", errors=sys.stdout.errors)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _import_all() -> None:
    """Import the modules that commands import when they run."""
    for package in (
        "cli",
        "http.client",
        "service",
        "store.sqlite",
        "store.postgres",
        "store.mongo",
        "store.redis",
        "store.redis_archive",
    ):
        found: Any = importlib.import_module(f"queuectl.{package}")
        for module in pkgutil.walk_packages(found.__path__, f"{found.__name__}."):
            importlib.import_module(module.name)


if __name__ == "__main__":
    _import_all()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _serve(control)
