"""The maintenance that every worker does: recover claims, unblock children, delete old jobs.

The work is done in small steps and needs no leader. Several workers may do the same step at once: `save` accepts the
change of one of them and refuses the others, which then have nothing to do.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from queuectl.config import Settings
from queuectl.domain import lifecycle
from queuectl.domain.event import Actor, between
from queuectl.domain.job import Job, State
from queuectl.domain.outcome import Outcome, Report
from queuectl.domain.query import Filter, Page
from queuectl.service.archive_outage import tolerate_archive_outage
from queuectl.service.paging import pages
from queuectl.store.protocol import Store, Swap

PROBE, PROBE_BYTES = ".doctor", 8192
"""The name of the entry that `doctor` writes into the table of schedules, and its size. No schedule has this name."""

CHILDREN_TOLD_WITHIN = timedelta(minutes=1)
"""Within this time after a job's end, every job that waits for it has been unblocked or cancelled."""
EVENTS_KEPT = 1_000_000
"""The maximum number of events, however young they are."""
TRIM_STEP, TRIM_STEPS = 1000, 50
"""Number of events that one call of the store deletes, and number of these calls in one run."""
STEP = 100
"""Number of jobs that one step reads."""
MOST_EXPIRED = 10_000
"""Maximum number of expired leases that one step reads, if all the first ones are spared."""

_DONE: frozenset[State] = frozenset(("completed", "cancelled"))
_DEAD: frozenset[State] = frozenset(("dead",))
CHILDREN: frozenset[State] = frozenset(("blocked", "held"))
"""States in which a job may wait for parents. The ends of parents are applied to a held job too, so that the parents
may be deleted.
"""


def recover_expired(store: Store, spare: Callable[[Job], bool] | None = None) -> list[Job]:
    """Recover the jobs whose lease has expired, because their worker did not renew it. Returns the changed jobs.

    `spare` says whether the calling worker knows that the attempt still runs: the worker runs the job itself and is
    about to renew the lease, or it sees the command alive on this host.

    The store returns the leases that expired first. If all of these are spared, later ones may need recovery, so this
    function reads four times as many, up to `MOST_EXPIRED`. Without that, a hundred spared claims would keep every
    other expired claim from being recovered
    (`tests/service/test_maintenance.py::TestRecoverExpired::test_expired_claims_behind_spared_claims_are_recovered`).
    """
    silent, spared, wanted = list[Job](), set[str | None](), STEP
    while not silent:
        found = store.expired_leases(wanted)
        new = [job for job in found if job.attempt_id not in spared]
        silent = [job for job in new if spare is None or not spare(job)][:STEP]
        spared.update(job.attempt_id for job in new)
        if len(found) < wanted or wanted >= MOST_EXPIRED:
            break
        wanted = min(4 * wanted, MOST_EXPIRED)
    return recover(store, silent, "its worker was silent for longer than the lease")


def recover_worker(store: Store, worker: str, started: frozenset[str] | None, why: str) -> list[Job]:
    """Recover all claims of a worker that is known to be dead.

    `started` are the attempts that may have started, from the dead worker's slot file. A claim that is not among them
    never started and is given back uncounted. None: the slot file is unknown, so every claim counts as started.
    """
    recovered: list[Job] = []
    claims = Filter(states=frozenset(("processing",)), worker=worker)
    while found := store.find(claims, Page(limit=STEP)).jobs:
        # `save` refuses a job that was changed meanwhile. The next search finds this job if it is still claimed.
        recovered += recover(store, found, why, started)
    return recovered


def recover(store: Store, jobs: Sequence[Job], why: str, started: frozenset[str] | None = None) -> list[Job]:
    """Give back the claims that never started; record the others as lost."""
    if not jobs:
        return []
    now = store.now()
    kept = _save(store, [(job, _recovered(job, why, now, started)) for job in jobs])
    # The caller reports the recovered jobs even if the archive fails here: the sweep finds their blocked children.
    with tolerate_archive_outage(store):
        unblock_children(store, [job.id for job in kept if job.ended])
    return kept


def unblock_children(store: Store, ended: Sequence[str]) -> None:
    """Unblock the jobs that wait for these jobs. If this cancels a child, its own children follow."""
    while ended:
        next_ended: list[str] = []
        for batch in _batches(ended):
            for children in _batches(waiting_behind(store, batch, CHILDREN)):
                next_ended += [job.id for job in unblock(store, children) if job.ended]
        ended = next_ended


def unblock(store: Store, ids: Sequence[str]) -> list[Job]:
    """Evaluate the dependencies of these blocked and held jobs again. Returns the jobs that changed."""
    changed: list[Job] = []
    for batch in _batches(ids):
        jobs = [job for job in store.get(batch).values() if job.state in CHILDREN]
        states = parent_states(store, jobs)
        now = store.now()
        pairs = [(job, lifecycle.unblock(job, states, now=now)) for job in jobs]
        changed += _save(store, [(before, after) for before, after in pairs if after is not before])
    return changed


