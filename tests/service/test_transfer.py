"""Files of exports: cut, changed and foreign ones, conflicts, compression, and the file of a purge."""

import gzip
import io
import json
import os
import stat
import tracemalloc
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.grounds import SteppedClock
from exported import contents, exported, imported, segment
from factories import NOW, in_state, new_job
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.output import Chunk
from queuectl.domain.query import Filter, Found, Page
from queuectl.domain.schedule_definition import Definition, define
from queuectl.errors import CommandFailed, Conflict, InvalidInput
from queuectl.service import firing
from queuectl.service.schedules import changing
from queuectl.service.transfer import exporting
from queuectl.service.transfer.files import PurgeFile
from queuectl.service.transfer.purging import purge_to
from queuectl.service.transfer.segment import Cut, Damaged, Foreign, SegmentReader, SegmentWriter
from queuectl.service.transfer.transfer import LocalTransfer
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Store, Swap


def ended(count: int, *, size: int = 10) -> bytes:
    """A file with so many ended jobs, each with output of this size."""
    jobs = [_ended(n) for n in range(1, count + 1)]
    return segment(jobs, (_output(job, size) for job in jobs), at=NOW)


def _ended(n: int) -> Job:
    job = in_state("completed", f"j-{n}", attempt_id=f"{n:032x}")
    return replace(job, number=n, history=(replace(job.history[0], output_bytes=1 << 40),))


def _output(job: Job, size: int) -> Chunk:
    return Chunk(job.id, job.history[0].attempt_id, 1, 0, NOW, 0, b"x" * size)


def take(store: Store, path: Path, **options: Any) -> Any:
    """Import a file by its name, as the command does."""
    steps = LocalTransfer(store, lambda: store).read(str(path), **options)
    steps.check()
    for _ in steps:
        pass
    return steps.done


@pytest.mark.parametrize("name", ["queue.jsonl", "queue.jsonl.gz"])
def test_a_file_is_private_and_whole(store: MemoryStore, tmp_path: Path, name: str) -> None:
    imported(store, ended(3))
    path = tmp_path / name
    path.write_text("the old one")
    export = LocalTransfer(store, lambda: store).export(str(path))
    steps = iter(export)
    done = next(steps)
    assert path.read_text() == "the old one"
    assert done + sum(steps) == 3
    assert export.done.counts == {"setting": 0, "queue": 0, "schedule": 0, "job": 3, "output": 3}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [name]
    raw = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    assert [json.loads(line)["kind"] for line in raw.splitlines()][::7] == ["export", "end"]
    other = MemoryStore(clock=SteppedClock())
    assert take(other, path).jobs == 3
    assert contents(other) == contents(store)


