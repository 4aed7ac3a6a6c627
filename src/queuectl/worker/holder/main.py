"""The holder: the process of a worker that must not fail, so it does little and knows nothing of the store.

`python -m queuectl.worker.holder --config-fd N` reads one JSON document from that pipe:

    worker         {"id", "name", "host"}
    count          slots
    directory      where this store's workers keep their files; private
    agent          handed to each agent in `welcome` as it is; may hold a password, so it stands in no argv and in no
                   environment
    agent_argv     how to start an agent; default: this Python, -m queuectl.worker.agent
    log_format     "plain" or "json"
    ready_fd       where "ready" is written when the first agent has said hello, or a line that says what went wrong
    drain_timeout  seconds after which a drain becomes a stop; null: never
    on_hangup      "drain" or "ignore"; null: drain, unless HUP was ignored when the worker started (nohup)
    one_host       whether all workers of this store are on this host
    commands       {"store", "clean_env"}: what commands find in QUEUECTL_STORE (null: what the environment says), and
                   whether they see only the minimum of the environment. Default: null, false

One thread, one loop: wait for pipes, the agent, a signal or the nearest deadline; reap; attend to what is
due; start what waits; send. Standard library only: it lives for weeks, across upgrades of everything else.

Not done here: anything about retries, leases beyond their deadline, or the store. What the holder does not
survive is SIGKILL and the machine's end; then the guard (`guard.py`) ends the commands, and the slots file
says what they were.
"""

import contextlib
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from queuectl import trust
from queuectl.clock import boottime
from queuectl.worker import protocol
from queuectl.worker.holder.agent_process import GIVE_UP, Agents
from queuectl.worker.holder.guard import Guard
from queuectl.worker.holder.log import Notices, draining, ending
from queuectl.worker.holder.spawn import Spawner
from queuectl.worker.holder.supervisor import Crew
from queuectl.worker.holder.timers import NEVER, Alarm
from queuectl.worker.host import liveness, process_table
from queuectl.worker.host.result_file import Handover
from queuectl.worker.host.slot_file import Slots
from queuectl.worker.wording import counted

LONGEST_WAIT, LONGEST_WAIT_WITH_DEADLINES = 3600.0, 5.0
OVERSLEPT = 1.0
RENEWAL_TIME = 10.0
"""Seconds that an agent has, after a sleep, to renew what it holds."""
TOLD_EVERY = 60.0
"""Seconds between two notices of what the end of a worker waits for."""
AWAY_PATIENCE = 2.0
"""Seconds that a second signal leaves a store that is known to be away to come back."""

PHASES = ("running", "draining", "stopping", "killing")
RUNNING, DRAINING, STOPPING, KILLING = range(4)