def parent_states(store: Store, jobs: Iterable[Job]) -> dict[str, State]:
    """The states of all parents of these jobs that exist. A parent that cannot be decoded exists and has not ended."""
    states: dict[str, State] = {}
    for batch in _batches(sorted({parent.job for job in jobs for parent in job.spec.after})):
        found = store.get(batch)
        states |= {id: parent.state for id, parent in found.items()}
        states |= dict.fromkeys(found.unreadable, "held")
    return states


def sweep_blocked(store: Store, cursor: str | None) -> str | None:
    """Evaluate one page of blocked and held jobs again. Returns the cursor of the next page.

    This finds the children of a parent whose worker died after it saved the parent's end and before it unblocked them.
    """
    found = store.find(Filter(states=CHILDREN), Page(limit=STEP, after=cursor))
    ended = [job.id for job in unblock(store, [job.id for job in found.jobs]) if job.ended]
    unblock_children(store, ended)
    return found.next


def unblock_all(store: Store) -> None:
    """Evaluate all blocked and held jobs again. Afterwards the parents that have ended may be deleted."""
    cursor = None
    if store.counts(Filter(states=CHILDREN)).total():
        while (cursor := sweep_blocked(store, cursor)) is not None:
            pass


def purge_expired(store: Store, settings: Settings) -> int:
    """Delete some of the jobs that are older than the retention settings allow. Returns the number of deleted jobs.

    A job is kept for at least a minute after its end. The worker that ended it unblocks the waiting jobs shortly
    afterwards; a waiting job whose parent was deleted before that would be cancelled.
    """
    count = 0
    for states, keep in ((_DONE, settings.retain_completed), (_DEAD, settings.retain_dead)):
        if isinstance(keep, timedelta):
            wanted = Filter(states=states, ended_before=store.now() - max(keep, CHILDREN_TOLD_WITHIN))
            count += len(store.purge(wanted, STEP))
    return count


def delete_ended(
    store: Store, jobs: Sequence[Job], *, exactly: bool = True, tell: Actor | None = None
) -> set[str]:
    """Delete these ended jobs with their output, in one call. Returns the ids of the deleted jobs.

    `exactly`: only the jobs as they were read. An ended job changes only by a retry, and a retried job ends after it
    was read here, so later than all of these jobs. So their last end stands for their versions.
    """
    last = max((job.finished_at for job in jobs if job.finished_at), default=None)
    if last is None:
        return set()
    ended = last + timedelta(microseconds=1) if exactly else None
    wanted = Filter(ids=tuple(job.id for job in jobs), ended_before=ended)
    return set(store.purge(wanted, len(jobs), tell=tell))


def trim_events(store: Store, settings: Settings) -> int:
    """Delete events that are older than the retention setting allows, and those beyond the newest `EVENTS_KEPT`.

    One call deletes at most `TRIM_STEPS` steps. Returns the number of deleted events.
    """
    count, before = 0, store.now() - settings.retain_events
    for _ in range(TRIM_STEPS):
        count += (gone := store.trim_events(before, EVENTS_KEPT, TRIM_STEP))
        if gone < TRIM_STEP:
            break
    return count


def forget_lost(store: Store, silence: timedelta) -> None:
    """Remove the workers from the registry that sent no heartbeat for this long and have no claims."""
    oldest = store.now() - silence
    for worker in store.workers():
        silent = worker.heartbeat is None or worker.heartbeat < oldest
        held = Filter(states=frozenset(("processing",)), worker=worker.id)
        if silent and not store.find(held, Page(limit=1)).jobs:
            store.forget(worker.id)


def try_write(store: Store) -> None:
    """Write an entry and remove it. Only a write detects a full disk or a missing right. Raises StoreError.

    The write is committed and not rolled back: SQLite allocates space at the commit, and two of the stores have no
    rollback.
    """
    entry = store.read_table("schedules").get(PROBE)
    version = entry.version if entry else 0
    if store.swap([Swap("schedules", PROBE, {"text": "x" * PROBE_BYTES}, version)])[0]:
        store.swap([Swap("schedules", PROBE, None, version + 1)])


def _recovered(job: Job, why: str, now: datetime, started: frozenset[str] | None) -> Job:
    if started is not None and job.attempt_id not in started:
        return lifecycle.give_back(job, now=now)
    return lifecycle.lose(job, Report(outcome=Outcome(kind="lost", error=why), finished_at=now), now=now)


def waiting_behind(store: Store, parents: Sequence[str], states: frozenset[State]) -> list[str]:
    """The jobs in these states that wait for one of these parents."""
    wanted = Filter(states=states, waiting_for=tuple(parents))
    return [job.id for found in pages(store, wanted, 1000) for job in found.jobs]


def _save(store: Store, changes: Sequence[tuple[Job, Job]]) -> list[Job]:
    """Save jobs, each given before and after its change. Returns the accepted ones.

    A refused job was changed by another process, which handles it.
    """
    events = [between(before, after) for before, after in changes]
    answers = store.save([after for _, after in changes], events) if changes else []
    return [answer.job for answer in answers if answer.job is not None]


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + 500] for start in range(0, len(ids), 500))
