"""Claim, renew and find lapsed leases.

A claim is a look and a take: the look finds the first due jobs, the take changes all of them in one call, each only if
it is still in its line, and gives each an attempt id of its own. What was really taken is what then bears those ids. No
caller ever gets a job that another one got, whoever dies in between: at worst a lease runs out.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from msgspec import Struct

from queuectl.domain.job import Job
from queuectl.domain.queue import room
from queuectl.store import codec
from queuectl.store.mongo import documents, turns
from queuectl.store.mongo.connections import Base
from queuectl.store.mongo.documents import Document, standing
from queuectl.store.protocol import Held

PROMOTED_AT_ONCE = 1000
SPREAD = 16
"""After a lost race a claim chooses among so many more jobs, so that claimers do not all run after the same ones."""
MERGED = 100
"""Queues whose lines one query merges in order; with more than 200 the server would sort all that is ready."""

Moment = Any
"""The server's time in microseconds, as an expression."""


class Wish(Struct, frozen=True, kw_only=True):
    """What a worker asks for: at most `limit` jobs from these queues (none: from all)."""

    worker: str
    queues: Sequence[str]
    limit: int
    lease: timedelta


class Chance(Struct, frozen=True):
    """Where attempt ids come from, and a number in [0, 1) for whoever lost a race."""

    token: Callable[[], str]
    number: Callable[[], float]


def claim(base: Base, wish: Wish, now: Moment, chance: Chance) -> list[Job]:
    """Take the first due jobs, in order. Empty only if there was nothing to take."""
    promoted, tries = False, 0
    while True:
        look = _look(base, wish.queues, now)
        if look.overdue and not promoted:
            promoted = _promote(base, now)
            continue
        with turns.taken(base, look.limited, now) as limited:
            heads = _heads(base, look, limited, wish, SPREAD * tries)
            chosen = _choose(heads, wish.limit, chance.number() if tries else 0.0)
            jobs = _take(base, chosen, wish, now, chance.token, limited)
        if jobs or not chosen:
            return jobs
        tries += 1


class _Look(Struct, frozen=True):
    """What a claim may take from: queues without a limit, queues with one, and whether delayed jobs became due."""

    free: list[str]
    limited: list[str]
    overdue: bool


def _look(base: Base, named: Sequence[str], now: Moment) -> _Look:
    """Everything that decides where the first jobs are, in one question."""
    rows = list(base["jobs"].aggregate(looking(list(named), now)))
    settings: dict[str, Any] = {row["key"]: codec.value(row["value"]) for row in rows if "key" in row}
    ready = sorted(row["_id"] for row in rows if "_id" in row)
    limited = {queue for queue in ready if settings.get(queue, {}).get("limit") is not None}
    return _Look(
        free=[queue for queue in ready if queue not in limited and room(settings.get(queue, {}), 0, 1)],
        limited=[queue for queue in ready if queue in limited and _room(base, queue, settings[queue], 1)],
        overdue=any("overdue" in row for row in rows),
    )


def _room(base: Base, queue: str, setting: Mapping[str, Any], wanted: int) -> int:
    processing = base["jobs"].count_documents({"standing": standing("processing", queue)})
    return room(setting, processing, wanted)


def looking(named: list[str], now: Moment) -> list[Document]:
    """The queues that have something ready, the settings of queues, and one delayed job whose time has come."""
    ready = {"$in": named} if named else {"$gt": ""}
    return [
        {"$match": {"ready": ready}},
        {"$group": {"_id": "$ready"}},
        {
            "$unionWith": {
                "coll": "shared",
                "pipeline": [{"$match": {"table": "queues"}}, {"$project": {"_id": 0, "key": 1, "value": 1}}],
            }
        },
        {"$unionWith": {"coll": "jobs", "pipeline": overdue(now)}},
    ]


def overdue(now: Moment) -> list[Document]:
    """One delayed job whose time has come."""
    due = {"delayed": {"$exists": True}, "$expr": {"$lte": ["$delayed", now]}}
    return [{"$match": due}, {"$limit": 1}, {"$project": {"_id": 0, "overdue": {"$literal": True}}}]


def _promote(base: Base, now: Moment) -> bool:
    """Bring delayed jobs whose time has come into their lines, those longest due first."""
    due = {"delayed": {"$exists": True}, "$expr": {"$lte": ["$delayed", now]}}
    found = base["jobs"].find(due, {"_id": 1}).sort([("delayed", 1), ("_id", 1)]).limit(PROMOTED_AT_ONCE)
    numbers = [document["_id"] for document in found.batch_size(PROMOTED_AT_ONCE)]
    base["jobs"].update_many(
        {"_id": {"$in": numbers}, **due}, [{"$set": {"ready": "$queue"}}, {"$unset": "delayed"}]
    )
    return True


