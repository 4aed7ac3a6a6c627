"""Claim jobs, renew leases, and find expired leases. Each function runs one script."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from queuectl.domain.job import Job
from queuectl.domain.query import Unreadable
from queuectl.store.driver import codec, paging
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.protocol import DUE_LOOKED_AT, AttemptRef, ClaimRequest
from queuectl.store.redis import rows
from queuectl.store.redis.connect import Line


def claim(line: Line, request: ClaimRequest, now: str, attempt_ids: AttemptIds, aside: SetAside) -> list[Job]:
    """Take the first due jobs, in order."""
    jobs, met = list[Job](), aside.met
    wanted = (
        now,
        request.worker,
        codec.length(request.lease),
        msgspec.msgpack.encode(list(request.queues)),
        "1" if request.tell else "",
    )
    while len(jobs) < request.limit and not aside.is_enough(met):
        ids = attempt_ids.take(request.limit - len(jobs))
        taken, passed_over = line.run("claim", *wanted, *ids)
        attempt_ids.give_back(ids[len(taken) :])
        found, damaged = codec.sift(taken, rows.job)
        odd, broken = codec.sift(passed_over, rows.job)
        damaged += [*broken, *(Unreadable(job.id, job.number, "a number is out of range") for job in odd)]
        jobs += found
        if not damaged:
            break
        set_aside(line, damaged, aside)
    return jobs


def set_aside(line: Line, damaged: Sequence[Unreadable], aside: SetAside) -> None:
    """Set these jobs aside. If this process dies between the claim and this write, their leases expire."""
    line.run("set_aside", *[f"{each.number:016}" for each in damaged])
    aside.add(damaged)


def renew(line: Line, worker: str, held: Sequence[AttemptRef], lease: timedelta, now: str) -> list[Job]:
    """Renew the leases of these attempts, if they still have their leases. Returns the jobs."""
    words = [word for each in held for word in (each.job_id, each.attempt_id, _text(each))]
    return codec.sift(line.run("renew", now, worker, codec.length(lease), *words), rows.job)[0]


def _text(each: AttemptRef) -> str:
    return "" if each.progress is None else codec.to_json(each.progress)


def expired_leases(line: Line, limit: int, now: str) -> tuple[list[Job], list[Unreadable]]:
    """The claims whose lease has expired, longest ago first. Claims that cannot be decoded are returned separately."""
    return paging.first(lambda count: codec.sift(line.run("expired_leases", now, count), rows.job), limit)


def due_since(line: Line, now: str) -> dict[str, datetime]:
    """For each queue with due jobs, when its longest waiting job became due."""
    rows = line.run("due_since", now, DUE_LOOKED_AT)
    return {queue.decode(): codec.nearest(int(float(since))) for queue, since in rows}
