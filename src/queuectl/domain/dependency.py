"""Jobs that wait for jobs: is the wish satisfied, can it still be, is there a circle?"""

from collections.abc import Mapping, Sequence

from queuectl.domain.ids import handle
from queuectl.domain.job import Job, Parent, State
from queuectl.errors import InvalidInput

SATISFYING: dict[str, frozenset[State]] = {
    "ok": frozenset(("completed",)),
    "any": frozenset(("completed", "dead", "cancelled")),
    "failed": frozenset(("dead", "cancelled")),
}
ENDED: frozenset[State] = SATISFYING["any"]


def split_wish(text: str) -> tuple[str, str]:
    """`ID:any` is a wish; an id may itself contain colons, so only a known word counts."""
    job, colon, on = text.rpartition(":")
    return (job, on) if colon and on in SATISFYING else (text, "ok")


def refuse_list(text: str) -> None:
    """Refuse several jobs in one wish: no id has a comma in it. Raises InvalidInput."""
    if "," in text:
        again = " ".join(f"--after {part.strip()}" for part in text.split(",") if part.strip())
        raise InvalidInput(f"after: {text[:80]!r} is not one job", f"give it once for each: {again}")


def wish_hint(job: str) -> str:
    """What to do about a parent that there is not: a wrong word behind a colon was taken for a part of its id."""
    id, colon, _ = job.rpartition(":")
    if not colon:
        return "enqueue the parent first"
    return f"enqueue the parent first; or, if {id} is the job: {id}:ok, {id}:any or {id}:failed"


def still_waiting(after: Sequence[Parent], states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that have not ended as wanted, each once, given the states of those that are known."""
    return tuple(dict.fromkeys(p.job for p in after if states.get(p.job) not in SATISFYING[p.on]))


def broken(after: Sequence[Parent], states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that ended otherwise than wanted: the wait for them is in vain."""
    return tuple(p.job for p in after if states.get(p.job) in ENDED - SATISFYING[p.on])


def unmet(job: Job, states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that a job still waits for: they have not ended as wanted, or were deleted before they did."""
    return tuple(p for p in still_waiting(job.spec.after, states) if p in job.waiting_for)


def in_vain(job: Job, states: Mapping[str, State]) -> tuple[str, ...]:
    """Of the parents that a job waits for, those that ended otherwise than wanted, then those that are gone."""
    wrong = [p for p in broken(job.spec.after, states) if p in job.waiting_for]
    return tuple(dict.fromkeys([*wrong, *(p for p in job.waiting_for if p not in states)]))


def to_wait_for_again(job: Job, states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that a job waits for when it is retried: all that have not, or no longer, ended as wanted.

    A parent that is gone had ended as wanted, unless the job still waited for it.
    """
    waits = still_waiting(job.spec.after, states)
    return tuple(p for p in waits if p in states or p in job.waiting_for)


def vain_words(job: Job, parent: str, parents: Mapping[str, State]) -> str:
    """The sentence for a person: for whom a job would wait in vain."""
    ended = f"which ended as {parents[parent]}" if parent in parents else "which is gone"
    return f"job {handle(job)} waits for {parent}, {ended}"


def retry_hint(job: Job, parent: str, parents: Mapping[str, State]) -> str:
    """What a person can do whose retry would wait for this parent in vain."""
    alone = f"queuectl retry --alone {handle(job)} runs it without its parents"
    if parents.get(parent) == "dead":
        return f"queuectl retry {parent} {handle(job)} runs both in order; {alone}"
    # A parent that is cancelled may itself wait for one that failed.
    return (
        f"queuectl explain {handle(job)} says what to retry with it; {alone}" if parent in parents else alone
    )


def parents_first(jobs: Sequence[Job]) -> list[Job]:
    """The same jobs, each behind those of its parents that are among them; otherwise in the order given."""
    left, placed = {job.id: job for job in jobs}, list[Job]()
    for id in [job.id for job in jobs]:
        stack = [left.pop(id)] if id in left else []
        while stack:
            parent = next((p.job for p in stack[-1].spec.after if p.job in left), None)
            if parent is None:
                placed.append(stack.pop())
            else:
                stack.append(left.pop(parent))
    return placed


def circle(parents: Mapping[str, Sequence[str]]) -> list[str] | None:
    """A chain of ids that leads back to its first, or None. Iterative: a chain may be a million long."""
    finished: set[str] = set()
    for start in parents:
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, bool]] = [(start, True)]
        while stack:
            job, entering = stack.pop()
            if not entering:
                path.pop()
                on_path.discard(job)
                finished.add(job)
            elif job in on_path:
                return [*path[path.index(job) :], job]
            elif job not in finished and job in parents:
                path.append(job)
                on_path.add(job)
                stack.append((job, False))
                stack.extend((parent, True) for parent in parents[job])
    return None
