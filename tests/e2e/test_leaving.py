"""A worker that cannot store its results waits cheaply, reports the reason, can be stopped, and repeats no job."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from e2e.databases import PostgresDatabase, SqliteDatabase
from e2e.harness import QUEUECTL, Place, WorkerProcess, alive, children
from facts import eventually
from queuectl.service import maintenance
from queuectl.store.postgres import PostgresStore

COUNTED = Path(__file__).parents[1] / "worker" / "counted"
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def away(place: Place) -> Iterator[None]:
    """The store cannot be reached: its file is moved away, or it has another password."""
    database = place.database
    if isinstance(database, SqliteDatabase):
        beside = [Path(f"{database.path}{end}") for end in ("", "-wal", "-shm")]
        gone = [path.rename(path.with_name(f"gone-{path.name}")) for path in beside if path.exists()]
        yield
        for path in gone:
            path.rename(path.with_name(path.name.removeprefix("gone-")))
        return
    assert isinstance(database, PostgresDatabase)
    own = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{database.role}'"
    database.run(f"ALTER ROLE {database.role} PASSWORD 'another'")
    database.run(own)
    yield
    database.run(f"ALTER ROLE {database.role} PASSWORD '{database.password}'")


def running(place: Place, *words: str, **env: str) -> tuple[WorkerProcess, str, int]:
    """A worker with a command that runs until `finish`: returns the worker, the id and the pid."""
    worker = place.start_worker(*words, **env)
    id = place.enqueue("echo ran >> ran; while [ ! -e go ]; do sleep 0.05; done; echo finished")
    pid = eventually(lambda: (lease := place.job(id).lease) and lease.pid)
    return worker, id, int(str(pid))


def finish(place: Place, pid: int) -> None:
    (place.work / "go").touch()
    eventually(lambda: not alive(pid), what="the end of the command")


def leave(worker: WorkerProcess) -> None:
    """Send the second signal that the worker suggested."""
    worker.signal(signal.SIGTERM)
    said(worker, "still draining: 1 result not in the store yet (")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    assert "leaving with 1 result not in the store: kept in " in worker.log.read_text()


def spent(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def said(worker: WorkerProcess, words: str) -> None:
    eventually(lambda: words in worker.log.read_text(), within=20, what=f"{words!r} in the worker's log")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.waits
class TestCannotDeliver:
    def test_the_worker_ends_at_the_second_signal_and_the_next_stores_the_result(self, place: Place) -> None:
        worker, id, pid = running(place)
        with away(place):
            finish(place, pid)
            leave(worker)
        place.start_worker()
        job = place.until(id, "completed")
        assert (job.attempts, job.losses, len(job.history)) == (1, 0, 1)
        assert place.output(id) == b"finished\n"
        assert (place.work / "ran").read_text() == "ran\n"

    def test_its_result_is_dropped_if_another_attempt_has_started(self, place: Place) -> None:
        worker, id, pid = running(place)
        with away(place):
            finish(place, pid)
            leave(worker)
        job = place.job(id)
        maintenance.recover(place.store, [job], "another host took it back")
        second = place.start_worker("--drain")
        assert second.wait() == 0
        job = place.until(id, "completed")
        assert [attempt.outcome for attempt in job.history] == ["lost", "exited"]
        said(second, "this result is not recorded")


@pytest.mark.parametrize("kind", ["postgres"])
@pytest.mark.waits
def test_a_worker_waits_for_results_that_a_live_worker_cannot_store(place: Place) -> None:
    """The first worker has an old password and its lease has expired, but its command has ended: the job must not run
    again."""
    place.quick()
    worker, id, pid = running(place)
    database = place.database
    assert isinstance(database, PostgresDatabase)
    database.run(f"ALTER ROLE {database.role} PASSWORD 'changed'")
    database.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{database.role}'")
    place.store.close()
    finish(place, pid)
    said(worker, "results wait")
    changed = database.server.url(schema=database.schema, user=database.role, password="changed")
    store = PostgresStore(changed)
    place._store = store
    second = place.start_worker(QUEUECTL_STORE=changed)
    lease = store.get([id])[id].lease
    assert lease is not None
    eventually(lambda: store.now() > lease.until + timedelta(seconds=5), within=20)  # several checks
    assert [job.state for job in store.get([id]).values()] == ["processing"]
    leave(worker)
    eventually(lambda: store.get([id])[id].state == "completed", within=20)
    said(second, "left 1 result that it could not deliver")
    job = store.get([id])[id]
    assert (job.attempts, job.losses) == (1, 0)
    database.run(f"ALTER ROLE {database.role} PASSWORD '{database.password}'")


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.waits
class TestWaitsCheaply:
    @pytest.mark.parametrize("phase", ["running", "draining"])
    def test_holder_and_agent_run_few_rounds_during_an_outage(self, place: Place, phase: str) -> None:
        turns = place.root / "turns"
        path = os.pathsep.join([str(COUNTED), place.env["PYTHONPATH"]])
        worker, _, pid = running(place, PYTHONPATH=path, QUEUECTL_TEST_TURNS=str(turns))
        agent = place.agent_pid(worker)
        with away(place):
            finish(place, pid)
            said(worker, "waiting for the file, to deliver the results of")
            if phase == "draining":
                worker.signal(signal.SIGTERM)
                said(worker, "still draining")
            files = [turns.with_suffix(f".{loop}") for loop in ("holder", "agent")]
            before, start = [file.stat().st_size for file in files], time.monotonic()
            cpu = [spent(pid) for pid in (worker.pid, agent)]
            eventually(lambda: time.monotonic() > start + 3.0)
            took = time.monotonic() - start
            rates = [(file.stat().st_size - b) / took for file, b in zip(files, before, strict=True)]
            used = [(spent(pid) - b) / took for pid, b in zip((worker.pid, agent), cpu, strict=True)]
            assert max(rates) < 20, rates
            assert max(used) < 0.2, used


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_worker_under_nohup_outlives_its_terminal(place: Place) -> None:
    worker = place.start_worker_as_spelt("worker", "start", through=("nohup",))
    worker.signal(signal.SIGHUP)
    id = place.enqueue("true")
    place.until(id, "completed")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


REDIRECTIONS = ("2>/dev/full", ">/dev/full", ">/dev/full 2>&1", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_a_worker_works_although_its_log_cannot_be_written(place: Place, redirection: str) -> None:
    id = place.enqueue("echo ran")
    words = [*QUEUECTL, "worker", "start", "--drain"]
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *words], env=place.env, cwd=place.work
    )
    assert done.returncode == 0
    assert place.job(id).state == "completed"
    assert place.output(id) == b"ran\n"


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("command", ["exec sleep 60", "sleep 60; true"], ids=["leader", "child"])
@pytest.mark.waits
def test_a_stopped_command_is_reported(place: Place, command: str) -> None:
    place.quick()  # the worker checks its commands at each heartbeat
    place.start_worker()
    id = place.enqueue(command)
    leader = int(str(eventually(lambda: (lease := place.job(id).lease) and lease.pid)))
    pid = leader if command.startswith("exec") else eventually(lambda: children(leader), what="the child")[0]
    os.kill(pid, signal.SIGSTOP)
    said = f"it is stopped (SIGSTOP) and does not end by itself; on host {os.uname().nodename}: "
    eventually(lambda: _stopped(place) == [True], what="the worker has seen that it is stopped")
    assert f"{said}kill -s CONT -- -{leader}" in place.run("explain", id)
    assert "is stopped (SIGSTOP)" in place.run("status")
    [worker] = place.json("status")["workers"]
    assert [slot["stopped"] for slot in worker["slots"]] == [True]
    os.killpg(leader, signal.SIGCONT)
    eventually(lambda: _stopped(place) == [False], what="the worker has seen that it runs again")
    assert "it ends by itself" in place.run("explain", id)


def _stopped(place: Place) -> list[bool]:
    """Of each busy slot of the one worker: whether its command is stopped."""
    [worker] = place.store.workers()
    return [slot.stopped for slot in worker.slots]


can_unshare = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="namespaces need root and Linux"
)

FULL_FOR_A_WHILE = """
mount -t tmpfs -o size=4m,mode=700 none "$PLACE" && cd "$PLACE"
id=$($Q -q enqueue 'echo ran >> "$DONE"; until [ -e go ]; do sleep 0.05; done; echo finished')
$Q worker start & worker=$!
until [ -e "$DONE" ]; do sleep 0.05; done
touch go.not; dd if=/dev/zero of=filling bs=4k 2>/dev/null
mv go.not go
$Q enqueue true; echo "enqueue: $?"
until grep -q "results wait" "$LOG"; do sleep 0.05; done
rm filling; $Q wait $id; echo "wait: $?"; $Q logs $id
kill -TERM $worker; wait $worker; echo "worker: $?"
"""


@pytest.mark.parametrize("kind", ["sqlite"])
class TestContainers:
    @can_unshare
    def test_a_full_disk_only_delays_a_result(self, place: Place) -> None:
        full, log, ran = place.root / "full", place.root / "log", place.root / "ran"
        full.mkdir()
        env = {**place.env, "Q": shlex.join(QUEUECTL), "PLACE": str(full), "LOG": str(log), "DONE": str(ran)}
        env["QUEUECTL_STORE"] = f"sqlite:///{full}/q.db"
        with log.open("wb") as file:
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-c", FULL_FOR_A_WHILE],
                env=env,
                stdout=file,
                stderr=file,
                timeout=60,
            )
        said = log.read_text()
        assert done.returncode == 0, said
        for line in ("enqueue: 5", "wait: 0", "finished", "worker: 0"):
            assert f"\n{line}\n" in said, said
        assert ran.read_text() == "ran\n"

    @can_unshare
    def test_a_worker_as_process_1_reaps_all_orphans(self, place: Place) -> None:
        """In a container, orphans of other processes become children of the worker, and signals without a handler have
        no effect."""
        inside = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        orphan = "setsid sh -c 'setsid sleep 0.2 & sleep 0.1' >/dev/null 2>&1 &"
        id = place.enqueue("--allow-detached", f"{orphan} echo $PPID; sleep 0.5")
        last = place.enqueue("ps -e -o stat= 2>/dev/null || cat /proc/[0-9]*/stat | cut -d' ' -f3")
        done = subprocess.run(
            [*inside, *QUEUECTL, "worker", "start", "--drain"], env=place.env, cwd=place.work, timeout=60
        )
        assert done.returncode == 0
        assert place.output(id) == b"1\n"
        assert place.job(last).state == "completed"
        assert "Z" not in place.output(last).decode()
