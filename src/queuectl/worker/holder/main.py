"""The holder: the process of a worker that must not fail. So it does little and does not use the store.

`python -m queuectl.worker.holder --config-fd N` reads one JSON document from that pipe:

    worker         {"id", "name", "host"}
    count          slots
    directory      private directory for the files of this store's workers
    agent          sent to each agent in `Welcome`; may contain a password, so it is in no argv and in no environment
    agent_argv     how to start an agent; default: this Python, -m queuectl.worker.agent
    log_format     "plain" or "json"
    ready_fd       receives the line "ready" when the worker is in the registry, or when its first agent cannot reach
                   the store; or a line with the fault. If there is a server, its URL follows "ready"
    server         the HTTP server, see `server_process.py`; null: none
    drain_timeout  seconds after which a drain becomes a stop; null: never
    on_hangup      "drain" or "ignore"; null: drain, unless HUP was ignored when the worker started (nohup)
    one_host       whether all workers of this store are on this host
    commands       {"store", "clean_env"}: QUEUECTL_STORE of commands (null: as in the environment), and whether
                   commands get only a minimal environment. Default: null, false

One thread, one loop: reap, handle signals, run due steps, start queued attempts, send, wait for pipes, the agent, a
signal or the nearest deadline. Standard library only, because a holder runs for weeks, while everything else is
upgraded.

The agent does the retries, the renewal of leases and all calls of the store. If SIGKILL ends the holder, the guard
(`guard.py`) ends the commands, which are listed in the slot file.
"""

import contextlib
import json
import os
import selectors
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from queuectl import trust
from queuectl.clock import boottime
from queuectl.worker import protocol
from queuectl.worker.holder.agent_process import AgentProcesses
from queuectl.worker.holder.guard import Guard
from queuectl.worker.holder.log import Log
from queuectl.worker.holder.progress_pipe import ProgressPipe
from queuectl.worker.holder.server_process import ServerProcess
from queuectl.worker.holder.shutdown import DRAINING, KILLING, STOPPING, Shutdown
from queuectl.worker.holder.signals import Signals
from queuectl.worker.holder.spawn import Spawner
from queuectl.worker.holder.supervisor import Supervisor
from queuectl.worker.holder.timers import NEVER, Deadline
from queuectl.worker.host import liveness, process_table, progress_pipe
from queuectl.worker.host.result_file import ResultFile
from queuectl.worker.host.slot_file import SlotFile

LONGEST_WAIT, LONGEST_WAIT_WITH_COMMANDS = 3600.0, 5.0
OVERSLEPT = 1.0
RENEWAL_TIME = 10.0
"""Seconds for which an agent may renew its leases after the host was suspended."""


