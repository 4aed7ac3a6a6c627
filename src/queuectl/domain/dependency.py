"""Dependencies between jobs: the parents that a job waits for, parents that can no longer end as wanted, and cycles."""

from collections.abc import Mapping, Sequence

from queuectl.domain.ids import handle
from queuectl.domain.job import Job, Parent, State
from queuectl.errors import InvalidInput

SATISFIED_BY: dict[str, frozenset[State]] = {
    "ok": frozenset(("completed",)),
    "any": frozenset(("completed", "dead", "cancelled")),
    "failed": frozenset(("dead", "cancelled")),
}
ENDED: frozenset[State] = SATISFIED_BY["any"]


def parse_dependency(text: str) -> tuple[str, str]:
    """The id and the wanted ending in `ID:any`. An id may contain colons, so only a known ending is split off."""
    job, colon, on = text.rpartition(":")
    return (job, on) if colon and on in SATISFIED_BY else (text, "ok")


def refuse_several(text: str) -> None:
    """Refuse a comma, because a dependency names only one job and no id contains a comma. Raises InvalidInput."""
    if "," in text:
        again = " ".join(f"--after {part.strip()}" for part in text.split(",") if part.strip())
        raise InvalidInput(f"after: {text[:80]!r} is not one job", f"give it once for each job: {again}")


def missing_parent_hint(job: str) -> str:
    """The hint for a parent that does not exist. A word after a colon may have been meant as the wanted ending."""
    id, colon, _ = job.rpartition(":")
    if not colon:
        return "enqueue the parent first"
    return f"enqueue the parent first; or, if {id} is the job: {id}:ok, {id}:any or {id}:failed"


def still_waiting(after: Sequence[Parent], states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that have not ended as wanted, each once. `states` has the states of the parents that exist."""
    return tuple(dict.fromkeys(p.job for p in after if states.get(p.job) not in SATISFIED_BY[p.on]))


def ended_otherwise(after: Sequence[Parent], states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that have ended, but not as wanted."""
    return tuple(p.job for p in after if states.get(p.job) in ENDED - SATISFIED_BY[p.on])


def unmet(job: Job, states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that a job still waits for: they have not ended as wanted, or were deleted before that."""
    return tuple(p for p in still_waiting(job.spec.after, states) if p in job.waiting_for)


def impossible(job: Job, states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that a job waits for and that can no longer end as wanted: first those that ended otherwise, then
    those that were deleted.
    """
    wrong = [p for p in ended_otherwise(job.spec.after, states) if p in job.waiting_for]
    return tuple(dict.fromkeys([*wrong, *(p for p in job.waiting_for if p not in states)]))


def unmet_after_retry(job: Job, states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that a job waits for when it is retried: all whose present state is not as wanted.

    A deleted parent counts as ended as wanted, unless the job still waited for it.
    """
    waits = still_waiting(job.spec.after, states)
    return tuple(p for p in waits if p in states or p in job.waiting_for)


def impossible_text(job: Job, parent: str, parents: Mapping[str, State]) -> str:
    """The sentence about a parent for which the job would wait without end."""
    ended = f"which ended as {parents[parent]}" if parent in parents else "which was deleted"
    return f"job {handle(job)} waits for {parent}, {ended}"


def retry_hint(job: Job, parent: str, parents: Mapping[str, State]) -> str:
    """The hint if the retried job would wait for this parent without end."""
    alone = f"queuectl retry --alone {handle(job)} runs it without its parents"
    if parents.get(parent) == "dead":
        return f"queuectl retry {parent} {handle(job)} runs both in order; {alone}"
    # A cancelled parent may itself wait for a parent that failed.
    return (
        f"queuectl explain {handle(job)} shows what to retry with it; {alone}" if parent in parents else alone
    )


def parents_first(jobs: Sequence[Job]) -> list[Job]:
    """The same jobs, each after its parents if they are in the list; otherwise in the given order."""
    left, ordered = {job.id: job for job in jobs}, list[Job]()
    for id in [job.id for job in jobs]:
        stack = [left.pop(id)] if id in left else []
        while stack:
            parent = next((p.job for p in stack[-1].spec.after if p.job in left), None)
            if parent is None:
                ordered.append(stack.pop())
            else:
                stack.append(left.pop(parent))
    return ordered


def find_cycle(parents: Mapping[str, Sequence[str]]) -> list[str] | None:
    """A chain of ids from a job through its parents back to itself, or None. Not recursive, so chains may be long."""
    from graphlib import CycleError, TopologicalSorter  # imported here, because most jobs have no parents

    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return None
