"""Measures the no-op commands per second of a holder and of `xargs` on the same machine in the same minute.

    python tests/worker/holder_rate.py [JOBS=3000] [SLOTS=2] [ROUNDS=5]

The agent is this script: it orders far ahead and acknowledges at once, so what is measured is holder and kernel.
Interleaved, median of the rounds; the holder's own CPU time per job is what `getrusage` says of it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / part) for part in ("src", "tests")]

from holders import Worker  # noqa: E402

AHEAD = 64


def floor(jobs: int, slots: int) -> float:
    """Commands per second of `xargs`."""
    start = time.perf_counter()
    subprocess.run(f"seq {jobs} | xargs -P{slots} -n1 sh -c true", shell=True, check=True)
    return jobs / (time.perf_counter() - start)


def rate(worker: Worker, jobs: int) -> tuple[float, float]:
    """Commands per second of the holder, and its own CPU seconds per command."""
    agent, ordered, done = worker.agent, 0, 0
    cpu, start = _cpu(worker.pid), time.perf_counter()
    while done < jobs:
        while ordered < jobs and ordered - done < AHEAD:
            agent.start("true", deadline=time.clock_gettime(time.CLOCK_BOOTTIME) + 60)
            ordered += 1
        agent.inbox.clear()
        agent.hear(10)
        ended = [m["attempt_id"] for m, _ in agent.of("exited")]
        if ended:
            agent.send("ack", attempt_ids=ended)
        done += len(ended)
    return jobs / (time.perf_counter() - start), (_cpu(worker.pid) - cpu) / jobs


def _cpu(pid: int) -> float:
    """User and system seconds of a process without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(jobs: int = 3000, slots: int = 2, rounds: int = 5) -> None:
    results = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            base = floor(jobs, slots)
            worker = Worker(Path(folder), count=slots)
            try:
                got, cpu = rate(worker, jobs)
            finally:
                worker.clean_up()
        results.append((got / base, got, base, cpu))
        print(
            f"xargs {base:6.0f}/s   holder {got:6.0f}/s   ratio {got / base:.2f}   own cpu {cpu * 1e6:.0f} µs/job"
        )
    print(f"median ratio {statistics.median(r[0] for r in results):.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
