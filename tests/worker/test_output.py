"""Live output: it arrives soon, needs bounded memory, and never blocks the command."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from holders import Worker

from facts import Stopwatch, TooSlow, eventually
from queuectl.worker.host import process_table


def rss(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def serve(worker: Worker, seconds: float, pid: int) -> int:
    """Acknowledge output for a while, as an agent does; the most memory that the holder had."""
    end, most = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        worker.agent.inbox.clear()
        worker.agent.hear(0.2)
        for message, _ in worker.agent.of("output"):
            worker.agent.send("ack_output", attempt_id=message["attempt_id"], n=message["n"])
        most = max(most, rss(pid))
    return most


def test_endless_output_needs_bounded_memory_and_delays_no_other_job(worker: Worker) -> None:
    before = rss(worker.pid)
    endless = worker.agent.start("yes", timeout=3.0, grace=0.1)
    worker.agent.started(endless)
    most = serve(worker, 1.0, worker.pid)
    watch = Stopwatch()
    assert worker.agent.run("echo between")[1] == b"between\n"
    watch.check(0.5)
    most = max(most, serve(worker, 1.0, worker.pid))
    ended = worker.agent.exited(endless)
    assert most - before < 32 << 20
    rate = ended["output_bytes"] / (ended["finished_at"] - ended["started_at"])
    if rate <= 30e6:
        raise TooSlow(f"{rate / 1e6:.0f} MB/s")


def test_a_stopped_agent_does_not_block_a_command(worker: Worker) -> None:
    endless = worker.agent.start("yes | head -c 50000000; echo the end")
    session = worker.agent.started(endless)["pid"]
    os.kill(worker.agent.pid, signal.SIGSTOP)
    eventually(lambda: "head" not in _names(session), within=10)
    ended = worker.agent.exited(endless)
    assert ended["output_bytes"] == 50_000_008
    output = worker.agent.output(endless)
    assert output.endswith(b"y\nthe end\n")


def _names(session: int) -> list[str]:
    return [_comm(process.pid) for process in process_table.processes() if process.sid == session]


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_output_arrives_while_the_command_runs(worker: Worker) -> None:
    attempt_id = worker.agent.start("echo now; sleep 60")
    started = worker.agent.started(attempt_id)["at"]
    message, data = worker.agent.expect("output", attempt_id)
    assert data == b"now\n"
    assert message["at"] - started < 0.5


def test_head_and_tail_of_a_long_output_are_exact(new_worker: Callable[..., Worker]) -> None:
    worker = new_worker()
    attempt_id = worker.agent.start("seq 1000000", output_limit=1000)
    ended = worker.agent.exited(attempt_id)
    whole = b"".join(b"%d\n" % n for n in range(1, 1_000_001))
    assert ended["output_bytes"] == len(whole)
    covered: dict[int, bytes] = {m["offset"]: data for m, data in worker.agent.of("output", attempt_id)}
    for offset, data in covered.items():
        assert whole[offset : offset + len(data)] == data
    assert covered[0][:500] == whole[:500]
    tail = b"".join(data for offset, data in sorted(covered.items()) if offset >= 500)
    assert tail[-500:] == whole[-500:]


def test_output_comes_before_the_result(worker: Worker) -> None:
    ids = [worker.agent.start("echo a; echo b") for _ in range(20)]
    for attempt_id in ids:
        worker.agent.exited(attempt_id)
    kinds = [m["type"] for m, _ in worker.agent.inbox if m.get("attempt_id") == ids[7]]
    assert [kind for kind in kinds if kind != "started"] == ["output", "exited"]
