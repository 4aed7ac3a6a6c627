"""Jobs that wait for jobs: is the wish satisfied, can it still be, is there a circle?"""

from collections.abc import Mapping, Sequence

from queuectl.domain.job import Job, Parent, State

SATISFYING: dict[str, frozenset[State]] = {
    "ok": frozenset(("completed",)),
    "any": frozenset(("completed", "dead", "cancelled")),
    "failed": frozenset(("dead", "cancelled")),
}
ENDED: frozenset[State] = SATISFYING["any"]


def still_waiting(after: Sequence[Parent], states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that have not ended as wanted, each once, given the states of those that are known."""
    return tuple(dict.fromkeys(p.job for p in after if states.get(p.job) not in SATISFYING[p.on]))


def broken(after: Sequence[Parent], states: Mapping[str, State]) -> tuple[str, ...]:
    """The parents that ended otherwise than wanted: the wait for them is in vain."""
    return tuple(p.job for p in after if states.get(p.job) in ENDED - SATISFYING[p.on])


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
