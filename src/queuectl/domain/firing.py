"""Decides the instants of a schedule that are due: the overlap and catch-up policies, pure.

An instant that is at most `IN_TIME` old is in time, and the overlap policy decides it. An older one is missed, and the
catch-up policy decides it. A plan is either about missed instants or about instants in time: call `plan` again while
the planned entry is due. Who stores a plan cancels its `replaced` jobs, and swaps the entry together with the jobs.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from itertools import chain, islice, takewhile

from msgspec import Struct
from msgspec.structs import replace

from queuectl.domain.recurrence import whole
from queuectl.domain.schedule import OPEN_KEPT, Decision, Schedule, Verdict, job_id
from queuectl.errors import Conflict

IN_TIME = timedelta(seconds=60)
CAUGHT_UP = 1000
"""How many of the missed instants run at most."""
STEP = 100
"""How many jobs a plan has at most."""
_TICK = timedelta(microseconds=1)


class PlannedJob(Struct, frozen=True):
    """A job to add. `after`: the jobs that have to end first, in any way. `run_at`: the instant with the jitter."""

    id: str
    instant: datetime
    run_at: datetime
    after: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
    """What becomes of the entry, which jobs are added with it, which jobs are replaced, and the new decisions."""

    entry: Schedule
    jobs: tuple[PlannedJob, ...] = ()
    replaced: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()

    def refused(self, reason: str) -> "Plan":
        """The plan if its template is not valid any more: no jobs, and their instants failed."""
        failed = tuple(_failed(decision, reason) if decision.job else decision for decision in self.decisions)
        before = self.entry.decisions[: -len(failed)] if failed else self.entry.decisions
        planned = {job.id for job in self.jobs}
        entry = replace(
            self.entry,
            decisions=replace(self.entry, decisions=before).decided(*failed),
            open=tuple(id for id in self.entry.open if id not in planned),
        )
        return Plan(entry, decisions=failed)


def plan(entry: Schedule, now: datetime, open_jobs: Collection[str], most: int = STEP) -> Plan:
    """Decide what is due. `open_jobs`: those of `entry.open` that exist and have not ended. `most`: jobs of the plan.

    Raises InvalidInput if this host cannot compute the rule, because it does not know the time zone: leave the entry
    to other workers.
    """
    if entry.due is None or now < entry.due:
        return Plan(entry)
    draft = _Draft(replace(entry, open=tuple(id for id in entry.open if id in open_jobs)), now)
    missed_until = entry.backlog or whole(now - IN_TIME - _TICK)
    return _catch_up(draft, missed_until, most) if _next(entry) <= missed_until else _in_time(draft, most)


def run_now(
    entry: Schedule, id: str, now: datetime, open_jobs: Collection[str], *, force: bool = False
) -> Plan:
    """Run the job of a schedule now, outside of its rule: no instant is decided. `id`: the id of the job.

    Raises Conflict if the overlap policy refuses it; `force` ignores the policy.
    """
    draft = _Draft(replace(entry, open=tuple(each for each in entry.open if each in open_jobs)), now)
    if force:
        draft.add(id, whole(now), now, ())
    elif not draft.try_to_add(id, whole(now), now):
        raise Conflict(
            f"schedule {entry.name}: {draft.open[-1]} has not ended", "--force runs it all the same"
        )
    return draft.plan(entry.next, entry.backlog)


class _Draft:
    """A plan that is being made."""

    def __init__(self, entry: Schedule, now: datetime) -> None:
        self.entry, self.now = entry, now
        self.open = list(entry.open)
        self.jobs: list[PlannedJob] = []
        self.replaced: list[str] = []
        self.decisions: list[Decision] = []

    def fire(self, instant: datetime) -> None:
        """Decide an instant by the overlap policy."""
        id = job_id(self.entry.name, instant)
        if verdict := self.try_to_add(id, instant, run_at(self.entry, instant)):
            self.decide(instant, verdict, id)
        else:
            self.skip(instant)

    def try_to_add(self, id: str, instant: datetime, at: datetime) -> Verdict | None:
        """Add a job if the overlap policy allows it; None if it does not."""
        policy, before = self.entry.overlap, tuple(self.open)
        if not before or policy == "allow":
            return self.add(id, instant, at, ())
        if policy == "queue" and len(before) == 1:
            return self.add(id, instant, at, before)
        if policy == "replace":
            self.replaced += before
            # The replaced jobs stay open until they are seen ended: a job that replaces this one waits for them too.
            self.add(id, instant, at, before)
            return "replaced"
        return None

    def add(self, id: str, instant: datetime, at: datetime, after: tuple[str, ...]) -> Verdict:
        """Add a job."""
        self.jobs.append(PlannedJob(id, instant, at, after))
        self.open.append(id)
        return "fired"

    def chain(self, instant: datetime) -> None:
        """Add the job of an instant after the newest job, whatever the overlap policy says."""
        id = job_id(self.entry.name, instant)
        self.decide(instant, self.add(id, instant, run_at(self.entry, instant), tuple(self.open[-1:])), id)

    def decide(self, instant: datetime, verdict: Verdict, id: str) -> None:
        """Note the decision to add a job."""
        self.decisions.append(Decision(instant=instant, decided_at=self.now, decision=verdict, job=id))

    def skip(self, instant: datetime) -> None:
        """Note that an instant is skipped; successive skipped instants are one decision."""
        if not self.decisions or self.decisions[-1].decision != "skipped":
            self.decisions.append(Decision(instant=instant, decided_at=self.now, decision="skipped"))
            return
        last = self.decisions[-1]
        self.decisions[-1] = replace(
            last, instant=instant, count=last.count + 1, first=last.first or last.instant
        )

    def plan(self, following: datetime | None, backlog: datetime | None = None) -> Plan:
        """The plan. `following`: the next instant to decide."""
        entry = replace(
            self.entry,
            next=following,
            backlog=backlog,
            open=tuple(self.open[-OPEN_KEPT:]),
            decisions=self.entry.decided(*self.decisions),
        )
        return Plan(entry, tuple(self.jobs), tuple(self.replaced), tuple(self.decisions))


def run_at(entry: Schedule, instant: datetime) -> datetime:
    """The start of the job of an instant: the same on every worker, spread over the jitter by name and instant."""
    if not entry.jitter:
        return instant
    from hashlib import blake2b

    digest = blake2b(job_id(entry.name, instant).encode(), digest_size=8).digest()
    return instant + int.from_bytes(digest) % (entry.jitter // _TICK) * _TICK


def _in_time(draft: _Draft, most: int) -> Plan:
    """Decide the instants until now. Of several that are replaced by the next one at once, only the newest runs."""
    due = [_next(draft.entry)]
    later = draft.entry.forward(due[0])
    following = next(later, None)
    while following is not None and following <= draft.now and len(due) < most:
        due.append(following)
        following = next(later, None)
    for instant in due:
        if draft.entry.overlap == "replace" and instant != due[-1]:
            draft.skip(instant)
        else:
            draft.fire(instant)
    return draft.plan(following)


def _catch_up(draft: _Draft, missed_until: datetime, most: int) -> Plan:
    """Decide the missed instants by the catch-up policy. Those that do not run are one decision."""
    entry = draft.entry
    chosen = _chosen(entry, missed_until, draft.now)
    if span := entry.span(chosen[0] if chosen else missed_until + _TICK):
        draft.decisions.append(span.missed(draft.now))
    for instant in chosen[:most]:
        if entry.catchup == "all":
            draft.chain(instant)
        else:
            draft.fire(instant)
    if rest := chosen[most:]:
        return draft.plan(rest[0], missed_until)
    return draft.plan(next(entry.forward(missed_until), None))


def _chosen(entry: Schedule, missed_until: datetime, now: datetime) -> list[datetime]:
    """The missed instants that run, the oldest first."""
    since = (entry.backlog or now) - entry.catchup_window
    if entry.catchup == "skip" or (entry.catchup == "last" and _has_newer(entry, missed_until, now)):
        return []
    first = _next(entry)
    later = takewhile(lambda instant: instant > first, entry.backward(missed_until))
    newest = islice(chain(later, (first,)), CAUGHT_UP if entry.catchup == "all" else 1)
    return [instant for instant in reversed([*newest]) if instant >= since]


def _has_newer(entry: Schedule, missed_until: datetime, now: datetime) -> bool:
    return any(instant <= now for instant in islice(entry.forward(missed_until), 1))


def _next(entry: Schedule) -> datetime:
    assert entry.next is not None, "a plan is made for an entry that is due"
    return entry.next


def _failed(decision: Decision, reason: str) -> Decision:
    return replace(decision, decision="failed", job=None, reason=reason)
