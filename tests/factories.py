"""Creates a valid job in any state."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from queuectl.domain import lifecycle
from queuectl.domain.job import Job, Parent, Spec, State
from queuectl.domain.outcome import Outcome, Report
from queuectl.domain.retry import RetryPolicy
from queuectl.store.protocol import Saved

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
LEASE = timedelta(seconds=30)
_numbers = itertools.count(1)

SPEC_FIELDS = frozenset(Spec.__struct_fields__)
RETRY_FIELDS = frozenset(RetryPolicy.__struct_fields__)


def new_job(id: str | None = None, *, now: datetime = NOW, hold: bool = False, **fields: Any) -> Job:
    """A job as `enqueue` creates it. Fields of the spec and of its retry policy are given flat."""
    retry = RetryPolicy(**{k: v for k, v in fields.items() if k in RETRY_FIELDS})
    given = {k: v for k, v in fields.items() if k in SPEC_FIELDS}
    if "argv" not in given:
        given.setdefault("command", "true")
    spec = Spec(**{"retry": retry, **given})
    after: tuple[Parent, ...] = spec.after
    return lifecycle.enqueue(
        id=id or f"job-{next(_numbers)}",
        spec=spec,
        queue=fields.get("queue", "default"),
        priority=fields.get("priority", 0),
        run_at=fields.get("run_at", now),
        waiting_for=fields.get("waiting_for", tuple(p.job for p in after)),
        hold=hold,
        now=now,
    )


def processing(
    id: str | None = None, *, now: datetime = NOW, attempt_id: str = "a" * 32, **fields: Any
) -> Job:
    """A job that a worker has claimed."""
    return lifecycle.claim(
        new_job(id, now=now, **fields), attempt_id=attempt_id, worker="w1", lease=LEASE, now=now
    )


def report(kind: str = "exited", exit_code: int | None = 0, now: datetime = NOW, **fields: Any) -> Report:
    """The report of a worker; a success by default."""
    error = fields.pop("error", None)
    code = exit_code if kind == "exited" else None
    return Report(outcome=Outcome(kind=kind, exit_code=code, error=error), finished_at=now, **fields)  # type: ignore[arg-type]


def in_state(state: State, id: str | None = None, *, now: datetime = NOW, **fields: Any) -> Job:
    """A job in `state`, brought there by the events that lead there."""
    if state == "pending":
        return new_job(id, now=now, **fields)
    if state == "held":
        return new_job(id, now=now, hold=True, **fields)
    if state == "blocked":
        fields.setdefault("after", (Parent("parent"),))
        return new_job(id, now=now, **fields)
    if state == "cancelled":
        return lifecycle.cancel(new_job(id, now=now, **fields), by="test", reason=None, now=now)
    if state == "dead":
        fields["max_retries"] = 0
    running = processing(id, now=now, **fields)
    if state == "processing":
        return running
    code = 0 if state == "completed" else 1
    ended = lifecycle.finish(running, report(exit_code=code, now=now), now=now, random_number=0.5)
    assert ended.state == state
    return replace(ended, version=1)


def statuses(answers: Sequence[Saved]) -> list[str]:
    """The statuses that `save` returns."""
    return [answer.status for answer in answers]
