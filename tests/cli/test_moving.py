"""The commands export and import, and purges that write to a file."""

import gzip
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.acting import Actor
from cli.conftest import CommandLine
from cli.doors import OTHER_STORE, direct
from exported import contents
from queuectl.domain.query import Filter
from queuectl.store.sqlite import SqliteStore
from service.test_transfer import ended

pytestmark = direct(OTHER_STORE)


@pytest.fixture
def other(queuectl: CommandLine) -> str:
    """The URL of a second store."""
    return f"sqlite:///{queuectl.root}/other.db"


def test_a_file_brings_jobs_into_another_store(queuectl: CommandLine, other: str, actor: Actor) -> None:
    queuectl.enqueue("--id", "a", "--priority", "3", "true")
    queuectl("queue", "pause", "default", "--reason", "moving")
    path = queuectl.root / "queue.jsonl.gz"
    assert queuectl("export", str(path)) == f"exported 1 job and 1 queue to {path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert queuectl("--store", other, "import", str(path)) == ("imported 1 job and 1 queue\n")
    assert queuectl.json("--store", other, "import", str(path))["import"] == {
        "jobs": 0,
        "entries": 0,
        "existing": 2,
        "skipped": 0,
        "replaced": 0,
        "renumbered": 0,
        "complete": True,
        "by_kind": {
            kind: {"added": 0, "existing": int(kind in ("job", "queue")), "skipped": 0, "replaced": 0}
            for kind in ("job", "schedule", "queue", "setting")
        },
        "dry_run": False,
    }
    assert (
        queuectl("--store", other, "import", str(path)) == "imported 0 jobs; 1 job and 1 queue were there\n"
    )
    assert queuectl.json("--store", other, "show", "a") == queuectl.json("show", "a")
    assert queuectl.json("--store", other, "queue", "list") == queuectl.json("queue", "list")


def test_a_pipe_brings_jobs_into_another_store(queuectl: CommandLine, other: str) -> None:
    queuectl.enqueue("--id", "a", "true")
    done = queuectl.process(shell=f"$Q export | $Q --store {other} import -")
    assert done.stdout == b"imported 1 job\n"
    assert b"queuectl: exported 1 job\n" in done.stderr
    assert queuectl.json("--store", other, "show", "a") == queuectl.json("show", "a")


def test_documents(queuectl: CommandLine, other: str) -> None:
    queuectl.enqueue("--id", "a", "true")
    document = queuectl.json("export", "f.jsonl")
    counts = {"setting": 0, "queue": 0, "schedule": 0, "job": 1, "output": 0}
    whole = Path("f.jsonl").read_bytes()
    assert document["export"] == {
        "file": "f.jsonl",
        "jobs": 1,
        "left_out": [],
        "counts": counts,
        "sha256": hashlib.sha256(whole[: whole.rindex(b'{"kind":"end"')]).hexdigest(),
    }
    assert (
        queuectl.json("export", code=2)["error"]["hint"] == "for example: queuectl export queue.jsonl --json"
    )
    found = queuectl.json("--store", other, "import", "--dry-run", "f.jsonl")["import"]
    assert (found["jobs"], found["dry_run"]) == (1, True)
    assert not Path(other.removeprefix("sqlite:///")).exists()


def test_a_cut_file(queuectl: CommandLine) -> None:
    (queuectl.root / "cut").write_bytes(ended(3)[:-9])
    path = str(queuectl.root / "cut")
    error = queuectl.json("import", path, code=1)["error"]
    assert error["message"] == f"{path}: the file is cut inside its last line; nothing is imported"
    assert error["hint"] == "export it again; --partial imports what is there"
    assert queuectl("import", "--partial", path) == "imported 3 jobs\n"
    assert "the file is cut or was changed: this is what was there" in queuectl.err


def test_a_cut_pipe(queuectl: CommandLine) -> None:
    lines = ended(3).splitlines(keepends=True)
    queuectl("import", "-", input=b"".join(lines[:6]), code=1)
    assert queuectl.err == (
        "queuectl: created store sqlite:///" + str(queuectl.store_path) + "\n"
        "queuectl: the file is cut after line 6; 2 jobs are imported"
        " (export it again; --partial imports what is there)\n"
    )


def test_a_stream_whose_header_has_no_time(queuectl: CommandLine) -> None:
    queuectl("import", "-", input=b'{"queuectl":1,"kind":"export"}\n', code=1)
    assert queuectl.err.splitlines()[-1] == (
        "queuectl: line 1: this header cannot be read: 'at' is missing or unknown; 0 jobs are imported"
        " (use another copy, or export it again)"
    )


