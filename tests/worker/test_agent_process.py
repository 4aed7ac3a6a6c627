"""Agents end and are replaced; commands, output and results are not affected."""

import itertools
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from holders import Agent, Worker, alive

from facts import eventually
from queuectl.worker.protocol import PROTOCOL


def test_the_welcome_message_contains_what_an_agent_needs(worker: Worker) -> None:
    ((welcome, _),) = worker.agent.of("welcome")
    assert welcome["protocol"] == PROTOCOL
    assert welcome["config"] == {"secret": "s3cret"}
    assert welcome["worker"]["id"] == worker.id
    assert (welcome["holder_pid"], welcome["count"], welcome["phase"]) == (worker.pid, 2, "running")
    assert welcome["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert welcome["attempts"] == []


def test_the_agents_configuration_is_in_no_command_line_and_no_environment(worker: Worker) -> None:
    for pid in (worker.pid, worker.agent.pid, worker.guard_pid()):
        assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"s3cret" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_new_agent_receives_running_attempts_and_results(worker: Worker, tmp_path: Path) -> None:
    first = worker.agent
    ended = first.start("echo result; exit 3")
    before = first.exited(ended), first.output(ended)
    running = first.start(f"echo early; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo late")
    first.until_output(running, b"early\n")
    pid = first.started(running)["pid"]
    busy = first.start("sleep 60")
    first.started(busy)
    queued = first.start("true")
    first.die()
    second = worker.next_agent(greet=False)
    welcome = second.hello()
    states = {a["attempt_id"]: (a["state"], a.get("pid")) for a in welcome["attempts"]}
    assert states[ended] == ("finished", before[0]["pid"])
    assert states[running] == ("running", pid)
    assert states.get(queued, ("queued", None)) == ("queued", None)
    assert (second.exited(ended), second.output(ended)) == before
    (tmp_path / "go").touch()
    assert second.exited(running)["exit_code"] == 0
    assert second.output(running) == b"early\nlate\n"


def test_chunks_are_sent_again_with_the_same_number_and_bytes(worker: Worker) -> None:
    attempt_id = worker.agent.start("for i in 1 2 3; do echo $i; sleep 0.15; done; sleep 60")
    worker.agent.until_output(attempt_id, b"1\n")
    chunk = worker.agent.of("output", attempt_id)[0]
    worker.agent.die()
    second = worker.next_agent()
    second.until_output(attempt_id, b"1\n")
    assert second.of("output", attempt_id)[0] == chunk
    second.send("ack_output", attempt_id=attempt_id, n=chunk[0]["n"])
    second.until_output(attempt_id, b"3\n")
    third = _replaced(worker)
    third.wait(lambda: third.of("output"))
    assert third.of("output", attempt_id)[0][0]["n"] > chunk[0]["n"], (
        "what was acknowledged is not sent again"
    )


def _replaced(worker: Worker) -> Agent:
    worker.agent.die()
    return worker.next_agent()


def test_an_acknowledged_result_is_forgotten(worker: Worker) -> None:
    attempt_id = worker.agent.start("echo x")
    worker.agent.exited(attempt_id)
    worker.agent.ack(attempt_id)
    worker.agent.run("true")  # behind the acknowledgement
    worker.agent.die()
    assert worker.next_agent(greet=False).hello()["attempts"] == []


def test_an_unread_start_message_is_dropped_with_its_agent(worker: Worker, tmp_path: Path) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    worker.agent.start(f"touch {tmp_path}/ran")
    worker.agent.die()
    os.kill(worker.pid, signal.SIGCONT)
    second = worker.next_agent(greet=False)
    welcome = second.hello()
    known = [a["attempt_id"] for a in welcome["attempts"]]
    second.run("true")
    # Read before or after its end was noticed: either way both sides agree on whether it exists.
    assert (tmp_path / "ran").exists() == bool(known)


def test_a_reload_drops_the_old_agent_with_its_unread_messages(worker: Worker, tmp_path: Path) -> None:
    first = worker.agent
    attempt_id = first.start("sleep 60")
    first.started(attempt_id)
    first.send("reload")
    second = worker.next_agent(greet=False)
    assert alive(first.pid)
    os.kill(worker.pid, signal.SIGSTOP)
    second.send("hello", protocol=PROTOCOL, pid=second.pid)
    os.kill(worker.pid, signal.SIGCONT)
    welcome, _ = second.expect("welcome")
    assert [a["state"] for a in welcome["attempts"]] == ["running"]
    first.hung_up()
    first.close()
    assert second.run("echo on")[1] == b"on\n"
    second.run("sleep 0.3")
    assert len(worker.agents) == 2
    assert "starting another" not in worker.log.read_text(), "an agent that was replaced is not missed"


def test_an_agent_that_closes_its_socket_is_killed_and_replaced(worker: Worker) -> None:
    first = worker.agent
    os.kill(first.pid, signal.SIGSTOP)
    first.sock.shutdown(socket.SHUT_RDWR)
    eventually(lambda: not alive(first.pid), within=8)
    assert worker.next_agent().run("echo on")[1] == b"on\n"


def test_a_crash_loop_of_the_agent_is_slowed_down_and_logged(
    new_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    worker = new_worker(greet=False, agent_argv=["/bin/sh", "-c", f"date +%s.%N >> {starts}; exit 7"])
    times = eventually(lambda: t if len(t := _floats(starts)) >= 5 else None)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] < 0.1 + 0.1
    assert gaps[1] >= 0.1
    assert gaps[3] >= 0.4
    assert "exited with status 7; starting another" in worker.log.read_text()


def _floats(path: Path) -> list[float]:
    return [float(word) for word in path.read_text().split()] if path.exists() else []


def everything(reader: int) -> bytes:
    """Read a pipe until its other end is closed."""
    text = b""
    while select.select([reader], [], [], 10)[0]:
        part = os.read(reader, 100)
        if not part:
            os.close(reader)
            return text
        text += part
    raise AssertionError(f"still open after {text!r}")


@pytest.mark.parametrize("away", [None, "no route to host"])
def test_the_holder_reports_ready_when_its_agent_has_registered_or_misses_the_store(
    new_worker: Callable[..., Worker], away: str | None
) -> None:
    """Not at `hello`: a `worker stop` right after the start would not find the worker."""
    reader, writer = os.pipe()
    worker = new_worker(ready_fd=writer, greet=False)
    os.close(writer)
    agent = worker.next_agent()
    agent.run("true")
    assert select.select([reader], [], [], 0) == ([], [], [])
    agent.send("store", away=away)
    assert everything(reader) == b"ready\n"


def test_the_holder_reports_an_agent_that_ends_before_it_is_ready(
    new_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    worker = new_worker(ready_fd=writer, greet=False, agent_argv=["/bin/false"])
    os.close(writer)
    assert everything(reader) == b"the agent ended before it was ready\n"
    assert worker.process.poll() is None


def test_a_worker_that_cannot_start_reports_the_reason(
    new_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    (tmp_path / "file").touch()
    worker = new_worker(ready_fd=writer, greet=False, directory=str(tmp_path / "file" / "workers"))
    os.close(writer)
    assert everything(reader).startswith(b"cannot start: ")
    assert worker.exit_status() == 1


def test_events_are_json_with_log_format_json(new_worker: Callable[..., Worker]) -> None:
    worker = new_worker(log_format="json")
    worker.signal(signal.SIGTERM)
    worker.agent.expect("bye")
    worker.agent.close()
    worker.exit_status()
    events = [json.loads(line) for line in worker.log.read_text().splitlines()]
    assert events[0]["event"] == "draining"
    assert events[0]["worker"] == "test"


def test_a_slow_agent_loses_no_output(worker: Worker) -> None:
    ids = [worker.agent.start("head -c 300000 /dev/zero") for _ in range(20)]
    for attempt_id in ids:
        worker.agent.exited(attempt_id)
        assert len(worker.agent.output(attempt_id)) == 300_000
