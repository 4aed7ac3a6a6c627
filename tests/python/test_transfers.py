"""Export and import from Python: paths, open files, conflicts and cut files."""

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from queuectl import AsyncQueue, CommandFailed, Conflict, InvalidInput, Queue


@pytest.fixture
def other(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/other.db"


def test_a_path_and_an_open_file(queue: Queue, other: str, tmp_path: Path) -> None:
    jobs = [queue.enqueue("true", id=f"a-{n}") for n in range(3)]
    queue.pause("mail")
    path = tmp_path / "f.jsonl"
    done = queue.export_to(path)
    assert (done.jobs, done.counts["queue"], done.left_out) == (3, 1, ())
    assert done.sha256 == json.loads(path.read_bytes().splitlines()[-1])["sha256"]
    file = io.BytesIO()
    assert queue.export_to(file, where="number:2", output=False).jobs == 1
    with Queue(other) as there:
        assert there.import_from(str(path), dry_run=True).jobs == 3
        found = there.import_from(path)
        assert (found.jobs, found.entries, found.by_kind["queue"].added) == (3, 1, 1)
        assert there.import_from(io.BytesIO(file.getvalue())).existing == 1
        assert [there.show(job).id for job in jobs] == [job.id for job in jobs]


def test_refusals(queue: Queue, other: str, tmp_path: Path) -> None:
    queue.enqueue("true", id="a")
    path = tmp_path / "f.jsonl"
    queue.export_to(path)
    with Queue(other) as there:
        there.enqueue("false", id="a")
        with pytest.raises(Conflict, match="job a exists with other content"):
            there.import_from(path)
        assert there.import_from(path, on_conflict="skip").skipped == 1
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(CommandFailed, match="is cut inside its last line; nothing is imported"):
            there.import_from(path)
        with path.open() as text, pytest.raises(InvalidInput, match="open for text"):
            there.import_from(text)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="on_conflict"):
            there.import_from(path, on_conflict="maybe")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="nonsense"):
        queue.export_to(path, where="nonsense")


def test_asyncio(queue: Queue, other: str, tmp_path: Path) -> None:
    queue.enqueue("true", id="a")

    async def move() -> Any:
        async with AsyncQueue() as here, AsyncQueue(other) as there:
            await here.export_to(tmp_path / "f.jsonl.gz")
            return await there.import_from(tmp_path / "f.jsonl.gz")

    assert asyncio.run(move()).jobs == 1


def test_the_values_have_the_names_of_the_json(queue: Queue, tmp_path: Path) -> None:
    queue.enqueue("true")
    path = str(tmp_path / "f.jsonl")
    for words, value in (
        (("export", path), queue.export_to(path)),
        (("import", path), queue.import_from(path)),
    ):
        command = [sys.executable, "-m", "queuectl", *words, "--json"]
        document = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[words[0]]
        assert msgspec.to_builtins(value).keys() == document.keys() - {"file", "dry_run"}
