"""A test run that is killed leaves no process behind: no worker, no command, no server."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import reaper
from facts import eventually

ROOT = Path(__file__).parents[1]
VICTIM = "tests/e2e/test_guarantees.py::TestG5NoLimitFromLeases"
pytestmark = pytest.mark.timeout(120)
PROOF = pytest.mark.proof


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The processes that still run."""
    return [
        process for process in processes if process.is_running() and _status(process) != psutil.STATUS_ZOMBIE
    ]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGKILL, ()),
        pytest.param(signal.SIGTERM, (), marks=PROOF),
        pytest.param(signal.SIGKILL, ("-n", "1"), marks=PROOF),
    ],
)
def test_a_killed_test_run_leaves_no_process(tmp_path: Path, number: int, options: tuple[str, ...]) -> None:
    base = tmp_path / "run"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", base, *options]
    chosen = [f"{VICTIM}::test_a_command_outlives_many_leases[postgres]"]
    with (tmp_path / "log").open("wb") as log:
        run = subprocess.Popen([*command, *chosen], cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        eventually(lambda: _commands(base) or run.poll() is not None, within=60, what="a command of a worker")
        assert run.poll() is None, (tmp_path / "log").read_text()
        started = psutil.Process(run.pid).children(recursive=True)
        started += [psutil.Process(pid) for pid in reaper.below(str(base), run.pid)]
        assert {"postgres", "queuectl-guard"} <= {process.name() for process in started}
    finally:
        os.kill(run.pid, number)
        run.wait(10)
    eventually(lambda: not living(started), within=30, what="nothing of the run left")


def _commands(base: Path) -> list[int]:
    """The processes of jobs below a directory."""
    marked = (Path(f"/proc/{pid}/environ") for pid in reaper.below(str(base), os.getpid()))
    return [pid for path in marked if (pid := _job_of(path))]


def _job_of(environ: Path) -> int:
    try:
        return int(environ.parent.name) if b"QUEUECTL_ATTEMPT_ID=" in environ.read_bytes() else 0
    except OSError:
        return 0
