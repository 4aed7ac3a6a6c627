"""The shutdown of a worker: drain, stop, kill; what the worker waits for, and its exit status.

    running ──► draining ──► stopping ──► killing

Each signal begins the next phase; the worker never returns to an earlier phase. A draining worker lets its commands
run, a stopping worker ends them with TERM and KILL, and a killing worker ends them with KILL. When no command runs,
the worker still waits until the agent has stored the results. It exits with 0 if everything was stored, and with 1
after it has written the results to a file for the next worker of this host (`host/result_file.py`).

The HTTP server refuses new jobs from the first phase on. It ends after everything else, so that a `worker stop` through
this server gets its answer. A signal in that time kills the server.
"""

from queuectl.clock import boottime
from queuectl.worker import protocol
from queuectl.worker.holder.agent_process import AgentProcesses
from queuectl.worker.holder.log import Log, draining, ending
from queuectl.worker.holder.server_process import ServerProcess
from queuectl.worker.holder.supervisor import Supervisor
from queuectl.worker.holder.timers import NEVER, Deadline
from queuectl.worker.host.result_file import ResultFile
from queuectl.worker.wording import counted

REPORT_INTERVAL = 60.0
"""Seconds between two log lines that explain why the worker has not exited yet."""
GIVE_UP = 10.0
"""Seconds for which an agent may store the results after the last command has ended, or exit after `Bye`."""
AWAY_PATIENCE = 2.0
"""Replaces `GIVE_UP` after a second signal, if the store is known to be unreachable."""

PHASES = ("running", "draining", "stopping", "killing")
RUNNING, DRAINING, STOPPING, KILLING = range(4)


