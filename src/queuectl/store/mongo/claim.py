"""Claim jobs, renew leases, and find expired leases.

A claim has two steps. The first one reads the first due jobs. The second one changes all of them in one call, each only
if it is still ready, and gives each an attempt id of its own. The jobs that then have these ids are the claimed ones.
So no two callers get the same job, even if a process dies between the steps: at worst a lease expires.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from queuectl.clock import boottime, random_number
from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.store.driver import codec, paging
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.mongo import documents, queue_lock, ready_index
from queuectl.store.mongo.connect import Base
from queuectl.store.mongo.documents import Document
from queuectl.store.mongo.ready_index import ReadyQueues, ServerTime
from queuectl.store.protocol import DUE_LOOKED_AT, AttemptRef, ClaimRequest

PROMOTED_AT_ONCE = 1000
SPREAD = 16
"""After a lost race a claim chooses among this many more jobs, so that claimers choose different jobs."""
TURNED_AWAY = 0.3
"""Seconds after which a claim gives up a locked queue."""


def claim(
    base: Base,
    request: ClaimRequest,
    now: ServerTime,
    ids: AttemptIds,
    aside: SetAside,
    put_off: Callable[[], None] = lambda: None,
    random: Callable[[], float] = random_number,
) -> list[Job]:
    """Take the first due jobs, in order. Empty only if no job could be taken, or after a call of `put_off`.

    `put_off` is called when other claims have locked the queues of all remaining jobs, so that the caller tries again
    shortly. `random` returns a number in [0, 1) and is called after a lost race. A claimed job that cannot be decoded
    is replaced by another job.
    """
    taken, begun = list[Job](), aside.met
    while True:
        met, wanted = aside.met, replace(request, limit=request.limit - len(taken))
        taken += _claim(base, wanted, now, ids, aside, put_off, random)
        if aside.met == met or len(taken) >= request.limit or aside.is_enough(begun):
            return taken


def _claim(
    base: Base,
    request: ClaimRequest,
    now: ServerTime,
    ids: AttemptIds,
    aside: SetAside,
    put_off: Callable[[], None],
    random: Callable[[], float],
) -> list[Job]:
    lost, busy, since = 0, frozenset[str](), boottime()
    look = _look(base, request, now)
    while True:
        heads = ready_index.first_jobs(base, look.without(busy), request.limit + SPREAD * lost)
        chosen = _choose(heads, request.limit, random() if lost else 0.0)
        if not chosen and not busy:
            return []
        if not chosen and boottime() - since > TURNED_AWAY:
            put_off()
            return []
        met = aside.met
        jobs, locked = _take_under_locks(base, chosen, look, request, now, ids, aside)
        if jobs or aside.met > met:  # the claim set jobs aside; this is not a lost race
            return jobs
        # Other claims took the chosen jobs or locked their queues, so try the following jobs.
        lost, busy = (lost, busy | locked) if locked else (lost + bool(chosen), frozenset())
        look = look if locked else _look(base, request, now)


def _look(base: Base, request: ClaimRequest, now: ServerTime) -> ReadyQueues:
    """The queues with ready jobs, after overdue delayed jobs have become ready."""
    look = ready_index.ready_queues(base, request.queues, now)
    if not look.overdue:
        return look
    _promote(base, now)
    return ready_index.ready_queues(base, request.queues, now)


def _promote(base: Base, now: ServerTime) -> None:
    """Make delayed jobs ready that are due, beginning with the longest due."""
    due = ready_index.due(now)
    found = base["jobs"].find(due, {"_id": 1}).sort([("delayed", 1), ("_id", 1)]).limit(PROMOTED_AT_ONCE)
    numbers = [document["_id"] for document in found.batch_size(PROMOTED_AT_ONCE)]
    base["jobs"].update_many(
        {"_id": {"$in": numbers}, **due}, [{"$set": {"ready": "$queue"}}, {"$unset": "delayed"}]
    )


def _choose(heads: list[Document], wanted: int, random: float) -> list[Document]:
    """Choose the first jobs, or after a lost race jobs from a random position, so that workers choose others."""
    start = int(random * (max(0, len(heads) - wanted) + 1))
    return heads[start : start + wanted]


def _take_under_locks(
    base: Base,
    chosen: list[Document],
    look: ReadyQueues,
    request: ClaimRequest,
    now: ServerTime,
    ids: AttemptIds,
    aside: SetAside,
) -> tuple[list[Job], frozenset[str]]:
    """Take the chosen jobs; jobs of limited queues only under the lock. Also returns the queues that others locked."""
    limited = sorted({head["ready"] for head in chosen if look.capacities[head["ready"]] is not None})
    with queue_lock.acquired(base, limited, now) as ours:
        locked = frozenset(limited) - ours.keys()
        mine = [head for head in chosen if head["ready"] not in locked]
        capacities = {**look.capacities, **queue_lock.capacities(base, ours)}
        fits = ready_index.within_capacity(mine, capacities).taken
        until = min([look.until, *(turn.until for turn in ours.values())])
        return _take(base, fits, until, request, now, ids, aside), locked


def _take(
    base: Base,
    heads: list[Document],
    until: int,
    request: ClaimRequest,
    now: ServerTime,
    ids: AttemptIds,
    aside: SetAside,
) -> list[Job]:
    if not heads:
        return []
    numbers, tokens = [head["_id"] for head in heads], ids.take(len(heads))
    still = {"_id": {"$in": numbers}, "ready": {"$in": sorted({head["ready"] for head in heads})}}
    with queue_lock.not_after(until, now) as condition:
        change = taking(numbers, tokens, request, now)
        changed = base["jobs"].update_many({**still, **COUNTABLE, **condition}, change)
    if changed.matched_count < len(numbers):
        _refuse_uncountable(base, still, aside)
    if not changed.matched_count:
        return []
    found = base["jobs"].find({"_id": {"$in": numbers}, "attempt_id": {"$in": tokens}})
    jobs, damaged = codec.sift(found.batch_size(len(numbers) + 1), documents.job)
    set_aside(base, damaged, aside)
    return sorted(jobs, key=lambda job: (job.sort_key, job.number))


COUNTABLE: Document = {"version": {"$type": "number"}, "attempts": {"$type": "number"}}
"""The condition for jobs whose counts are numbers. One other job would make the server refuse the whole batch."""


def _refuse_uncountable(base: Base, still: Document, aside: SetAside) -> None:
    """Set aside the jobs that the claim left out because a count in them is not a number."""
    left = base["jobs"].find({**still, "$nor": [COUNTABLE]})
    set_aside(base, codec.sift(left, documents.job)[1], aside)


def set_aside(base: Base, damaged: Sequence[Unreadable], aside: SetAside) -> None:
    """Set these jobs aside. If this process dies between the claim and this write, their leases expire."""
    if not damaged:
        return
    waits: Document = {"$in": ["$state", ["pending", "failed", "processing"]]}
    stands = {"$concat": ["$state", " ", "$queue"]}
    named = {"$and": [{"$eq": [{"$type": field}, "string"]} for field in ("$state", "$queue")]}
    change: list[Document] = [
        {"$set": {"state": {"$cond": [waits, "held", "$state"]}}},
        {
            "$set": {
                "standing": {"$cond": [named, stands, "$standing"]},
                "version": {"$cond": [{"$isNumber": "$version"}, {"$add": ["$version", 1]}, "$version"]},
            }
        },
        {"$unset": ["ready", "delayed", *_LEASE]},
    ]
    base["jobs"].update_many({"_id": {"$in": [each.number for each in damaged]}}, change)
    aside.add(damaged)


_LEASE = ("attempt_id", "worker", "claimed_at", "lease_until", "slot", "pid", "lease_started_at")


def taking(numbers: list[int], tokens: list[str], request: ClaimRequest, now: ServerTime) -> list[Document]:
    """The update that does the same as `lifecycle.claim` for many jobs.

    Each job gets the attempt id at its position.
    """
    place = {"$indexOfArray": [numbers, "$_id"]}
    attempt: Document = {
        "attempts": {"$add": ["$attempts", 1]},
        "attempt_id": {"$arrayElemAt": [tokens, place]},
        "worker": {"$literal": request.worker},
    }
    return [
        {
            "$set": {
                "state": "processing",
                "standing": {"$concat": ["processing ", "$queue"]},
                "version": {"$add": ["$version", 1]},
                **attempt,
                "claimed_at": now,
                "lease_until": {"$add": [now, codec.length(request.lease)]},
                "updated_at": now,
                **(_started(attempt, now, place) if request.tell else {}),
            }
        },
        {"$unset": ["ready", "slot", "pid", "lease_started_at"]},
    ]


def _started(attempt: Document, now: ServerTime, place: Document) -> Document:
    """The event of a claim. Events of one claim are published in the order of its jobs."""
    run = {"attempt": attempt["attempts"], "attempt_id": attempt["attempt_id"], "worker": attempt["worker"]}
    return documents.made({"event": "job.started", "state": "processing", **run}, now, place)


def renew(
    base: Base, worker: str, held: Sequence[AttemptRef], lease: timedelta, now: ServerTime
) -> list[Job]:
    """Renew the leases of these attempts, if they still have their leases. Returns the jobs."""
    ours = {
        "id": {"$in": [each.job_id for each in held]},
        "attempt_id": {"$in": [each.attempt_id for each in held]},
        "state": "processing",
        "worker": worker,
        **COUNTABLE,
    }
    change = {
        "version": {"$add": ["$version", 1]},
        "updated_at": now,
        "lease_until": {"$add": [now, codec.length(lease)]},
        **_noting(held),
    }
    if not base["jobs"].update_many(ours, [{"$set": change}]).matched_count:
        return []
    jobs, _ = codec.sift(base["jobs"].find(ours).batch_size(len(held) + 1), documents.job)
    found = {job.attempt_id: job for job in jobs}
    return [found[each.attempt_id] for each in held if each.attempt_id in found]


def _noting(held: Sequence[AttemptRef]) -> Document:
    """The change that writes the progress of those attempts that have a new one."""
    noted = [each for each in held if each.progress is not None]
    if not noted:
        return {}
    ids, texts = [each.attempt_id for each in noted], [codec.to_json(each.progress) for each in noted]
    found = {"$indexOfArray": [ids, "$attempt_id"]}
    text = {"$arrayElemAt": [{"$literal": texts}, found]}
    return {"progress": {"$cond": [{"$gte": [found, 0]}, text, "$progress"]}}


def expired_leases(base: Base, limit: int, now: ServerTime) -> tuple[list[Job], list[Unreadable]]:
    """The claims whose lease has expired, longest ago first. Claims that cannot be decoded are returned separately."""
    ended = {"lease_until": {"$exists": True}, "$expr": {"$lte": ["$lease_until", now]}}

    def look(count: int) -> tuple[list[Job], list[Unreadable]]:
        found = base["jobs"].find(ended).sort([("lease_until", 1), ("_id", 1)]).limit(count)
        return codec.sift(found.batch_size(count + 1), documents.job)

    return paging.first(look, limit)


def endless(base: Base) -> list[Unreadable]:
    """The claims whose lease is not a time and so never expires. The scan is cheap: there are few claims."""
    wrong = {"lease_until": {"$exists": True}, "$expr": {"$not": [{"$isNumber": "$lease_until"}]}}
    return codec.sift(base["jobs"].find(wrong), documents.job)[1]


def due_since(base: Base, now: ServerTime) -> dict[str, datetime]:
    """For each queue with due jobs, when its longest waiting job became due."""
    queues = [row["_id"] for row in base["jobs"].aggregate(_THERE)]
    rows = list(base["jobs"].aggregate(_longest_overdue(now)))
    for start in range(0, len(queues), ready_index.QUEUES_PER_QUERY):
        first, *others = [
            _longest_in(queue) for queue in queues[start : start + ready_index.QUEUES_PER_QUERY]
        ]
        united: list[Document] = [{"$unionWith": {"coll": "jobs", "pipeline": other}} for other in others]
        rows += base["jobs"].aggregate([*first, *united])
    since = dict[str, datetime]()
    for row in rows:
        due_at = codec.nearest(row["since"])
        since[row["_id"]] = min(due_at, since.get(row["_id"], due_at))
    return since


_THERE: list[Document] = [{"$match": {"ready": {"$gt": ""}}}, {"$group": {"_id": "$ready"}}]
_LONGEST: Document = {"$group": {"_id": "$queue", "since": {"$min": "$run_at"}}}


def _longest_in(queue: str) -> list[Document]:
    """A pipeline that selects the longest waiting job among the first jobs of a queue. Only these jobs are read."""
    first: list[Document] = [
        {"$match": {"ready": queue}},
        {"$sort": {"sort_key": 1, "_id": 1}},
        {"$limit": DUE_LOOKED_AT},
    ]
    return [*first, _LONGEST]


def _longest_overdue(now: ServerTime) -> list[Document]:
    return [{"$match": ready_index.due(now)}, {"$sort": {"delayed": 1, "_id": 1}}, {"$limit": 1000}, _LONGEST]
