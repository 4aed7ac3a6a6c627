"""The commands are ended when the holder dies, and only then."""

import os
import signal
from pathlib import Path

from holders import IGNORE_TERM, Worker, alive, all_dead, pids_in

from facts import eventually
from queuectl.worker.host.liveness import dead_workers


def forest(worker: Worker, tmp_path: Path) -> list[int]:
    """A command with a child that ignores TERM, a daemon of its own and one without a mark."""
    write = f"echo $$ >> {tmp_path}/pids; exec sleep 60"
    worker.agent.start(
        f'echo $$ >> {tmp_path}/pids; sh -c "{IGNORE_TERM}" >> {tmp_path}/pids &'
        f"setsid -f sh -c '{write}' > /dev/null 2>&1; sleep 60"
    )
    return pids_in(tmp_path / "pids", 3)


def test_the_trees_are_dead_within_a_second_of_the_holder(worker: Worker, tmp_path: Path) -> None:
    pids = forest(worker, tmp_path)
    os.kill(worker.pid, signal.SIGKILL)
    all_dead(pids, within=1.0)


def test_the_slot_file_of_a_dead_holder_lists_the_started_attempts(worker: Worker, tmp_path: Path) -> None:
    running = worker.agent.start("sleep 60")
    ended = worker.agent.start("true")
    stored = worker.agent.start("true")
    worker.agent.started(running)
    for attempt_id in (ended, stored):
        worker.agent.exited(attempt_id)
    worker.agent.ack(stored)
    waits = worker.agent.start("sleep 60"), worker.agent.start("sleep 60")
    worker.agent.started(waits[0])
    assert list(dead_workers(worker.directory)) == []
    os.kill(worker.pid, signal.SIGKILL)
    worker.process.wait()
    dead = eventually(lambda: next(dead_workers(worker.directory), None))
    with dead:
        assert dead.worker_id == worker.id
        assert sorted(dead.attempts) == sorted([running, ended, waits[0]])
        assert dead.kill() == []
        dead.remove()


def test_a_dead_guard_is_replaced_by_one_that_works(worker: Worker, tmp_path: Path) -> None:
    pids = forest(worker, tmp_path)
    first = worker.guard_pid()
    os.kill(first, signal.SIGKILL)
    second = eventually(lambda: pid if (pid := worker.guard_pid()) not in (0, first) else None)
    assert worker.agent.run("echo on")[1] == b"on\n"
    assert list(dead_workers(worker.directory)) == []
    os.kill(worker.pid, signal.SIGKILL)
    all_dead(pids, within=1.0)
    all_dead([second], within=2.0)
    with eventually(lambda: next(dead_workers(worker.directory), None)) as dead:
        assert dead.kill() == []


def test_the_guard_ignores_signals_and_keeps_no_descriptors_open(worker: Worker) -> None:
    guard = worker.guard_pid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard, number)
    assert worker.agent.run("echo on")[1] == b"on\n"
    assert worker.guard_pid() == guard
    descriptors = sorted(map(int, os.listdir(f"/proc/{guard}/fd")))
    assert [fd for fd in descriptors if fd > 2] == descriptors[3:]
    assert len(descriptors) == 4, "0, 1, 2 and its pipe"
    assert os.getsid(guard) == guard


def test_the_processes_of_a_killed_holder_and_guard_can_be_ended_later(
    worker: Worker, tmp_path: Path
) -> None:
    pids = forest(worker, tmp_path)
    os.kill(worker.guard_pid(), signal.SIGSTOP)  # otherwise the guard would be replaced at once
    guard = worker.guard_pid()
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(guard, signal.SIGKILL)
    worker.process.wait()
    assert all(map(alive, pids))
    with eventually(lambda: next(dead_workers(worker.directory), None)) as dead:
        assert dead.kill(within=5) == []
        dead.remove()
    all_dead(pids, within=0)
    assert list(worker.directory.iterdir()) == []


def test_a_crash_between_spawn_and_record_leaves_no_process(new_worker: object, tmp_path: Path) -> None:
    worker: Worker = new_worker(env={"QUEUECTL_CRASH_AT": "after_spawn:2"})  # type: ignore[operator]
    worker.agent.run("true")
    attempt_id = worker.agent.start(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    assert worker.exit_status() == -signal.SIGKILL
    with eventually(lambda: next(dead_workers(worker.directory), None)) as dead:
        assert dead.attempts == [attempt_id]
        dead.kill()
    all_dead([int(w) for w in (tmp_path / "pid").read_text().split()] if (tmp_path / "pid").exists() else [])


def test_after_a_crash_an_exited_attempt_is_listed_as_started(new_worker: object) -> None:
    worker: Worker = new_worker(env={"QUEUECTL_CRASH_AT": "after_exit"})  # type: ignore[operator]
    attempt_id = worker.agent.start("true")
    assert worker.exit_status() == -signal.SIGKILL
    with eventually(lambda: next(dead_workers(worker.directory), None)) as dead:
        assert dead.attempts == [attempt_id]


def test_a_second_worker_with_the_same_id_is_refused(worker: Worker, new_worker: object) -> None:
    twin: Worker = new_worker(greet=False, worker={"id": worker.id, "name": "twin", "host": "here"})  # type: ignore[operator]
    assert twin.exit_status() == 1
    assert "cannot start" in twin.log.read_text()
    assert worker.agent.run("echo on")[1] == b"on\n"


def test_the_private_scripts_of_a_dead_worker_are_deleted(worker: Worker) -> None:
    attempt_id = worker.agent.start("sleep 60\n#" + "x" * 100_000)
    worker.agent.started(attempt_id)
    kinds = sorted(path.suffix for path in worker.directory.iterdir())
    assert kinds == [".progress", ".script", ".slots"]
    os.kill(worker.pid, signal.SIGKILL)
    with eventually(lambda: next(dead_workers(worker.directory), None)) as dead:
        dead.remove()
    assert list(worker.directory.iterdir()) == []
