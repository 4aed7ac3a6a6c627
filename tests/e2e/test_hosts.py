"""Several hosts and one server with a network that fails: no job is lost, and no two attempts overlap.

A host is a directory of its own for what proves that workers live, so that no worker sees another one's processes, and
a proxy of its own to the server, which can cut that host off. What each command did stands in files, with the host's
name.
"""

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from e2e.databases import Shared
from e2e.harness import Place, WorkerProcess, alive
from facts import eventually
from queuectl.domain.query import Filter
from servers.proxy import Proxy

pytestmark = [
    pytest.mark.parametrize("kind", ["postgres", "mongodb", "redis", "archived"]),
    pytest.mark.timeout(120),
]
TICKING = """
    echo begin $HOST >> ticks
    for i in $(seq 40); do echo tick $HOST >> ticks; sleep 0.1; done
    echo end $HOST >> ticks"""


RENAMED = 'hostname beta-host && exec "$@"'
"""A program that becomes another one, on a host of another name."""


class Host:
    """One machine: a name, a state directory, and a network that can fail."""

    def __init__(self, name: str, place: Place, proxy: Proxy, url: str) -> None:
        self.name, self.place, self.network = name, place, proxy
        self.env = {"XDG_STATE_HOME": str(place.root / name), "QUEUECTL_STORE": url, "HOST": name}

    def start_worker(self, *words: str, through: tuple[str, ...] = (), **env: str) -> WorkerProcess:
        """Start a worker on this host."""
        start = ("worker", "start", "--name", self.name, *words)
        return self.place.start_worker_as_spelt(*start, through=through, **{**self.env, **env})

    def invoke(self, *words: str) -> tuple[int, str, str]:
        """A command on this host: exit code, stdout, stderr."""
        done = self.place.invoke(*words, **self.env)
        return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def new_host(place: Place, database: Shared) -> Iterator[Callable[[str], Host]]:
    proxies: list[Proxy] = []
    place.run("status")  # creates the schema

    def new(name: str) -> Host:
        proxy, url = database.by_way()
        proxies.append(proxy)
        return Host(name, place, proxy, url)

    yield new
    for proxy in proxies:
        proxy.pass_through()
    place.close()
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def atlas(new_host: Callable[[str], Host]) -> Host:
    return new_host("atlas")


@pytest.fixture
def beta(new_host: Callable[[str], Host]) -> Host:
    return new_host("beta")


def ticks(place: Place) -> list[str]:
    file = place.work / "ticks"
    return file.read_text().splitlines() if file.exists() else []


def runs(place: Place) -> list[str]:
    """The starts and ends of attempts, in order."""
    return [line for line in ticks(place) if not line.startswith("tick")]


def named(worker: WorkerProcess, word: str) -> list[str]:
    """The jobs with this event in the log of a worker."""
    return [line.split()[2] for line in worker.lines() if re.search(rf"^[\dTZ:-]+ +{word} ", line)]


