"""Reads and deletes the published events. A cursor is the number of an event. See `publish.py`."""

from collections.abc import Callable
from datetime import datetime

from pymongo.errors import OperationFailure

from queuectl.store.driver import codec, paging
from queuectl.store.mongo import publish
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.faults import MISSING_RIGHT
from queuectl.store.mongo.publish import STATE, Log
from queuectl.store.protocol import EventPage


def read(base: Base, after: str | None, limit: int) -> EventPage:
    """The first events behind a cursor. They are read again if some of them were trimmed meanwhile."""
    wanted = None if after is None else paging.parse_event_cursor(after)[0]
    safe = publish.with_majority(base)
    while True:
        log = _published(base, publish.publish)
        if wanted is not None and wanted > log.last:
            log = _confirmed(safe, log)
        start = log.first - 1
        gap = wanted is not None and not start <= wanted <= log.last
        start = start if gap or wanted is None else wanted
        found = safe["events"].find({"_id": {"$gt": start}}).sort("_id", 1).limit(limit)
        rows = list(found.batch_size(limit + 1))
        if _first(safe, log) <= start + 1:
            break
    told = codec.events((str(row["_id"]), row["at"], row["job"], row["line"]) for row in rows)
    return EventPage(told, str(rows[-1]["_id"] if rows else start), gap)


def cursor(base: Base, at: datetime | None) -> str:
    """The cursor behind the events that were written before this time. Found by bisection: the times rise."""
    log, safe = _published(base, publish.publish_all), publish.with_majority(base)
    low, high = log.first - 1, log.last
    while at is not None and low < high:
        middle = (low + high) // 2 + 1
        event = safe["events"].find_one({"_id": middle}, {"at": 1})
        if event is None or event["at"] < codec.micros(at):  # a deleted event is older than the others
            low = middle
        else:
            high = middle - 1
    return str(high)


def trim(base: Base, before: datetime, keep: int, limit: int) -> int:
    """Delete some of the oldest events. The last document stays, so that no publisher uses its number again."""
    log, safe = publish.publish(base), publish.with_majority(base)
    moment, bound, count = codec.micros(before), log.last - keep, 0
    kept: Document = {"_id": {"$gte": log.first, "$lte": log.cleared}}
    for row in safe["events"].find(kept, {"at": 1}).sort("_id", 1).limit(limit).batch_size(limit + 1):
        if row["at"] >= moment and row["_id"] > bound:
            break
        count += 1
    if count:
        first = log.first + count
        safe["counters"].update_one(STATE, {"$max": {"first": first}})
        safe["events"].delete_many({"_id": {"$lt": min(first, log.last)}})
    return count


def _published(base: Base, work: Callable[[Base], Log]) -> Log:
    """Publish. A user who may only read sees the events that others have published."""
    try:
        return work(base)
    except OperationFailure as error:
        if error.code != MISSING_RIGHT:
            raise
        return publish.look(publish.with_majority(base))


def _confirmed(safe: Base, log: Log) -> Log:
    """The state of the log, not older than any that was read before.

    After an election the new primary may show an older state for a moment. The write changes nothing, but waits until
    the majority has all that the primary has.
    """
    try:
        safe["counters"].update_one(STATE, {"$max": {"first": 1}})
    except OperationFailure as error:
        if error.code != MISSING_RIGHT:
            raise
        return log
    return publish.look(safe)


def _first(safe: Base, log: Log) -> int:
    state = safe["counters"].find_one(STATE, {"first": 1})
    return log.first if state is None else int(state["first"])
