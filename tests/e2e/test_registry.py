"""Several workers: their names, silent workers, and a command that would wait for its own worker."""

import os
import re
import shlex
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from e2e.harness import QUEUECTL, Place, WorkerProcess
from factories import new_job
from facts import eventually
from queuectl.config import resolve
from queuectl.domain.query import Filter
from queuectl.service import enqueueing, status

ON_SQLITE = pytest.mark.parametrize("kind", ["sqlite"])

ON_BETA = ("unshare", "--uts", "sh", "-c", 'hostname beta && exec "$@"', "sh")
can_unshare = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="another host name needs root and Linux"
)


def start_on_beta(place: Place, *words: str) -> WorkerProcess:
    """A worker on a host of another name."""
    return place.start_worker_as_spelt("worker", "start", *words, through=ON_BETA)


@ON_SQLITE
@can_unshare
def test_a_silent_worker_of_another_host_is_never_reported_as_stopped(place: Place) -> None:
    place.run("status")
    place.quick()
    worker = start_on_beta(place, "--name", "far")
    job = place.enqueue("sleep 60")
    place.until(job, "processing")
    agent = place.agent_pid(worker)
    os.kill(agent, signal.SIGSTOP)  # no process of this worker uses the store any more; its command continues
    worker.signal(signal.SIGSTOP)
    done = place.invoke("worker", "stop")
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert "worker far on beta does not answer" in said
    assert "job 1 may still run there" in said
    assert place.invoke("worker", "forget", "nobody").returncode == 3
    doctor = place.invoke("doctor")
    assert doctor.returncode == 1
    assert "queuectl worker forget far" in doctor.stdout.decode()
    place.run("worker", "forget", "far")
    assert place.store.workers() == []
    eventually(lambda: place.invoke("worker", "forget", "far").returncode == 3)
    os.kill(agent, signal.SIGCONT)
    worker.signal(signal.SIGCONT)


@ON_SQLITE
@can_unshare
def test_the_second_of_two_hosts_with_one_worker_name_is_renamed(place: Place) -> None:
    place.run("status")
    first = place.start_worker("--name", "queue")
    second = start_on_beta(place, "--name", "queue")
    names = {worker.name: worker.host for worker in place.store.workers()}
    assert names == {"queue": os.uname().nodename, "queue-beta": "beta"}
    assert f"a worker on {os.uname().nodename} already has the name queue" in second.log.read_text()
    assert place.run("worker", "stop", "queue") == "worker queue stopped\n"
    assert first.wait() == 0
    assert second.process.poll() is None
    job = place.enqueue("echo $QUEUECTL_WORKER")
    place.until(job, "completed")
    assert place.output(job) == b"queue-beta\n"