def _heads(
    base: Base, look: _Look, limited: Mapping[str, turns.Turn], wish: Wish, spread: int
) -> list[Document]:
    """The first jobs of all lines together, in order; of a limited queue no more than there is room for."""
    heads = list[Document]()
    for start in range(0, len(look.free), MERGED):
        heads += _first(base, look.free[start : start + MERGED], wish.limit + spread)
    for queue, turn in limited.items():
        heads += _first(base, [queue], _room(base, queue, turn.setting, wish.limit))
    return sorted(heads, key=lambda head: (head["sort_key"], head["_id"]))[: wish.limit + spread]


def _first(base: Base, queues: list[str], limit: int) -> list[Document]:
    if limit < 1:
        return []
    found = base["jobs"].find({"ready": {"$in": queues}}, {"sort_key": 1, "ready": 1})
    return list(found.sort([("sort_key", 1), ("_id", 1)]).limit(limit).batch_size(limit))


def _choose(heads: list[Document], wanted: int, chance: float) -> list[Document]:
    """The first ones; after a lost race as many, from anywhere among the heads."""
    start = int(chance * (max(0, len(heads) - wanted) + 1))
    return heads[start : start + wanted]


def _take(
    base: Base,
    chosen: list[Document],
    wish: Wish,
    now: Moment,
    token: Callable[[], str],
    limited: Mapping[str, turns.Turn],
) -> list[Job]:
    if not chosen:
        return []
    numbers = [head["_id"] for head in chosen]
    tokens = [token() for _ in chosen]
    lines = sorted({head["ready"] for head in chosen})
    still = {"_id": {"$in": numbers}, "ready": {"$in": lines}}
    with turns.guard([limited[line] for line in lines if line in limited], now) as condition:
        changed = base["jobs"].update_many({**still, **condition}, taking(numbers, tokens, wish, now))
    if not changed.matched_count:
        return []
    found = base["jobs"].find({"_id": {"$in": numbers}, "attempt_id": {"$in": tokens}})
    jobs = [documents.job(document) for document in found.batch_size(len(numbers) + 1)]
    return sorted(jobs, key=lambda job: (job.sort_key, job.number))


def taking(numbers: list[int], tokens: list[str], wish: Wish, now: Moment) -> list[Document]:
    """What `lifecycle.claim` says, for many jobs at once, each with the token at its place."""
    return [
        {
            "$set": {
                "state": "processing",
                "standing": {"$concat": ["processing ", "$queue"]},
                "version": {"$add": ["$version", 1]},
                "attempts": {"$add": ["$attempts", 1]},
                "attempt_id": {"$arrayElemAt": [tokens, {"$indexOfArray": [numbers, "$_id"]}]},
                "worker": {"$literal": wish.worker},
                "claimed_at": now,
                "lease_until": {"$add": [now, _micros(wish.lease)]},
                "updated_at": now,
            }
        },
        {"$unset": ["ready", "slot", "pid", "lease_started_at"]},
    ]


def renew(base: Base, worker: str, held: Sequence[Held], lease: timedelta, now: Moment) -> list[Job]:
    """Begin the leases of these attempts again, where they are still held."""
    ours = {
        "id": {"$in": [each.job_id for each in held]},
        "attempt_id": {"$in": [each.attempt_id for each in held]},
        "state": "processing",
        "worker": worker,
    }
    change = {
        "version": {"$add": ["$version", 1]},
        "updated_at": now,
        "lease_until": {"$add": [now, _micros(lease)]},
    }
    if not base["jobs"].update_many(ours, [{"$set": change}]).matched_count:
        return []
    found = {d["attempt_id"]: documents.job(d) for d in base["jobs"].find(ours).batch_size(len(held) + 1)}
    return [found[each.attempt_id] for each in held if each.attempt_id in found]


def lapsed(base: Base, limit: int, now: Moment) -> list[Job]:
    """Claims whose lease has ended, longest ago first."""
    ended = {"lease_until": {"$exists": True}, "$expr": {"$lte": ["$lease_until", now]}}
    found = base["jobs"].find(ended).sort([("lease_until", 1), ("_id", 1)]).limit(limit)
    return [documents.job(document) for document in found.batch_size(limit + 1)]


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
