"""No process of a command outlives the command unless it is allowed; and a result never waits for such a process."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from holders import IGNORE_TERM, Agent, Worker, alive, all_dead, numbers, pids_in

from facts import Stopwatch, eventually
from queuectl.clock import boottime
from queuectl.worker.host import process_table


def test_a_grandchild_that_ignores_term_is_killed_after_the_grace(agent: Agent, tmp_path: Path) -> None:
    attempt_id = agent.start(f'sh -c "{IGNORE_TERM}" > {tmp_path}/pid & wait', grace=0.3)
    pids = pids_in(tmp_path / "pid")
    watch = Stopwatch()
    agent.send("kill", attempt_id=attempt_id, reason="cancelled")
    ended = agent.exited(attempt_id)
    assert watch.seconds >= 0.3
    watch.check(1.3)
    assert (ended["ended_by"], ended["signal"]) == ("cancelled", signal.SIGTERM)
    assert ended["leftovers"] >= 1
    all_dead(pids, within=0)


def test_the_leaders_exit_does_not_end_the_escalation(agent: Agent, tmp_path: Path) -> None:
    attempt_id = agent.start(
        f"trap 'exit 3' TERM; sh -c \"{IGNORE_TERM}\" >{tmp_path}/pid & while :; do wait; done", grace=0.3
    )
    pids = pids_in(tmp_path / "pid")
    agent.send("kill", attempt_id=attempt_id, reason="cancelled")
    ended = agent.exited(attempt_id)
    assert (ended["kind"], ended["exit_code"], ended["ended_by"]) == ("exited", 3, "cancelled")
    all_dead(pids, within=0)


def test_a_process_whose_first_thread_has_ended_is_killed(agent: Agent, tmp_path: Path) -> None:
    threads = "import signal, threading, time, os, ctypes; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    threads += "threading.Thread(target=time.sleep, args=[60]).start(); print(os.getpid(), flush=True); "
    threads += "ctypes.CDLL(None).pthread_exit(None)"
    attempt_id = agent.start(f"{sys.executable} -c '{threads}' > {tmp_path}/pid & sleep 60", grace=0.3)
    (pid,) = pids_in(tmp_path / "pid")
    eventually(lambda: "State:\tZ" in Path(f"/proc/{pid}/status").read_text(), what="its first thread ended")
    agent.send("kill", attempt_id=attempt_id, reason="cancelled")
    agent.exited(attempt_id)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), within=1)


def test_a_stopped_process_tree_receives_term(agent: Agent, tmp_path: Path) -> None:
    attempt_id = agent.start(
        f"trap 'echo heard; exit 0' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"
    )
    (pid,) = pids_in(tmp_path / "pid")
    os.killpg(pid, signal.SIGSTOP)
    agent.send("kill", attempt_id=attempt_id, reason="cancelled")
    assert agent.exited(attempt_id, within=5)["exit_code"] == 0
    assert agent.output(attempt_id).endswith(b"heard\n")


@pytest.mark.parametrize("how", ["setsid sh -c", "setsid -f sh -c", "setsid -f env -i /bin/sh -c"])
def test_a_cancel_ends_processes_that_left_the_process_group(agent: Agent, tmp_path: Path, how: str) -> None:
    escapee = f"{how} 'echo $$ > {tmp_path}/pid; exec sleep 60' > /dev/null 2>&1 &"
    attempt_id = agent.start(f"{escapee} sleep 60", grace=0.5)
    pids = pids_in(tmp_path / "pid")
    agent.send("kill", attempt_id=attempt_id, reason="cancelled")
    assert agent.exited(attempt_id, within=3)["ended_by"] == "cancelled"
    all_dead(pids, within=0)


@pytest.mark.parametrize("how", ["", "setsid", "setsid -f", "setsid -f env -i"])
@pytest.mark.parametrize("life", ["", "sleep 0.4;"], ids=["short", "long"])
def test_leftovers_of_a_command_are_ended_before_its_result(
    agent: Agent, tmp_path: Path, how: str, life: str
) -> None:
    hidden = f"{how} /bin/sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' > /dev/null 2>&1 &"
    attempt_id = agent.start(f"{hidden} while [ ! -s {tmp_path}/pid ]; do :; done; {life} echo done")
    ended = agent.exited(attempt_id, within=4)
    assert (ended["exit_code"], ended["ended_by"], ended["leftovers"]) == (0, None, 1)
    all_dead(pids_in(tmp_path / "pid"), within=0)


def test_a_daemon_without_parent_and_environment_is_found(agent: Agent, tmp_path: Path) -> None:
    """Its parents have ended, its environment is empty, and its children have their own sessions."""
    note = f"echo \\$\\$ >> {tmp_path}/pid"
    inner = f"setsid env -i /bin/sh -c '{note}; exec sleep 60' & {note}; wait"
    (tmp_path / "pid").touch()
    command = f'setsid -f env -i PATH=$PATH /bin/sh -c "{inner}" >/dev/null 2>&1; '
    attempt_id = agent.start(command + f"while [ $(wc -l < {tmp_path}/pid) -lt 2 ]; do :; done 2>/dev/null")
    assert agent.exited(attempt_id, within=4)["leftovers"] >= 2
    all_dead(pids_in(tmp_path / "pid", 2), within=0)


def test_ending_leftovers_spares_the_processes_of_other_commands(agent: Agent, tmp_path: Path) -> None:
    other = agent.start(
        f"setsid -f sh -c 'echo $$ > {tmp_path}/other; exec sleep 60' >/dev/null 2>&1; sleep 60"
    )
    (spared,) = pids_in(tmp_path / "other")
    ended, _ = agent.run("setsid -f sleep 60 > /dev/null 2>&1; sleep 0.1")
    assert ended["leftovers"] == 1
    assert alive(spared)
    agent.send("kill", attempt_id=other, reason="cancelled")
    agent.exited(other)
    all_dead([spared], within=0)


def test_a_background_process_with_open_stdout_delays_the_result_by_1s(agent: Agent) -> None:
    watch = Stopwatch()
    ended, output = agent.run("sleep 60 & echo done")
    assert watch.seconds > 0.9
    watch.check(2.0)
    assert (ended["exit_code"], output) == (0, b"done\n")


def test_a_background_process_that_ends_soon_may_finish_writing(agent: Agent) -> None:
    ended, output = agent.run("(sleep 0.2; echo late) & echo early")
    assert output == b"early\nlate\n"
    assert ended["leftovers"] == 0


def test_closing_the_output_is_not_an_exit(agent: Agent) -> None:
    start = time.monotonic()
    ended, _ = agent.run("exec >&- 2>&-; sleep 0.5; exit 7")
    assert ended["exit_code"] == 7
    assert time.monotonic() - start >= 0.5


def test_an_allowed_detached_process_is_not_ended(agent: Agent, tmp_path: Path) -> None:
    started = f"setsid -f sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' > /dev/null 2>&1"
    ended, _ = agent.run(started, allow_detached=True)
    (pid,) = pids_in(tmp_path / "pid")
    try:
        assert ended["leftovers"] == 0
        agent.run("sleep 0.3")
        agent.run("setsid -f sleep 60 >/dev/null 2>&1")
        assert alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_detached_process_is_not_assigned_to_another_command(agent: Agent, tmp_path: Path) -> None:
    other = agent.start(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    agent.started(other)
    agent.run(
        f"setsid -f env -i /bin/sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' >/dev/null 2>&1",
        allow_detached=True,
    )
    (pid,) = pids_in(tmp_path / "pid")
    try:
        (tmp_path / "go").touch()
        assert agent.exited(other)["leftovers"] == 0
        assert alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_timeout_ends_the_tree(agent: Agent, tmp_path: Path) -> None:
    attempt_id = agent.start(
        f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & sleep 60", timeout=0.4
    )
    ended = agent.exited(attempt_id, within=3)
    assert (ended["ended_by"], ended["signal"]) == ("timeout", signal.SIGTERM)
    assert 0.4 <= ended["finished_at"] - ended["started_at"] < 1.4
    all_dead(pids_in(tmp_path / "pid"), within=0)


def test_an_expired_lease_ends_the_command(agent: Agent) -> None:
    attempt_id = agent.start("sleep 60", deadline=boottime() + 0.3)
    assert agent.exited(attempt_id, within=3)["ended_by"] == "lease"


def test_an_attempt_that_waited_longer_than_its_lease_never_starts(agent: Agent, tmp_path: Path) -> None:
    busy = [agent.start("sleep 0.5") for _ in range(2)]
    late = agent.start(f"touch {tmp_path}/ran", deadline=boottime() + 0.2)
    assert agent.expect("dropped")[0]["attempt_ids"] == [late]
    for attempt_id in busy:
        agent.exited(attempt_id)
    agent.run("true")
    assert not (tmp_path / "ran").exists()


def test_a_renewed_lease_does_not_end_the_command(agent: Agent) -> None:
    attempt_id = agent.start("sleep 0.8", deadline=boottime() + 0.4)
    agent.send("lease", attempt_ids=[attempt_id], deadline=boottime() + 60)
    assert agent.exited(attempt_id)["ended_by"] is None


def test_the_lease_is_enforced_while_the_agent_is_stopped(worker: Worker) -> None:
    attempt_id = worker.agent.start("sleep 60", deadline=boottime() + 0.5)
    pid = worker.agent.started(attempt_id)["pid"]
    os.kill(worker.agent.pid, signal.SIGSTOP)
    eventually(lambda: not alive(pid), within=2)
    os.kill(worker.agent.pid, signal.SIGCONT)
    assert worker.agent.exited(attempt_id)["ended_by"] == "lease"


def test_the_timeout_is_enforced_while_there_is_no_agent(worker: Worker) -> None:
    attempt_id = worker.agent.start("sleep 60", timeout=0.5)
    pid = worker.agent.started(attempt_id)["pid"]
    worker.agent.die()
    silent = worker.next_agent(greet=False)
    eventually(lambda: not alive(pid), within=2)
    silent.hello()
    assert silent.exited(attempt_id)["ended_by"] == "timeout"


def test_the_first_reason_to_end_a_command_is_reported(agent: Agent) -> None:
    attempt_id = agent.start("trap 'echo heard' TERM; while :; do sleep 0.05; done", timeout=0.2, grace=1.0)
    agent.until_output(attempt_id, b"heard")
    agent.send("kill", attempt_id=attempt_id, reason="fenced")
    assert agent.exited(attempt_id)["ended_by"] == "timeout"


def test_a_kill_drops_a_waiting_attempt(agent: Agent) -> None:
    busy = [agent.start("sleep 60") for _ in range(2)]
    waiting = agent.start("true")
    agent.send("kill", attempt_id=waiting, reason="cancelled")
    assert agent.expect("dropped")[0]["attempt_ids"] == [waiting]
    for attempt_id in busy:
        agent.send("kill", attempt_id=attempt_id, reason="fenced")
        assert agent.exited(attempt_id)["ended_by"] == "fenced"
    assert agent.of("started", waiting) == []


def fork_loop(tmp_path: Path) -> Path:
    """Processes that are born one after the other, each in a session of its own."""
    program = f"#!/bin/sh\ntrap '' TERM\necho $$ >> {tmp_path}/pid\nsleep 0.02\nsetsid $0 &\nexec true\n"
    (tmp_path / "hydra").write_text(program)
    (tmp_path / "hydra").chmod(0o755)
    return tmp_path / "hydra"


def test_a_fork_loop_is_ended(agent: Agent, tmp_path: Path) -> None:
    fork_loop(tmp_path)
    attempt_id = agent.start(f"{tmp_path}/hydra; sleep 60", grace=0.2)
    pids_in(tmp_path / "pid", 5)
    agent.send("kill", attempt_id=attempt_id, reason="cancelled")
    assert agent.exited(attempt_id)["ended_by"] == "cancelled"
    born = len(numbers(tmp_path / "pid"))
    agent.run("sleep 0.3")
    assert len(numbers(tmp_path / "pid")) == born


def test_a_fork_loop_that_outlives_its_command_is_ended(agent: Agent, tmp_path: Path) -> None:
    """Another command runs at the same time, and the processes of the loop might belong to it."""
    agent.started(agent.start("sleep 60"))
    loop = fork_loop(tmp_path)
    waiting = f"while [ $(wc -l < {tmp_path}/pid) -lt 3 ]; do sleep 0.01; done"
    (tmp_path / "pid").touch()
    ended, _ = agent.run(f"setsid {loop} > /dev/null 2>&1 & {waiting}", grace=0.2)
    assert ended["leftovers"] > 0
    born = len(numbers(tmp_path / "pid"))
    agent.run("sleep 0.3")
    assert len(numbers(tmp_path / "pid")) == born


def test_zombies_of_orphans_are_reaped_while_a_command_runs(worker: Worker, tmp_path: Path) -> None:
    worker.agent.start(f"for i in 1 2 3; do (setsid sh -c 'echo $$ >> {tmp_path}/pid' &); done; sleep 60")
    pids = pids_in(tmp_path / "pid", 3)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_leftovers_are_found_without_the_kernels_list_of_children(
    new_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = new_worker(
        env={"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "no_children"), str(_SOURCES)])}
    )
    open_files = [os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")]
    assert not any(name.endswith("/children") for name in open_files)
    for number, life in enumerate(("", "sleep 0.4;", "")):
        pid = tmp_path / f"pid{number}"
        hidden = f"setsid -f sh -c 'echo $$ > {pid}; exec sleep 60' > /dev/null 2>&1;"
        ended, _ = worker.agent.run(f"{hidden} {life} while [ ! -s {pid} ]; do :; done")
        assert ended["leftovers"] == 1
        all_dead(pids_in(pid), within=0)


_SOURCES = Path(__file__).parents[2] / "src"


@pytest.mark.proof
def test_a_tree_of_1500_processes_is_ended_within_its_grace(agent: Agent) -> None:
    """This includes processes of another session. Reading one process costs microseconds."""
    many = "i=0; while [ $i -lt 1400 ]; do sleep 60 & i=$((i+1)); done"
    more = "i=0; while [ $i -lt 100 ]; do setsid sleep 60 & i=$((i+1)); done"
    attempt_id = agent.start(f"{many}; {more}; echo there; wait", grace=5.0)
    agent.until_output(attempt_id, b"there")
    agent.send("kill", attempt_id=attempt_id, reason="cancelled")
    ended = agent.exited(attempt_id)
    assert (ended["ended_by"], ended["error"]) == ("cancelled", None)
    assert ended["leftovers"] >= 1500
    assert not [p.pid for p in process_table.processes() if process_table.marker(p.pid) == attempt_id]
