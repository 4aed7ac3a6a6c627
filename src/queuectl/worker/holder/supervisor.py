"""The attempts of a worker, from the `Start` message to the acknowledgement of their results.

The supervisor runs in the only thread of the holder. A started attempt has one timer: when the timer expires, the
leader exits or a pipe ends, `_advance` runs the attempt's phase (`phases.py`).

The agent relies on these invariants. An agent may be killed at any time, and a new agent has no data:

* **Nothing runs twice.** An attempt id that is known is never started again, so an agent may repeat `start` after a
  lost connection. Ids are remembered until the result is acknowledged; after that the store refuses the attempt
  (guarantee G3). Otherwise a command would run twice whenever an agent dies between `start` and `started`.
  Tests: `test_a_repeated_start_message_runs_the_command_once`, `TestG4Crashes` in `tests/e2e/test_guarantees.py`.
* **A new agent finds everything.** `known_attempts` lists every attempt in every phase, and `unacknowledged` sends
  again every chunk and result that is not acknowledged, with the same bytes and in the same order. The new agent
  compares that with the claims in the store: a claim that is not listed here was never started and goes back
  uncounted (guarantee G8). Without the list a new agent could not distinguish a running command from one that never
  started.
  Tests: `test_a_new_agent_receives_running_attempts_and_results`,
  `test_chunks_are_sent_again_with_the_same_number_and_bytes`.
* **A result is kept until it is acknowledged**, which the agent does only when the store has it. Otherwise the death
  of an agent between receiving and storing would lose a result, and the job would run again. Tests:
  `test_an_acknowledged_result_is_forgotten`, `TestCrashPoints`.
* **A command is in the slot file before it is started, and until its result is acknowledged.** The guard and the next
  worker of this host read there which processes they have to kill (`host/slot_file.py`).
  Tests: `test_guard.py`.
"""

import heapq
import selectors
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from queuectl import crashpoint
from queuectl.clock import boottime
from queuectl.worker.holder import phases
from queuectl.worker.holder.attempt import ANNOUNCE_AFTER, Attempt, Phase
from queuectl.worker.holder.kill_ladder import Snapshot
from queuectl.worker.holder.leftovers import Leftovers
from queuectl.worker.holder.pipes import Pipes
from queuectl.worker.holder.progress_pipe import ProgressPipe
from queuectl.worker.holder.result_buffer import ResultBuffer
from queuectl.worker.holder.spawn import Spawner, SpawnError
from queuectl.worker.holder.timers import NEVER, Timers
from queuectl.worker.host import process_table, script_file
from queuectl.worker.host.slot_file import ALLOW_DETACHED, SlotFile
from queuectl.worker.protocol import Dropped, Fields, Progress, Start, Started, Trouble, encode, known_attempt


