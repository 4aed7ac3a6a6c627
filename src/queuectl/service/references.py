"""References to one job (id, number, prefix of an id, `@last`) or several (`1-5,9`, `@last:5`, `@batch:NAME`)."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from queuectl.domain.dependency import parse_dependency, refuse_several, unmet
from queuectl.domain.ids import is_made, is_number, is_several, ranges_of
from queuectl.domain.job import Job
from queuectl.domain.names import is_name
from queuectl.domain.query import Filter, Found, Jobs, Page, Unreadable
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import unreadable
from queuectl.service.maintenance import parent_states
from queuectl.service.matching import select
from queuectl.service.paging import pages
from queuectl.store.protocol import Store

STEP = 500
"""Number of references that one call of the store looks up."""

MOST_NEWEST = 100_000
"""Maximum of N in `@last:N`."""

Stored = Job | Unreadable


def resolve(store: Store, references: Sequence[str], *, generous: bool = False) -> list[str]:
    """The ids of the referenced jobs, each once, in order.

    A reference is an id, a number, a unique prefix of an id that this program made, or `@last`. An id that a person
    gave has to be written in full: otherwise `cancel job-1` would act on job-17 after job-1 was
    deleted. With `generous` a prefix of any id is accepted, for commands that only read. A range of numbers, `@last:5`
    and `@batch:NAME` mean several jobs; an id that looks like a range is an id. Raises NotFound, or InvalidInput for a
    prefix that several jobs share.
    """
    found: dict[str, None] = {}
    for start in range(0, len(references), STEP):
        step = references[start : start + STEP]
        got = store.get([ref for ref in step if _may_be_id(ref)])
        exact = got.keys() | got.unreadable.keys()
        for ref in step:
            if ref not in exact and is_several(ref):
                found |= dict.fromkeys(_several(store, ref))
            else:
                found[ref if ref in exact else _one(store, ref, generous).id] = None
    return list(found)


def parents(store: Store, dependencies: Sequence[str]) -> list[str]:
    """Dependencies such as `@last:any`, `12` or a prefix, with each reference replaced by the id.

    An id that no job has is kept, because the same file may enqueue the job.
    """
    found = []
    for text in dependencies:
        refuse_several(text)
        job, on = parse_dependency(text)
        try:
            ids = resolve(store, [job])
        except NotFound:
            if not is_name(job) or is_number(job):
                raise
            ids = [job]
        # The text is kept unchanged if possible, because it is part of the digest that compares two requests.
        found += [id if text == job and parse_dependency(id)[0] == id else f"{id}:{on}" for id in ids]
    return found


def show(store: Store, reference: str) -> Job:
    """The job. A prefix of any id is accepted. Costs one call of the store, or two for a prefix."""
    stored = _exact(store, reference) or _one(store, reference, generous=True)
    if isinstance(stored, Unreadable):
        raise unreadable.refusal(stored)
    return _up_to_date(store, stored)


def _up_to_date(store: Store, job: Job) -> Job:
    """The job, with `waiting_for` reduced to the parents that have not ended as wanted."""
    if job.ended or not job.waiting_for:
        return job
    return replace(job, waiting_for=unmet(job, parent_states(store, [job])))


def _may_be_id(reference: str) -> bool:
    """Whether a reference is looked up as an id first. A plain number is looked up as a job number first."""
    return bool(reference) and not reference.startswith("@") and not is_number(reference)


def _exact(store: Store, reference: str) -> Stored | None:
    """The job with exactly this id, or None."""
    if not _may_be_id(reference):
        return None
    got = store.get([reference])
    return got.get(reference) or got.unreadable.get(reference)


def _several(store: Store, reference: str) -> list[str]:
    """The ids of the jobs that a range, `@last:5` or `@batch:NAME` means, in the order of their numbers."""
    if reference.startswith("@last:"):
        return _newest(store, reference.removeprefix("@last:"))
    if reference.startswith("@batch:"):
        batch = reference.removeprefix("@batch:")
        ids = [id for step in select(store, Filter(batch=batch)) for id in step]
        if not ids:
            raise NotFound(f"there is no job in batch {batch!r}")
        return ids[::-1]
    numbered = dict[int, str]()
    for low, high in ranges_of(reference):
        numbered |= _within(store, low, high)
    if not numbered:
        raise NotFound(f"there is no job with a number in {reference}", "queuectl list shows the newest ones")
    return list(numbered.values())


def _newest(store: Store, count: str) -> list[str]:
    if not is_number(count) or not 0 < int(count) <= MOST_NEWEST:
        raise InvalidInput(f"@last:{count} is not a number of jobs from 1 to {MOST_NEWEST}", "@last:5")
    ids = list[str]()
    for found in pages(store, Filter(), min(int(count), STEP)):
        ids += [each.id for each in _all(found)]
        if len(ids) >= int(count):
            break
    if not ids:
        raise NotFound("there is no job yet", "queuectl enqueue 'echo hello' creates one")
    return ids[: int(count)][::-1]


def _within(store: Store, low: int, high: int) -> dict[int, str]:
    """The ids of the jobs with a number in a range, by number. Numbers that no job has any more are left out."""
    ids, after = dict[int, str](), low - 1
    while after < high:
        page = Page(limit=min(high - after, STEP), sort="number", after=str(after) if after > 0 else None)
        found = store.find(Filter(), page)
        ids |= {each.number: each.id for each in _all(found) if low <= each.number <= high}
        if found.next is None:
            break
        after = found.jobs[-1].number
    return dict(sorted(ids.items()))


def _one(store: Store, reference: str, generous: bool) -> Stored:
    """The job of a reference that is not an exact id. Raises NotFound, InvalidInput."""
    if is_several(reference):
        ids = _several(store, reference)
        if len(ids) > 1:
            raise InvalidInput(f"{reference} means {len(ids)} jobs, one is expected", "give one number")
        return _all_read(store.get(ids))[0]
    if reference == "@last":
        newest = store.find(Filter(), Page(limit=1)).jobs
        if not newest:
            raise NotFound("there is no job yet", "queuectl enqueue 'echo hello' creates one")
        return newest[0]
    if is_number(reference):
        if found := _all(store.find(Filter(number=int(reference)), Page(limit=1))):
            return found[0]
        if job := store.get([reference]).get(reference):
            return job
    return _by_prefix(store, reference, generous)


def _by_prefix(store: Store, reference: str, generous: bool) -> Stored:
    found = _beginning(store, reference, lambda id: generous or is_made(id))
    if len(found) > 1:
        raise InvalidInput(f"{reference!r} begins several ids", "write more of the id, or the job's number")
    if not found:
        near = _beginning(store, reference, lambda id: True)
        hint = f"did you mean {near[0].id}?" if len(near) == 1 else "queuectl list shows the newest ones"
        raise NotFound(f"there is no job {reference!r}", hint)
    return found[0]


def _all_read(jobs: Jobs) -> list[Stored]:
    return [*jobs.values(), *jobs.unreadable.values()]


def _all(found: Found) -> list[Stored]:
    """All jobs that were found, including unreadable ones."""
    return [*found.jobs, *found.unreadable]


def _beginning(store: Store, prefix: str, wanted: Callable[[str], bool]) -> list[Stored]:
    """At most two jobs whose ids begin with this text and satisfy `wanted`. Empty for an empty text."""
    jobs: list[Stored] = []
    for found in pages(store, Filter(id_prefix=prefix), 100) if prefix else ():
        jobs += [job for job in _all(found) if wanted(job.id)]
        if len(jobs) > 1:
            break
    return jobs[:2]
