"""Drain, stop, kill: each signal starts the next step, and no process is left."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from holders import HungUp, Worker, alive, all_dead, pids_in

from facts import Stopwatch, eventually
from queuectl.worker.host import result_file

STUBBORN = "trap '' TERM; echo $$ > {}/pid; while :; do sleep 0.05; done"


def leave(worker: Worker) -> int:
    """Say goodbye as an agent does; the worker's exit status."""
    worker.agent.expect("bye")
    worker.agent.close()
    return worker.exit_status()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_drains(worker: Worker, number: int, tmp_path: Path) -> None:
    attempt_id = worker.agent.start(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo done")
    worker.agent.started(attempt_id)
    guard = worker.guard_pid()
    worker.signal(number)
    worker.agent.expect("drain")
    (tmp_path / "go").touch()
    assert worker.agent.exited(attempt_id)["ended_by"] is None
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0
    assert list(worker.directory.iterdir()) == []
    eventually(lambda: not alive(guard))


def lines(worker: Worker) -> list[str]:
    """The log lines of the worker."""
    return worker.log.read_text().splitlines()


def test_after_each_signal_the_effect_of_the_next_one_is_printed(worker: Worker, tmp_path: Path) -> None:
    attempt_id = worker.agent.start(STUBBORN.format(tmp_path))
    worker.agent.started(attempt_id)
    pids_in(tmp_path / "pid")
    said = [
        "worker test: draining: waiting for 1 running command, nothing more is started; "
        "a second signal ends it and gives it back to the queue",
        "worker test: stopping: ending 1 command; a third signal kills what still runs",
        "worker test: killing: 1 command running",
    ]
    for count, _ in enumerate(said, 1):
        worker.signal(signal.SIGINT)
        eventually(lambda count=count: lines(worker) == said[:count], what=f"{count} lines")
    worker.agent.exited(attempt_id)
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0


def test_a_drain_by_worker_stop_is_printed_and_not_counted_as_a_signal(
    worker: Worker, tmp_path: Path
) -> None:
    attempt_id = worker.agent.start(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    worker.agent.started(attempt_id)
    worker.agent.send("drain")
    worker.agent.expect("drain")
    (tmp_path / "go").touch()
    worker.agent.exited(attempt_id)
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0
    assert "nothing more is started; a signal ends it and gives it back" in worker.log.read_text()


def test_an_end_without_a_request_is_not_logged_as_a_drain(worker: Worker) -> None:
    worker.agent.send("drain", done=True)
    assert leave(worker) == 0
    assert lines(worker) == []


def test_an_idle_worker_drains_at_once(worker: Worker) -> None:
    watch = Stopwatch()
    worker.signal(signal.SIGTERM)
    assert leave(worker) == 0
    watch.check(1.0)


def test_a_hangup_is_ignored_with_on_hangup_ignore(new_worker: Callable[..., Worker]) -> None:
    worker = new_worker(on_hangup="ignore")
    worker.signal(signal.SIGHUP)
    assert worker.agent.run("echo on")[1] == b"on\n"
    assert worker.agent.of("drain") == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(
    new_worker: Callable[..., Worker], number: int
) -> None:
    """nohup and the `&` of a shell ignore signals for this purpose. TERM still drains."""
    worker = new_worker(on_hangup=None, preexec=lambda: signal.signal(number, signal.SIG_IGN))
    worker.signal(number)
    assert worker.agent.run("echo on")[1] == b"on\n"
    assert worker.agent.of("drain") == []
    worker.signal(signal.SIGTERM)
    assert leave(worker) == 0


def test_a_hangup_drains_by_default_and_by_option_even_under_nohup(
    new_worker: Callable[..., Worker],
) -> None:
    for config in (
        {"on_hangup": None},
        {"on_hangup": "drain", "preexec": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)},
    ):
        worker = new_worker(**config)
        worker.signal(signal.SIGHUP)
        assert leave(worker) == 0


def test_term_works_although_it_was_ignored_or_blocked_at_the_start(
    new_worker: Callable[..., Worker],
) -> None:
    def deaf() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])

    worker = new_worker(preexec=deaf)
    worker.signal(signal.SIGTERM)
    assert leave(worker) == 0


def test_a_draining_worker_starts_no_command_and_drops_waiting_ones(worker: Worker) -> None:
    busy = [worker.agent.start("sleep 0.5") for _ in range(2)]
    waiting = [worker.agent.start("true") for _ in range(3)]
    worker.agent.started(busy[1])
    worker.agent.send("drain")
    worker.agent.expect("drain")
    for attempt_id in busy:
        worker.agent.exited(attempt_id)
    worker.agent.ack(*busy)
    worker.agent.send("drop", attempt_ids=waiting + busy + ["f" * 32])
    dropped, _ = worker.agent.expect("dropped")
    assert sorted(dropped["attempt_ids"]) == sorted(waiting)
    assert leave(worker) == 0
    assert {m["attempt_id"] for m, _ in worker.agent.of("started")} == set(busy)


def test_a_draining_worker_waits_for_the_acknowledgement_of_results(worker: Worker) -> None:
    attempt_id = worker.agent.start("true")
    worker.agent.exited(attempt_id)
    worker.signal(signal.SIGTERM)
    worker.agent.expect("drain")
    worker.agent.hear(0.3)
    assert worker.agent.of("bye") == []
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0


