"""References to jobs: an id, a number, a unique prefix of an id, or `@last`."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from queuectl.domain.dependency import parse_dependency, refuse_several, unmet
from queuectl.domain.ids import is_made, is_number
from queuectl.domain.job import Job
from queuectl.domain.names import is_name
from queuectl.domain.query import Filter, Found, Page, Unreadable
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import unreadable
from queuectl.service.maintenance import parent_states
from queuectl.service.paging import pages
from queuectl.store.protocol import Store

STEP = 500
"""Number of references that one call of the store looks up."""

Stored = Job | Unreadable


def resolve(store: Store, references: Sequence[str], *, generous: bool = False) -> list[str]:
    """The ids of the referenced jobs, each once, in order.

    A reference is an id, a number, a unique prefix of an id that this program made, or `@last`. An id that a person
    gave has to be written in full: otherwise `cancel job-1` would act on job-17 after job-1 was
    deleted. With `generous` a prefix of any id is accepted, for commands that only read. Raises NotFound, or
    InvalidInput for a prefix that several jobs share.
    """
    found: dict[str, None] = {}
    for start in range(0, len(references), STEP):
        step = references[start : start + STEP]
        got = store.get([ref for ref in step if _may_be_id(ref)])
        exact = got.keys() | got.unreadable.keys()
        found |= dict.fromkeys(ref if ref in exact else _one(store, ref, generous).id for ref in step)
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
            [id] = resolve(store, [job])
        except NotFound:
            if not is_name(job) or is_number(job):
                raise
            id = job
        # The text is kept unchanged if possible, because it is part of the digest that compares two requests.
        found.append(id if text == job and parse_dependency(id)[0] == id else f"{id}:{on}")
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


def _one(store: Store, reference: str, generous: bool) -> Stored:
    """The job of a reference that is not an exact id. Raises NotFound, InvalidInput."""
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
