"""Events for workers that only MongoDB causes: elections, errors, a deleted user; and large output."""

import hashlib
import json

import pytest

from e2e.databases import MongoDatabase
from e2e.harness import Place, WorkerProcess, alive
from facts import eventually
from queuectl.errors import StoreUnusable
from servers.mongo import MongoServer, fail_command
from servers.replica_set import ReplicaSet

pytestmark = pytest.mark.timeout(120)
TICKING = """
    echo begin $HOST >> ticks
    until [ -e go ]; do echo tick $HOST >> ticks; sleep 0.1; done
    echo end $HOST >> ticks"""


def lines_of(place: Place, name: str) -> list[str]:
    """The lines of a file that commands write."""
    file = place.work / name
    return file.read_text().splitlines() if file.exists() else []


def store_notes(worker: WorkerProcess) -> list[dict[str, str]]:
    """The notes about the store in the JSON log of a worker."""
    notes = [json.loads(line) for line in worker.lines() if line.startswith("{")]
    return [note for note in notes if note["event"] == "store"]


def said(worker: WorkerProcess) -> list[str]:
    """The messages about the store in the JSON log of a worker."""
    return [note["message"] for note in store_notes(worker)]


def outages(worker: WorkerProcess) -> int:
    """The number of logged outages.

    An outage has one line. A second one follows if a fault that a person must repair comes after one that passes.
    The end of an outage has one line.
    """
    logged: list[list[str]] = [[]]
    for note in store_notes(worker):
        if note["message"] == "the store is back":
            assert logged[-1], "a return without an outage"
            logged.append([])
        else:
            logged[-1].append(note["error"])
    for codes in logged:
        assert len(codes) < 2 or (len(codes) == 2 and codes[0] != codes[1] == StoreUnusable.code), logged
    return sum(map(bool, logged))


def acknowledged(place: Place, *words: str, input: str | None = None) -> bool:
    """Whether an enqueue is known to be stored; if not, it may be repeated."""
    done = place.invoke("enqueue", *words, input=input)
    assert done.returncode in (0, 5, 75), done
    return done.returncode == 0


@pytest.mark.parametrize("kind", ["trio"])
class TestElections:
    """A set of three servers changes its primary."""

    def test_commands_run_once_while_primaries_step_down_and_die(
        self, place: Place, mongo_trio: ReplicaSet
    ) -> None:
        ids = place.run("enqueue", "-", input='echo x >> "ran-$QUEUECTL_JOB_ID"; sleep 0.1\n' * 200).split()
        worker = place.start_worker("--count", "2", "--log-format", "json")
        agent = place.agent_pid(worker)
        for change in [mongo_trio.step_down] * 5 + [mongo_trio.kill_primary]:
            before = self.ended(place)
            eventually(lambda before=before: self.ended(place) > before, within=30, what="a command ended")
            change()
        jobs = {job.id: job for job in place.until_all_ended(within=60)}
        assert sorted(jobs) == sorted(ids)
        assert {id: lines_of(place, f"ran-{id}") for id in ids} == {id: ["x"] for id in ids}
        assert {(job.state, job.attempts, job.losses) for job in jobs.values()} == {("completed", 1, 0)}
        assert (worker.process.poll(), place.agent_pid(worker)) == (None, agent)
        assert outages(worker) <= 6

    def ended(self, place: Place) -> int:
        return len(list(place.work.glob("ran-*")))

    def test_a_primary_silent_for_longer_than_a_lease_loses_no_job(
        self, place: Place, mongo_trio: ReplicaSet
    ) -> None:
        place.quick()
        place.enqueue("--id", "long", TICKING)
        workers = [self.start_worker_on(place, "atlas")]
        eventually(lambda: lines_of(place, "ticks"), what="the command on atlas")
        workers.append(self.start_worker_on(place, "beta"))
        known = place.run("enqueue", "-", input="echo x >> ran-$QUEUECTL_JOB_ID; sleep 0.05\n" * 30).split()
        paused = mongo_trio.primary
        mongo_trio.pause(paused)
        eventually(
            lambda: acknowledged(place, "--id", "late", "echo x >> ran-late"), within=30, what="an election"
        )
        before = len(lines_of(place, "ticks"))
        eventually(lambda: len(lines_of(place, "ticks")) > before + 40, what="ticks for two leases more")
        mongo_trio.resume(paused)
        (place.work / "go").touch()
        jobs = {job.id: job for job in place.until_all_ended(within=60)}
        assert sorted(jobs) == sorted(["long", "late", *known])
        assert {job.state for job in jobs.values()} == {"completed"}
        assert {id: lines_of(place, f"ran-{id}") for id in [*known, "late"]} == {
            id: ["x"] for id in [*known, "late"]
        }
        assert [line for line in lines_of(place, "ticks") if "tick" not in line] == [
            "begin atlas",
            "end atlas",
        ]
        assert (jobs["long"].attempts, jobs["long"].losses) == (1, 0)
        assert all(alive(worker.pid) for worker in workers)
        assert all(outages(worker) <= 2 for worker in workers)

    def start_worker_on(self, place: Place, host: str) -> WorkerProcess:
        """A worker that takes the others for workers of other hosts."""
        words = ("--name", host, "--count", "2", "--log-format", "json")
        return place.start_worker(*words, HOST=host, XDG_STATE_HOME=str(place.root / host))


