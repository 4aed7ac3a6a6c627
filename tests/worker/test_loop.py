"""A loop runs a round at an event or at a deadline; in every phase, a deadline that has passed wakes the loop once."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from holders import Worker, pids_in

from facts import eventually

WINDOW = 1.5
MOST = 30
"""The maximum rounds per second of a waiting loop: checks of processes, and rounds after messages."""

SIGNALS = {"running": 0, "draining": 1, "stopping": 2}


def counted(turns: Path) -> dict[str, str]:
    """The environment of a holder whose turns are counted, and whose ten seconds are one."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here / "counted"), str(here.parents[1] / "src")])
    return {"PYTHONPATH": path, "QUEUECTL_TEST_TURNS": str(turns)}


def rate(turns: Path) -> float:
    """The rounds per second."""
    before, start = turns.stat().st_size, time.monotonic()
    eventually(lambda: time.monotonic() > start + WINDOW)
    return (turns.stat().st_size - before) / (time.monotonic() - start)


@pytest.fixture
def turns(tmp_path: Path) -> Path:
    return tmp_path / "turns"


@pytest.mark.parametrize("phase", SIGNALS)
@pytest.mark.parametrize("agent", ["silent", "dead"])
@pytest.mark.parametrize("kept", ["result", "command"])
def test_a_waiting_holder_runs_few_rounds(
    new_worker: Callable[..., Worker], turns: Path, tmp_path: Path, phase: str, agent: str, kept: str
) -> None:
    """A silent agent runs but acknowledges no result, because its store cannot be reached."""
    worker = new_worker(env=counted(turns))
    if kept == "result":
        worker.agent.exited(worker.agent.start("true"))
    else:
        worker.agent.start(f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 1; done", grace=60.0)
        pids_in(tmp_path / "pid")
    for _ in range(SIGNALS[phase]):
        worker.signal(signal.SIGTERM)
        worker.agent.expect("drain")
    if agent == "dead":
        worker.agent.die()
    start = time.monotonic()
    eventually(lambda: time.monotonic() > start + 1.2)  # longer than it waits for an agent at the end
    if worker.process.poll() is None:
        assert rate(turns.with_suffix(".holder")) < MOST
    else:
        assert (kept, worker.exit_status()) == ("result", 1)
        assert phase == "stopping" or (phase, agent) == ("draining", "dead")
