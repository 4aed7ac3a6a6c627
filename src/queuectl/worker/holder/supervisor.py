"""The commands of a worker: waiting for a slot, running, being ended, finished and not yet acknowledged.

Everything here happens in the holder's one thread. Each attempt has one next moment at which it wants
attention (`Attempt.due`); `_advance` looks at it then, or when its leader exits or its pipe ends, and does
what the facts ask for.
"""

import heapq
import selectors
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any

from queuectl import crashpoint
from queuectl.clock import boottime
from queuectl.worker.holder.attempt import FINISHED, LEASE_GRACE, QUEUED, RUNNING, Attempt
from queuectl.worker.holder.kill_ladder import Ladder, View
from queuectl.worker.holder.leftovers import Orphans
from queuectl.worker.holder.pipes import Pipes
from queuectl.worker.holder.spawn import Spawner, SpawnError
from queuectl.worker.host import process_table, script_file
from queuectl.worker.host.slot_file import ALLOW_DETACHED, Slots
from queuectl.worker.protocol import Dropped, Fields, Start, Started, Trouble, encode, known_attempt

DRAIN_PIPE = 1.0
"""Seconds after the leader's exit that somebody else may go on writing."""

SETTLE = 0.05
"""Seconds for what is still there after the pipe's end to end by itself: it may be about to."""

LOOK_AGAIN = 0.001
"""Seconds after which an orphan may show whose it is, that did not at the first look."""

LEFTOVER_GRACE = 1.0
RETAINED_LIMIT = 64 << 20
"""So many bytes of unacknowledged results, and no further command is started."""

LISTEN_AFTER = 0.01
"""Seconds of a command's life before its pipes are waited for: a shorter one is read once, when it has ended."""

_NEVER = float("inf")


