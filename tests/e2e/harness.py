"""A place for one end-to-end test: home, store and working directory, with real commands and real workers."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import (
    AbstractContextManager,
    chdir,
    contextmanager,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from pathlib import Path
from typing import Any

from e2e.databases import Database
from facts import eventually
from launcher import Launcher, needs_interpreter
from queuectl.cli.main import main
from queuectl.domain.job import STATES, TERMINAL, Job
from queuectl.domain.query import Filter, Page
from queuectl.service import attempts, shared_settings
from queuectl.store.protocol import Store

QUEUECTL = (sys.executable, "-m", "queuectl")

OPEN = Filter(states=frozenset(STATES) - TERMINAL)
"""The jobs that have not ended."""


class Place:
    """Runs `queuectl` as a user would, isolated from everything else."""

    def __init__(self, root: Path, database: Database, launcher: Launcher | None = None) -> None:
        self.root = root
        self._launcher = launcher
        self.database = database
        self.work = root / "work"
        self.work.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "XDG_CONFIG_HOME": str(root / "config"),
            "XDG_STATE_HOME": str(root / "state"),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LANG": "C.UTF-8",
            "QUEUECTL_TEST_PLACE": str(root),
            **database.env,
        }
        self.workers: list[WorkerProcess] = []
        self._store: Store | None = None

    def run(self, *words: str, code: int = 0, input: str | bytes | None = None, **env: str) -> str:
        """One command; its stdout. Fails unless it ends with `code`."""
        done = self.invoke(*words, input=input, **env)
        assert done.returncode == code, (
            f"{words} ended with {done.returncode}: {done.stdout!r} {done.stderr!r}"
        )
        return done.stdout.decode("utf-8", "surrogateescape")

    def run_error(self, *words: str, code: int) -> str:
        """One command that has to end with `code`; its stderr."""
        done = self.invoke(*words)
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stderr!r}"
        return done.stderr.decode()

    def invoke(
        self, *words: str, input: str | bytes | None = None, **env: str
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run one command with any exit code."""
        data = input.encode() if isinstance(input, str) else input
        if self._launcher and not env and not needs_interpreter(words, env):
            return self._launcher.run(words, self.env, self.work, data)
        return subprocess.run(
            [*QUEUECTL, *words],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            env={**self.env, **env},
            cwd=self.work,
            check=False,
            timeout=60,
        )

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run one command with --json and return the document."""
        document = json.loads(self.run(*words, "--json", code=code))
        assert document["schema"] == 1
        return dict(document)

    def enqueue(self, *words: str) -> str:
        """Enqueue one job by a command line inside this process; its id.

        A process of its own costs more CPU than the rest of many tests. `run("enqueue", …)` starts one.
        """
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), self.inside():
            code = main(["enqueue", *words])
        assert code == 0, f"{words} ended with {code}: {out.getvalue()!r} {err.getvalue()!r}"
        return out.getvalue().strip()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This process with the environment and the working directory of the place."""
        before = dict(os.environ)
        with chdir(self.work):
            try:
                os.environ.clear()
                os.environ.update(self.env)
                yield
            finally:
                os.environ.clear()
                os.environ.update(before)

    @property
    def store(self) -> Store:
        """The store itself, for looking without the cost of a process."""
        if self._store is None:
            self._store = self.database.open()
        return self._store

    def job(self, id: str) -> Job:
        """A job as stored now."""
        return self.store.get([id])[id]

    def until(self, id: str, *states: str, within: float = 15.0) -> Job:
        """Wait until a job is in one of these states."""

        def reached() -> Job | None:
            job = self.job(id)
            return job if job.state in states else None

        return eventually(reached, within=within, what=f"job {id} in {states}")  # type: ignore[return-value]

    def until_all_ended(self, within: float = 30.0) -> list[Job]:
        """Wait until no job is left to do; all jobs."""
        eventually(
            lambda: not self.store.find(OPEN, Page(limit=1)).jobs, within=within, what="all jobs ended"
        )
        return self.store.find(Filter(), Page(limit=100_000)).jobs

    def output(self, id: str, attempt: int | None = None) -> bytes:
        """The stored bytes of an attempt."""
        attempt_id = attempts.id_of(self.job(id), attempt)
        return (
            b"".join(chunk.data for chunk in attempts.output(self.store, attempt_id)) if attempt_id else b""
        )

    def quick(self) -> None:
        """Short lease and heartbeat, so that a test of their end takes seconds."""
        shared_settings.write(self.store, "heartbeat_interval", "300ms")
        shared_settings.write(self.store, "lease", "1500ms")

    def start_worker(self, *words: str, stdout: int | None = None, **env: str) -> "WorkerProcess":
        """A worker in front, its output in a file; back when it has entered the registry."""
        return self.start_worker_as_spelt("worker", "start", *words, stdout=stdout, **env)

    def start_worker_as_spelt(
        self, *words: str, stdout: int | None = None, through: tuple[str, ...] = (), **env: str
    ) -> "WorkerProcess":
        """Start a worker with all words of the command; the program `through` executes the command."""
        log = self.root / f"worker-{len(self.workers)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*through, *QUEUECTL, *words],
                stdin=subprocess.DEVNULL,
                stdout=stdout or file,
                stderr=file,
                env={**self.env, **env},
                cwd=self.work,
                start_new_session=True,
            )
        worker = WorkerProcess(process, log)
        self.workers.append(worker)
        eventually(lambda: self._entered(worker), what="the worker in the registry")
        return worker

    def start_worker_that_dies(self, *words: str, **env: str) -> None:
        """Start a worker that kills itself at a named place, and wait for its end."""
        done = self.invoke("worker", "start", *words, **env)
        assert done.returncode == -signal.SIGKILL, done

    def locked_database(self) -> AbstractContextManager[None]:
        """During the block, no other process can write."""
        return self.database.locked()

    def _entered(self, worker: "WorkerProcess") -> bool:
        assert worker.process.poll() is None, worker.log.read_text()
        if not self.database.exists():
            return False
        new = [entry for entry in self.store.workers() if entry.holder_pid == worker.process.pid]
        worker.id = new[0].id if new else ""
        return bool(new)

    def agent_pid(self, worker: "WorkerProcess") -> int:
        """The pid of the agent of a worker, from the registry."""
        return next(entry.agent_pid for entry in self.store.workers() if entry.id == worker.id)

    def processes(self) -> list[int]:
        """All live processes of this place, workers and commands, found by their environment."""
        mark = f"QUEUECTL_TEST_PLACE={self.root}".encode()
        return [pid for pid in _pids() if pid != os.getpid() and mark in _environment(pid).split(b"\0")]

    def close(self) -> None:
        """End everything of this place by its pid, and insist that nothing stays."""
        for worker in self.workers:
            worker.kill()
        if self._store is not None:
            self._store.close()
        eventually(self._end_all, what="no process left")
        self.database.close()

    def _end_all(self) -> bool:
        """Whether nothing is left; who is there is killed, and so is whom he started meanwhile."""
        left = self.processes()
        for pid in left:
            _signal(pid, signal.SIGCONT)
            _signal(pid, signal.SIGKILL)
        return not left


class WorkerProcess:
    """One `queuectl worker start`; the process is the holder."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log
        self.id = ""

    @property
    def pid(self) -> int:
        """The holder's pid."""
        return self.process.pid

    def lines(self) -> list[str]:
        """The lines of the log so far."""
        return self.log.read_text(errors="replace").splitlines()

    def signal(self, number: int) -> None:
        """Send the holder a signal."""
        self.process.send_signal(number)

    def wait(self, within: float = 15.0) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait(within)

    def guard_pid(self) -> int:
        """The guard: the holder's child that shares its program but not its session."""
        return next(pid for pid in children(self.pid) if _comm(pid) == "queuectl-guard")

    def kill(self) -> None:
        """Kill the worker if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    return [child for child in _pids() if _parent(child) == pid]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    stat = _stat(pid)
    return bool(stat) and stat[0] not in ("Z", "X")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _parent(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes() if alive(pid) else b""
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
