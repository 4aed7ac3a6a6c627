"""The documented JSON of jobs, workers and queues, which every client shows.

Durations are seconds, times RFC 3339 in UTC. Keys are added, never renamed; `SCHEMA` stands in every document.
"""

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from queuectl.domain.instant import format_instant
from queuectl.domain.job import Attempt, CancelRequest, Job, Lease
from queuectl.domain.output import COMBINED, STDERR, STDOUT
from queuectl.domain.query import Unreadable
from queuectl.errors import QueuectlError
from queuectl.service.enqueueing import Enqueued
from queuectl.service.queries import Attention, QueueStatus, SlotStatus, Status, WorkerStatus
from queuectl.service.registry import Silence

SCHEMA = 1

STREAM_NAMES = {COMBINED: "combined", STDOUT: "stdout", STDERR: "stderr"}


def document(**body: Any) -> dict[str, Any]:
    """A JSON document with its schema number."""
    return {"schema": SCHEMA, **body}


def error(fault: QueuectlError) -> dict[str, Any]:
    """The document of an error, in place of a result."""
    return document(error={"code": fault.code, "message": fault.message, "hint": fault.hint})


def job(job: Job) -> dict[str, Any]:
    """A job with all its fields."""
    spec = job.spec
    return {
        "id": job.id,
        "number": job.number,
        "command": spec.command,
        "argv": list(spec.argv) if spec.argv is not None else None,
        "shell": spec.shell,
        "queue": job.queue,
        "priority": job.priority,
        "state": job.state,
        "cause": job.cause,
        "run_at": instant(job.run_at),
        "attempts": job.attempts,
        "failures": job.failures,
        "losses": job.losses,
        "version": job.version,
        "max_retries": spec.retry.max_retries,
        "max_losses": spec.retry.max_losses,
        "backoff": {
            "base": spec.retry.base,
            "factor": seconds(spec.retry.factor),
            "max": seconds(spec.retry.longest),
            "jitter": spec.retry.jitter,
        },
        "no_retry_codes": list(spec.retry.no_retry_codes),
        "timeout": seconds(spec.timeout),
        "kill_grace": seconds(spec.kill_grace),
        "cwd": spec.cwd,
        "env": spec.env,
        "umask": None if spec.umask is None else f"{spec.umask:03o}",
        "stdin": None if spec.stdin is None else text_or_base64(spec.stdin),
        "output_limit": spec.output_limit,
        "split": spec.split,
        "allow_detached": spec.allow_detached,
        "unique_key": spec.unique_key,
        "after": [{"job": parent.job, "on": parent.on} for parent in spec.after],
        "after_failure": spec.after_failure,
        "waiting_for": list(job.waiting_for),
        "batch": spec.batch,
        "tags": list(spec.tags),
        "meta": spec.meta,
        "lease": lease(job.lease),
        "cancel_requested": cancel_request(job.cancel_requested),
        "history": [attempt(item) for item in job.history],
        "history_dropped": job.history_dropped,
        "last_error": job.last_error,
        "exit_code": job.exit_code,
        "output_tail": job.output_tail,
        "created_at": instant(job.created_at),
        "updated_at": instant(job.updated_at),
        "started_at": instant(job.started_at),
        "finished_at": instant(job.finished_at),
    }


def enqueued(item: Enqueued) -> dict[str, Any]:
    """One job of the answer to an enqueue."""
    job = item.job
    return {"id": job.id, "number": job.number, "state": job.state, "existing": item.existing}


def unreadable(each: Unreadable) -> dict[str, Any]:
    """A job that is stored and cannot be decoded."""
    return {"id": each.id, "number": each.number, "reason": each.reason}


def attempt(attempt: Attempt) -> dict[str, Any]:
    """One finished attempt."""
    return {
        "attempt": attempt.attempt,
        "attempt_id": attempt.attempt_id,
        "worker": attempt.worker,
        "host": attempt.host,
        "pid": attempt.pid,
        "claimed_at": instant(attempt.claimed_at),
        "started_at": instant(attempt.started_at),
        "finished_at": instant(attempt.finished_at),
        "outcome": attempt.outcome,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "error": attempt.error,
        "user_cpu": attempt.user_cpu,
        "system_cpu": attempt.system_cpu,
        "max_rss": attempt.max_rss,
        "output_bytes": attempt.output_bytes,
        "ended_processes": attempt.ended_processes,
    }