@ON_SQLITE
def test_two_workers_started_at_once_with_one_name_get_different_names(place: Place) -> None:
    place.run("status")
    command = [*QUEUECTL, "worker", "start", "--name", "queue"]
    begun = [
        subprocess.Popen(command, env=place.env, cwd=place.work, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    try:
        eventually(
            lambda: len(names := [worker.name for worker in place.store.workers()]) == len(set(names)) == 2,
            what="two names",
        )
    finally:
        for process in begun:
            process.terminate()
            assert process.wait(15) == 0


@ON_SQLITE
def test_a_worker_is_stopped_from_inside_its_own_job(place: Place) -> None:
    place.run("status")
    worker = place.start_worker()
    job = place.enqueue(f"{shlex.join(QUEUECTL)} worker stop --all")
    place.until(job, "completed", within=20)
    assert worker.wait() == 0
    assert b"is asked to exit" in place.output(job)


@ON_SQLITE
def test_a_holder_stopped_by_sigstop_is_not_reported_as_stopped(place: Place) -> None:
    place.run("status")
    place.quick()
    worker = place.start_worker("--name", "near")
    agent = place.agent_pid(worker)
    for pid in (worker.pid, agent):
        os.kill(pid, signal.SIGSTOP)
    done = place.invoke("worker", "stop")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"worker near on" in done.stderr
    assert b"does not answer" in done.stderr
    refused = place.invoke("worker", "forget", "near")
    assert refused.returncode == 4
    assert b"is a process of this host: it was stopped or hangs" in refused.stderr
    for pid in (agent, worker.pid):
        os.kill(pid, signal.SIGCONT)
    assert worker.wait() == 0  # the worker received the instruction


@ON_SQLITE
def test_a_job_does_not_wait_for_its_own_slot(place: Place) -> None:
    place.run("status")
    place.start_worker("--count", "1")
    job = place.enqueue("--retries", "0", f"{shlex.join(QUEUECTL)} enqueue --wait true")
    assert place.until(job, "dead", within=20).exit_code == 4
    assert b"occupies the only slot that serves queue default" in place.output(job)


@ON_SQLITE
def test_a_host_clock_two_hours_ahead_does_not_change_stored_times(place: Place) -> None:
    shifted = Path(__file__).parents[1] / "worker" / "shifted"
    path = os.pathsep.join([str(shifted), place.env["PYTHONPATH"]])
    place.run("status")
    place.start_worker("--name", "ahead", PYTHONPATH=path, CLOCK_IS_WRONG_BY="7200")
    quick, slow = place.enqueue("true"), place.enqueue("sleep 1.2")
    place.until(quick, "completed")
    eventually(lambda: (lease := place.job(slow).lease) and lease.started_at, what="the start is noted")
    [worker] = place.store.workers()
    now = place.store.now()
    running = place.job(slow).lease
    assert running is not None
    assert running.started_at is not None
    for moment in (worker.started_at, running.started_at, *(slot.since for slot in worker.slots)):
        assert moment is None or now - timedelta(minutes=1) < moment <= now
    job = place.until(slow, "completed")
    for past in (*job.history, *place.job(quick).history):
        assert past.started_at is not None
        assert past.claimed_at <= past.started_at <= past.finished_at <= place.store.now()
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.started_at < job.finished_at
    assert worker.skew == pytest.approx(7200, abs=1)
    assert "the clock of host" in place.invoke("worker", "list").stderr.decode()
    doctor = place.invoke("doctor")
    assert doctor.returncode == 1
    assert b"7200.0 s ahead of the store's (worker ahead)" in doctor.stdout


FILLED = """
mount -t tmpfs -o size=4m,mode=700 none "$PLACE" && cd "$PLACE"
$Q enqueue true
$Q worker start --queue other 2>worker.log & worker=$!
until $Q worker list | grep -q running; do :; done
dd if=/dev/zero of=filling bs=4k 2>/dev/null
$Q doctor; echo "with a worker: $?"
rm filling; kill $worker; wait $worker; $Q status >/dev/null
dd if=/dev/zero of=filling bs=4k 2>/dev/null
$Q doctor 2>&1; echo "without one: $?"
"""
"""The status between the two reads the database as the last program, which removes the log files of SQLite, also if a
busy machine let the agent be killed before it closed the database. Without them a full disk lets no program open it."""


@ON_SQLITE
@can_unshare
def test_doctor_finds_a_full_disk(place: Place) -> None:
    full = place.root / "full"
    full.mkdir()
    env = {**place.env, "Q": shlex.join(QUEUECTL), "PLACE": str(full)}
    env |= {"QUEUECTL_STORE": f"sqlite:///{full}/q.db"}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FILLED], env=env, capture_output=True, check=False
    )
    said = done.stdout.decode()
    assert re.search(rf"FAULT  write +the disk of {full}/q.db is full", said), (said, done.stderr)
    assert "with a worker: 1" in said
    assert f"queuectl: the disk of {full}/q.db is full: nothing was changed (free some space" in said
    assert "without one: 5" in said


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis", "mongodb"])
def test_status_is_consistent_while_many_short_jobs_run(place: Place, kind: str, thorough: bool) -> None:
    place.run("status")
    wanted, looks, added = 16 if thorough else 4, 0, 0
    place.start_worker("--count", "2")
    while looks < wanted or place.store.counts(Filter()).of("pending"):
        if looks < wanted:
            jobs = [new_job(command="true", now=place.store.now()) for _ in range(125)]
            added += len(enqueueing.enqueue(place.store, jobs))
        found = status.status(place.store, resolve({}, {}, {}, {}))
        looks += 1
        assert found.jobs["processing"] == found.processing + found.ahead + found.lost
        assert found.lost == 0
        assert found.ahead == 0 or found.processing == found.live or kind == "mongodb"
        assert sum(found.jobs.values()) == added or kind == "mongodb"  # which counts state by state