ANSWERS = {
    "internal error": 1,
    "unauthorized": 13,
    "max time expired": 50,
    "write conflict": 112,
    "out of disk space": 14031,
}
RARE = ("max time expired", "write conflict")


@pytest.mark.parametrize("kind", ["mongodb"])
class TestErrors:
    """A server that can be reached answers with an error."""

    @pytest.mark.parametrize(
        "name",
        [pytest.param(name, marks=pytest.mark.proof if name in RARE else ()) for name in ANSWERS],
    )
    def test_a_worker_loses_and_repeats_no_job(self, place: Place, own_mongo: MongoServer, name: str) -> None:
        place.quick()
        worker = place.start_worker("--count", "2", "--log-format", "json")
        kept = place.run(
            "enqueue",
            "-",
            input='echo x | tee -a "ran-$QUEUECTL_JOB_ID"; until [ -e go ]; do sleep 0.02; done\n' * 2,
        ).split()
        eventually(lambda: len(list(place.work.glob("ran-*"))) == 2, what="two commands")
        agent = place.agent_pid(worker)
        commands = ("update", "insert", "findAndModify", "find", "aggregate")
        failure = {"mode": {"times": 15}, "errorCode": ANSWERS[name], "appName": "queuectl"}
        with fail_command(own_mongo, *commands, **failure) as point:
            (place.work / "go").touch()
            eventually(lambda: point.times >= 15, within=30, what="all failures")
        late = place.run("enqueue", "-", input='echo x | tee -a "ran-$QUEUECTL_JOB_ID"\n' * 3).split()
        jobs = {job.id: job for job in place.until_all_ended(within=30)}
        assert {id: lines_of(place, f"ran-{id}") for id in kept + late} == {id: ["x"] for id in kept + late}
        assert {(job.state, job.attempts, job.losses) for job in jobs.values()} == {("completed", 1, 0)}
        assert {place.output(id) for id in jobs} == {b"x\n"}
        assert (worker.process.poll(), place.agent_pid(worker)) == (None, agent)
        assert outages(worker) >= 1


@pytest.mark.parametrize("kind", ["mongodb"])
class TestUser:
    """The database user of a worker is deleted."""

    def test_a_deleted_user_ends_no_command_and_is_logged_without_password(
        self, place: Place, database: MongoDatabase
    ) -> None:
        place.quick()
        place.enqueue("--id", "j", f"echo $$ > pid; {TICKING}; echo done")
        worker = place.start_worker("--log-format", "json")
        eventually(lambda: lines_of(place, "ticks"), what="the command")
        pid = int((place.work / "pid").read_text())
        database.dismiss()
        with pytest.raises(StoreUnusable):
            place.job("j")
        eventually(lambda: said(worker), what="the reason")
        before = len(lines_of(place, "ticks"))
        eventually(lambda: len(lines_of(place, "ticks")) > before + 20, what="ticks for longer than a lease")
        assert alive(pid)
        (place.work / "go").touch()
        eventually(lambda: not alive(pid))
        database.admit()
        job = place.until("j", "completed", within=20)
        assert (job.attempts, job.losses, place.output("j")) == (1, 0, b"done\n")
        eventually(lambda: len(said(worker)) == 2, what="one line for the loss, one for the return")
        assert database.password not in worker.log.read_text()


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["mongodb"])
class TestMuchOutput:
    """Output is stored although a document has at most 16 MB."""

    def test_64_mib_of_output_are_stored_byte_for_byte(self, place: Place) -> None:
        place.enqueue("--id", "j", "--output-limit", "64MiB", "seq 8000000 | tee printed")
        place.run("worker", "start", "--drain")
        printed = (place.work / "printed").read_bytes()
        assert place.job("j").history[0].output_bytes == len(printed) > 60_000_000
        shown = place.invoke("logs", "j", "--raw").stdout
        assert hashlib.sha256(shown).digest() == hashlib.sha256(printed).digest()
