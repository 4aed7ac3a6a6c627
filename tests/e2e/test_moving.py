"""`queuectl export | queuectl import -` moves a queue from SQLite into each kind of store, and back."""

import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.harness import QUEUECTL, Place
from http_process import Served
from service.test_transfer import ended


def typed(place: Place, script: str) -> str:
    """What a person types in a shell, with `$Q` for queuectl; its stdout."""
    command = ["/bin/sh", "-ec", script.replace("$Q", shlex.join(QUEUECTL))]
    done = subprocess.run(command, env=place.env, cwd=place.work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


def exported(place: Place, store: str) -> list[dict[str, Any]]:
    """The lines of an export, without what counts writes or names the store."""
    lines = [json.loads(line) for line in typed(place, f"$Q {store} export").splitlines()]
    for line in lines:
        if line["kind"] == "job":
            del line["job"]["version"]
    return [line for line in lines if line["kind"] not in ("export", "end")]


SCENE = """
$Q {store} enqueue -q --id parent --priority 2 'printf "out\\377\\n"; echo err >&2'
$Q {store} enqueue -q --id child --after parent --meta '{{"a":[1]}}' --env K=V --retries 0 --split 'echo $K; exit 3'
$Q {store} worker start --drain -q
$Q {store} enqueue -q --id waiting --unique key 'echo moved >> ran'
$Q {store} enqueue -q --id later --in 1h true
$Q {store} enqueue -q --id held --hold true
$Q {store} enqueue -q --id behind --after held:any true
$Q {store} enqueue -q --id gone true && $Q {store} cancel gone --reason why
$Q {store} config set max_retries 7
$Q {store} queue limit mail 2
"""


def test_a_queue_moves_into_a_store_and_back(place: Place) -> None:
    source, back = (f"--store sqlite:///{place.root}/{name}.db" for name in ("source", "back"))
    typed(place, SCENE.format(store=source))
    before = exported(place, source)
    assert [line["job"]["state"] for line in before if line["kind"] == "job"] == [
        "completed",
        "dead",
        "pending",
        "pending",
        "held",
        "blocked",
        "cancelled",
    ]
    assert typed(place, f"$Q {source} export | $Q import -").startswith("imported 7 jobs")
    assert exported(place, "") == before
    assert typed(place, f"$Q export | $Q {back} import -").startswith("imported 7 jobs")
    assert exported(place, back) == before
    typed(place, "$Q worker start --drain -q")
    assert (place.work / "ran").read_text() == "moved\n"
    assert place.output("parent") == b"out\xff\nerr\n"
    assert place.enqueue("true").strip()
    assert place.json("show", "@last")["job"]["number"] == 8


@contextmanager
def server_of(place: Place) -> Iterator[str]:
    """The URL of a server in front of the place's store."""
    log = place.work / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*QUEUECTL, "serve", "--port", "0"],
            env=place.env,
            cwd=place.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
        )
    served = Served(process, log)
    try:
        served.read_first_line()
        yield f"http://127.0.0.1:{served.port}"
    finally:
        served.kill()


def test_a_queue_moves_through_a_server_and_back(place: Place) -> None:
    source, back = (f"--store sqlite:///{place.root}/{name}.db" for name in ("source", "back"))
    typed(place, SCENE.format(store=source))
    typed(place, f"$Q {source} schedule add nightly @daily --tz UTC --overlap queue -q 'echo nightly'")
    typed(place, f"$Q {source} queue pause mail --reason 'full disk'")
    before = exported(place, source)
    assert {line["kind"] for line in before} == {"setting", "queue", "job", "output", "schedule"}
    with server_of(place) as url:
        said = typed(place, f"$Q {source} export -q | $Q --store {url} import -q -")
        assert said == "imported 7 jobs, 1 schedule, 1 queue and 1 setting\n"
        assert exported(place, "") == before
        assert exported(place, f"--store {url}") == before
        assert typed(place, f"$Q --store {url} export -q | $Q {back} import -q -") == said
        again = typed(place, f"$Q {source} export -q | $Q --store {url} import -q -")
        assert again.startswith("imported 0 jobs; 7 jobs, 1 schedule, 1 queue and 1 setting were there")
    assert exported(place, back) == before


JOBS = 600
"""Jobs in two batches."""


def killed(place: Place, moment: str, *words: str) -> None:
    """A command that is killed at this moment."""
    env = {**place.env, "QUEUECTL_CRASH_AT": moment}
    done = subprocess.run([*QUEUECTL, *words], env=env, cwd=place.work, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, (moment, done.stderr)


def test_nothing_is_lost_or_twice_after_kills(place: Place) -> None:
    file = ended(JOBS)
    (place.work / "f").write_bytes(file)
    for moment in ("import_added:1", "import_output:1", "import_saved:1", "import_output:2"):
        killed(place, moment, "import", "f")
    typed(place, "$Q import f")
    given = [json.loads(line) for line in file.splitlines()][1:-1]
    for line in given:
        if line["kind"] == "job":
            del line["job"]["version"]
    assert exported(place, "") == given
    purge = ("purge", "--older-than", "0", "--yes", "--to", "old.jsonl.gz")
    for moment in ("purge_written:1", "purge_synced:1", "purge_written:2"):
        killed(place, moment, *purge)
    typed(place, shlex.join(("$Q", *purge)).replace("'$Q'", "$Q"))
    assert exported(place, "") == []
    typed(place, f"$Q --store sqlite:///{place.root}/old.db import old.jsonl.gz")
    assert exported(place, f"--store sqlite:///{place.root}/old.db") == given