class Holder:
    """Runs a worker, from its first signal handler to its exit status."""

    def __init__(self, config: dict[str, Any], folder: int, slots: SlotFile, guard: Guard, log: Log) -> None:
        self._config, self._slots, self._guard, self._log = config, slots, guard, log
        self._started_at, self._born = time.time(), boottime()
        self._selector = selectors.DefaultSelector()
        self._signals = Signals(self._selector, config.get("on_hangup"))
        self._guard_again = Deadline()
        own = self._own = {guard.pid}
        argv = config.get("agent_argv") or [sys.executable, "-P", "-m", "queuectl.worker.agent"]
        server = config.get("server")
        self._server = ServerProcess(server, self._selector, own, log, lambda: self._agents.start(boottime()))
        start_at = NEVER if server else 0.0  # after the server
        self._agents = AgentProcesses(argv, self._selector, self._receive, own, log, start_at)
        self._reloading = False
        self._progress = ProgressPipe(
            progress_pipe.path_of(Path(config["directory"]), config["worker"]["id"]), self._selector, log
        )
        self._spawner = _spawner(config, folder, self._progress.path)
        self._supervisor = Supervisor(
            slots, self._spawner, self._selector, self._agents.send, self._progress, own
        )
        self._results = ResultFile(Path(config["directory"]), config["worker"]["id"])
        drain_timeout = config.get("drain_timeout")
        self._shutdown = Shutdown(
            self._supervisor, self._agents, self._server, log, self._results, drain_timeout
        )
        self._handlers: dict[type[protocol.Message], Callable[[Any, bytes], None]] = {
            protocol.Hello: self._on_hello,
            protocol.Start: self._supervisor.submit,
            protocol.Kill: self._on_kill,
            protocol.Drop: self._on_drop,
            protocol.Ack: lambda m, _: self._supervisor.acknowledge(m.attempt_ids),
            protocol.AckOutput: lambda m, _: self._supervisor.acknowledge_output(
                m.attempt_id, m.n, boottime()
            ),
            protocol.LeaseDeadline: lambda m, _: self._supervisor.extend(m.attempt_ids, m.deadline),
            protocol.Drain: lambda m, _: self._shutdown.enter(DRAINING, asked=not m.done),
            protocol.Stop: lambda m, _: self._shutdown.enter(KILLING if m.now else STOPPING),
            protocol.Rename: self._on_rename,
            protocol.Reload: self._on_reload,
            protocol.StoreState: self._on_store_state,
            protocol.StoreLost: lambda m, _: self._shutdown.on_store_lost(m.why),
        }

    def run(self) -> tuple[int, bool]:
        """Run the loop until the worker ends. Returns the exit status, and whether every result is acknowledged."""
        while True:
            now = boottime()
            self._reap(now)
            self._shutdown.on_signals(self._signals.take())
            self._shutdown.run_due(now)
            if self._guard_again.fires(now):
                self._start_guard(now)
            self._agents.run_due(now)
            self._server.run_due(now)
            self._progress.run_due(now)
            self._supervisor.run_due(now)
            self._supervisor.start_queued(now)
            if self._server.fault is not None:
                self._log.write("not_started", self._server.fault)
                self._log.not_ready(self._server.fault)
                return 1, True
            if (status := self._shutdown.exit_status(now)) is not None:
                return status, status == 0 or self._shutdown.store_lost
            before = boottime()
            self._agents.flush(before)
            self._wait(before)

    def _wait(self, before: float) -> None:
        """Wait for an event or a deadline.

        If a wait takes much longer than intended, the host was suspended or the holder was stopped. If all workers of
        a store are on this host, they were suspended too, and none has claimed the jobs of this worker meanwhile. So
        the holder extends the deadlines for a while, and the agent can renew the leases. On several hosts an expired
        lease stays expired. Tests: `test_a_stopped_worker_keeps_commands_that_run_on_this_host`,
        `test_a_worker_stopped_beyond_its_lease_ends_its_commands`.
        """
        timeout = self._timeout(before)
        ready = self._selector.select(timeout)
        if boottime() - before > timeout + OVERSLEPT and self._config.get("one_host"):
            self._supervisor.extend_all(boottime() + RENEWAL_TIME)
        for key, _ in ready:
            key.data()

    def _timeout(self, now: float) -> float:
        parts = (self._supervisor, self._agents, self._server, self._shutdown, self._progress)
        due = min(self._guard_again.at, *(part.due() for part in parts))
        # The selector's clock stops while the host is suspended, but the clock of our deadlines does not.
        longest = LONGEST_WAIT_WITH_COMMANDS if self._supervisor.running else LONGEST_WAIT
        return max(0.0, min(due - now, longest))

    # Children

    def _reap(self, now: float) -> None:
        """Reap every child that has ended: agents, guards, the server, leaders, leftovers."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._guard.pid:
                self._log.write("guard_lost", f"the guard (pid {pid}) is gone; starting another", pid=pid)
                self._start_guard(now)
            elif self._agents.reaped(pid, status, now):
                self._log.not_ready("the agent ended before it was ready")
            elif not self._server.reaped(pid, status, now):
                self._supervisor.reaped(pid, status, usage, now)

    def _start_guard(self, now: float) -> None:
        """Start a guard. If the fork fails, try again after a second; meanwhile the commands run without a guard."""
        try:
            self._guard.start()
        except OSError as error:
            self._log.write("guard_not_started", f"cannot start a guard: {error}", errno=error.errno)
            self._guard_again.set(now + 1.0)
            return
        self._guard_again.clear()
        self._own.add(self._guard.pid)

    # Messages of the agent

    def _receive(self, message: protocol.Message, payload: bytes) -> None:
        if handle := self._handlers.get(type(message)):
            handle(message, payload)

    def _on_hello(self, _message: protocol.Hello, _payload: bytes) -> None:
        self._shutdown.on_store(None)
        self._agents.send(protocol.encode(self._welcome()))
        for frame in self._supervisor.unacknowledged():
            self._agents.send(frame)
        if self._reloading:
            self._reloading = False
            self._server.replace(boottime())

    def _on_reload(self, _message: protocol.Reload, _payload: bytes) -> None:
        """Start an agent of the installed version. The server follows when this agent is connected."""
        self._reloading = True
        self._agents.start(boottime())

    def _on_store_state(self, message: protocol.StoreState, _payload: bytes) -> None:
        self._shutdown.on_store(message.away)
        self._log.ready(self._server.url)

    def _on_rename(self, message: protocol.Rename, _payload: bytes) -> None:
        self._config["worker"]["name"] = self._spawner.worker = self._log.name = message.name

    def _on_kill(self, message: protocol.Kill, _payload: bytes) -> None:
        if dropped := self._supervisor.kill(message.attempt_id, message.reason, boottime()):
            self._agents.send(protocol.encode(protocol.Dropped(dropped)))

    def _on_drop(self, message: protocol.Drop, _payload: bytes) -> None:
        self._agents.send(protocol.encode(protocol.Dropped(self._supervisor.withdraw(message.attempt_ids))))

    def _welcome(self) -> protocol.Welcome:
        return protocol.Welcome(
            protocol=protocol.PROTOCOL,
            config=self._config["agent"],
            worker=self._config["worker"],
            holder_pid=os.getpid(),
            boot_id=self._slots.header["boot_id"],
            directory=self._slots.header["directory"],
            started_at=self._started_at,
            born=self._born,
            count=self._config["count"],
            phase=self._shutdown.phase,
            attempts=self._supervisor.known_attempts(),
        )

    def close(self, *, clean: bool) -> None:
        """End the agents and dismiss the guard. If everything was delivered, delete the worker's files."""
        self._agents.kill_all()
        self._guard.dismiss()
        self._progress.remove()
        if clean:
            self._results.discard()
            path = liveness.path_of(Path(self._config["directory"]), self._config["worker"]["id"])
            path.unlink(missing_ok=True)


