"""A test that was too slow runs again; one that is slow each time, or fails otherwise, fails."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
from facts import TooSlow

runs = []

def test_slow_once():
    runs.append(1)
    if len(runs) < 3:
        raise TooSlow("took long")

def test_always_slow():
    raise TooSlow("took long")

def test_wrong():
    runs.append("wrong")
    assert runs.count("wrong") == 2
"""


def test_only_a_test_that_was_too_slow_runs_again(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, "-p", "again"]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [*command, "-p", "no:schemathesis", "-p", "no:cacheprovider"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert "2 failed, 1 passed" in done.stdout
    assert "ran again, test_it.py::test_slow_once: facts.TooSlow: took long" in done.stdout
    assert "FAILED test_it.py::test_always_slow - facts.TooSlow: took long" in done.stdout
