"""Claim jobs, renew leases, and find expired leases, by the clock of the server, so `_now` is None.

The claim itself is a function of the schema; see `migrations/0003.sql`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from queuectl.domain.job import Job
from queuectl.domain.query import Jobs, Unreadable
from queuectl.store.driver import codec, paging
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.postgres.connect import Line
from queuectl.store.postgres.sql import statements
from queuectl.store.protocol import DUE_LOOKED_AT, AttemptRef, ClaimRequest

SQL = statements("jobs")


def claim(
    line: Line, request: ClaimRequest, _now: object, attempt_ids: AttemptIds, aside: SetAside
) -> list[Job]:
    """Take the first due jobs, in order."""
    taken, met = list[Job](), aside.met
    statement = SQL["claim_and_tell" if request.tell else "claim"]
    worker, queues, lease = request.worker, list(request.queues), codec.length(request.lease)
    while len(taken) < request.limit and not aside.is_enough(met):
        wanted = request.limit - len(taken)
        ids = attempt_ids.take(wanted)
        rows = line.rows(statement, (worker, queues, wanted, lease, ids))
        attempt_ids.give_back(ids[len(rows) :])
        jobs, damaged = codec.sift(rows)
        taken += jobs
        if not damaged:
            break
        set_aside(line, damaged, aside)
    return taken


def set_aside(line: Line, damaged: Sequence[Unreadable], aside: SetAside) -> None:
    """Set these jobs aside. If this process dies between the claim and this write, their leases expire."""
    line.run(SQL["set_aside"], ([each.number for each in damaged],))
    aside.add(damaged)


def renew(line: Line, worker: str, held: Sequence[AttemptRef], lease: timedelta, _now: object) -> list[Job]:
    """Renew the leases of attempts that still have their leases. Returns the jobs, in the order of `held`."""
    ids = [h.job_id for h in held]
    values = {
        "worker": worker,
        "ids": ids,
        "attempts": [h.attempt_id for h in held],
        "lease": codec.length(lease),
        "progress": [None if h.progress is None else codec.to_json(h.progress) for h in held],
    }
    fresh = Jobs(*codec.sift(line.rows(SQL["renew"], values)))
    return [fresh[id] for id in dict.fromkeys(ids) if id in fresh]


def expired_leases(line: Line, limit: int, _now: object) -> tuple[list[Job], list[Unreadable]]:
    """The claims whose lease has expired. Claims that cannot be decoded are returned separately."""
    return paging.first(lambda count: codec.sift(line.rows(SQL["lapsed"], (count,))), limit)


def due_since(line: Line, _now: object) -> dict[str, datetime]:
    """For each queue with due jobs, when its longest waiting job became due."""
    rows = line.rows(SQL["due_since"], (DUE_LOOKED_AT,))
    return {queue: codec.nearest(since) for queue, since in rows}