@pytest.mark.waits
class TestPartition:
    """One host is disconnected while its command runs; the other host can reach the server."""

    def test_with_on_disconnect_stop_attempts_do_not_overlap(
        self, place: Place, atlas: Host, beta: Host
    ) -> None:
        place.quick()
        place.enqueue("--id", "j", "--kill-grace", "100ms", TICKING)
        atlas.start_worker("--on-disconnect", "stop")
        eventually(lambda: "tick atlas" in ticks(place), what="the command on atlas")
        beta.start_worker()
        atlas.network.black_hole()
        job = place.until("j", "completed", within=30)
        assert runs(place) == ["begin atlas", "begin beta", "end beta"]
        where = [line.split()[1] for line in ticks(place)]
        assert where == sorted(where), "ticks of both hosts at the same time"
        assert [(past.outcome, past.attempt) for past in job.history] == [("lost", 1), ("exited", 2)]

    def test_by_default_the_command_continues_and_its_late_result_is_refused(
        self, place: Place, atlas: Host, beta: Host
    ) -> None:
        place.quick()
        place.enqueue("--id", "j", TICKING)
        worker = atlas.start_worker()
        eventually(lambda: "tick atlas" in ticks(place), what="the command on atlas")
        beta.start_worker()
        atlas.network.black_hole()
        eventually(lambda: "begin beta" in ticks(place), within=20, what="beta took over after the lease")
        atlas.network.pass_through()
        job = place.until("j", "completed", within=30)
        assert [(past.outcome, past.attempt) for past in job.history] == [("lost", 1), ("exited", 2)]
        eventually(
            lambda: "fenced" in worker.log.read_text(), what="atlas learned that it is no longer its own"
        )
        assert runs(place).count("end beta") == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="another host name needs root")
    def test_a_disconnected_worker_is_never_reported_as_stopped(
        self, place: Place, atlas: Host, beta: Host
    ) -> None:
        place.quick()
        place.enqueue("--id", "j", TICKING)
        worker = beta.start_worker(through=("unshare", "--uts", "sh", "-c", RENAMED, "sh"))
        eventually(lambda: "tick beta" in ticks(place), what="the command on beta")
        beta.network.black_hole()
        code, out, err = atlas.invoke("worker", "stop", "beta")
        assert (code, out) == (1, "")
        assert "worker beta on beta-host does not answer" in err
        assert "job j may still run there" in err
        beta.network.pass_through()
        assert worker.wait(30) == 0  # it receives the instruction when it is connected again
        assert place.store.workers() == []

    def test_a_short_partition_does_not_affect_the_job(self, place: Place, atlas: Host, beta: Host) -> None:
        place.enqueue("--id", "j", TICKING)
        worker = atlas.start_worker()
        beta.start_worker()
        eventually(lambda: ticks(place), what="the command")
        cut_off = atlas if "begin atlas" in ticks(place) else beta
        cut_off.network.refuse()
        eventually(lambda: len(ticks(place)) > 20, what="ticks while the host is cut off")
        cut_off.network.pass_through()
        job = place.until("j", "completed", within=30)
        assert (job.attempts, job.losses, len(runs(place))) == (1, 0, 2)
        assert worker.process.poll() is None

    def test_a_worker_reconnects_after_a_half_open_connection(self, place: Place, atlas: Host) -> None:
        place.quick()
        worker = atlas.start_worker()
        atlas.network.half_open()
        place.enqueue("--id", "j", "true")
        place.until("j", "completed", within=30)
        assert worker.process.poll() is None

    def test_an_outage_and_its_end_are_logged_in_one_line_each(self, place: Place, atlas: Host) -> None:
        place.quick()
        place.enqueue("--id", "j", TICKING)
        worker = atlas.start_worker()
        eventually(lambda: ticks(place), what="the command")
        atlas.network.refuse()
        eventually(lambda: "end atlas" in ticks(place), what="the command went on to its end")
        atlas.network.pass_through()
        place.until("j", "completed", within=30)
        eventually(lambda: "the store is back" in worker.log.read_text(), what="the end of the outage")
        said = [line for line in worker.lines() if re.search(r"^[\dTZ:-]+ +store ", line)]
        assert len(said) == 2, said
        assert "Traceback" not in worker.log.read_text()


class TestLostReplies:
    """The server executes a request, and its reply is lost."""

    @pytest.mark.parametrize("verb", ["claim", "save", "output", "heartbeat"])
    def test_a_worker_loses_and_repeats_no_job(
        self, place: Place, database: Shared, atlas: Host, verb: str
    ) -> None:
        place.quick()
        worker = atlas.start_worker("--count", "2")
        atlas.network.lose_reply(database.lost[verb])
        ids = place.run(
            "enqueue", "-", input='echo x | tee -a "ran-$QUEUECTL_JOB_ID"; sleep 0.3\n' * 4
        ).split()
        assert atlas.network.lost.wait(10)
        jobs = {job.id: job for job in place.until_all_ended(within=30)}
        assert [(place.work / f"ran-{id}").read_text() for id in ids] == ["x\n"] * 4
        assert {(jobs[id].attempts, jobs[id].losses, jobs[id].state) for id in ids} == {(1, 0, "completed")}
        assert {place.output(id) for id in ids} == {b"x\n"}
        # The store has recorded an end before the worker receives the reply.
        eventually(lambda: len(named(worker, "done")) >= len(ids), what="all that the worker says")
        for word in ("start", "done"):
            assert sorted(named(worker, word)) == sorted(ids), word

    def test_an_enqueue_exits_with_75_and_can_be_repeated(
        self, place: Place, database: Shared, atlas: Host
    ) -> None:
        place.enqueue("--id", "first", "--hold", "true")  # the store is there
        atlas.network.lose_reply(database.lost["add"])
        code, out, err = atlas.invoke("enqueue", "--id", "j", "echo once >> ran")
        assert (code, out) == (75, "j\n")
        assert "repeating the same command with --id" in err
        assert err.count("\n") == 1
        assert atlas.invoke("enqueue", "--id", "j", "echo once >> ran")[:2] == (0, "j\n")
        place.run("worker", "start", "--drain")
        assert (place.work / "ran").read_text() == "once\n"

    def test_a_cancel_exits_with_75_and_has_cancelled(
        self, place: Place, database: Shared, atlas: Host
    ) -> None:
        place.enqueue("--id", "j", "--in", "1h", "true")
        atlas.network.lose_reply(database.lost["save"])
        assert atlas.invoke("cancel", "j")[0] == 75
        assert place.job("j").state == "cancelled"
        assert atlas.invoke("cancel", "j")[0] == 0


