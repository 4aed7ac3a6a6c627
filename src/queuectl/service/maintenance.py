"""What every worker does beside running commands, in small guarded steps and without a leader.

Each step may be done by several workers at once: `save` fences, so the slower one merely did nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from queuectl.config import Settings
from queuectl.domain import lifecycle
from queuectl.domain.job import Job, State
from queuectl.domain.outcome import Outcome, Report
from queuectl.domain.query import Filter, Page
from queuectl.service.reach import past_may_be_away
from queuectl.store.protocol import Store

PROBE, PROBE_BYTES = ".doctor", 8192
"""An entry of the shared table of schedules that no schedule can be called, and how much is written into it."""

SETTLED_WITHIN = timedelta(minutes=1)
"""After so long every job that waited for an ended one has been told."""
STEP = 100
"""Jobs looked at in one step."""
MOST_LAPSED = 10_000
"""Lapsed claims looked at in one step where all in front are spared."""

_DONE: frozenset[State] = frozenset(("completed", "cancelled"))
_DEAD: frozenset[State] = frozenset(("dead",))
CHILDREN: frozenset[State] = frozenset(("blocked", "held"))
"""States in which a job may wait for parents. A held one is told of their ends too: then they may be deleted."""


def recover_lapsed(store: Store, spare: Callable[[Job], bool] | None = None) -> list[Job]:
    """Take back claims whose lease ended: their worker is silent. Answers the jobs that were changed.

    `spare` tells what is known better: that the asking worker runs the job itself and is about to renew it, or that its
    command is seen to live on this host.
    """
    silent, spared, wanted = list[Job](), set[str | None](), STEP
    while not silent:
        found = store.expired_leases(wanted)
        new = [job for job in found if job.attempt_id not in spared]
        silent = [job for job in new if spare is None or not spare(job)][:STEP]
        spared.update(job.attempt_id for job in new)
        if len(found) < wanted or wanted >= MOST_LAPSED:
            break
        wanted = min(4 * wanted, MOST_LAPSED)  # those in front are all spared: others may stand behind them
    return recover(store, silent, "its worker was silent for longer than the lease")


def recover_worker(store: Store, worker: str, started: frozenset[str] | None, why: str) -> list[Job]:
    """Take back all claims of a worker that is known to be dead.

    `started` are the attempts that may have begun, from the dead worker's own record; claims that are not among them
    provably never started and are given back uncounted. None: nothing is known, all count as begun.
    """
    recovered: list[Job] = []
    while found := store.find(
        Filter(states=frozenset(("processing",)), worker=worker), Page(limit=STEP)
    ).jobs:
        # Those that somebody changed meanwhile are found again, unless that ended them.
        recovered += recover(store, found, why, started)
    return recovered


def recover(store: Store, jobs: Sequence[Job], why: str, started: frozenset[str] | None = None) -> list[Job]:
    """Give back what never started, record the rest as lost."""
    if not jobs:
        return []
    now = store.now()
    changed = [_recovered(job, why, now, started) for job in jobs]
    kept = _save(store, changed)
    with past_may_be_away(
        store
    ):  # what is recovered is to be told; the sweep of blocked jobs finds the children
        unblock_children(store, [job.id for job in kept if job.ended])
    return kept


def unblock_children(store: Store, ended: Sequence[str]) -> None:
    """Let go of the jobs that waited for these; whoever is cancelled by that lets go of its own children in turn."""
    while ended:
        next_ended: list[str] = []
        for batch in _batches(ended):
            for children in _batches(waiting_behind(store, batch, CHILDREN)):
                next_ended += [job.id for job in unblock(store, children) if job.ended]
        ended = next_ended


def unblock(store: Store, ids: Sequence[str]) -> list[Job]:
    """Look again at blocked and held jobs; answers those that changed."""
    changed: list[Job] = []
    for batch in _batches(ids):
        jobs = [job for job in store.get(batch).values() if job.state in CHILDREN]
        states = parent_states(store, jobs)
        now = store.now()
        after = [lifecycle.unblock(job, states, now=now) for job in jobs]
        changed += _save(store, [new for new, old in zip(after, jobs, strict=True) if new is not old])
    return changed


def parent_states(store: Store, jobs: Iterable[Job]) -> dict[str, State]:
    """The states of all parents of these jobs that exist. One that cannot be decoded is there, and has not ended."""
    states: dict[str, State] = {}
    for batch in _batches(sorted({parent.job for job in jobs for parent in job.spec.after})):
        found = store.get(batch)
        states |= {id: parent.state for id, parent in found.items()}
        states |= dict.fromkeys(found.unreadable, "held")
    return states


def sweep_blocked(store: Store, cursor: str | None) -> str | None:
    """Look at one page of blocked and held jobs, for those whose parent's worker died before it told them.

    Answers the cursor of the next page.
    """
    found = store.find(Filter(states=CHILDREN), Page(limit=STEP, after=cursor))
    ended = [job.id for job in unblock(store, [job.id for job in found.jobs]) if job.ended]
    unblock_children(store, ended)
    return found.next


def settle_waiting(store: Store) -> None:
    """Tell all blocked and held jobs of the parents that have ended: afterwards these may be deleted."""
    cursor = None
    if store.counts(Filter(states=CHILDREN)).total():
        while (cursor := sweep_blocked(store, cursor)) is not None:
            pass


def purge_expired(store: Store, settings: Settings) -> int:
    """Delete a few of the jobs that are older than the retention settings say.

    None before a minute has passed: the worker that ended a job tells the jobs that wait for it a moment later, and a
    job that finds its parent gone before that would be cancelled.
    """
    count = 0
    for states, keep in ((_DONE, settings.retain_completed), (_DEAD, settings.retain_dead)):
        if isinstance(keep, timedelta):
            wanted = Filter(states=states, ended_before=store.now() - max(keep, SETTLED_WITHIN))
            count += len(store.purge(wanted, STEP))
    return count


def forget_lost(store: Store, silence: timedelta) -> None:
    """Remove workers from the registry that were silent for so long and hold no claim any more."""
    oldest = store.now() - silence
    for worker in store.workers():
        silent = worker.heartbeat is None or worker.heartbeat < oldest
        held = Filter(states=frozenset(("processing",)), worker=worker.id)
        if silent and not store.find(held, Page(limit=1)).jobs:
            store.forget(worker.id)


def try_write(store: Store) -> None:
    """Write something, and take it back: a full disk or a missing right shows only so. Raises what the store raises.

    Committed and not rolled back: SQLite asks for room at the commit, and two of the stores have no rollback.
    """
    entry = store.read_table("schedules").get(PROBE)
    version = entry.version if entry else 0
    if store.compare_and_swap("schedules", PROBE, {"text": "x" * PROBE_BYTES}, version):
        store.compare_and_swap("schedules", PROBE, None, version + 1)


def _recovered(job: Job, why: str, now: datetime, started: frozenset[str] | None) -> Job:
    if started is not None and job.attempt_id not in started:
        return lifecycle.give_back(job, now=now)
    return lifecycle.lose(job, Report(outcome=Outcome(kind="lost", error=why), finished_at=now), now=now)


def waiting_behind(store: Store, parents: Sequence[str], states: frozenset[State]) -> list[str]:
    """The jobs in these states that wait for one of these parents."""
    ids: list[str] = []
    page = Page(limit=1000)
    while True:
        found = store.find(Filter(states=states, waiting_for=tuple(parents)), page)
        ids += [job.id for job in found.jobs]
        if found.next is None:
            return ids
        page = Page(limit=1000, after=found.next)


def _save(store: Store, jobs: Sequence[Job]) -> list[Job]:
    """What was accepted. The others were changed by somebody faster, who also did what follows from it."""
    answers = store.save(jobs) if jobs else []
    return [job for job, answer in zip(jobs, answers, strict=True) if answer == "accepted"]


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + 500] for start in range(0, len(ids), 500))
