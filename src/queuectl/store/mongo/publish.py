"""Publishes events: moves them from the documents of the jobs into the log, the collection `events`.

A change and its event have to be one write, and without transactions one write changes one document. So a change
pushes its event into the document of the job (`events`, and `unpublished` for the index), and a *publisher* moves it to
the log later. Every reader publishes before it reads, so it misses nothing; workers publish too (`relieve`).

The invariants
    - The numbers of the log (`_id`) are dense: each event has the number after the last one. So no reader sees an event
      before one that comes before it.
    - Each event is in the log once. All events up to the number `cleared` were removed from their jobs.
    - Events before `first` are deleted, even if documents with such numbers exist.
    - The last document of the log is never deleted (`events.trim`).
    `first` and `cleared` are in the document `events` of the collection `counters`. They only rise.

A publisher does
    1. Look: it reads `cleared`, then the last number of the log, then the jobs with events, in one request, so that
       the later reads are not older than the earlier ones. If `cleared` is not the last number, another publisher has
       not finished: it goes to 3 with the events of the log behind `cleared`, and then begins again.
    2. Insert the events, in order, with the numbers after the last one. If one number exists, another publisher was
       faster, and this one begins again.
    3. Confirm: it writes to `counters` on condition that `cleared` is still what it has read. If not, it begins again.
    4. Remove the events from the jobs: of each job those up to the version of its last event in the log. All events of
       a job up to that version are in the log, so this stays right however late it is done.
    5. Raise `cleared`.

Why each event is in the log once
    The jobs were read after all events of the log were removed from them. The insert succeeds only if the log is still
    the same: otherwise a document with the first number exists, unless it was trimmed. A publisher that sleeps before
    2, while others publish and trim, may insert documents up to the first one that is left, which is at most the last
    one of the log. All these numbers are before `first`, so no reader sees them, and the next trim deletes them. The
    publisher does not pass 3, because others had to raise `cleared` before they trimmed.

    died after  what follows
    1           nothing was changed
    2, 3, 4     a part of the events may be in the log, from the first one without a gap. The next publisher sees that
                `cleared` is behind, and does 3, 4 and 5 for that part

A replica set: all of this is read and written with the majority, so nothing that was published is rolled back. After an
election a read may be older than one of the former primary. That is why 1 is one request, and why 3 is a write.

Shown by tests/contract/test_mongo_events.py.
"""

from collections.abc import Iterator
from datetime import UTC
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from pymongo import UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern

from queuectl.errors import StoreUnusable
from queuectl.store.driver import codec
from queuectl.store.driver.server_clock import SET_BACK
from queuectl.store.mongo import ended_counts
from queuectl.store.mongo.connect import SAFE, Base
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.faults import duplicates

JOBS_AT_ONCE, EVENTS_AT_ONCE = 1000, 2000
"""The maximum number of jobs whose events are published at once, and of events, not counting those of the last job."""
BACKLOG = 500
"""Number of jobs with events from which a worker publishes at its heartbeat."""
RELIEVED_AT_ONCE = 10
"""How often one heartbeat publishes."""
STATE = {"_id": "events"}
_LATER = codec.length(SET_BACK)


class Log(Struct, frozen=True):
    """The state of the log, and some jobs with events.

    first    the number of the oldest kept event
    cleared  the number up to which events were removed from the jobs
    last     the number of the last event, and `at` its time
    now      the time of the server
    jobs     the first documents with events
    more     there are more such documents
    """

    first: int
    cleared: int
    last: int
    at: int
    now: int
    jobs: list[Document]
    more: bool


def with_majority(base: Base) -> Base:
    """The database, read and written with the majority."""
    return base.with_options(read_concern=ReadConcern("majority"), write_concern=SAFE)


def publish(base: Base) -> Log:
    """Publish some events. Returns the state of the log after that; `more` if not all events were published."""
    base = with_majority(base)
    while True:
        log = look(base)
        if log.cleared < log.last:
            _clear(base, log, _newest(base, log.cleared), log.last)
        elif not log.jobs:
            return log
        elif not (documents := list(_numbered(log))):
            _drop(base, log.jobs)
        elif _insert(base, documents):
            newest = {each["job"]: each["v"] for each in documents}
            last = documents[-1]["_id"]
            if _clear(base, log, newest, last):
                return replace(log, cleared=last, last=last, jobs=[])


def publish_all(base: Base) -> Log:
    """Publish all events. Returns the state of the log after that."""
    while True:
        log = publish(base)
        if not log.more:
            return log


def relieve(base: Base) -> None:
    """Publish if many jobs have events, so that there are never very many of them while a worker runs."""
    for _ in range(RELIEVED_AT_ONCE):
        if base["jobs"].count_documents({"unpublished": True}, limit=BACKLOG) < BACKLOG:
            return
        publish(base)


