"""Adds and changes jobs. A job is one document, and the write of this document is the commit point."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from queuectl.clock import random_bytes
from queuectl.domain import dependency, topics
from queuectl.domain.event import Event
from queuectl.domain.job import Job
from queuectl.domain.query import Jobs
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.driver import codec, numbering, verdict
from queuectl.store.driver.numbering import numbered
from queuectl.store.driver.verdict import SaveResult
from queuectl.store.mongo import documents, notify, publish
from queuectl.store.mongo.connect import Base, for_changing_one
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.faults import duplicates
from queuectl.store.protocol import Added

AT_ONCE = 5000
"""Number of jobs in one call. If all of them are refused, the reply must still fit into one message."""
TRIES = 10
"""How often a job is added again if the job that had its id or key was deleted after the refusal."""


Told = tuple[Job, Event | None]
"""A job and the event of its change."""


def add(base: Base, jobs: Sequence[Job], now: datetime, events: Sequence[Event | None] = ()) -> list[Added]:
    """Insert the jobs whose ids are absent.

    There is no transaction, so a reader may see a part of a batch. So parents are inserted before their children:
    otherwise a reader could find a child whose parent does not exist.
    """
    stored = {job.id: job for job in numbered(jobs, numbers(base, len(jobs), numbering.needed(jobs)) - 1)}
    answers: dict[str, Added] = {}
    told = {job.id: event for job, event in with_events(jobs, events)}
    left = dependency.parents_first(list(stored.values()))
    for _ in range(TRIES):
        for start in range(0, len(left), AT_ONCE):
            answers |= _insert(base, left[start : start + AT_ONCE], now, told)
        left = [job for job in left if job.id not in answers]
        if not left:
            break
    else:
        raise StoreUnavailable(f"job {left[0].id} is added and deleted again and again", "try again later")
    new = (added.job for added in answers.values() if added.status == "added")
    notify.send(base, topics.of_jobs(new, now))
    return [answers[job.id] for job in jobs]


def with_events(jobs: Sequence[Job], events: Sequence[Event | None]) -> list[Told]:
    """Each job with its event. `events` may be empty."""
    return list(zip(jobs, events or (None,) * len(jobs), strict=True))


def numbers(base: Base, count: int, reach: int = 0) -> int:
    """Reserve this many new numbers, and all up to `reach`. Returns the first number after those that were assigned.

    The numbers of refused jobs are never used again.
    """
    counter = for_changing_one(base["counters"]).find_one_and_update(
        {"_id": "number"}, [{"$set": {"n": {"$max": [{"$add": ["$n", count]}, reach]}}}]
    )
    if counter is None:
        raise StoreUnusable(
            "the counter of job numbers is missing", "it existed before: restore the database"
        )
    return int(counter["n"]) + 1


def _insert(
    base: Base, jobs: Sequence[Job], now: datetime, told: Mapping[str, Event | None]
) -> dict[str, Added]:
    """The result for each job. A refused job is omitted if the job that had its id or key was deleted meanwhile.

    An insert that a unique index refuses waits for the majority like one that is accepted: so an `existing` job is
    stored as safely as one that is added now, even if the reply to the first try was lost.
    """
    try:
        new = [documents.new(job, job.number, now, told.get(job.id)) for job in jobs]
        base["jobs"].insert_many(new, ordered=False)
        refused = []
    except BulkWriteError as error:
        refused = [jobs[place] for place in duplicates(error)]
    reasons = _reasons(base, refused)
    unknown = {job.id for job in refused} - reasons.keys()
    done = {job.id: Added("added", job) for job in jobs if job.id not in unknown}
    return done | reasons


def _reasons(base: Base, refused: Sequence[Job]) -> dict[str, Added]:
    if not refused:
        return {}
    keys = [job.spec.unique_key for job in refused if job.spec.unique_key is not None]
    named = base["jobs"].find({"id": {"$in": [job.id for job in refused]}})
    known = Jobs(*codec.sift(named, documents.job))
    keyed = list(base["jobs"].find({"key": {"$in": keys}})) if keys else []
    holders = {document["key"]: codec.sift([document], documents.job) for document in keyed}
    reasons = {}
    for job in refused:
        holder, damaged = holders.get(job.spec.unique_key, ([], []))
        if job.id in known:
            reasons[job.id] = verdict.known(job, known[job.id])
        elif job.id in known.unreadable:
            reasons[job.id] = verdict.unreadable(job, known.unreadable[job.id])
        elif holder:
            reasons[job.id] = Added("duplicate", holder[0])
        elif damaged:
            reasons[job.id] = verdict.unreadable(job, damaged[0])
    return reasons


def save(
    base: Base, jobs: Sequence[Job], now: datetime, events: Sequence[Event | None] = ()
) -> list[SaveResult]:
    """Compare-and-swap on the version, all in one call."""
    told = with_events(jobs, events)
    answers = _save(base, told, now)
    while full := [place for place, answer in enumerate(answers) if answer == "full"]:
        publish.publish_all(base)
        for place, answer in zip(full, _save(base, [told[place] for place in full], now), strict=True):
            answers[place] = answer
    results = [answer for answer in answers if answer != "full"]
    stored = (job for job, answer in zip(jobs, results, strict=True) if isinstance(answer, int))
    notify.send(base, topics.of_jobs(stored, now))
    return results


def _save(base: Base, told: Sequence[Told], now: datetime) -> list[SaveResult | Literal["full"]]:
    """Save once. "full": the job has `EVENTS_AT_MOST` events that have to be published first."""
    batch = random_bytes(6).hex()
    stamps = [f"{batch}{place}" for place in range(len(told))]
    updates = [
        UpdateOne(
            {"id": job.id, "version": job.version, **({} if event is None else _ROOM)},
            documents.change(job, now, stamp, event),
        )
        for (job, event), stamp in zip(told, stamps, strict=True)
    ]
    duplicate: set[int] = set()
    try:
        accepted = base["jobs"].bulk_write(updates, ordered=False).matched_count
    except BulkWriteError as error:
        duplicate, accepted = set(duplicates(error)), -1
    if accepted == len(told):
        return [job.version + 1 for job, _ in told]
    return _one_by_one(base, [job for job, _ in told], stamps, duplicate)


EVENTS_AT_MOST = 1000
"""Maximum number of events that wait in the document of a job, which has at most 16 MiB. It is reached only where no
reader and no worker publishes them."""
_ROOM: Document = {f"events.{EVENTS_AT_MOST - 1}": {"$exists": False}}


def _one_by_one(
    base: Base, jobs: Sequence[Job], stamps: Sequence[str], duplicate: set[int]
) -> list[SaveResult | Literal["full"]]:
    """Find the accepted jobs of a batch by their stamps, because the server reports only their number."""
    fields = {"id": 1, "version": 1, "stamps": 1}
    left = list(base["jobs"].find({"id": {"$in": [job.id for job in jobs]}}, fields))
    accepted = {stamp for document in left for stamp in document.get("stamps", ())}
    versions = {document["id"]: document.get("version") for document in left}

    def answer(place: int, job: Job) -> SaveResult | Literal["full"]:
        if place in duplicate:
            return "duplicate"
        if stamps[place] in accepted:
            return job.version + 1
        return "full" if versions.get(job.id) == job.version else "stale"

    return [answer(place, job) for place, job in enumerate(jobs)]