@pytest.mark.waits
class TestCommandsWithoutAServer:
    """Without a server, each command ends within a few seconds with one line and the documented exit code."""

    @pytest.mark.parametrize("trouble", ["refuse", "black_hole"])
    def test_commands_exit_with_5_and_change_nothing(self, place: Place, atlas: Host, trouble: str) -> None:
        getattr(atlas.network, trouble)()
        commands = [("status",), ("enqueue", "--id", "j", "true"), ("worker", "start")]
        with ThreadPoolExecutor() as at_once:
            answers = list(at_once.map(lambda words: atlas.invoke(*words), commands))
        assert [(code, out, err.count("\n")) for code, out, err in answers] == [(5, "", 1)] * 3, answers
        assert not [err for _, _, err in answers if "Traceback" in err]
        assert place.store.counts(Filter()).total() == 0


def test_no_argument_and_no_file_of_a_worker_contains_the_password(place: Place, database: Shared) -> None:
    url = place.env.pop("QUEUECTL_STORE")
    place.start_worker_as_spelt("worker", "start", "--store", url, "--name", "front")
    detached = ("worker", "start", "--store", url, "--detach", "--name", "behind", "--log-format", "json")
    place.json(*detached)
    place.run("enqueue", "--store", url, "sleep 60")
    secrets = {
        password.rstrip("%/") for password in database.passwords
    }  # the end of a password is encoded differently in a URL
    eventually(lambda: len(place.processes()) >= 7, what="two holders, two guards, two agents and a command")
    seen = [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in place.processes()]
    seen += [path.read_text(errors="replace") for path in place.root.rglob("*") if path.is_file()]
    assert any("front" in text for text in seen), "that of the workers is among what was read"
    assert not [text for text in seen if any(secret in text for secret in secrets)]


def test_repeated_restarts_of_the_server_lose_and_repeat_no_job(
    place: Place, new_host: Callable[[str], Host], restart_at_once: Callable[[], None], restarts: int
) -> None:
    hosts = [new_host("atlas"), new_host("beta")]
    workers = [host.start_worker("--count", "2") for host in hosts]
    wanted: list[str] = []
    for turn in range(restarts):
        wanted += [f"{turn}-{n}" for n in range(10)]
        lines = "".join(f'{{"id": "{id}", "command": "echo x >> ran-{id}"}}\n' for id in wanted[-10:])
        eventually(lambda lines=lines: enqueued(place, lines), within=60, what="the lines are acknowledged")
        restart_at_once()
    jobs = {job.id: job for job in eventually(lambda: all_ended(place, len(wanted)), within=90)}
    assert sorted(jobs) == sorted(wanted)
    assert {(job.state, job.attempts, job.losses) for job in jobs.values()} == {("completed", 1, 0)}
    assert {id: ran(place.work / f"ran-{id}") for id in wanted} == dict.fromkeys(wanted, "x\n")
    assert all(alive(worker.pid) for worker in workers)


@pytest.fixture
def restart_at_once(kind: str, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Ends the server without any order, and starts it again."""
    if kind == "postgres":
        return partial(request.getfixturevalue("own_postgres").restart, "immediate")
    server = request.getfixturevalue("own_mongo" if kind == "mongodb" else "own_redis")

    def kill_and_start() -> None:
        server.kill()
        server.start()

    return kill_and_start


@pytest.fixture
def restarts(thorough: bool) -> int:
    """The number of restarts of the server."""
    return 20 if thorough else 5


def enqueued(place: Place, lines: str) -> bool:
    """Repeat until the result is known: 5 is not done, 75 is unknown, and both may be repeated."""
    done = place.invoke("enqueue", "-", input=lines)
    assert done.returncode in (0, 5, 75), done
    return done.returncode == 0


def all_ended(place: Place, count: int) -> object:
    return None if len(found := place.until_all_ended(within=60)) < count else found


def ran(file: Path) -> str:
    return file.read_text() if file.exists() else ""
