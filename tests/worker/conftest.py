"""Fixtures: workers that end with the test, together with all their processes."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from holders import Agent, Worker
from unstarted import Unstarted

from contract.grounds import SteppedClock
from queuectl.store.memory import MemoryStore


@pytest.fixture
def unstarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unstarted:
    """An agent without processes, on a memory store with a stepped clock."""
    return Unstarted(tmp_path, monkeypatch, MemoryStore(SteppedClock()))


@pytest.fixture
def new_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def new(**config: Any) -> Worker:
        workers.append(Worker(tmp_path, **config))
        return workers[-1]

    yield new
    for worker in workers:
        worker.clean_up()


@pytest.fixture
def worker(new_worker: Callable[..., Worker]) -> Worker:
    return new_worker()


@pytest.fixture
def agent(worker: Worker) -> Agent:
    return worker.agent