def test_the_second_signal_ends_the_commands_with_grace(worker: Worker, tmp_path: Path) -> None:
    attempt_id = worker.agent.start(
        f"trap 'echo bye; exit 0' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"
    )
    pids_in(tmp_path / "pid")
    worker.signal(signal.SIGTERM)
    worker.agent.expect("drain")
    worker.signal(signal.SIGTERM)
    worker.agent.expect("stop")
    ended = worker.agent.exited(attempt_id)
    assert (ended["ended_by"], ended["exit_code"]) == ("interrupted", 0)
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0


def test_the_third_signal_kills_at_once(worker: Worker, tmp_path: Path) -> None:
    attempt_id = worker.agent.start(STUBBORN.format(tmp_path), grace=60.0)
    pids = pids_in(tmp_path / "pid")
    for sign in ("drain", "stop"):
        worker.signal(signal.SIGINT)
        worker.agent.expect(sign)
    assert all(map(alive, pids))
    worker.signal(signal.SIGINT)
    ended = worker.agent.exited(attempt_id, within=2)
    assert (ended["ended_by"], ended["signal"]) == ("interrupted", signal.SIGKILL)
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0


@pytest.mark.parametrize(("fields", "number"), [({}, signal.SIGTERM), ({"now": True}, signal.SIGKILL)])
def test_a_stop_message_ends_the_commands(worker: Worker, fields: dict[str, bool], number: int) -> None:
    attempt_id = worker.agent.start("sleep 60")
    worker.agent.started(attempt_id)
    worker.agent.send("stop", **fields)
    ended = worker.agent.exited(attempt_id, within=2)
    assert (ended["ended_by"], ended["signal"]) == ("interrupted", number)
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0


def test_a_drain_that_takes_too_long_becomes_a_stop(new_worker: Callable[..., Worker]) -> None:
    worker = new_worker(drain_timeout=0.3)
    attempt_id = worker.agent.start("sleep 60")
    worker.agent.started(attempt_id)
    worker.signal(signal.SIGTERM)
    assert worker.agent.exited(attempt_id, within=3)["ended_by"] == "interrupted"
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0


def test_an_agent_that_dies_while_draining_is_replaced(worker: Worker) -> None:
    attempt_id = worker.agent.start("sleep 0.5; exit 4")
    worker.agent.started(attempt_id)
    worker.signal(signal.SIGTERM)
    worker.agent.expect("drain")
    worker.agent.die()
    second = worker.next_agent(greet=False)
    assert second.hello()["phase"] == "draining"
    assert second.exited(attempt_id)["exit_code"] == 4
    second.ack(attempt_id)
    assert leave(worker) == 0


def test_unacknowledged_results_are_saved_to_a_file_with_exit_status_1(
    new_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = new_worker(env=impatient())
    attempt_id = worker.agent.start("true")
    worker.agent.exited(attempt_id)
    for agent in worker.agents:
        agent.die()
    worker._control.close()  # no further agent can live
    worker.signal(signal.SIGTERM)
    assert worker.exit_status() == 1
    assert worker.slots_file.exists()
    results = worker.slots_file.with_suffix(".results")
    assert [message["attempt_id"] for message, _ in result_file.read(results)] == [attempt_id]
    assert results.stat().st_mode & 0o777 == 0o600
    assert f"leaving with 1 result not in the store: kept in {results}" in worker.log.read_text()


def test_a_waiting_worker_saves_results_and_deletes_the_file_once_stored(
    new_worker: Callable[..., Worker],
) -> None:
    worker = new_worker(env=impatient())
    attempt_id = worker.agent.start("true")
    worker.agent.exited(attempt_id)
    worker.signal(signal.SIGTERM)
    eventually(worker.slots_file.with_suffix(".results").exists)
    said = "still draining: 1 result not in the store yet; a second signal"
    eventually(lambda: said in worker.log.read_text())
    worker.agent.ack(attempt_id)
    assert leave(worker) == 0
    assert list(worker.directory.iterdir()) == []


def test_a_stop_waits_at_most_two_seconds_during_an_outage_of_the_store(worker: Worker) -> None:
    attempt_id = worker.agent.start("echo x")
    worker.agent.exited(attempt_id)
    worker.agent.send("store", away="the database is on holiday")
    for _ in range(2):
        worker.signal(signal.SIGTERM)
        worker.agent.expect("drain")
    assert worker.exit_status(5) == 1
    found = result_file.read(worker.slots_file.with_suffix(".results"))
    assert [message["type"] for message, _ in found] == ["output", "exited"]


def impatient() -> dict[str, str]:
    """Ten seconds are long for a test."""
    here = Path(__file__).parent
    return {"PYTHONPATH": os.pathsep.join([str(here / "impatient"), str(here.parents[1] / "src")])}


def test_an_agent_that_does_not_end_is_killed(new_worker: Callable[..., Worker]) -> None:
    worker = new_worker(env=impatient())
    worker.signal(signal.SIGTERM)
    worker.agent.expect("bye")
    assert worker.exit_status() == 0
    all_dead([worker.agent.pid])


def test_ctrl_c_at_the_terminal_reaches_only_the_holder(worker: Worker) -> None:
    attempt_id = worker.agent.start("sleep 60")
    pid = worker.agent.started(attempt_id)["pid"]
    groups = {os.getpgid(p) for p in (worker.agent.pid, worker.guard_pid(), pid)}
    assert len(groups) == 3
    assert os.getpgid(worker.pid) not in groups


def test_a_second_drain_has_no_effect(worker: Worker) -> None:
    worker.agent.send("drain")
    worker.agent.send("drain")
    with pytest.raises(HungUp):
        worker.agent.expect("bye")
        worker.agent.send("drain")
        worker.agent.sock.shutdown(1)
        worker.agent.hear(5)
    worker.agent.close()
    assert worker.exit_status() == 0