def test_an_export_that_is_given_up_leaves_the_old_file(store: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "queue.jsonl"
    path.write_text("the old one")
    steps = LocalTransfer(store, lambda: store).export(str(path))
    next(iter(steps))
    steps.close()
    assert os.listdir(tmp_path) == ["queue.jsonl"]
    assert path.read_text() == "the old one"


@pytest.mark.parametrize("compressed", [False, True])
def test_nothing_of_a_cut_file_is_imported(tmp_path: Path, compressed: bool) -> None:
    whole = gzip.compress(ended(4)) if compressed else ended(4)
    path = tmp_path / "cut"
    for size in range(0, len(whole), 7 if compressed else 97):
        path.write_bytes(whole[:size])
        store = MemoryStore(clock=SteppedClock())
        with pytest.raises(Cut):
            take(store, path)
        assert store.counts(Filter()).total() == 0


def test_nothing_of_a_changed_file_is_imported(tmp_path: Path) -> None:
    whole, path = ended(2), tmp_path / "changed"
    for at in range(0, len(whole), 13):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        store = MemoryStore(clock=SteppedClock())
        with pytest.raises((Cut, Damaged, Foreign)):
            take(store, path)
        assert store.counts(Filter()).total() == 0


def test_nothing_of_a_changed_compressed_file_is_imported(tmp_path: Path) -> None:
    whole, path = gzip.compress(ended(2), mtime=0), tmp_path / "changed"
    for at in range(10, len(whole), 5):  # behind the header of gzip, whose time and system decide nothing
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        store = MemoryStore(clock=SteppedClock())
        with pytest.raises((Cut, Damaged, Foreign)):
            take(store, path)
        assert store.counts(Filter()).total() == 0


def test_partial_imports_what_is_there(store: MemoryStore, tmp_path: Path) -> None:
    lines, path = ended(4).splitlines(keepends=True), tmp_path / "cut"
    path.write_bytes(b"".join(lines[:5]) + lines[5][:20])
    done = take(store, path, partial=True)
    assert (done.jobs, done.complete) == (2, False)
    path.write_bytes(b"".join(lines).replace(b'"number":2', b'"number":3'))
    assert take(MemoryStore(clock=SteppedClock()), path, partial=True).jobs == 4


def test_a_cut_stream_is_imported_without_its_last_job(store: MemoryStore) -> None:
    lines = ended(4).splitlines(keepends=True)
    with pytest.raises(Cut):
        imported(store, b"".join(lines[:6]))
    assert store.get(["j-1", "j-2", "j-3"]).keys() == {"j-1", "j-2"}
    assert imported(store, b"".join(lines)).jobs == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "line 1 is not the header of an export"),
        ('{"id":"a","command":"true"}\n', "line 1 is not the header of an export"),
        ('{"queuectl":2,"kind":"export"}\n', "the file has format 2; this program reads format 1"),
        (
            '{"queuectl":1,"kind":"export","at":"2026-11-22T12:00:00Z"}\n{"kind":"hook"}\n',
            "line 2 has the unknown kind 'hook'; this program reads format 1",
        ),
    ],
)
def test_another_file_is_refused(store: MemoryStore, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file").write_text(text)
    for partial in (False, True):
        with pytest.raises(Foreign) as refused:
            take(store, tmp_path / "file", partial=partial)
        assert refused.value.message == message


def test_a_job_of_this_format_that_cannot_be_read_is_named(store: MemoryStore) -> None:
    file = io.BytesIO()
    writer = SegmentWriter(file.write, "test://", NOW)
    writer.add("job", job={"id": "a", "state": "sleeping"})
    writer.end()
    with pytest.raises(Damaged, match=r"line 2: this job cannot be read: .*"):
        imported(store, file.getvalue())


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("setting", {"value": "many"}),
        ("setting", {}),
        ("queue", {"limit": "x"}),
        ("schedule", {"when": "@daily"}),
    ],
)
def test_an_entry_that_is_not_understood_is_refused(
    store: MemoryStore, kind: str, value: dict[str, Any]
) -> None:
    file = io.BytesIO()
    writer = SegmentWriter(file.write, "test://", NOW)
    writer.add(kind, name="max_retries", value=value)
    writer.end()
    with pytest.raises(Foreign, match=f"line 2: this program does not understand {kind} max_retries"):
        imported(store, file.getvalue())


# Conflicts


def _conflicting(state: Any = "completed") -> MemoryStore:
    store = MemoryStore(clock=SteppedClock())
    there = in_state(state, "j-2", command="false")
    store.add([replace(there, spec=replace(there.spec, content="other"))])
    return store


def test_the_first_conflict_is_named(tmp_path: Path) -> None:
    store = _conflicting()
    with pytest.raises(Conflict) as refused:
        imported(store, ended(3))
    assert refused.value.message == "job j-2 exists with other content; 2 jobs are imported"
    assert store.get(["j-2"])["j-2"].spec.command == "false"
    done = imported(store, ended(3), on_conflict="skip")
    assert (done.jobs, done.existing, done.skipped) == (0, 2, 1)


def test_an_ended_job_is_replaced() -> None:
    store = _conflicting()
    done = imported(store, ended(3), on_conflict="replace")
    assert (done.jobs, done.replaced) == (3, 1)
    assert store.get(["j-2"])["j-2"].spec.command == "true"
    assert len(contents(store)["output"]) == 3


