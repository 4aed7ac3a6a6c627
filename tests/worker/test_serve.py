"""The HTTP server of a worker: it starts before the agent, is replaced when it dies, and ends last."""

import itertools
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from holders import Worker, alive, numbers, pids_in
from test_agent_process import everything

from facts import eventually
from queuectl.worker.holder.log import Log
from queuectl.worker.holder.server_process import ServerProcess
from queuectl.worker.host import process_table

FAKE_SERVER = Path(__file__).with_name("fake_server.py")
Start = Callable[..., Worker]


class Served:
    """What the servers of a worker have written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    @property
    def pids(self) -> list[int]:
        return numbers(self.folder / "pids")

    @property
    def bytes(self) -> str:
        return (self.folder / "bytes").read_text() if (self.folder / "bytes").exists() else ""

    def next_pid(self, number: int, within: float = 10.0) -> int:
        """The pid of the server with this number, counted from 1, once it runs."""
        return eventually(lambda: len(self.pids) >= number and self.pids[number - 1], within=within)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path / "served")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    # Other tests take free ports of 127.0.0.1, also one that was closed here a moment before.
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        yield listener


@pytest.fixture
def start(new_worker: Start, served: Served, listener: socket.socket) -> Start:
    """Starts a worker with a server."""

    def start(**config: object) -> Worker:
        server = {
            "argv": [sys.executable, "-S", str(FAKE_SERVER), str(served.folder)],
            "environment": {"QUEUECTL_STORE": "secret"},
            "sockets": [listener.fileno()],
        }
        return new_worker(server=server, keep_open=(listener.fileno(),), **config)

    return start


def leave(worker: Worker) -> None:
    """Let the worker drain, and its agent exit."""
    worker.signal(signal.SIGTERM)
    worker.agent.expect("bye")
    worker.agent.close()


def children_of(worker: Worker) -> set[int]:
    return {process.pid for process in process_table.processes() if process.ppid == worker.pid}


class TestStart:
    def test_the_worker_logs_where_its_server_listens(
        self, start: Start, served: Served, listener: socket.socket
    ) -> None:
        worker = start()
        assert worker.agent.run("echo on")[1] == b"on\n"
        port = listener.getsockname()[1]
        assert worker.log.read_text() == f"worker test: listening on http://127.0.0.1:{port}\n"
        assert served.bytes == "b"

    def test_a_worker_whose_server_cannot_start_starts_no_agent(self, start: Start, served: Served) -> None:
        (served.folder / "fault").write_text("the token file has no place")
        reader, writer = os.pipe()
        worker = start(ready_fd=writer, greet=False, agent_argv=["touch", str(served.folder / "agent")])
        os.close(writer)
        assert everything(reader) == b"the server cannot serve: the token file has no place\n"
        assert worker.exit_status() == 1
        assert not (served.folder / "agent").exists()
        assert not worker.slots_file.exists()
        assert worker.log.read_text() == "worker test: the server cannot serve: the token file has no place\n"

    def test_a_server_without_a_reason_is_reported_by_its_exit_status(self, new_worker: Start) -> None:
        server = {"argv": ["/bin/sh", "-c", "exit 7"], "environment": {}, "sockets": []}
        worker = new_worker(server=server, greet=False)
        assert worker.exit_status() == 1
        assert worker.log.read_text() == "worker test: the server exited with status 7\n"

    def test_a_program_that_does_not_exist_is_reported(self, new_worker: Start) -> None:
        server = {"argv": ["/nowhere/queuectl"], "environment": {}, "sockets": []}
        worker = new_worker(server=server, greet=False)
        assert worker.exit_status() == 1
        assert "cannot start the server: " in worker.log.read_text()

    def test_the_starter_receives_the_url(self, start: Start, listener: socket.socket) -> None:
        reader, writer = os.pipe()
        worker = start(ready_fd=writer)
        os.close(writer)
        worker.agent.send("store", away=None)
        assert everything(reader) == f"ready http://127.0.0.1:{listener.getsockname()[1]}\n".encode()

    def test_a_command_inherits_neither_the_sockets_nor_the_environment_of_the_server(
        self, start: Start
    ) -> None:
        worker = start(env={"QUEUECTL_STORE": "shown"})
        listing = worker.agent.run("readlink /proc/self/fd/* | grep -c socket; echo $QUEUECTL_STORE")[1]
        assert listing == b"0\nshown\n"

    def test_a_server_that_was_killed_because_it_was_slow_is_reported_as_slow(self) -> None:
        config = {"argv": ["/bin/sh", "-c", "exec sleep 300"], "environment": {}, "sockets": []}
        with selectors.DefaultSelector() as selector:
            own: set[int] = set()
            server = ServerProcess(config, selector, own, Log("test", "plain", None), pytest.fail)
            server.run_due(100.0)
            (pid,) = own
            server.run_due(159.0)
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
            server.run_due(160.0)
            _, status = os.waitpid(pid, 0)
            assert server.reaped(pid, status, 160.0)
        assert server.fault == "the server did not accept requests within 60 s"


class TestDeath:
    def test_a_killed_server_is_replaced_and_commands_continue(self, start: Start, served: Served) -> None:
        worker = start()
        attempt_id = worker.agent.start("sleep 60")
        command = worker.agent.started(attempt_id)["pid"]
        first = served.next_pid(1)
        os.kill(first, signal.SIGKILL)
        served.next_pid(2, within=1.0)
        assert alive(command)
        assert worker.agent.run("echo on")[1] == b"on\n"
        said = worker.log.read_text().splitlines()
        assert said[1:] == [f"worker test: the server (pid {first}) was killed by signal 9; starting another"]

    def test_a_crash_loop_of_the_server_is_slowed_down(self, start: Start, served: Served) -> None:
        worker, times = start(), []
        (served.folder / "fault").write_text("no place")
        os.kill(served.next_pid(1), signal.SIGKILL)
        for number in range(2, 6):
            served.next_pid(number)
            times.append(time.monotonic())
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps[2] >= 0.7  # 0.1 s before the first restart, then 0.2, 0.4 and 0.8
        lines = worker.log.read_text().splitlines()
        assert any("cannot serve: no place; starting another" in line for line in lines)
        assert worker.agent.run("echo on")[1] == b"on\n"
        (served.folder / "fault").unlink()

    def test_events_are_json_with_log_format_json(self, start: Start, served: Served) -> None:
        worker = start(log_format="json")
        os.kill(served.next_pid(1), signal.SIGKILL)
        served.next_pid(2)
        events = [json.loads(line) for line in worker.log.read_text().splitlines()]
        assert [event["event"] for event in events] == ["listening", "server_exited"]
        assert events[0]["url"].startswith("http://127.0.0.1:")

    def test_a_server_ends_when_its_holder_is_killed(self, start: Start, served: Served) -> None:
        worker = start()
        pid = served.next_pid(1)
        os.kill(worker.pid, signal.SIGKILL)
        eventually(lambda: not alive(pid), within=1.0)
        assert served.bytes == "bEOF."

    def test_the_end_of_a_command_with_leftovers_ends_no_server_that_started_meanwhile(
        self, start: Start, served: Served, tmp_path: Path
    ) -> None:
        """Such a server is a child of the holder too, names no attempt, and is younger than the command."""
        worker = start()
        write = f"echo $$ >> {tmp_path}/pids; exec sleep 60"
        attempt_id = worker.agent.start(
            f"setsid -f env -i sh -c '{write}'; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
        )
        (leftover,) = pids_in(tmp_path / "pids")
        os.kill(served.next_pid(1), signal.SIGKILL)
        second = served.next_pid(2)
        (tmp_path / "go").touch()
        worker.agent.exited(attempt_id)
        assert not alive(leftover)
        assert alive(second)
        assert len(served.pids) == 2


class TestReload:
    def test_the_server_is_replaced_after_the_new_agent_is_connected(
        self, start: Start, served: Served
    ) -> None:
        worker = start()
        first = served.next_pid(1)
        worker.agent.send("reload")
        agent = worker.next_agent(greet=False)
        assert alive(first)
        agent.hello()
        second = served.next_pid(2)
        assert not alive(first)
        assert alive(second)
        assert f"the server (pid {first}) is replaced" in worker.log.read_text()

    def test_an_agent_that_replaces_a_dead_one_replaces_no_server(self, start: Start, served: Served) -> None:
        worker = start()
        worker.agent.die()
        assert worker.next_agent().run("echo on")[1] == b"on\n"
        assert len(served.pids) == 1


class TestEnd:
    def test_the_server_drains_with_the_worker_and_ends_last(
        self, start: Start, served: Served, tmp_path: Path
    ) -> None:
        worker = start()
        attempt_id = worker.agent.start(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
        worker.agent.started(attempt_id)
        worker.signal(signal.SIGTERM)
        eventually(lambda: served.bytes == "bd")
        (tmp_path / "go").touch()
        worker.agent.exited(attempt_id)
        worker.agent.ack(attempt_id)
        worker.agent.expect("bye")
        assert served.bytes == "bd"
        assert alive(served.next_pid(1))
        worker.agent.close()
        assert worker.exit_status() == 0
        assert served.bytes == "bdl."
        assert not alive(served.next_pid(1))

    def test_a_server_that_replaces_another_drains_too(
        self, start: Start, served: Served, tmp_path: Path
    ) -> None:
        worker = start()
        attempt_id = worker.agent.start(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
        worker.agent.started(attempt_id)
        worker.signal(signal.SIGTERM)
        eventually(lambda: served.bytes == "bd")
        os.kill(served.next_pid(1), signal.SIGKILL)
        eventually(lambda: served.bytes == "bdbd")
        (tmp_path / "go").touch()
        worker.agent.exited(attempt_id)
        worker.agent.ack(attempt_id)
        worker.agent.expect("bye")
        worker.agent.close()
        assert worker.exit_status() == 0

    def test_the_port_refuses_connections_while_the_server_ends(
        self, start: Start, served: Served, listener: socket.socket
    ) -> None:
        (served.folder / "deaf").touch()
        worker, address = start(), listener.getsockname()
        listener.close()
        leave(worker)
        eventually(lambda: served.bytes == "bdl")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address[:2], 1)
        os.kill(served.next_pid(1), signal.SIGKILL)
        assert worker.exit_status() == 0

    def test_a_worker_that_waits_for_its_server_starts_nothing(self, start: Start, served: Served) -> None:
        (served.folder / "deaf").touch()
        worker = start()
        worker.agent.send("store_lost", why="the database is lost")
        eventually(lambda: served.bytes == "bl")
        children = children_of(worker)
        attempt_id = worker.agent.start("sleep 60")
        worker.agent.send("reload")
        worker.agent.send("drop", attempt_ids=[attempt_id])
        assert worker.agent.expect("dropped")[0]["attempt_ids"] == [attempt_id]
        assert children_of(worker) == children
        os.kill(served.next_pid(1), signal.SIGKILL)
        assert worker.exit_status() == 1
        assert not worker.slots_file.exists()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_drain_kills_a_first_server_that_accepts_no_requests_yet(
        self, start: Start, served: Served, number: int
    ) -> None:
        (served.folder / "slow").touch()
        reader, writer = os.pipe()
        worker = start(ready_fd=writer, greet=False, agent_argv=["touch", str(served.folder / "agent")])
        os.close(writer)
        server = served.next_pid(1)
        worker.signal(number)
        assert worker.exit_status(within=5) == 0
        assert not alive(server)
        assert not (served.folder / "agent").exists()
        assert everything(reader) == b"the worker was stopped before its server accepted requests\n"
        assert not worker.slots_file.exists()

    def test_a_signal_kills_a_server_that_does_not_end(self, start: Start, served: Served) -> None:
        (served.folder / "deaf").touch()
        worker = start()
        leave(worker)
        eventually(lambda: served.bytes == "bdl")
        worker.signal(signal.SIGTERM)
        assert worker.exit_status(within=2) == 0
        assert not alive(served.next_pid(1))

    @pytest.mark.proof
    def test_a_server_that_does_not_end_is_killed(self, start: Start, served: Served) -> None:
        (served.folder / "deaf").touch()
        worker = start()
        leave(worker)
        assert worker.exit_status(within=9) == 0

    def test_a_worker_whose_server_is_between_two_starts_ends_at_once(
        self, start: Start, served: Served
    ) -> None:
        worker = start()
        (served.folder / "fault").write_text("no place")
        os.kill(served.next_pid(1), signal.SIGKILL)
        served.next_pid(5)  # the next one starts in 1.6 s
        leave(worker)
        assert worker.exit_status() == 0
        assert len(served.pids) == 5