class Holder:
    """A worker's life from its first signal handler to its exit status."""

    def __init__(
        self, config: dict[str, Any], folder: int, slots: Slots, guard: Guard, notices: Notices
    ) -> None:
        self._config, self._slots, self._guard, self._notices = config, slots, guard, notices
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._heeded = 0
        self._wake = _open_wake_up(self._selector, self._note_signal, config.get("on_hangup"))
        self._phase = RUNNING
        self._drain_end, self._guard_again, self._patience, self._tell = Alarm(), Alarm(), Alarm(), Alarm()
        self._handover = Handover(Path(config["directory"]), config["worker"]["id"])
        self._away: str | None = None
        self.left: str | None = None
        self._said_bye = False
        self._started_at, self._born = time.time(), boottime()
        ours = self._ours = {guard.pid}
        argv = config.get("agent_argv") or [sys.executable, "-P", "-m", "queuectl.worker.agent"]
        self._agents = Agents(argv, self._selector, self._receive, ours, notices.say)
        given = config.get("commands") or {}
        spawner = self._spawner = Spawner(
            Path(config["directory"]),
            folder,
            config["worker"]["name"],
            store=given.get("store"),
            clean=bool(given.get("clean_env")),
        )
        self._crew = Crew(slots, spawner, self._selector, self._agents.post, ours)
        self._replies: dict[type[protocol.Message], Callable[[Any, bytes], None]] = {
            protocol.Hello: self._on_hello,
            protocol.Start: self._crew.submit,
            protocol.Kill: self._on_kill,
            protocol.Drop: self._on_drop,
            protocol.Ack: lambda m, _: self._crew.acknowledge(m.attempt_ids),
            protocol.AckOutput: lambda m, _: self._crew.acknowledge_output(m.attempt_id, m.n, boottime()),
            protocol.LeaseDeadline: lambda m, _: self._crew.extend(m.attempt_ids, m.deadline),
            protocol.Drain: lambda m, _: self._enter(DRAINING, asked=not m.done),
            protocol.Stop: lambda m, _: self._enter(KILLING if m.now else STOPPING),
            protocol.Rename: self._on_rename,
            protocol.Reload: lambda *_: self._agents.start(boottime()),
            protocol.StoreState: self._on_store,
            protocol.Leave: self._on_leave,
        }

    def run(self) -> int:
        """The loop. Returns the exit status."""
        while True:
            now = boottime()
            self._reap(now)
            self._heed(now)
            if self._guard_again.rings(now):
                self._start_guard(now)
            self._agents.tick(now)
            self._crew.tick(now)
            self._crew.fill(now)
            if (status := self._end(now)) is not None:
                return status
            self._agents.flush(boottime())
            self._wait()

    def _wait(self) -> None:
        """Until something happens. Whoever slept much longer than meant, stopped or suspended, could renew nothing.

        Where all workers of a store are on this host they slept too, so nobody has been given our commands meanwhile:
        their leases get a while to be renewed. Elsewhere a lease that has passed has passed.
        """
        before, meant = boottime(), self._timeout()
        ready = self._selector.select(meant)
        if boottime() - before - meant > OVERSLEPT and self._config.get("one_host"):
            self._crew.allow_until(boottime() + RENEWAL_TIME)
        for key, _ in ready:
            key.data()

    def _timeout(self) -> float:
        alarms = (self._drain_end, self._guard_again, self._patience, self._tell)
        due = min(self._crew.due(), self._agents.due(), *(alarm.at for alarm in alarms))
        # The selector's clock stands still while the machine is suspended, our deadlines do not.
        longest = LONGEST_WAIT_WITH_DEADLINES if self._crew.running else LONGEST_WAIT
        return max(0.0, min(due - boottime(), longest))

    # Signals and children

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _heed(self, now: float) -> None:
        """What the noted signals ask for: each goes one step further than the last."""
        noted, self._signals = self._signals, []
        for _ in noted:
            self._heeded += 1
            self._enter(min(self._phase + 1, KILLING))
        if self._drain_end.rings(now):
            self._enter(STOPPING)
        if self._tell.rings(now):
            self._tell_what_it_waits_for(now)

    def _reap(self, now: float) -> None:
        """Every child that has ended, ours by birth or by adoption."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._guard.pid:
                self._notices.say("guard_lost", f"the guard (pid {pid}) is gone; starting another", pid=pid)
                self._start_guard(now)
            elif self._agents.reaped(pid, status, now):
                self._notices.not_ready("the agent ended before it was ready")
            else:
                self._crew.reaped(pid, status, usage, now)

    def _start_guard(self, now: float) -> None:
        """A new guard, or another try in a second: without processes to spare, running commands still matter more."""
        try:
            self._guard.start()
        except OSError as error:
            self._notices.say("guard_not_started", f"cannot start a guard: {error}", errno=error.errno)
            self._guard_again.set(now + 1.0)
            return
        self._guard_again.clear()
        self._ours.add(self._guard.pid)

    # Phases

    def _enter(self, phase: int, *, asked: bool = True) -> None:
        """Go on to a later phase; there is no way back. Nothing is said of an end that nobody `asked` for."""
        if phase <= self._phase:
            return
        self._phase = phase
        self._crew.starting = False
        now, running = boottime(), self._crew.running
        self._patience.clear()
        self._tell.set(now + TOLD_EVERY)
        if phase == DRAINING:
            if asked:
                self._notices.say("draining", draining(running, self._again()), running=running)
            self._drain_end.set(now + _or_never(self._config.get("drain_timeout")))
            self._agents.post(protocol.encode(protocol.Drain()))
            return
        self._drain_end.clear()
        again = self._again() if phase == STOPPING else None
        self._notices.say(PHASES[phase], ending(PHASES[phase], running, again))
        self._agents.post(protocol.encode(protocol.Stop()))
        self._crew.end_all("interrupted", now, at_once=phase == KILLING)

    def _tell_what_it_waits_for(self, now: float) -> None:
        """Report each minute why this worker does not leave, and which signal makes it leave."""
        self._tell.set(now + TOLD_EVERY)
        what = [f"{counted(self._crew.running, 'command')} running"] if self._crew.running else []
        if self._crew.kept:
            away = f" ({self._away})" if self._away else ""
            what.append(f"{counted(self._crew.kept, 'result')} not in the store yet{away}")
        again = self._again()
        ways = ("", f"; {again} ends what runs and leaves", f"; {again} kills what runs", "")
        sentence = (
            f"still {PHASES[self._phase]}: {', '.join(what) or 'the agent has not left'}{ways[self._phase]}"
        )
        self._notices.say("waiting", sentence, running=self._crew.running, results=self._crew.kept)

    def _again(self) -> str:
        """The signal that goes one step further."""
        return self._notices.signal(min(self._heeded, self._phase))

    def _end(self, now: float) -> int | None:
        """The exit status, once there is nothing left to do; None before."""
        if self.left is not None and self._crew.settled:
            self._notices.say("leaving", f"leaving: {self.left}")
            return 1
        if self._phase == RUNNING or self._crew.running:
            self._patience.clear()
            return None
        if self._patience.at == NEVER and not self._patience.rung:
            self._patience.set(now + (AWAY_PATIENCE if self._away and self._phase > DRAINING else GIVE_UP))
        came = self._patience.rings(now)
        if not self._crew.settled:
            return self._end_with_results(now, came)
        if self._said_bye:
            return 0 if self._patience.rung or not self._agents.connected else None
        if self._agents.connected:
            self._say_bye(now)
        return 0 if self._patience.rung else None

    def _end_with_results(self, now: float, came: bool) -> int | None:
        """Results are left. A drain waits for as long as there is an agent that may deliver them, a stop does not."""
        if self._phase == DRAINING and self._agents.connected:
            if came:  # early: whoever runs out of patience with a worker that waits may kill it
                self._hand_over()
                self._tell_what_it_waits_for(now)
            return None
        if not came:
            if (
                self._patience.rung
            ):  # for an agent that was there then, and has gone since: the next one has its time
                self._patience.set(now + GIVE_UP)
            return None
        if self._hand_over():
            left = f"{counted(self._crew.kept, 'result')} not in the store"
            sentence = f"leaving with {left}: kept in {self._handover.path} for the next worker on this host"
            self._notices.say("undelivered", sentence, results=self._crew.kept)
        return 1

    def _hand_over(self) -> bool:
        """Keep what was not delivered for the next worker; whether that was possible."""
        try:
            self._handover.write(self._crew.backlog())
        except OSError as error:
            why = f"{counted(self._crew.kept, 'result')} cannot be kept for the next worker: {error.strerror}"
            self._notices.say("undelivered", f"{why}; what they belong to will count as lost")
            return False
        return True

    def _say_bye(self, now: float) -> None:
        self._said_bye = True
        self._patience.set(now + GIVE_UP)
        self._agents.stop_starting()
        self._agents.post(protocol.encode(protocol.Bye()))

    # Messages

    def _receive(self, message: protocol.Message, payload: bytes) -> None:
        if reply := self._replies.get(type(message)):
            reply(message, payload)

    def _on_hello(self, _message: protocol.Hello, _payload: bytes) -> None:
        self._away = None
        self._agents.post(protocol.encode(self._welcome()))
        for frame in self._crew.backlog():
            self._agents.post(frame)
        self._notices.ready()

    def _on_store(self, message: protocol.StoreState, _payload: bytes) -> None:
        self._away = message.away
        if self._away and self._phase > DRAINING and self._patience.at != NEVER:
            self._patience.set(min(self._patience.at, boottime() + AWAY_PATIENCE))

    def _on_leave(self, message: protocol.Leave, _payload: bytes) -> None:
        """While a result is to be delivered the holder stays: the store may come back."""
        self.left = message.why if self._crew.settled else None

    def _on_rename(self, message: protocol.Rename, _payload: bytes) -> None:
        self._config["worker"]["name"] = self._spawner.worker = self._notices.name = message.name

    def _on_kill(self, message: protocol.Kill, _payload: bytes) -> None:
        if dropped := self._crew.kill(message.attempt_id, message.reason, boottime()):
            self._agents.post(protocol.encode(protocol.Dropped(dropped)))

    def _on_drop(self, message: protocol.Drop, _payload: bytes) -> None:
        self._agents.post(protocol.encode(protocol.Dropped(self._crew.withdraw(message.attempt_ids))))

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
            phase=PHASES[min(self._phase, STOPPING)],
            attempts=self._crew.roster(),
        )

    def close(self, *, clean: bool) -> None:
        """Let go of everything; a clean end needs no guard and leaves no file."""
        self._agents.end_all()
        self._guard.dismiss()
        if clean:
            self._handover.discard()
            liveness.path_of(Path(self._config["directory"]), self._config["worker"]["id"]).unlink(
                missing_ok=True
            )


def _open_wake_up(selector: selectors.BaseSelector, note: Any, on_hangup: str | None) -> int:
    """Have every signal wake the loop through a pipe: one just before the wait is not slept over.

    A signal that was ignored when we started stays so: HUP by nohup, INT by a shell that started us with `&`. TERM is
    always heard, else such a worker could be told nothing.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    heard = {signal.SIGTERM} | {
        n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN
    }
    if on_hangup:
        heard = heard - {signal.SIGHUP} if on_hangup == "ignore" else heard | {signal.SIGHUP}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note if number in heard else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
    selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 4096))
    return reader