def test_a_living_job_is_not_replaced() -> None:
    store = _conflicting("pending")
    with pytest.raises(
        Conflict, match="job j-2 exists with other content and is pending: only ended jobs can"
    ):
        imported(store, ended(3), on_conflict="replace")
    assert store.get(["j-2"])["j-2"].spec.command == "false"


@pytest.mark.parametrize("on_conflict", ["error", "replace"])
def test_a_taken_unique_key_is_a_conflict(store: MemoryStore, on_conflict: Any) -> None:
    store.add([new_job("holder", unique_key="k")])
    file = segment([replace(new_job("late", unique_key="k"), number=7)], at=NOW)
    with pytest.raises(
        Conflict, match="unique key 'k' of job late is taken by job holder; 0 jobs are imported"
    ):
        imported(store, file, on_conflict=on_conflict)
    assert imported(store, file, on_conflict="skip").skipped == 1


def test_an_entry_with_another_value_is_a_conflict(store: MemoryStore) -> None:
    other = MemoryStore(clock=SteppedClock())
    other.swap([Swap("queues", "mail", {"paused": True, "limit": 3}, 0)])
    store.swap([Swap("queues", "mail", {"paused": False, "limit": 3}, 0)])
    with pytest.raises(Conflict, match="queue mail has another value in this store"):
        imported(store, exported(other))
    assert imported(store, exported(other), on_conflict="skip").skipped == 1
    assert imported(store, exported(other), on_conflict="replace").replaced == 1
    assert store.read_table("queues")["mail"].value == {"paused": True, "limit": 3}


def test_a_removed_schedule_is_not_exported(store: MemoryStore) -> None:
    changing.add(store, "kept", _every_ten_seconds())
    changing.add(store, "removed", _every_ten_seconds())
    changing.remove(store, "removed")
    other = MemoryStore(clock=SteppedClock())
    imported(other, exported(store))
    assert list(other.read_table("schedules")) == ["kept"]


def test_a_schedule_takes_the_place_of_a_removed_one_and_fires_no_instant_again() -> None:
    clock = SteppedClock()
    store = MemoryStore(clock=clock)
    changing.add(store, "s", _every_ten_seconds())
    file = exported(store)
    clock.step(seconds=30)
    firing.fire(store, store.upcoming(1))
    store.save([lifecycle.cancel(job, by="eve", reason=None, now=clock.now()) for job in _jobs(store)])
    store.purge(Filter(), 10)
    changing.remove(store, "s")
    assert imported(store, file).entries == 1
    firing.fire(store, store.upcoming(1))
    assert _jobs(store) == []
    assert [each.due for each in store.upcoming(1)] == [NOW + timedelta(seconds=40)]


def test_the_jobs_before_a_schedule_are_in_the_store_before_it(store: MemoryStore) -> None:
    store.add([new_job("j")])
    changing.add(store, "s", _every_ten_seconds())
    file, other = exported(store), MemoryStore(clock=SteppedClock())
    changing.add(other, "s", _every_ten_seconds("false"))
    with pytest.raises(Conflict, match="schedule s has another value in this store; 1 job is imported"):
        imported(other, file)
    assert [job.id for job in _jobs(other)] == ["j"]


def _jobs(store: Store) -> list[Job]:
    return list(store.find(Filter(), Page(limit=100)).jobs)


def _every_ten_seconds(command: str = "true") -> Definition:
    return define({"when": "@every 10s", "job": {"command": command}}, timezone="UTC")


def test_a_dry_run_says_what_an_import_would_do(store: MemoryStore) -> None:
    assert imported(store, ended(3), dry_run=True).jobs == 3
    assert store.counts(Filter()).total() == 0
    there = _conflicting()
    done = imported(there, ended(3), dry_run=True, on_conflict="skip")
    assert (done.jobs, done.skipped, done.renumbered) == (2, 1, 1)
    with pytest.raises(Conflict, match="job j-2 exists with other content"):
        imported(there, ended(3), dry_run=True)


def test_an_export_can_be_limited(store: MemoryStore) -> None:
    imported(store, ended(5))
    store.swap([Swap("queues", "mail", {"paused": True}, 0)])
    other = MemoryStore(clock=SteppedClock())
    imported(other, exported(store, where="number:2-3", output=False))
    found = contents(other)
    assert (found["jobs"].keys(), found["output"], found["queues"]) == ({"j-2", "j-3"}, {}, {})
    with pytest.raises(InvalidInput):
        exported(store, where="nonsense")


