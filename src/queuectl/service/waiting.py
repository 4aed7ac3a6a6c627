"""Waits until jobs end; the cost hardly grows with the number of jobs. Also explains why jobs have not started yet."""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import datetime, timedelta

from queuectl.config import Settings
from queuectl.domain import topics
from queuectl.domain.ids import handle
from queuectl.domain.instant import format_age
from queuectl.domain.job import WAITING, Job
from queuectl.domain.queue import QueueSettings, paused_in_words
from queuectl.service import worker_status
from queuectl.service.attention import serving
from queuectl.store.protocol import Store, Subscription

HEAD = 100
"""Number of jobs that one round reads. All jobs must end, so later jobs need not be read before these have ended."""
PACE, LONGEST_PACE, SHARE = 0.5, 5.0, 100
"""For more jobs than that: seconds between two rounds, at least and at most, and as a multiple of a round's time."""
HASTE, REFILL = 20.0, 10.0
"""For few jobs: how many rounds a busy store may cause at once, and how many more each second."""
SOON = timedelta(seconds=5)
Look = Callable[[Sequence[Job], int], None]
"""Called in each round with the jobs that were read and have not ended, and the number of all open jobs."""


def wait_for(
    store: Store,
    ids: Sequence[str],
    *,
    timeout: timedelta | None,
    any_one: bool,
    monotonic: Callable[[], float],
    look: Look = lambda jobs, count: None,
) -> dict[str, Job]:
    """The jobs once all of them (or one, with `any_one`) have ended, or the time is over. Deleted jobs are left out."""
    begun = monotonic()
    deadline = None if timeout is None else begun + timeout.total_seconds()
    rounds = _Rounds(store, ids, any_one)
    with closing(store.subscribe(topics.ENDS)) as subscription:
        pace = _Pace(subscription, monotonic, many=len(rounds.open) > HEAD)
        while True:
            pace.begin()
            if rounds.over():
                return rounds.found
            look(rounds.seen, len(rounds.open))
            left = float("inf") if deadline is None else deadline - monotonic()
            if left <= 0:
                return rounds.all()
            pace.rest(left)


class _Rounds:
    """Finds out which of the jobs have ended, and reads no more jobs than that needs."""

    def __init__(self, store: Store, ids: Sequence[str], any_one: bool) -> None:
        self._store, self._any_one = store, any_one
        self.open = list(dict.fromkeys(ids))
        self._count = len(self.open)
        self.found: dict[str, Job] = {}
        self.seen: list[Job] = []

    def over(self) -> bool:
        """Read the first open jobs, or all open jobs if one end is enough. Returns whether the wait is over."""
        size = len(self.open) if self._any_one else HEAD
        while self.open:
            head, rest = self.open[:size], self.open[size:]
            self.seen = self._read(head)
            self.open = [job.id for job in self.seen] + rest
            if self.seen or self._any_one:
                break
        return not self.open or (self._any_one and len(self.open) < self._count)

    def all(self) -> dict[str, Job]:
        """All jobs, including those that have not been read yet."""
        self._read([id for id in self.open if id not in self.found])
        return self.found

    def _read(self, ids: list[str]) -> list[Job]:
        for start in range(0, len(ids), 1000):
            part = ids[start : start + 1000]
            fresh = self._store.get(part)
            for id in part:
                self.found.pop(id, None)
            self.found |= fresh
        return [self.found[id] for id in ids if id in self.found and not self.found[id].ended]


class _Pace:
    """Decides when the next round begins: for a few jobs when one ends, for many jobs after a pause."""

    def __init__(self, ends: Subscription, monotonic: Callable[[], float], *, many: bool) -> None:
        self._ends, self._monotonic, self._many = ends, monotonic, many
        self._begun = monotonic()
        self._credit = HASTE
        self._idle = threading.Event()  # is never set: for a pause that no change of the store ends

    def begin(self) -> None:
        """Record that a round begins now."""
        now = self._monotonic()
        self._credit = min(self._credit + (now - self._begun) * REFILL, HASTE) - 1
        self._begun = now

    def rest(self, longest: float) -> None:
        """Wait until the next round is due."""
        if self._many:
            cost = self._monotonic() - self._begun
            self._idle.wait(min(longest, max(PACE, min(cost * SHARE, LONGEST_PACE))))
            return
        if self._credit < 0:
            self._idle.wait(min(longest, 1 / REFILL))
        self._ends.wait(min(longest, 1.0))


def obstacles(store: Store, settings: Settings, jobs: Iterable[Job]) -> list[str]:
    """The reasons why these jobs do not run, each with a remedy. Empty if they run, or will run very soon."""
    waiting = [job for job in jobs if not job.ended and job.lease is None]
    if not waiting:
        return []
    now = store.now()
    due, later = list[Job](), list[Job]()
    for job in waiting:
        (due if job.state in WAITING and job.run_at <= now + SOON else later).append(job)
    found = _of_queues(store, settings, sorted({job.queue for job in due})) if due else []
    own = (_own(job, now) for job in later)
    return list(dict.fromkeys([*found, *(text for text in own if text)]))


def _of_queues(store: Store, settings: Settings, names: Sequence[str]) -> list[str]:
    from shlex import quote

    workers = worker_status.workers(store, settings)
    rules = store.read_table("queues")
    found = []
    for name in names:
        rule = QueueSettings.of(rules[name].value) if name in rules else QueueSettings()
        if rule.paused:
            found.append(f"{paused_in_words(name, rule.reason)}: queuectl queue resume {quote(name)}")
        if not serving(workers, name):
            living = any(item.state in ("running", "paused") for item in workers)
            which = f" --queue {quote(name)}" if living else ""
            found.append(f"no worker serves queue {name}: queuectl worker start{which}")
    return found


def _own(job: Job, now: datetime) -> str | None:
    name = handle(job)
    if job.state == "held":
        return f"job {name} is held: queuectl release {name}"
    if job.state == "blocked":
        return f"job {name} waits for other jobs: queuectl explain {name}"
    if job.state == "pending":
        return f"job {name} is not due before {format_age(job.run_at - now)} have passed"
    return None