def test_a_conflict(queuectl: CommandLine) -> None:
    queuectl.enqueue("--id", "j-2", "false")
    (queuectl.root / "f").write_bytes(ended(3))
    path = str(queuectl.root / "f")
    error = queuectl.json("import", path, code=4)["error"]
    assert error["message"] == "job j-2 exists with other content; 2 jobs are imported"
    assert queuectl("import", "--on-conflict", "skip", path) == (
        "imported 0 jobs; 2 jobs were there; 1 job was skipped\n"
    )
    queuectl("import", "--on-conflict", "replace", path, code=4)
    queuectl("cancel", "j-2")
    assert queuectl("import", "--on-conflict", "replace", path) == (
        "imported 1 job; 2 jobs were there; 1 job replaced another; 1 job has a new number\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("import", "absent"), 2, "cannot read absent: No such file or directory"),
        (("export", "/no/such/dir/f"), 2, "cannot write /no/such/dir/f: No such file"),
        (("export", "--where", "nonsense"), 2, "'nonsense' is not a term of a filter"),
        (("purge", "--older-than", "0", "--yes", "--to", "/no/such/dir/f"), 2, "cannot write /no/such/dir/f"),
    ],
)
def test_refusals(queuectl: CommandLine, words: tuple[str, ...], code: int, says: str) -> None:
    queuectl.enqueue("true")
    queuectl(*words, code=code)
    assert says in queuectl.err


@pytest.mark.parametrize(
    "words",
    [
        ("purge", "--older-than", "0", "--to", "f"),
        ("dlq", "purge", "--to", "f"),
    ],
)
def test_a_server_is_refused_with_the_way(queuectl: CommandLine, words: tuple[str, ...]) -> None:
    queuectl("--store", "http://127.0.0.1:9", *words, code=2)
    assert "does not work through a server" in queuectl.err
    assert "run it on a host that reaches the store itself" in queuectl.err


def test_purged_jobs_are_in_the_file(queuectl: CommandLine) -> None:
    queuectl.enqueue("--id", "living", "true")
    queuectl("import", "-", input=ended(2))
    queuectl("purge", "--older-than", "0", "--to", "old.jsonl", "--yes")
    assert queuectl.ids() == {"living"}
    queuectl("import", "old.jsonl")
    assert queuectl.ids() == {"living", "j-1", "j-2"}
    queuectl("purge", "--older-than", "0", "--to", "old.jsonl", "--yes")
    kinds = [json.loads(line)["kind"] for line in Path("old.jsonl").read_bytes().splitlines()]
    assert kinds == ["export", "job", "output", "job", "output", "end"] * 2


@pytest.mark.parametrize("to", [(), ("--to", "old.jsonl")])
def test_a_purge_is_limited_by_a_filter(queuectl: CommandLine, to: tuple[str, ...]) -> None:
    queuectl("import", "-", input=ended(4))
    queuectl.enqueue("--id", "living", "true")
    for words, left in (
        (("--older-than", "0", "--where", "number:2-3"), {"j-1", "j-4", "living"}),
        (("--older-than", "0", "--where", "cmd:~nothing"), {"j-1", "j-4", "living"}),
        (("--older-than", "0", "--where", "state:dead"), {"j-1", "j-4", "living"}),
        (("--older-than", "9999d", "--where", "id:j-*"), {"j-1", "j-4", "living"}),
        (("--older-than", "0", "--where", "id:j-* cmd:~true"), {"living"}),
    ):
        queuectl("purge", *words, *to, "--yes")
        assert queuectl.ids() == left, words
    queuectl("purge", "--older-than", "0", "--where", "state:pending", *to, "--yes", code=2)
    queuectl("dlq", "purge", "--where", "number:>0", *to, "--yes")
    if to:
        queuectl("import", "old.jsonl")
        assert queuectl.ids() == {"j-1", "j-2", "j-3", "j-4", "living"}


# Killed


BATCHES = 1100
"""Jobs in three batches."""


