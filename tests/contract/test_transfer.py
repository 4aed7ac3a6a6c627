"""A queue is exported from SQLite into each store and back, and nothing of it changes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from contract.grounds import Ground, SqliteGround, race
from exported import contents, exported, imported, segment
from factories import LEASE, NOW, in_state, new_job, report
from queuectl.domain import lifecycle, schedule
from queuectl.domain.job import Parent
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter
from queuectl.domain.schedule import Decision, Pause
from queuectl.domain.schedule_definition import define
from queuectl.store.protocol import Store, Swap


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Store]:
    """A queue in SQLite with jobs of each kind, their output, and entries of the shared tables."""
    (tmp_path / "source").mkdir()
    ground = SqliteGround(tmp_path / "source")
    store = ground.open()
    fill(store)
    yield store
    ground.close()


def fill(store: Store) -> None:
    """Let jobs run, end, wait and be held."""
    store.add([new_job("gap")])
    run(store, "gap", b"")
    assert store.purge(Filter(), 10) == ["gap"]
    store.add([new_job("done", unique_key="nightly", tags=("a", "b"), meta={"n": [1, None]}, priority=3)])
    run(store, "done", b"printed \xff\0 and more")
    store.add(
        [new_job("dead", argv=("ls", "-l"), unique_key="nightly", stdin=b"\xfe", split=True, max_retries=0)]
    )
    run(store, "dead", b"", exit_code=3)
    store.add([new_job("again", env={"KEY": "value\nline"}, max_retries=1, timeout=LEASE)])
    run(store, "again", b"first attempt", exit_code=1)
    store.add([new_job("waits", unique_key="nightly", queue="mail", run_at=NOW + LEASE * 9)])
    store.add([new_job("child", after=(Parent("waits"), Parent("done", "any"))), in_state("held", "held")])
    store.add([in_state("cancelled", "cancelled", batch="b"), in_state("pending", "pending")])
    entry = schedule.new("night", define({"when": "@daily", "job": {"command": "true"}}, timezone="UTC"), NOW)
    paused = {"paused": True, "limit": 4, "reason": "full disk"}
    swaps = [Swap("settings", "max_retries", {"value": "5"}, 0), Swap("queues", "mail", paused, 0)]
    assert (
        store.swap([*swaps, Swap("schedules", "night", schedule.entry_of(entry), 0, due=entry.due)])
        == [True] * 3
    )


def run(store: Store, id: str, output: bytes, exit_code: int = 0) -> None:
    """Run a job as a worker does: it prints this and ends with this code."""
    [job] = store.claim("w1", (), 1, LEASE)
    assert job.id == id
    attempt_id = job.attempt_id or ""
    parts = [output[:7], output[7:]] if output else []
    store.write_output(
        [Chunk(id, attempt_id, n, n % 2, NOW, 7 * (n - 1), part) for n, part in enumerate(parts, 1)]
    )
    ended = report(exit_code=exit_code, output_bytes=len(output), output_tail=output.decode("latin-1")[-5:])
    store.save([lifecycle.finish(job, ended, now=store.now(), random_number=0.5)])


@pytest.mark.doubles
def test_a_queue_moves_into_a_store_and_back(store: Store, source: Store, tmp_path: Path) -> None:
    before = contents(source)
    assert (len(before["jobs"]), len(before["output"])) == (8, 2)
    done = imported(store, exported(source))
    assert (done.jobs, done.entries, done.existing, done.renumbered) == (8, 3, 0, 0)
    assert contents(store) == before
    assert [each.key for each in store.upcoming(5)] == ["night"]
    assert store.counts(Filter()) == source.counts(Filter())
    assert store.last_number() == source.last_number()
    (tmp_path / "back").mkdir()
    back = SqliteGround(tmp_path / "back")
    imported(other := back.open(), exported(store))
    assert contents(other) == before
    back.close()


def enrich(store: Store) -> None:
    """Add what is at the bounds of its type: texts of all planes, 64-bit numbers, trimmed output, decisions, causes."""
    store.claim("other", (), 9, LEASE)  # they are exported as lost attempts
    wide = {
        "größe": "日本 🙂 \u202e\n",
        "most": 2**63 - 1,
        "least": -(2**63),
        "exact": 2**53 + 1,
        "deep": {"a": [0.1, True]},
    }
    store.add(
        [
            new_job(
                "wide",
                command="echo 'ä 🙂'",
                meta=wide,
                env={"Ü": "é\t"},
                tags=("ß",),
                batch="b/日",
                priority=1000,
            )
        ]
    )
    [job] = store.claim("w2", (), 1, LEASE)
    assert job.id == "wide"
    # The middle of this output was dropped: numbers and offsets have gaps.
    attempt_id, far = job.attempt_id or "", 5_000_000_000
    store.write_output(
        [
            Chunk("wide", attempt_id, 1, 0, NOW, 0, b"head"),
            Chunk("wide", attempt_id, 900, 1, NOW, far, b"tail"),
        ]
    )
    ended = report(exit_code=255, output_bytes=far + 4, output_tail="é tail")
    store.save([lifecycle.finish(job, ended, now=store.now(), random_number=0.5)])
    store.add([replace(in_state("held", "by-hand", meta={"n": 1}), cause="overlap")])
    store.add(
        [new_job("any", after=(Parent("by-hand", "any"), Parent("waits", "failed")), after_failure="hold")]
    )
    decided = Decision(instant=NOW, decided_at=NOW + LEASE, decision="fired", job="night:1")
    missed = Decision(instant=NOW + LEASE, decided_at=NOW + LEASE, decision="missed", count=7, first=NOW)
    entry = schedule.new(
        "paused", define({"when": "@every 90m", "job": {"command": "true"}}, timezone="Europe/Berlin"), NOW
    )
    pause = Pause(at=NOW, by="ada@host", reason="Ferien ☀")
    entry = replace(entry, paused=pause, decisions=(decided, missed), open=("night:1",), backlog=NOW + LEASE)
    assert store.swap([Swap("schedules", "paused", schedule.entry_of(entry), 0)]) == [True]


def test_every_field_moves(store: Store, source: Store, tmp_path: Path) -> None:
    enrich(source)
    imported(store, exported(source))
    there = contents(store)
    (tmp_path / "back").mkdir()
    back = SqliteGround(tmp_path / "back")
    imported(other := back.open(), exported(store))
    here = contents(source)
    running = {id for id, job in here["jobs"].items() if job["state"] == "processing"}
    for table in ("settings", "queues", "schedules", "output"):
        assert msgspec.json.encode(there[table], order="deterministic") == msgspec.json.encode(
            here[table], order="deterministic"
        ), table
    for id, job in here["jobs"].items():
        differing = {key for key, value in job.items() if there["jobs"][id][key] != value}
        assert not differing - (LOST if id in running else set()), (id, differing)
    assert contents(other) == there
    assert there["jobs"]["wide"]["meta"]["most"] == 2**63 - 1
    back.close()


LOST = {"state", "lease", "history", "run_at", "attempt_id", "worker", "sort_key", "started_at", "last_error"}
"""The fields of a job that was exported while it ran."""


def test_a_repeated_import_changes_nothing(store: Store, source: Store) -> None:
    file = exported(source)
    imported(store, file)
    before = contents(store)
    done = imported(store, file)
    assert (done.jobs, done.entries, done.existing) == (0, 0, 11)
    assert contents(store) == before


def test_two_imports_of_one_file_at_once(ground: Ground, source: Store) -> None:
    file, before = exported(source), contents(source)
    one, two = ground.open(), ground.open()
    first, second = race(lambda: imported(one, file), lambda: imported(two, file))
    assert first.jobs + second.jobs == 8
    assert _without_numbers(contents(one)) == _without_numbers(before)


def _without_numbers(found: dict[str, Any]) -> dict[str, Any]:
    """The contents without what depends on which import was faster."""
    jobs = found["jobs"].items()
    return {**found, "jobs": {id: {**job, "number": None, "meta": None} for id, job in jobs}}


class DiesAfter:
    """A store whose process dies after a call of this verb."""

    def __init__(self, store: Store, verb: str) -> None:
        self._store, self._verb = store, verb

    def __getattr__(self, verb: str) -> Any:
        def call(*args: Any) -> Any:
            answer = getattr(self._store, verb)(*args)
            if verb == self._verb:
                raise KeyboardInterrupt
            return answer

        return call


@pytest.mark.parametrize("verb", ["swap", "add", "write_output", "save"])
def test_an_import_that_dies_after_a_step_is_repeated(store: Store, source: Store, verb: str) -> None:
    file, before = exported(source), contents(source)
    with pytest.raises(KeyboardInterrupt):
        imported(cast(Store, DiesAfter(store, verb)), file)
    done = imported(store, file)
    assert contents(store) == before
    assert done.jobs + done.existing + done.entries == 11


def test_a_running_job_waits_again_and_its_attempt_is_lost(store: Store, source: Store) -> None:
    [job] = source.claim("w1", (), 1, LEASE)
    source.write_output([Chunk(job.id, job.attempt_id or "", 1, 0, NOW, 0, b"half")])
    imported(store, exported(source))
    found = store.get([job.id])[job.id]
    assert (found.state, found.attempts, found.failures, found.losses) == ("pending", 1, 0, 0)
    assert [(past.outcome, past.error) for past in found.history] == [
        ("lost", "the job was exported while it ran")
    ]
    assert [chunk.data for chunk in store.read_output(job.attempt_id or "", 0)] == [b"half"]
    [claimed] = store.claim("w2", (), 1, LEASE)
    assert (claimed.id, claimed.attempts) == (job.id, 2)


def test_jobs_get_new_numbers_where_theirs_are_taken(store: Store, source: Store) -> None:
    store.add([new_job(f"own-{n}") for n in range(4)])
    done = imported(store, exported(source))
    found = contents(store)["jobs"]
    assert done.renumbered == 8
    numbers = {
        id: (found[id]["number"], found[id]["meta"]["imported_number"]) for id in ("done", "dead", "again")
    }
    assert numbers == {"done": (5, 2), "dead": (6, 3), "again": (7, 4)}
    assert found["done"]["meta"]["n"] == [1, None]


def test_an_ended_job_whose_key_a_living_job_has(store: Store) -> None:
    """The older job was retried, so it lives with the key, and comes first."""
    living = replace(new_job("old", unique_key="k"), number=1)
    ended = [replace(in_state("completed", f"new-{n}", unique_key="k"), number=n) for n in (2, 3)]
    attempt_id = ended[1].history[0].attempt_id
    output = [Chunk("new-3", attempt_id, 1, 0, NOW, 0, b"text")]
    assert imported(store, segment([living, *ended], output, at=NOW)).jobs == 3
    jobs = store.get(["old", "new-2", "new-3"])
    assert [jobs[id].state for id in ("old", "new-2", "new-3")] == ["pending", "completed", "completed"]
    assert [jobs[id].spec.unique_key for id in ("old", "new-2", "new-3")] == ["k", "k", None]
    assert jobs["new-3"].spec.meta["imported_unique_key"] == "k"
    assert store.read_output(attempt_id, 0) == output


def test_ended_jobs_with_one_key_and_output(store: Store) -> None:
    jobs = [
        replace(in_state("dead", f"j-{n}", attempt_id=f"{n:032x}", unique_key="k"), number=n)
        for n in range(1, 6)
    ]
    output = [Chunk(job.id, job.history[0].attempt_id, 1, 0, NOW, 0, job.id.encode()) for job in jobs]
    living = replace(new_job("living", unique_key="k"), number=9)
    assert imported(store, segment([*jobs, living], output, at=NOW)).jobs == 6
    assert {job["unique_key"] for job in contents(store)["jobs"].values()} == {"k"}
    assert len(contents(store)["output"]) == 5