def lease(lease: Lease | None) -> dict[str, Any] | None:
    """The worker that runs the job now, and the end of its lease."""
    if lease is None:
        return None
    return {
        "attempt_id": lease.attempt_id,
        "worker": lease.worker,
        "slot": lease.slot,
        "pid": lease.pid,
        "claimed_at": instant(lease.claimed_at),
        "started_at": instant(lease.started_at),
        "until": instant(lease.until),
    }


def cancel_request(request: CancelRequest | None) -> dict[str, Any] | None:
    """Who requested the cancel of the job, when, and why."""
    if request is None:
        return None
    return {"by": request.by, "at": instant(request.at), "reason": request.reason}


def status(status: Status) -> dict[str, Any]:
    """The whole system at a glance, with what needs a person."""
    return document(
        store={"url": status.url, "durability": status.durability},
        jobs={"total": sum(status.jobs.values()), **status.jobs},
        queues=[
            {**queue(item), "oldest_due_seconds": _since(item.oldest_due, status.now)}
            for item in status.queues
        ],
        slots={
            "live": status.live,
            "processing": status.processing,
            "idle": status.live - status.processing,
        },
        without_slot={"claimed_ahead": status.ahead, "held_by_lost": status.lost},
        workers=[worker(item) for item in status.workers],
        last_hour={"retries": status.last_hour.retries, "deaths": status.last_hour.deaths},
        attention=[attention(item) for item in status.attention],
    )


def attention(thing: Attention) -> dict[str, Any]:
    """One thing that needs a person."""
    return {"kind": thing.kind, "text": thing.text, "hint": thing.hint, "fault": thing.fault}


def _since(at: datetime | None, now: datetime) -> float | int | None:
    return None if at is None else seconds(max(now - at, timedelta(0)))


def queue(queue: QueueStatus) -> dict[str, Any]:
    """One queue."""
    return {
        "name": queue.name,
        "paused": queue.paused,
        "limit": queue.limit,
        "pending": queue.jobs.get("pending", 0),
        "processing": queue.jobs.get("processing", 0),
        "jobs": dict(queue.jobs),
    }


def worker(status: WorkerStatus) -> dict[str, Any]:
    """One worker, with its slots."""
    worker = status.worker
    return {
        "id": worker.id,
        "name": worker.name,
        "host": worker.host,
        "holder_pid": worker.holder_pid,
        "agent_pid": worker.agent_pid,
        "version": worker.version,
        "queues": list(worker.queues),
        "started_at": instant(worker.started_at),
        "last_heartbeat": instant(worker.heartbeat),
        "state": status.state,
        "note": worker.note,
        "skew": worker.skew,
        "clock_jump": worker.clock_jump,
        "slots": [slot(item) for item in status.slots],
        "claimed_ahead": status.ahead,
    }


def silence(silent: Silence) -> dict[str, Any]:
    """A worker that does not answer, with the jobs that it may still run."""
    worker = silent.item.worker
    return {
        "id": worker.id,
        "name": worker.name,
        "host": worker.host,
        "last_heartbeat": instant(worker.heartbeat),
        "jobs": [job.id for job in silent.jobs],
        "taken_back_at": instant(silent.taken_back_at),
    }


def slot(slot: SlotStatus) -> dict[str, Any]:
    """One slot of a worker."""
    return {
        "slot": slot.slot,
        "job": slot.job,
        "since": instant(slot.since),
        "number": slot.number,
        "command": slot.command,
        "stopped": slot.stopped,
    }


def instant(at: datetime | None) -> str | None:
    """A time as text."""
    return None if at is None else format_instant(at)


def seconds(duration: timedelta | None) -> float | int | None:
    """A duration as a number of seconds, without a fraction where there is none."""
    if duration is None:
        return None
    number = duration.total_seconds()
    return int(number) if number == int(number) else number


def text_or_base64(data: bytes) -> str | Mapping[str, str]:
    """Bytes as text where they are UTF-8, else as `{"base64": …}`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