@pytest.mark.parametrize("moment", ["import_added", "import_output", "import_saved"])
@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.proof), 2])
def test_a_killed_import_is_repeated(queuectl: CommandLine, tmp_path: Path, moment: str, batch: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(ended(BATCHES))
    killed = queuectl.process("import", str(path), interpreter=True, QUEUECTL_CRASH_AT=f"{moment}:{batch}")
    assert killed.returncode == -signal.SIGKILL
    queuectl("import", str(path))
    store = queuectl.store()
    assert store.counts(Filter()).states() == {"completed": BATCHES}
    found = contents(store)
    assert {job["number"] for job in found["jobs"].values()} == set(range(1, BATCHES + 1))
    assert len(found["output"]) == BATCHES
    store.close()


@pytest.mark.parametrize("name", ["old.jsonl", "old.jsonl.gz"])
@pytest.mark.parametrize("moment", ["purge_written", "purge_synced"])
@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.proof), 2])
def test_a_killed_purge_loses_no_job(
    queuectl: CommandLine, tmp_path: Path, name: str, moment: str, batch: int
) -> None:
    queuectl("import", "-", input=ended(BATCHES))
    words = ("purge", "--older-than", "0", "--yes", "--to", str(tmp_path / name))
    killed = queuectl.process(*words, interpreter=True, QUEUECTL_CRASH_AT=f"{moment}:{batch}")
    assert killed.returncode == -signal.SIGKILL
    queuectl(*words)
    assert queuectl.ids() == set()
    queuectl("import", str(tmp_path / name))
    assert queuectl.ids() == {f"j-{n}" for n in range(1, BATCHES + 1)}
    written = (gzip.decompress if name.endswith(".gz") else bytes)((tmp_path / name).read_bytes())
    twice = written.count(b'"kind":"job"') - BATCHES
    assert twice == (500 if moment == "purge_synced" else 0)


def test_ctrl_c_stops_an_import_between_two_batches(queuectl: CommandLine) -> None:
    """The second batch has not come when the signal comes; the first one is stored."""
    lines = ended(700).splitlines(keepends=True)
    command = [sys.executable, "-m", "queuectl", "import", "-"]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), **os.environ}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.write(b"".join(lines[:1100]))
        process.stdin.flush()
        _wait_for_jobs(queuectl, 500)
        process.send_signal(signal.SIGINT)
        process.stdin.write(b"".join(lines[1100:]))
        process.stdin.close()
        assert process.stderr
        err = process.stderr.read()
        assert process.wait(20) == 130, err
    assert b"the same command continues" in err
    queuectl("import", "-", input=b"".join(lines))
    assert len(queuectl.ids()) == 700


def _wait_for_jobs(queuectl: CommandLine, count: int) -> None:
    from facts import eventually

    def has_jobs() -> bool:
        if not queuectl.store_path.exists():
            return False
        store = SqliteStore(str(queuectl.store_path))
        try:
            return store.counts(Filter()).of("completed") >= count
        finally:
            store.close()

    eventually(has_jobs)


def test_two_imports_at_once(queuectl: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(ended(BATCHES))
    queuectl.enqueue("--id", "own", "true")
    done = queuectl.process(shell=f"$Q import {path} & $Q import {path}; wait")
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    store = queuectl.store()
    assert store.counts(Filter()).states() == {"completed": BATCHES, "pending": 1}
    assert len(contents(store)["output"]) == BATCHES
    store.close()


def test_progress_on_a_terminal(queuectl: CommandLine, tmp_path: Path) -> None:
    queuectl("import", "-", input=ended(3))
    assert "exported 3 jobs to f.jsonl" in queuectl.on_terminal("export", "f.jsonl")
    assert "imported 0 jobs; 3 jobs were there" in queuectl.on_terminal("import", "f.jsonl")


def test_jobs_that_cannot_be_read_are_left_out(queuectl: CommandLine) -> None:
    queuectl("import", "-", input=ended(2))
    store = queuectl.store()
    job = store.get(["j-1"])["j-1"]
    store.add([replace(job, id="arriving", number=9, state="held", cause="moved", finished_at=None)])
    store.close()
    document = queuectl.json("export", "f.jsonl", code=1)
    assert (document["export"]["jobs"], document["export"]["left_out"]) == (2, ["arriving"])
    assert "1 job is left out" in queuectl.err
    assert json.loads(Path("f.jsonl").read_bytes().splitlines()[-1])["left_out"] == ["arriving"]


def test_a_schedule_is_not_counted_as_a_job(queuectl: CommandLine, other: str) -> None:
    for name in ("a", "b", "c"):
        queuectl.enqueue("--id", name, "true")
    queuectl("schedule", "add", "nightly", "@daily", "--", "true")
    queuectl("config", "set", "timeout", "5m")
    queuectl("config", "set", "jitter", "0.5")
    what = "3 jobs, 1 schedule and 2 settings"
    assert queuectl("export", "f.jsonl") == f"exported {what} to f.jsonl\n"
    assert queuectl("--store", other, "import", "--dry-run", "f.jsonl") == f"would import {what}\n"
    assert queuectl("--store", other, "import", "f.jsonl") == f"imported {what}\n"
    assert queuectl("--store", other, "import", "f.jsonl") == f"imported 0 jobs; {what} were there\n"