def start(config: dict[str, Any], notices: Notices) -> Holder:
    """Everything that has to stand before the first command, in the order that leaves no gap."""
    directory, worker = Path(config["directory"]), config["worker"]
    folder = trust.private_directory(config["directory"])
    path = liveness.path_of(directory, worker["id"])
    unlocked = path.with_suffix(".new")
    slots = Slots.create(unlocked, worker, config["count"])
    # The guard comes before the lock, so that it never holds it, and before all else that it should not
    # inherit.
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
        notices.say("platform", sentence)
    return Holder(config, folder, slots, guard, notices)


def read_config(descriptor: int) -> dict[str, Any]:
    """The one document on the pipe, which is closed."""
    with open(descriptor, "rb") as pipe:
        config: dict[str, Any] = json.load(pipe)
    return config


def close_foreign(keep: set[int]) -> None:
    """Close what our starter forgot to, and make sure that 0, 1 and 2 are taken."""
    for descriptor in list(process_table.foreign_descriptors(keep)):
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed already
            os.close(descriptor)
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def main(arguments: list[str]) -> int:
    """Run a worker; the exit status is 0 if nothing was left undone."""
    if len(arguments) != 2 or arguments[0] != "--config-fd":
        print("usage: python -m queuectl.worker.holder --config-fd N", file=sys.stderr)
        return 2
    config = read_config(int(arguments[1]))
    ready_fd = config.get("ready_fd")
    close_foreign({ready_fd} if ready_fd is not None else set())
    notices = Notices(config["worker"]["name"], config.get("log_format", "plain"), ready_fd)
    try:
        holder = start(config, notices)
    except (OSError, ValueError, trust.Untrusted) as error:
        notices.say("not_started", f"cannot start: {error}")
        notices.not_ready(f"cannot start: {error}")
        return 1
    status = holder.run()
    holder.close(clean=status == 0 or holder.left is not None)
    return status


def _or_never(value: float | None) -> float:
    return NEVER if value is None else value


def entry() -> NoReturn:
    """The module's way out: no interpreter shutdown, which could only fail now."""
    status = main(sys.argv[1:])
    if sys.stderr is not None:  # it was closed when we started
        sys.stderr.flush()
    os._exit(status)
