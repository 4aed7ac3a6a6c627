"""Events for workers that only PostgreSQL causes: a changed password, ended sessions, and special settings."""

import json
from urllib.parse import quote

import pytest

from e2e.databases import PostgresDatabase
from e2e.harness import Place, WorkerProcess, alive
from facts import eventually

pytestmark = pytest.mark.parametrize("kind", ["postgres"])
TICKING = "echo $$ > pid; until [ -e go ]; do echo tick >> ticks; sleep 0.05; done; echo done"


def ears(database: PostgresDatabase) -> set[int]:
    """The sessions that wait for notifications, which is all that they do; by the pids of their servers."""
    listening = f"usename = '{database.role}' AND query LIKE 'LISTEN%'"
    return {pid for (pid,) in database.run(f"SELECT pid FROM pg_stat_activity WHERE {listening}")}


def ticks(place: Place) -> int:
    """The number of ticks of the command `TICKING`."""
    file = place.work / "ticks"
    return file.read_text().count("tick") if file.exists() else 0


def losses(worker: WorkerProcess) -> list[str]:
    """The messages about the store in the JSON log of a worker."""
    notes = [json.loads(line) for line in worker.lines() if line.startswith("{")]
    return [note["message"] for note in notes if note["event"] == "store"]


class TestPassword:
    def test_a_changed_password_ends_no_command_and_is_not_logged(
        self, place: Place, database: PostgresDatabase
    ) -> None:
        place.quick()
        place.enqueue("--id", "j", TICKING)
        worker = place.start_worker("--log-format", "json")
        eventually(lambda: ticks(place) > 0)
        pid = int((place.work / "pid").read_text())
        database.run(f"ALTER ROLE {database.role} PASSWORD 'another'")
        self.cut(database)
        eventually(lambda: "password authentication failed" in worker.log.read_text(), what="the reason")
        before = ticks(place)
        eventually(lambda: ticks(place) > before + 40, what="ticks for longer than a lease")
        assert alive(pid)
        (place.work / "go").touch()
        eventually(lambda: not alive(pid))
        database.run(f"ALTER ROLE {database.role} PASSWORD '{database.password}'")
        job = place.until("j", "completed", within=20)
        assert (job.attempts, job.losses, place.output("j")) == (1, 0, b"done\n")
        eventually(lambda: "the store is back" in losses(worker))
        # Requests in progress when the sessions ended may be logged first, as lost connections.
        said = [line for line in losses(worker) if "not answer" not in line]
        assert len(said) == 2, "one line for the loss, one for the return"
        assert database.password not in worker.log.read_text()
        assert quote(database.password, safe="") not in worker.log.read_text()

    def cut(self, database: PostgresDatabase) -> None:
        """End every session of the role."""
        database.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{database.role}'"
        )


class TestServerSettings:
    """Unusual defaults of a role or a database."""

    def test_with_default_isolation_serializable_each_job_runs_once(
        self, place: Place, database: PostgresDatabase
    ) -> None:
        database.run(f"ALTER ROLE {database.role} SET default_transaction_isolation = 'serializable'")
        place.run("enqueue", "-", input='echo "$QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT" >> ran\n' * 100)
        workers = [place.start_worker("--count", "4", "--log-format", "json") for _ in range(2)]
        jobs = place.until_all_ended()
        ran = (place.work / "ran").read_text().split("\n")[:-1]
        assert len(ran) == len(set(ran)) == 100
        assert {(job.state, job.attempts, job.losses) for job in jobs} == {("completed", 1, 0)}
        assert [losses(worker) for worker in workers] == [[], []]

    def test_a_server_that_ends_idle_sessions_causes_no_outage(
        self, place: Place, database: PostgresDatabase
    ) -> None:
        database.run(f"ALTER ROLE {database.role} SET idle_session_timeout = '200ms'")
        worker = place.start_worker("--log-format", "json")
        first = eventually(lambda: ears(database), what="a session that listens")
        eventually(lambda: ears(database) - first, what="another one")
        assert not ears(database) & first, "the point of this test is that the server has ended the first"
        place.enqueue("--id", "j", "true")
        eventually(lambda: "j exit code 0" in worker.log.read_text(), within=3, what="the job felt at once")
        assert losses(worker) == []