class Crew:
    """Attempts by id, slots by number. `post` sends a frame to the agent, if there is one."""

    def __init__(
        self,
        slots: Slots,
        spawner: Spawner,
        selector: selectors.BaseSelector,
        post: Callable[[bytes], None],
        ours: Collection[int],
    ) -> None:
        self._slots, self._spawner, self._post = slots, spawner, post
        self._attempts: dict[str, Attempt] = {}
        self._queue: deque[Attempt] = deque()
        self._running: dict[str, Attempt] = {}
        self._leaders: dict[int, Attempt] = {}
        self._free = list(range(slots.count))
        self._timers: list[tuple[float, str, Attempt]] = []
        self._orphans = Orphans(ours, self._leaders, self._running.values())
        self._held = 0
        self._pipes = Pipes(selector, self._heard)
        self.starting = True

    # What the agent asks for

    def submit(self, order: Start, stdin: bytes) -> None:
        """Queue an order; one that is known already is not taken twice."""
        if order.attempt_id not in self._attempts:
            attempt = Attempt(order, stdin)
            self._attempts[attempt.id] = attempt
            self._queue.append(attempt)

    def withdraw(self, ids: Iterable[str]) -> list[str]:
        """Forget those that still wait for a slot; return which they were."""
        wanted = {i for i in ids if i in self._attempts and self._attempts[i].state == QUEUED}
        if wanted:
            self._queue = deque(a for a in self._queue if a.id not in wanted)
            for attempt_id in wanted:
                del self._attempts[attempt_id]
        return sorted(wanted)

    def kill(self, attempt_id: str, reason: str, now: float) -> list[str]:
        """End a command; one that still waits is withdrawn instead, and returned."""
        attempt = self._running.get(attempt_id)
        if attempt is None:
            return self.withdraw([attempt_id])
        self._begin_end(attempt, reason, now)
        return []

    def end_all(self, reason: str, now: float, *, at_once: bool) -> None:
        """End every command; with `at_once` without grace."""
        for attempt in list(self._running.values()):
            self._begin_end(attempt, reason, now)
            if at_once and attempt.ladder is not None:
                attempt.ladder.hasten(now)
                self._arm(attempt)

    def extend(self, ids: Iterable[str], deadline: float | None) -> None:
        """New lease deadlines."""
        for attempt_id in ids:
            if attempt := self._attempts.get(attempt_id):
                attempt.extend(deadline)
                self._arm(attempt)

    def allow_until(self, moment: float) -> None:
        """No lease passes before this moment."""
        for attempt in self._attempts.values():
            attempt.lease_at = max(attempt.lease_at, moment)
            self._arm(attempt)

    def acknowledge(self, ids: Iterable[str]) -> None:
        """Results that are stored are forgotten here."""
        for attempt_id in ids:
            attempt = self._attempts.get(attempt_id)
            if attempt is not None and attempt.state == FINISHED:
                del self._attempts[attempt_id]
                self._slots.forget(attempt_id)
                self._held -= attempt.held

    def acknowledge_output(self, attempt_id: str, n: int, now: float) -> None:
        """Chunks up to `n` are stored."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        before = attempt.capture.retained()
        attempt.capture.acknowledge(n, now)
        if attempt.state == FINISHED:
            freed = before - attempt.capture.retained()
            attempt.held -= freed
            self._held -= freed
        self._arm(attempt)

    def roster(self) -> list[Fields]:
        """All attempts, for a welcome."""
        return [known_attempt(attempt.summary()) for attempt in self._attempts.values()]

    def backlog(self) -> Iterable[bytes]:
        """The frames that nobody has acknowledged, in the order in which they were first sent per attempt."""
        for attempt in self._attempts.values():
            yield from (flight.frame for flight in attempt.capture.flights)
            if attempt.result is not None:
                yield attempt.result

    # What the loop asks for

    @property
    def running(self) -> int:
        """How many commands run."""
        return len(self._running)

    @property
    def kept(self) -> int:
        """How many results nobody has acknowledged."""
        return sum(1 for attempt in self._attempts.values() if attempt.state == FINISHED)

    @property
    def settled(self) -> bool:
        """Whether nothing waits, runs, or is unacknowledged."""
        return not self._attempts

    def due(self) -> float:
        """When `tick` has something to do at the latest."""
        return self._timers[0][0] if self._timers else _NEVER

    def tick(self, now: float) -> None:
        """Attend to every attempt whose moment has come, with one common view of the processes."""
        view = View()
        while self._timers and self._timers[0][0] <= now:
            when, _, attempt = heapq.heappop(self._timers)
            if when == attempt.armed_at:
                attempt.armed_at = _NEVER
                self._advance(attempt, now, view)

    def fill(self, now: float) -> None:
        """Start what waits while there are slots; the lowest slot first."""
        while self._queue and self._free and self.starting and self._may_hold_more():
            attempt = self._queue.popleft()
            if now < attempt.lease_at:
                self._start(attempt)
            else:  # somebody else may have been given it meanwhile
                del self._attempts[attempt.id]
                self._post(encode(Dropped([attempt.id])))

    def reaped(self, pid: int, status: int, rusage: Any, now: float) -> None:
        """A child that is no agent and no guard has ended: a leader, or an orphan."""
        attempt = self._leaders.pop(pid, None)
        if attempt is None:
            self._orphan_ended(pid, now)
            return
        crashpoint.reach("after_exit")
        attempt.status, attempt.rusage, attempt.ended = status, rusage, boottime()
        attempt.close_at = now + DRAIN_PIPE
        if attempt.ladder is not None:
            attempt.ladder.next_at = now
        self._pipes.read_rest(attempt, now)
        self._pipes.listen(attempt)
        self._advance(attempt, now, View())

    def _orphan_ended(self, pid: int, now: float) -> None:
        """It may have been the last of a command whose leader had gone before."""
        self._orphans.reaped(pid)
        for attempt in [a for a in self._running.values() if a.left_until != _NEVER]:
            self._advance(attempt, now, View())

    # The life of an attempt

    def _may_hold_more(self) -> bool:
        return self._slots.room() > len(self._running) and self._held < RETAINED_LIMIT

    def _start(self, attempt: Attempt) -> None:
        slot, born, wall = heapq.heappop(self._free), boottime(), time.time()
        flags = ALLOW_DETACHED if attempt.allow_detached else 0
        self._slots.starting(slot, attempt.id, flags, int(born * process_table.TICK))
        try:
            spawned = self._spawner.spawn(attempt.order, attempt.stdin, slot)
        except SpawnError as error:
            self._not_started(attempt, slot, error, born, wall)
            return
        crashpoint.reach("after_spawn")
        self._slots.running(slot, spawned.pid, process_table.ticks())
        attempt.script = spawned.script
        attempt.started(slot, spawned.pid, born, wall)
        self._running[attempt.id] = self._leaders[spawned.pid] = attempt
        attempt.pipes = {pipe: stream for stream, pipe in spawned.pipes.items()}
        attempt.listen_at = born + LISTEN_AFTER
        self._arm(attempt)

    def _settle_in(self, attempt: Attempt) -> None:
        """It was no matter of a moment: say that it runs, and wait for what it prints.

        Of a shorter one only the end is told, which says as much: half the messages, on the way that is worn most.
        """
        assert attempt.slot is not None
        assert attempt.started_at is not None
        self._post(encode(Started(attempt.id, attempt.pid, attempt.slot, attempt.started_at, attempt.born)))
        self._pipes.listen(attempt)

    def _not_started(self, attempt: Attempt, slot: int, error: SpawnError, born: float, wall: float) -> None:
        if error.trouble:
            del self._attempts[attempt.id]
            self._post(encode(Trouble(attempt.id, str(error), error.errno)))
        else:
            attempt.report_spawn_error(str(error), slot, born, wall)
            self._keep_result(attempt)
        self._slots.free(slot)
        heapq.heappush(self._free, slot)

    def _begin_end(self, attempt: Attempt, reason: str, now: float) -> None:
        """Put the ladder up, unless it stands. A command that has exited by itself has ended by itself."""
        if attempt.ladder is None:
            grace = min(attempt.grace, LEASE_GRACE) if reason in ("lease", "fenced") else attempt.grace
            attempt.ladder = Ladder(attempt.pid, grace, now)
            if attempt.status is None:
                attempt.ended_by = reason
        self._arm(attempt)

    def _advance(self, attempt: Attempt, now: float, view: View) -> None:
        if attempt.state != RUNNING:
            return
        if now >= attempt.listen_at:
            self._settle_in(attempt)
        if attempt.ladder is None:
            if attempt.status is not None:
                self._close(attempt, now)
            elif reason := attempt.overdue(now):
                self._begin_end(attempt, reason, now)
        if attempt.ladder is not None:
            self._climb(attempt, now, view)
        if attempt.state == RUNNING:
            self._ship(attempt, now)
            self._arm(attempt)

    def _close(self, attempt: Attempt, now: float) -> None:
        """The leader has exited by itself: give its pipe a moment to end, then see what it left behind."""
        if attempt.pipes and now < attempt.close_at:
            return
        left = False if attempt.allow_detached else self._left_behind(attempt, now)
        if left is None:
            attempt.close_at = max(self._orphans.ready_at, now + LOOK_AGAIN)
        elif not left:
            self._finish(attempt, now)
        elif now >= attempt.left_until:
            attempt.ladder = Ladder(attempt.pid, min(attempt.grace, LEFTOVER_GRACE), now)
        else:
            attempt.close_at = attempt.left_until = min(attempt.left_until, now + SETTLE)

    def _left_behind(self, attempt: Attempt, now: float) -> bool | None:
        return process_table.group_exists(attempt.pid) or self._orphans.left_by(attempt, now)

    def _climb(self, attempt: Attempt, now: float, view: View) -> None:
        ladder = attempt.ladder
        assert ladder is not None
        if now >= ladder.next_at:
            ours, undecided = self._orphans.of(attempt, view, now)
            ladder.step(now, view, ours, attempt.status is None, undecided)
        if ladder.done:
            attempt.leftovers = len(ladder.seen)
            self._finish(attempt, now)

    def _finish(self, attempt: Attempt, now: float) -> None:
        """The tree is empty: last output, result, free slot."""
        self._pipes.read_rest(attempt, now)
        self._pipes.close(attempt)
        script_file.remove(attempt.script)
        if attempt.allow_detached:
            self._orphans.detached(now)
        slot = attempt.slot
        assert slot is not None
        for frame in attempt.capture.flush(time.time(), now, final=True):
            self._post(frame)
        attempt.report_end()
        self._keep_result(attempt)
        self._slots.free(slot)
        heapq.heappush(self._free, slot)
        del self._running[attempt.id]
        self._leaders.pop(attempt.pid, None)

    def _keep_result(self, attempt: Attempt) -> None:
        assert attempt.result is not None
        self._slots.ended(attempt.id, overdue=attempt.ended_by in ("lease", "fenced"))
        self._held += attempt.held
        self._post(attempt.result)

    # Output

    def _heard(self, attempt: Attempt, now: float) -> None:
        """Something came through a pipe, or it ended."""
        if attempt.status is not None and not attempt.pipes:
            self._advance(attempt, now, View())
        elif attempt.capture.due() < attempt.armed_at:
            self._arm(attempt)

    def _ship(self, attempt: Attempt, now: float) -> None:
        for frame in attempt.capture.flush(time.time(), now):
            self._post(frame)

    def _arm(self, attempt: Attempt) -> None:
        """Have `tick` look at it when it is next due. An older timer is known by its time and dropped."""
        due = attempt.due()
        if due < attempt.armed_at:
            attempt.armed_at = due
            heapq.heappush(self._timers, (due, attempt.id, attempt))
            if len(self._timers) > 4 * len(self._running) + 64:
                self._forget_old_timers()

    def _forget_old_timers(self) -> None:
        armed = (attempt for attempt in self._running.values() if attempt.armed_at != _NEVER)
        self._timers = [(attempt.armed_at, attempt.id, attempt) for attempt in armed]
        heapq.heapify(self._timers)
