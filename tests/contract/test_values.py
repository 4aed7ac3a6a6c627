"""A store returns plain values only, and no types of a driver for numbers, times or bytes, also for large values."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import Struct
from msgspec.json import decode, encode
from msgspec.structs import replace

from contract.grounds import Ground, SteppedClock
from contract.test_workers import worker
from factories import LEASE, NOW, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Attempt, Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Counts, Filter, Page
from queuectl.service import shapes
from queuectl.service.worker_status import WorkerStatus
from queuectl.store.protocol import AttemptRef, Store, Swap

PLAIN = (int, float, str, bytes, bool, type(None), datetime, timedelta)
"""The kinds themselves, not what is derived from them."""
BEYOND_32, BEYOND_53, BEYOND_63 = 2**31 + 1, 2**53 + 1, 2**64 - 1
LATE = datetime.fromisoformat("8999-12-31T23:59:59.999999+00:00")
META = {"i32": BEYOND_32, "i53": BEYOND_53, "u64": BEYOND_63, "least": -(2**63), "tiny": 5e-324, "huge": 1.5e308,
        "deep": [{"n": [BEYOND_53, 0.1, None, True, "\x01é€😀"]}]}  # fmt: skip


def strangers(value: Any, path: str = "") -> list[str]:
    """The path and the type of each value that is not plain."""
    if isinstance(value, Struct):
        pairs = [(f"{path}.{name}", getattr(value, name)) for name in value.__struct_fields__]
    elif type(value) in (list, tuple, set, frozenset):
        pairs = [(f"{path}[]", item) for item in value]
    elif isinstance(value, dict):
        pairs = [(f"{path}[{key!r}]", item) for key, item in value.items()]
        pairs += [(f"{path} key", key) for key in value]
    else:
        return [] if type(value) in PLAIN else [f"{path}: {type(value).__module__}.{type(value).__name__}"]
    return [found for name, item in pairs for found in strangers(item, name)]


def plain(value: Any) -> Any:
    """The value itself, once it was seen to be plain."""
    assert strangers(value, type(value).__name__) == []
    return value


def large(id: str, **fields: Any) -> Job:
    """A job with a large number wherever there is a number."""
    return new_job(
        id, meta=META, stdin=bytes(range(256)), output_limit=BEYOND_53, tags=("red",), batch="b", unique_key=id,
        env={"A": "é"}, timeout=timedelta(days=36500, microseconds=1), base=1e300, jitter=0.1, **fields,
    )  # fmt: skip


def past(job: Job) -> Attempt:
    """An attempt that needed as much of everything as there is."""
    return Attempt(
        attempt=1, attempt_id="f" * 32, worker="w0", outcome="exited", claimed_at=NOW, started_at=NOW,
        finished_at=LATE, host="h", pid=BEYOND_32, exit_code=-1, signal=64, error="e", user_cpu=0.1,
        system_cpu=1e-9, max_rss=BEYOND_53, output_bytes=BEYOND_63, ended_processes=BEYOND_32,
    )  # fmt: skip


@pytest.fixture
def jobs(store: Store, clock: SteppedClock) -> list[Job]:
    """A job of each kind, as it was meant to be stored."""
    made = [
        large("waits", priority=-1000),
        large("late", run_at=LATE, priority=1000),
        large("runs"),
        large("done"),
    ]
    added = [item.job for item in plain(store.add(made))]
    ended = lifecycle.cancel(added[3], by="somebody", reason="why", now=NOW)
    grown = replace(
        ended, history=(past(ended),), history_dropped=BEYOND_32 - 2, exit_code=-(2**31), failures=2**31 - 1
    )
    assert statuses(store.save([grown])) == ["accepted"]
    return added


@pytest.mark.doubles
def test_jobs_consist_of_plain_values(store: Store, jobs: list[Job], clock: SteppedClock) -> None:
    ids = [job.id for job in jobs]
    known = plain(store.get(ids))
    for job in known.values():
        assert job.spec == jobs[ids.index(job.id)].spec
        assert decode(encode(shapes.job(job)))["meta"] == META
    done = known["done"]
    assert done.history == (past(done),)
    assert (done.exit_code, done.failures, done.history_dropped) == (-(2**31), 2**31 - 1, 2**31 - 1)
    assert known["late"].run_at == LATE
    for sort in ("created", "updated", "next"):
        found = plain(store.find(Filter(), Page(sort=sort)))  # type: ignore[arg-type]
        assert {job.id for job in found.jobs} == set(ids)
    plain(store.add([large(id) for id in ids]))  # which answers those that are there
    [taken] = plain(store.add([new_job(unique_key="waits")]))
    assert (taken.status, taken.job.id) == ("duplicate", "waits")


def test_claims_and_renewals_consist_of_plain_values(
    store: Store, jobs: list[Job], clock: SteppedClock
) -> None:
    claimed = plain(store.claim("w1", (), 9, LEASE))
    assert {job.id for job in claimed} == {"waits", "runs"}
    held = [AttemptRef(job.id, str(job.attempt_id)) for job in claimed]
    fresh = plain(store.renew("w1", held, LEASE))
    changed = [
        replace(job, lease=replace(job.lease, slot=2**31 - 1, pid=BEYOND_32, started_at=LATE))
        for job in fresh
    ]
    assert statuses(store.save(changed)) == ["accepted"] * 2
    clock.step(hours=1)
    lapsed = plain(store.expired_leases(9))
    assert [job.lease.pid for job in lapsed if job.lease] == [BEYOND_32] * 2
    ended = [lifecycle.finish(job, report(max_rss=BEYOND_53), now=NOW, random_number=0.5) for job in lapsed]
    assert statuses(store.save(ended)) == ["accepted"] * 2
    plain(store.get(["waits", "runs"]))
    assert set(plain(store.purge(Filter(), 9))) == {"waits", "runs", "done"}


def test_output_consists_of_plain_values(store: Store, jobs: list[Job]) -> None:
    [job] = store.claim("w1", (), 1, LEASE)
    chunks = [Chunk(job.id, str(job.attempt_id), 1, 0, LATE, BEYOND_53, bytes(range(256))),
              Chunk(job.id, str(job.attempt_id), 2**31 - 1, 2, NOW, BEYOND_32, b"")]  # fmt: skip
    assert plain(store.write_output(chunks)) == set()
    assert plain(store.read_output(str(job.attempt_id), 0)) == chunks
    assert statuses(store.save([lifecycle.finish(job, report(), now=NOW, random_number=0.5)])) == ["accepted"]
    assert plain(store.read_output(str(job.attempt_id), 0)) == chunks


def test_workers_and_shared_tables_consist_of_plain_values(store: Store, other: Store) -> None:
    made = worker(holder_pid=BEYOND_53, agent_pid=BEYOND_32, count=BEYOND_53, started_at=LATE)
    plain(store.heartbeat(made))
    assert store.instruct("w1", "drain")
    assert plain(other.pending_instruction("w1")) == "drain"
    [known] = plain(other.workers())
    assert known.holder_pid == BEYOND_53
    encode(shapes.worker(WorkerStatus(known, "running")))
    value = {key: item for key, item in META.items() if key != "huge"}  # jsonb would answer all its digits
    assert plain(store.swap([Swap("settings", "k", value, 0)])[0]) is True
    [entry] = plain(other.read_table("settings")).values()
    assert (entry.value, entry.version) == (value, 1)


def test_counts_and_descriptions_consist_of_plain_values(store: Store, jobs: list[Job]) -> None:
    for wanted in (Filter(), Filter(tag="red"), Filter(states=frozenset(("pending", "cancelled")))):
        assert plain(store.counts(wanted)) == Counts({"default": {"pending": 3, "cancelled": 1}})
    assert encode(plain(store.describe(thorough=True)))
    plain(store.now())
    plain(store.background_fault())


def test_large_versions_are_plain_values(ground: Ground, store: Store, jobs: list[Job]) -> None:
    """Versions exceed 2³¹ in Redis after a restart, and later in the archive."""
    known = store.get(["done"])["done"]
    call = getattr(getattr(ground, "server", None), "call", None)
    if call is not None:
        call("SET", f"{ground.tag}:base", BEYOND_53 - 2)  # type: ignore[attr-defined]
    [saved] = [replace(known, last_error="x")]
    assert statuses(store.save([saved])) == ["accepted"]
    [done] = plain(store.get(["done"])).values()
    assert done.version == (BEYOND_53 - 2 if call else known.version + 1)
    plain(store.find(Filter(states=frozenset(("cancelled",))), Page(limit=1)))
    assert decode(encode(shapes.job(done)))["version"] == done.version
