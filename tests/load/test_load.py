"""`make load` runs a load and detects the faults that it must detect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.load import Load, wrong

ROOT = Path(__file__).parents[2]
LOAD = Load(jobs=4, clients=2, workers=1)
IDS = ["load-0", "load-1", "load-2", "load-3"]
ONCE = dict.fromkeys(IDS, 1)
COUNTS = {"total": 4, "pending": 0, "completed": 4}


@pytest.mark.proof
def test_a_small_load_finds_no_fault() -> None:
    command = [
        sys.executable,
        "-m",
        "bench.load",
        "sqlite",
        "--jobs",
        "80",
        "--clients",
        "2",
        "--workers",
        "1",
    ]
    environment = {**os.environ, "PYTHONPATH": "tests"}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("load: 80 commands on sqlite, 2 clients, 1 workers of 4 slots: ")
    assert done.stdout.endswith("/s; none lost, none repeated\n")


def test_no_fault_is_found_if_each_job_ran_once() -> None:
    assert list(wrong(LOAD, IDS, ONCE, COUNTS)) == []


@pytest.mark.parametrize(
    ("ran", "attempts", "counts", "fault"),
    [
        (IDS[1:], ONCE, COUNTS, "never run: 1, such as load-0"),
        ([*IDS, "load-2"], ONCE, COUNTS, "run more than once: 1, such as load-2"),
        ([*IDS, "other"], ONCE, COUNTS, "run though nobody enqueued them: 1, such as other"),
        (IDS, dict.fromkeys(IDS[1:], 1), COUNTS, "not in the store: 1, such as load-0"),
        (IDS, {**ONCE, "load-1": 2}, COUNTS, "not one attempt: 1, such as load-1"),
        (IDS, ONCE, {"total": 4, "completed": 3}, "status counts {'total': 4, 'completed': 3}"),
    ],
)
def test_each_fault_is_reported(
    ran: list[str], attempts: dict[str, int], counts: dict[str, int], fault: str
) -> None:
    assert list(wrong(LOAD, ran, attempts, counts)) == [fault]