def look(base: Base) -> Log:
    """Step 1: the state of the log, and the first jobs with events. `base` reads with the majority."""
    found = Log(first=0, cleared=0, last=0, at=0, now=0, jobs=[], more=False)
    events, jobs = 0, found.jobs
    with base["counters"].aggregate(_LOOK, batchSize=JOBS_AT_ONCE + 3) as rows:
        for row in rows:
            if "first" in row:
                now = codec.micros(row["now"].replace(tzinfo=UTC))
                found = replace(found, first=row["first"], cleared=row["cleared"], now=now)
            elif "last" in row:
                found = replace(found, last=row["last"], at=row["at"])
            elif events >= EVENTS_AT_ONCE or len(jobs) >= JOBS_AT_ONCE:
                found = replace(found, more=True)
                break
            else:
                jobs.append(row)
                events += len(list(_entries(row)))
    if not found.first:
        raise StoreUnusable("the counter of events is missing", "it existed before: restore the database")
    return replace(found, last=max(found.last, found.cleared))


_LAST: list[Document] = [
    {"$sort": {"_id": -1}},
    {"$limit": 1},
    {"$project": {"_id": 0, "last": "$_id", "at": 1}},
]
_JOBS: list[Document] = [
    {"$match": {"unpublished": True}},
    {"$sort": {"_id": 1}},
    {"$limit": JOBS_AT_ONCE + 1},
    {"$project": {"events": 1}},
]
_LOOK: list[Document] = [
    {"$match": STATE},
    {"$set": {"now": "$$NOW"}},
    {"$unionWith": {"coll": "events", "pipeline": _LAST}},
    {"$unionWith": {"coll": "jobs", "pipeline": _JOBS}},
]


def _numbered(log: Log) -> Iterator[Document]:
    """The events of the jobs as documents of the log, by time. Those of one job are in the order of its changes.

    The times rise with the numbers, so a place in the log is found by time. They fall only if the server's clock was
    set back by more than an hour.
    """
    rows = list[tuple[int, int, int, int, str]]()
    for job in log.jobs:
        reached = (0, 0)
        for entry in _entries(job):
            reached = max(reached, (entry["at"], entry.get("i", 0)))
            rows.append((*reached, job["_id"], entry["v"], _line(entry)))
    at = log.at if log.at <= log.now + _LATER else 0
    for number, (moment, _, job_number, version, line) in enumerate(sorted(rows), log.last + 1):
        at = max(at, moment)
        yield {"_id": number, "job": job_number, "v": version, "at": at, "line": line}


def _entries(job: Document) -> Iterator[Document]:
    """The events in a document. What was edited by hand and is none is left out."""
    events = job.get("events")
    for entry in events if isinstance(events, list) else ():
        if isinstance(entry, dict) and type(entry.get("v")) is int and type(entry.get("at")) is int:
            yield entry


def _line(entry: Document) -> str:
    """The line of an event. The server makes events without one, because it cannot encode JSON."""
    line = entry.get("line")
    return line if isinstance(line, str) else codec.to_json(entry.get("event"))


def _insert(base: Base, documents: list[Document]) -> bool:
    """Step 2. Returns False if another publisher was faster."""
    try:
        base["events"].insert_many(documents)
    except BulkWriteError as error:
        duplicates(error)  # raises for all other errors
        return False
    return True


def _newest(base: Base, cleared: int) -> dict[int, int]:
    """The version of the last event of each job in the log behind this number."""
    found = base["events"].find({"_id": {"$gt": cleared}}, {"job": 1, "v": 1}).sort("_id", 1)
    return {each["job"]: each["v"] for each in found}


def _clear(base: Base, log: Log, newest: dict[int, int], last: int) -> bool:
    """Steps 3 to 5: remove events from the jobs, of each job those up to this version. Returns False after 3 if others
    have raised `cleared`.
    """
    confirmed = base["counters"].update_one({**STATE, "cleared": log.cleared}, {"$set": {"clearing": last}})
    if confirmed.matched_count:
        _remove(base, newest)
        base["counters"].update_one(STATE, {"$max": {"cleared": last}})
    return confirmed.matched_count > 0


def _remove(base: Base, newest: dict[int, int]) -> None:
    """Step 4. Nearly always no job has a later event, and none was deleted."""
    versions = dict[int, list[int]]()
    for number, version in newest.items():
        versions.setdefault(version, []).append(number)
    every: Document = {"$unset": {"events": "", "unpublished": ""}}
    there: Document = {"gone": {"$exists": False}}
    changes = [
        UpdateMany({**_without_later(version, numbers), **there}, every)
        for version, numbers in versions.items()
    ]
    if base["jobs"].bulk_write(changes, ordered=False).matched_count == len(newest):
        return
    rest = list[UpdateMany]()
    for version, numbers in versions.items():
        rest.append(UpdateMany(_without_later(version, numbers), every))
        some: Any = {"_id": {"$in": numbers}, "events": {"$type": "array"}}
        rest.append(UpdateMany(some, {"$pull": {"events": {"v": {"$lte": version}}}}))
    base["jobs"].bulk_write(rest, ordered=False)
    ended_counts.remove(base, list(newest))


def _without_later(version: int, numbers: list[int]) -> Document:
    return {"_id": {"$in": numbers}, "events": {"$not": {"$elemMatch": {"v": {"$gt": version}}}}}


def _drop(base: Base, jobs: list[Document]) -> None:
    """Remove from these documents what is no event, so that it does not block the others."""
    for job in jobs:
        same = {"events": {"$eq": job["events"]} if "events" in job else {"$exists": False}}
        change = {"$unset": {"events": "", "unpublished": ""}}
        base["jobs"].bulk_write([UpdateOne({"_id": job["_id"], **same}, change)])