def _spawner(config: dict[str, Any], folder: int, pipe: Path | None) -> Spawner:
    given = config.get("commands") or {}
    directory, name = Path(config["directory"]), config["worker"]["name"]
    store, clean = given.get("store"), bool(given.get("clean_env"))
    return Spawner(directory, folder, name, store=store, pipe=pipe, clean=clean)


def start(config: dict[str, Any], log: Log) -> Holder:
    """Set up the holder before its first command. The order of the steps matters."""
    directory, worker = Path(config["directory"]), config["worker"]
    folder = trust.private_directory(config["directory"])
    path = liveness.path_of(directory, worker["id"])
    unlocked = path.with_suffix(".new")
    slots = SlotFile.create(unlocked, worker, config["count"])
    # The guard is forked before the lock is taken and before everything else that the guard must not inherit.
    guard = Guard(slots)
    guard.start()
    try:
        liveness.publish(unlocked, path)
    except BaseException:
        guard.dismiss()
        raise
    process_table.become_subreaper()
    process_table.name_process("queuectl-worker")
    for sentence in process_table.missing():
        log.write("platform", sentence)
    return Holder(config, folder, slots, guard, log)


def read_config(descriptor: int) -> dict[str, Any]:
    """Read the document from the pipe, and close the pipe."""
    with open(descriptor, "rb") as pipe:
        config: dict[str, Any] = json.load(pipe)
    return config


def close_foreign(keep: set[int]) -> None:
    """Close descriptors that the parent process left open, and make sure that 0, 1 and 2 are open."""
    for descriptor in list(process_table.foreign_descriptors(keep)):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is already closed
            os.close(descriptor)
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def main(arguments: list[str]) -> int:
    """Run a worker. Returns the exit status: 0 if every result was delivered."""
    if len(arguments) != 2 or arguments[0] != "--config-fd":
        print("usage: python -m queuectl.worker.holder --config-fd N", file=sys.stderr)
        return 2
    config = read_config(int(arguments[1]))
    ready_fd = config.get("ready_fd")
    close_foreign(
        {*(config.get("server") or {}).get("sockets", ()), *((ready_fd,) if ready_fd is not None else ())}
    )
    log = Log(config["worker"]["name"], config.get("log_format", "plain"), ready_fd)
    try:
        holder = start(config, log)
    except (OSError, ValueError, trust.Untrusted) as error:
        log.write("not_started", f"cannot start: {error}")
        log.not_ready(f"cannot start: {error}")
        return 1
    status, clean = holder.run()
    holder.close(clean=clean)
    return status


def entry() -> NoReturn:
    """Run `main`, and exit without the interpreter's shutdown, which is unnecessary and could fail."""
    status = main(sys.argv[1:])
    if sys.stderr is not None:  # None if stderr was closed when the holder started
        sys.stderr.flush()
    os._exit(status)