class Busy(MemoryStore):
    """A store to which others add a job at each read. `limits`: of all reads, and how many jobs they returned."""

    def __init__(self) -> None:
        super().__init__(clock=SteppedClock())
        self.limits = list[tuple[int, int]]()

    def find(self, wanted: Filter, page: Page) -> Found:
        number = self.last_number() + 1
        self.add([new_job(f"later-{number}")])
        found = super().find(wanted, page)
        self.limits.append((page.limit, len(found.jobs)))
        return found


@pytest.mark.parametrize("where", [None, "number:>0", "number:>1"])
def test_an_export_ends_while_others_enqueue(where: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "FIRST_PAGE", 1)
    monkeypatch.setattr(exporting, "PAGE", 1)
    store = Busy()
    imported(store, ended(5))
    ids = [line.fields["job"]["id"] for line in _lines(exported(store, where=where)) if line.kind == "job"]
    assert ids == [f"j-{n}" for n in range(2 if where == "number:>1" else 1, 6)]


def _lines(file: bytes) -> SegmentReader:
    return SegmentReader(io.BytesIO(file))


# Sizes


def test_long_jobs_are_read_in_smaller_pages() -> None:
    store = Busy()
    store.add([new_job(f"long-{n}", command="x" * (1 << 18)) for n in range(100)])
    store.add([new_job(f"short-{n}") for n in range(1000)])
    assert sum(line.kind == "job" for line in _lines(exported(store))) == 1100
    assert [limit for limit, _ in store.limits[:2]] == [50, 15]
    assert max(limit for limit, _ in store.limits) == 500
    assert len(store.limits) < 20


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_bytes(ended(5000, size=1000))
    store = Forgetful()
    tracemalloc.start()
    take(store, path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.added == 5000
    assert most < 12 << 20, f"{most} bytes"


def test_memory_does_not_grow_with_the_number_of_long_jobs(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    jobs = [_ended(n) for n in range(1, 60)]
    long = [replace(job, spec=replace(job.spec, command="x" * (1 << 20))) for job in jobs]
    path.write_bytes(segment(long, (_output(job, 10) for job in jobs), at=NOW))
    store = Forgetful()
    tracemalloc.start()
    take(store, path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.added == 59
    assert most < 40 << 20, f"{most} bytes"


class Forgetful(MemoryStore):
    """A store that counts jobs and drops them, so that only the import needs memory."""

    added = 0

    def add(self, jobs: Any, events: Any = ()) -> Any:
        answers = super().add(jobs, events)
        self.added += len(jobs)
        return answers

    def write_output(self, *_: Any) -> set[str]:
        return set()

    def save(self, jobs: Any, events: Any = ()) -> Any:
        answers = super().save(jobs, events)
        self.purge(Filter(), len(jobs))
        return answers


def test_much_output_of_one_job_is_written_in_parts(store: MemoryStore) -> None:
    job = _ended(1)
    chunks = [replace(_output(job, 1 << 20), n=n, offset=(n - 1) << 20) for n in range(1, 21)]
    tail = _ended(2)
    done = imported(store, segment([job, tail], [*chunks, _output(tail, 5)], at=NOW))
    assert done.jobs == 2
    assert [chunk.n for chunk in store.read_output(job.history[0].attempt_id, 0)] == list(range(1, 21))
    assert store.get(["j-1"])["j-1"].state == "completed"


# The file of a purge


@pytest.fixture(params=["old.jsonl", "old.jsonl.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def purge(store: Store, path: Path) -> int:
    """Move all ended jobs into the file."""
    return sum(purge_to(store, Filter(), str(path), "test://"))


def test_purged_jobs_are_in_the_file(store: MemoryStore, path: Path) -> None:
    imported(store, ended(3))
    before = contents(store)
    store.add([new_job("living")])
    assert purge(store, path) == 3
    assert contents(store)["jobs"].keys() == {"living"}
    imported(store, segment([_ended(n) for n in (7, 8)], at=NOW))
    assert purge(store, path) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = MemoryStore(clock=SteppedClock())
    assert take(other, path).jobs == 5
    assert contents(other)["jobs"].items() >= before["jobs"].items()
    assert contents(other)["output"] == before["output"]


def test_a_job_that_was_retried_meanwhile_is_not_deleted(
    overtaken: Any, store: MemoryStore, path: Path
) -> None:
    imported(store, ended(2))

    def retry() -> None:
        job = store.get(["j-1"])["j-1"]
        store.save([replace(job, finished_at=NOW + timedelta(hours=1))])

    overtaken.before("purge", retry)
    assert purge(overtaken, path) == 1
    assert contents(store)["jobs"].keys() == {"j-1"}


def test_the_cut_end_of_the_file_is_removed(store: MemoryStore, path: Path) -> None:
    imported(store, ended(2))
    purge(store, path)
    whole = path.read_bytes()
    for size in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:size])
        with closing_file(path):
            pass
        assert path.read_bytes() == whole
        path.write_bytes(whole[:size])
        with closing_file(path):
            pass
        assert path.read_bytes() == b""


def closing_file(path: Path) -> Any:
    """Open and close an path."""
    return closing(PurgeFile(str(path)))


def test_no_purge_appends_to_a_file_that_no_import_accepts(store: MemoryStore, path: Path) -> None:
    imported(store, ended(2))
    text = b"something else\n"
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    with pytest.raises(CommandFailed, match="line 1 is not the header of an export"):
        purge(store, path)
    path.write_bytes(text * 9 if path.suffix == ".gz" else gzip.compress(text) + b"\n")
    with pytest.raises(CommandFailed, match=r"line 1 is not the header|the compressed file was changed"):
        purge(store, path)
    for cut in (text[:-1], gzip.compress(text)[:-9]):
        path.write_bytes(cut)
        with pytest.raises(CommandFailed):
            purge(store, path)
        assert path.read_bytes() == cut
    assert store.counts(Filter()).total() == 2


def test_one_purge_at_a_time_writes_to_a_file(store: MemoryStore, path: Path) -> None:
    with closing_file(path), pytest.raises(Conflict, match="another purge writes to"):
        purge(store, path)


# Any job


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3),
)
STATES: Any = st.sampled_from(["pending", "blocked", "held", "completed", "failed", "dead", "cancelled"])


@st.composite
def jobs(draw: Any) -> list[Job]:
    """Some jobs in any states, with numbers that have gaps."""
    number, found = 0, list[Job]()
    for n in range(draw(st.integers(0, 5))):
        number += draw(st.integers(1, 1000))
        fields = {
            "env": draw(st.dictionaries(texts, texts, max_size=2)),
            "meta": draw(st.dictionaries(texts, values, max_size=3)),
            "tags": tuple(draw(st.lists(texts, max_size=2))),
            "stdin": draw(st.none() | st.binary(max_size=20)),
            "timeout": draw(st.none() | st.timedeltas(timedelta(milliseconds=1), timedelta(days=400))),
            "umask": draw(st.none() | st.integers(0, 0o777)),
            "no_retry_codes": tuple(draw(st.lists(st.integers(0, 255), max_size=2))),
            "jitter": draw(st.floats(0, 1)),
        }
        job = in_state(draw(STATES), f"job-{n}", attempt_id=f"{n:032x}", now=NOW + draw(moments), **fields)
        found.append(replace(job, number=number, last_error=draw(st.none() | texts)))
    return found


moments = st.timedeltas(timedelta(0), timedelta(days=1000))


@given(jobs())
def test_every_job_comes_back_as_it_was(found: list[Job]) -> None:
    store, other = MemoryStore(clock=SteppedClock()), MemoryStore(clock=SteppedClock())
    store.add(found)
    file = exported(store)
    assert imported(other, file).jobs == len(found)
    assert contents(other) == contents(store)
    assert [line for line in SegmentReader(io.BytesIO(exported(other))) if line.kind == "job"] or not found
