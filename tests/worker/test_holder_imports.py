"""The holder and all modules that it imports use only the standard library."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, queuectl.worker.holder.main, queuectl.worker.host.liveness
print(*sorted(sys.modules), sep="\\n")
"""


def test_the_holder_imports_only_the_standard_library_and_its_own_files() -> None:
    sources = Path(__file__).parents[2] / "src"
    run = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM],
        env={"PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    modules = run.stdout.split()
    foreign = {
        name for name in modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "queuectl"}
    }
    assert foreign - {"__main__"} == set()
    ours = {
        name for name in modules if name.startswith("queuectl.") and not name.startswith("queuectl.worker")
    }
    assert ours == {"queuectl.clock", "queuectl.crashpoint", "queuectl.trust"}