class Supervisor:
    """The attempts of a worker, and its slots. `send` sends a frame to the agent, if there is one."""

    def __init__(
        self,
        slots: SlotFile,
        spawner: Spawner,
        selector: selectors.BaseSelector,
        send: Callable[[bytes], None],
        progress: ProgressPipe,
        own: Collection[int],
    ) -> None:
        self._slots, self._spawner, self._send, self._progress = slots, spawner, send, progress
        self._attempts: dict[str, Attempt] = {}
        self._queue: deque[tuple[Attempt, Start, bytes]] = deque()
        self._running: dict[str, Attempt] = {}
        self._leaders: dict[int, Attempt] = {}
        self._free = list(range(slots.count))
        self._timers = Timers()
        self._results = ResultBuffer()
        self._leftovers = Leftovers(own, self._leaders, self._running.values())
        self._phases = phases.Phases(self._leftovers)
        self._pipes = Pipes(selector, self._on_output)
        progress.listen(self._read_progress)
        self.starting = True
        """Whether queued attempts may be started. False when the worker drains or ends, and never True again."""

    # Messages of the agent

    def submit(self, order: Start, stdin: bytes) -> None:
        """Add an attempt to the queued ones. Idempotent."""
        if order.attempt_id not in self._attempts:
            attempt = self._attempts[order.attempt_id] = Attempt(order)
            self._queue.append((attempt, order, stdin))

    def withdraw(self, ids: Iterable[str]) -> list[str]:
        """Withdraw the attempts with these ids that still wait for a slot. Returns the withdrawn ids."""
        wanted = {i for i in ids if i in self._attempts and self._attempts[i].phase is Phase.QUEUED}
        if wanted:
            self._queue = deque(queued for queued in self._queue if queued[0].id not in wanted)
            for attempt_id in wanted:
                del self._attempts[attempt_id]
        return sorted(wanted)

    def kill(self, attempt_id: str, reason: str, now: float) -> list[str]:
        """End a command. An attempt that still waits for a slot is withdrawn instead, and returned."""
        attempt = self._running.get(attempt_id)
        if attempt is None:
            return self.withdraw([attempt_id])
        phases.end(attempt, reason, now)
        self._arm(attempt)
        return []

    def end_all(self, reason: str, now: float, *, at_once: bool) -> None:
        """End every command. With `at_once` there is no grace period."""
        for attempt in list(self._running.values()):
            phases.end(attempt, reason, now)
            if at_once and attempt.ladder is not None:
                attempt.ladder.kill_now(now)
                attempt.next_at = now
            self._arm(attempt)

    def extend(self, ids: Iterable[str], deadline: float | None) -> None:
        """Set a new deadline for these attempts. None means no limit."""
        for attempt_id in ids:
            if attempt := self._attempts.get(attempt_id):
                attempt.extend(NEVER if deadline is None else deadline)
                self._arm(attempt)

    def extend_all(self, deadline: float) -> None:
        """Set every deadline that is earlier than this time to this time."""
        for attempt in self._attempts.values():
            attempt.extend(max(attempt.deadline, deadline))
            self._arm(attempt)

    def acknowledge(self, ids: Iterable[str]) -> None:
        """Forget these results, because they are stored."""
        for attempt_id in ids:
            attempt = self._attempts.get(attempt_id)
            if attempt is not None and attempt.phase is Phase.FINISHED:
                del self._attempts[attempt_id]
                self._slots.forget(attempt_id)
                self._results.remove(attempt_id)

    def acknowledge_output(self, attempt_id: str, n: int, now: float) -> None:
        """Forget the chunks of an attempt up to number `n`, because they are stored."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        attempt.output.acknowledge(n, now)
        if attempt.phase is Phase.FINISHED:
            self._results.set(attempt.id, attempt.size())
        self._arm(attempt)

    def known_attempts(self) -> list[Fields]:
        """All attempts, for a `Welcome` message."""
        return [known_attempt(attempt.known()) for attempt in self._attempts.values()]

    def unacknowledged(self) -> Iterator[bytes]:
        """The unacknowledged frames: output and results, for each attempt in the order of their first sending.

        For a running command also its last progress, because the earlier agent may not have stored it.
        """
        for attempt in self._attempts.values():
            yield from (chunk.frame for chunk in attempt.output.unacknowledged)
            if attempt.result is not None:
                yield attempt.result
            elif attempt.progress is not None:
                yield encode(attempt.progress)

    # Calls of the loop

    @property
    def running(self) -> int:
        """The number of running commands."""
        return len(self._running)

    @property
    def results(self) -> int:
        """The number of unacknowledged results."""
        return len(self._results)

    @property
    def empty(self) -> bool:
        """Whether no attempt waits, runs, or is unacknowledged."""
        return not self._attempts

    def due(self) -> float:
        """When `run_due` must be called."""
        return self._timers.due()

    def run_due(self, now: float) -> None:
        """Advance every attempt whose timer has expired. All of them use one snapshot of the processes."""
        if now < self._timers.due():
            return
        snapshot = Snapshot()
        for attempt_id in self._timers.expired(now):
            self._advance(self._running[attempt_id], now, snapshot)

    def start_queued(self, now: float) -> None:
        """Start queued attempts while there are free slots, beginning with the lowest slot."""
        while self._queue and self._free and self.starting and self._may_start():
            attempt, order, stdin = self._queue.popleft()
            if now < attempt.deadline:
                self._start(attempt, order, stdin)
            else:  # its lease has expired: another worker may have claimed the job
                del self._attempts[attempt.id]
                self._send(encode(Dropped([attempt.id])))

    def reaped(self, pid: int, status: int, rusage: Any, now: float) -> None:
        """Handle the end of a child that is neither an agent nor a guard: a leader or a leftover."""
        attempt = self._leaders.pop(pid, None)
        if attempt is None:
            self._leftover_ended(pid, now)
            return
        crashpoint.reach("after_exit")
        attempt.status, attempt.rusage, attempt.exited_at = status, rusage, boottime()
        if attempt.ladder is not None:
            attempt.ladder.look_now(now)
        self._pipes.read_rest(attempt, now)
        self._pipes.listen(attempt)
        self._advance(attempt, now, Snapshot())

    def _leftover_ended(self, pid: int, now: float) -> None:
        """Handle the end of a leftover. It may have been the last process of a command whose leader exited before."""
        self._leftovers.reaped(pid)
        for attempt in [a for a in self._running.values() if a.phase is Phase.CHECKING_LEFTOVERS]:
            self._advance(attempt, now, Snapshot())

    # Beginning and end of an attempt

    def _may_start(self) -> bool:
        return self._slots.results_left() > len(self._running) and not self._results.full

    def _start(self, attempt: Attempt, order: Start, stdin: bytes) -> None:
        slot, born, wall = heapq.heappop(self._free), boottime(), time.time()
        flags = ALLOW_DETACHED if attempt.allow_detached else 0
        self._slots.starting(slot, attempt.id, flags, int(born * process_table.TICK))
        try:
            spawned = self._spawner.spawn(order, stdin, slot)
        except SpawnError as error:
            self._not_started(attempt, slot, error, born, wall)
            return
        crashpoint.reach("after_spawn")
        self._slots.running(slot, spawned.pid, process_table.ticks())
        phases.enter(attempt, Phase.RUNNING)
        attempt.started(slot, spawned.pid, born, wall)
        attempt.script = spawned.script
        attempt.pipes = {pipe: stream for stream, pipe in spawned.pipes.items()}
        self._running[attempt.id] = self._leaders[spawned.pid] = attempt
        self._arm(attempt)

    def _not_started(self, attempt: Attempt, slot: int, error: SpawnError, born: float, wall: float) -> None:
        if error.trouble:
            del self._attempts[attempt.id]
            self._send(encode(Trouble(attempt.id, str(error), error.errno)))
        else:
            phases.enter(attempt, Phase.FINISHED)
            attempt.refuse(str(error), slot, born, wall, boottime())
            self._keep_result(attempt)
        self._release(slot)

    def _announce(self, attempt: Attempt) -> None:
        """Report the start and watch the pipes.

        For a short command the holder sends only `Exited`: half the messages.
        """
        assert attempt.slot is not None
        self._send(encode(Started(attempt.id, attempt.pid, attempt.slot, attempt.started_at, attempt.born)))
        self._pipes.listen(attempt)

    def _advance(self, attempt: Attempt, now: float, snapshot: Snapshot) -> None:
        if not attempt.listening and now >= attempt.born + ANNOUNCE_AFTER:
            self._announce(attempt)
        self._phases.advance(attempt, now, snapshot)
        if attempt.phase is Phase.FINISHED:
            self._finish(attempt, now)
        else:
            self._send_output(attempt, now)
            self._arm(attempt)

    def _finish(self, attempt: Attempt, now: float) -> None:
        """Send the rest of the output and the result, and free the slot, because no process is left."""
        if attempt.pipes:
            self._pipes.read_rest(attempt, now)
            self._pipes.close(attempt)
        script_file.remove(attempt.script)
        self._note_progress(attempt)
        if attempt.allow_detached:
            self._leftovers.may_stay(now)
        self._send_output(attempt, now, final=True)
        attempt.make_result(boottime())
        self._keep_result(attempt)
        assert attempt.slot is not None
        self._release(attempt.slot)
        self._timers.clear(attempt.id)
        del self._running[attempt.id]
        self._leaders.pop(attempt.pid, None)

    def _keep_result(self, attempt: Attempt) -> None:
        assert attempt.result is not None
        self._slots.ended(attempt.id, overdue=attempt.ended_by in ("lease", "fenced"))
        self._results.set(attempt.id, attempt.size())
        self._send(attempt.result)

    def _release(self, slot: int) -> None:
        self._slots.free(slot)
        heapq.heappush(self._free, slot)

    # Progress, output and timers

    def _read_progress(self) -> None:
        """Read the pipe of the progress once, and send the last progress of each attempt."""
        self._note_progress()
        self._progress.pause(boottime())

    def _note_progress(self, ending: Attempt | None = None) -> None:
        """Note and send the last progress of each running command. Progress of other attempts is ignored.

        That of an `ending` attempt is not sent, because its result contains the progress.
        """
        for attempt_id, line in self._progress.read().items():
            if attempt := self._running.get(attempt_id):
                attempt.progress = Progress(attempt_id, line.percent, line.message, time.time())
                if attempt is not ending:
                    self._send(encode(attempt.progress))

    def _on_output(self, attempt: Attempt, now: float) -> None:
        """Handle new output, or the end of a pipe."""
        if attempt.exited and not attempt.pipes:
            self._advance(attempt, now, Snapshot())
        else:
            self._arm(attempt)

    def _send_output(self, attempt: Attempt, now: float, *, final: bool = False) -> None:
        for frame in attempt.output.flush(time.time(), now, final=final):
            self._send(frame)

    def _arm(self, attempt: Attempt) -> None:
        """Set the timer of a started attempt to its next due time."""
        if attempt.id in self._running:
            self._timers.set_no_later(attempt.id, attempt.due())
