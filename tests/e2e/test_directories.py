"""G3 for workers that cannot see each other: same host name, different directories and pid namespaces, on every store.

What a worker takes for proof that another one is dead, a lock that is free, proves nothing in a copy of the directory
and not enough in another pid namespace. There the lease decides.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.harness import QUEUECTL, Place, alive, children
from facts import eventually
from queuectl.domain.worker import Worker

STATES = ["postgres", "mongodb", "redis", "archived"]
LONG = """
    echo begin $HOST >> ticks
    for i in $(seq 40); do echo tick $HOST >> ticks; sleep 0.1; done
    echo end $HOST >> ticks"""
ALONE = ("unshare", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child")


def can_unshare() -> bool:
    """Whether this system lets us make pid namespaces."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not can_unshare(), reason="no pid namespaces here (Linux, util-linux, root)"
)


class Containers:
    """Workers in pid namespaces of their own, where a shell is process 1, as in a container with an init."""

    def __init__(self, place: Place) -> None:
        self.place, self._running = place, list[subprocess.Popen[bytes]]()

    def start(self, name: str, *, state: str = "state", alone: bool = True, **env: str) -> Worker:
        """Start a worker; `state` is the directory of its slot file, unless the store is a file."""
        log = (self.place.root / f"{name}.log").open("wb")
        variables = {"HOST": name, "XDG_STATE_HOME": str(self.place.root / state), **env}
        words = [*QUEUECTL, "worker", "start", "--name", name]
        process = subprocess.Popen(
            [*(ALONE if alone else ()), "sh", "-c", '"$@" & wait', "sh", *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.place.work,
            env={**self.place.env, **variables}, start_new_session=True,
        )  # fmt: skip
        log.close()
        self._running.append(process)
        return self.entered(name)

    def entered(self, name: str) -> Worker:
        """The entry of the worker in the registry."""

        def found() -> Worker | None:
            named = [worker for worker in self.place.store.workers() if worker.name == name]
            return named[0] if named else None

        return eventually(found, what=f"worker {name} in the registry")  # type: ignore[return-value]

    def log(self, name: str) -> str:
        """The log of a worker."""
        return (self.place.root / f"{name}.log").read_text()

    def kill_worker_but_not_its_commands(self) -> None:
        """Kill the holder, the guard and the agent of the first worker; the shell and the command keep running."""
        ours = [pid for pid in descendants(self._running[0].pid) if "queuectl.worker" in words_of(pid)]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # otherwise the holder would start another guard
            for pid in ours:
                os.kill(pid, number)

    def close(self) -> None:
        """End all containers with their namespaces."""
        for process in self._running:
            for pid in descendants(process.pid):
                if alive(pid):
                    os.kill(pid, 9)
            process.kill()
            process.wait(10)


def descendants(pid: int) -> list[int]:
    """All descendants of a process."""
    return [found for child in children(pid) for found in (*descendants(child), child)]


def words_of(pid: int) -> str:
    """The command line of a process, or nothing after its end."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


@pytest.fixture
def containers(place: Place) -> Iterator[Containers]:
    place.run("enqueue", "--id", "first", "true")
    place.quick()
    containers = Containers(place)
    yield containers
    containers.close()


def lines(place: Place) -> list[str]:
    file = place.work / "ticks"
    return file.read_text().splitlines() if file.exists() else []


def in_turn(place: Place) -> bool:
    """Whether no attempt started before the previous one had ended."""
    where = [line.split()[1] for line in lines(place)]
    return where == sorted(where)


@needs_namespaces
@pytest.mark.waits
def test_a_live_worker_with_another_directory_keeps_its_job(place: Place, containers: Containers) -> None:
    containers.start("a", state="of-a")
    place.enqueue("--id", "j", LONG)
    eventually(lambda: "tick a" in lines(place), what="the command")
    containers.start("b", state="of-b")
    job = place.until("j", "completed", within=30)
    assert (job.attempts, job.losses) == (1, 0)
    assert {line.split()[1] for line in lines(place)} == {"a"}


@needs_namespaces
@pytest.mark.waits
def test_in_another_pid_namespace_the_lease_decides_and_not_the_lock(
    place: Place, containers: Containers
) -> None:
    containers.start("a")
    place.enqueue("--id", "j", LONG)
    eventually(lambda: "tick a" in lines(place), what="the command")
    containers.start("b")
    containers.kill_worker_but_not_its_commands()
    killed = time.time()
    job = place.until("j", "completed", within=40)
    first = job.history[0]
    assert (first.outcome, job.losses) == ("lost", 1)
    assert first.error == "its worker was silent for longer than the lease"
    assert first.finished_at.timestamp() - killed > 1.0, "the lease of 1.5 s had not ended"
    assert "worker a may live" in containers.log("b")


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.waits
def test_a_copy_of_the_directory_does_not_prove_the_death_of_a_worker(
    place: Place, containers: Containers
) -> None:
    worker = containers.start("a", state="of-a", alone=False)
    place.enqueue("--id", "j", LONG)
    eventually(lambda: "tick a" in lines(place), what="the command")
    subprocess.run(
        ["cp", "-a", place.root / "of-a", place.root / "of-b"], check=True
    )  # shutil copies no pipe
    containers.start("b", state="of-b", alone=False)
    job = place.until("j", "completed", within=30)
    assert (job.attempts, job.losses) == (1, 0)
    assert {line.split()[1] for line in lines(place)} == {"a"}
    assert worker.directory
    assert worker.directory != containers.entered("b").directory


@pytest.mark.parametrize("kind", ["sqlite"])
class TestFileWithTwoNames:
    """Only the file is mounted into a container: beside this name there is no log and no lock of a worker."""

    @needs_namespaces
    def test_a_worker_is_refused_and_the_running_job_continues(
        self, place: Place, containers: Containers
    ) -> None:
        containers.start("a")
        place.enqueue("--id", "j", LONG)
        eventually(lambda: "tick a" in lines(place), what="the command")
        file, inside = place.root / "data/queuectl/queue.db", place.root / "inside"
        inside.mkdir()
        (inside / "queue.db").touch()
        worker = " ".join(
            [*QUEUECTL, "worker", "start", "--drain", "--store", f"sqlite:///{inside}/queue.db"]
        )
        mounted = f"mount --bind {file} {inside}/queue.db && exec {worker}"
        done = subprocess.run(
            [*ALONE, "sh", "-c", mounted],
            env=place.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 5, done
        assert "is mounted without its directory" in done.stderr
        assert (place.until("j", "completed").attempts, lines(place).count("begin a")) == (1, 1)

    def test_hard_links_and_moved_files_are_refused(self, place: Place, containers: Containers) -> None:
        containers.start("a", alone=False)
        file = place.root / "data/queuectl/queue.db"
        other = file.with_name("other.db")
        os.link(file, other)
        assert "hard links" in place.run_error("--store", f"sqlite:///{other}", "worker", "start", code=5)
        file.unlink()
        try:
            said = place.run_error("--store", f"sqlite:///{other}", "worker", "start", code=5)
            assert "is a second name of a database" in said
        finally:
            other.rename(file)