class Shutdown:
    """Controls the shutdown of a worker."""

    def __init__(
        self,
        supervisor: Supervisor,
        agents: AgentProcesses,
        server: ServerProcess,
        log: Log,
        results: ResultFile,
        drain_timeout: float | None,
    ) -> None:
        self._supervisor, self._agents, self._server = supervisor, agents, server
        self._log, self._results = log, results
        self._drain_timeout = NEVER if drain_timeout is None else drain_timeout
        self._phase = RUNNING
        self._status: int | None = None
        self._signals = 0
        self._drain_end, self._report, self._patience = Deadline(), Deadline(), Deadline()
        self._away: str | None = None
        self._store_lost: str | None = None
        self._said_bye = False

    @property
    def phase(self) -> str:
        """The phase for an agent, which does not distinguish stopping and killing."""
        return PHASES[min(self._phase, STOPPING)]

    @property
    def store_lost(self) -> bool:
        """Whether the agent has reported that the store is lost permanently, and no result waits for the store."""
        return self._store_lost is not None

    def due(self) -> float:
        """When `run_due` must be called."""
        return min(self._drain_end.at, self._report.at, self._patience.at)

    def run_due(self, now: float) -> None:
        """Stop if a drain has taken too long. Report what the worker waits for."""
        if self._drain_end.fires(now):
            self.enter(STOPPING)
        if self._report.fires(now):
            self._report_waiting(now)

    def on_signals(self, count: int) -> None:
        """Begin the next phase for each signal."""
        if count and self._status is not None:
            self._server.kill()
            return
        for _ in range(count):
            self._signals += 1
            self.enter(min(self._phase + 1, KILLING))

    def on_store(self, away: str | None) -> None:
        """Handle the agent's report about the store: why it cannot be reached, or None if it answers again."""
        self._away = away
        if away and self._phase > DRAINING and self._patience.at != NEVER:
            self._patience.set(min(self._patience.at, boottime() + AWAY_PATIENCE))

    def on_store_lost(self, why: str) -> None:
        """Handle the permanent loss of the store. While a result waits, the worker stays: the store may be restored."""
        if self._status is None:
            self._store_lost = why if self._supervisor.empty else None

    def enter(self, phase: int, *, asked: bool = True) -> None:
        """Begin a later phase. `asked`: a signal or an instruction is the cause; only then a drain is logged."""
        if phase <= self._phase:
            return
        self._phase = phase
        self._supervisor.starting = False
        self._server.drain()
        now, running = boottime(), self._supervisor.running
        self._patience.clear()
        self._report.set(now + REPORT_INTERVAL)
        if phase == DRAINING:
            if asked:
                self._log.write("draining", draining(running, self._next_signal()), running=running)
            self._drain_end.set(now + self._drain_timeout)
            self._agents.send(protocol.encode(protocol.Drain()))
            return
        self._drain_end.clear()
        again = self._next_signal() if phase == STOPPING else None
        self._log.write(PHASES[phase], ending(PHASES[phase], running, again))
        self._agents.send(protocol.encode(protocol.Stop()))
        self._supervisor.end_all("interrupted", now, at_once=phase == KILLING)

    def exit_status(self, now: float) -> int | None:
        """The exit status, or None while there is still something to do."""
        if self._status is None:
            self._status = self._status_without_server(now)
            if self._status is not None:
                # While the server ends, the agent may still send messages: a command started now would have no guard.
                self._supervisor.starting = False
                self._agents.stop_starting()
                self._report.clear()
                self._server.leave(now)
        return self._status if self._server.gone else None

    def _status_without_server(self, now: float) -> int | None:
        if self._server.abandoned:
            self._log.not_ready("the worker was stopped before its server accepted requests")
            return 0
        if self._store_lost is not None and self._supervisor.empty:
            self._log.write("leaving", f"leaving: {self._store_lost}")
            return 1
        if self._phase == RUNNING or self._supervisor.running:
            self._patience.clear()
            return None
        if self._patience.at == NEVER and not self._patience.fired:
            self._patience.set(now + (AWAY_PATIENCE if self._away and self._phase > DRAINING else GIVE_UP))
        fires = self._patience.fires(now)
        if not self._supervisor.empty:
            return self._with_results(now, fires)
        if not self._said_bye and self._agents.connected:
            self._say_bye(now)
            return None
        gone = self._said_bye and not self._agents.connected
        return 0 if gone or self._patience.fired else None

    def _with_results(self, now: float, patience_fires: bool) -> int | None:
        """The exit status while results are not stored. A drain waits as long as an agent is connected."""
        if self._phase == DRAINING and self._agents.connected:
            if patience_fires:  # write the results early, because an impatient person may kill the worker
                self._write_results()
                self._report_waiting(now)
            return None
        if not patience_fires:
            # A timer that has fired belongs to an earlier agent: give the new agent the full time.
            if self._patience.fired:
                self._patience.set(now + GIVE_UP)
            return None
        if self._write_results():
            left = f"{counted(self._supervisor.results, 'result')} not in the store"
            sentence = f"leaving with {left}: kept in {self._results.path} for the next worker on this host"
            self._log.write("undelivered", sentence, results=self._supervisor.results)
        return 1

    def _write_results(self) -> bool:
        """Write the unacknowledged results to a file for the next worker. Returns whether this succeeded."""
        try:
            self._results.write(self._supervisor.unacknowledged())
        except OSError as error:
            what = counted(self._supervisor.results, "result")
            why = f"{what} cannot be kept for the next worker: {error.strerror}"
            self._log.write("undelivered", f"{why}; what they belong to will count as lost")
            return False
        return True

    def _say_bye(self, now: float) -> None:
        self._said_bye = True
        self._patience.set(now + GIVE_UP)
        self._agents.stop_starting()
        self._agents.send(protocol.encode(protocol.Bye()))

    def _report_waiting(self, now: float) -> None:
        """Log each minute why this worker has not exited, and which signal makes it exit."""
        self._report.set(now + REPORT_INTERVAL)
        running, results = self._supervisor.running, self._supervisor.results
        what = [f"{counted(running, 'command')} running"] if running else []
        if results:
            away = f" ({self._away})" if self._away else ""
            what.append(f"{counted(results, 'result')} not in the store yet{away}")
        again = self._next_signal()
        ways = ("", f"; {again} ends what runs and leaves", f"; {again} kills what runs", "")
        waits_for = ", ".join(what) or "the agent has not left"
        sentence = f"still {PHASES[self._phase]}: {waits_for}{ways[self._phase]}"
        self._log.write("waiting", sentence, running=running, results=results)

    def _next_signal(self) -> str:
        """The name of the signal that starts the next phase."""
        return self._log.next_signal(min(self._signals, self._phase))
