"""The commands and scenarios of the five earlier systems work unchanged on every kind of store."""

import itertools
import signal
from datetime import UTC, datetime

import pytest

from e2e.databases import RedisDatabase, Shared
from e2e.harness import Place
from facts import TooSlow, eventually
from queuectl.domain.job import Job
from servers.bouncer import Bouncer

POOLED = "pooled" if Bouncer.available() else "postgres"
SUPABASE = pytest.mark.parametrize("kind", ["sqlite", POOLED])
"""Seed 004 kept its jobs in PostgreSQL behind a pooler."""


@pytest.fixture
def named_by_word(place: Place, database: Shared, kind: str) -> None:
    """The place uses variables such as `QUEUECTL_STORE=mongodb` and `MONGODB_URI` instead of a URL of queuectl."""
    if kind != "sqlite":
        place.env |= database.named


@pytest.mark.usefixtures("named_by_word")
class TestSeed000:
    """The commands submit, status ID, cancel ID and worker work."""

    def test_a_submitted_command_has_a_status_and_runs(self, place: Place) -> None:
        id = place.run("submit", "echo Hello World").strip()
        assert "pending" in place.run("status", id)
        place.start_worker()
        place.until(id, "completed")
        assert place.run("logs", id) == "Hello World\n"
        assert "completed" in place.run("status", id)

    def test_a_job_is_cancelled_before_it_runs(self, place: Place) -> None:
        id = place.run("submit", "echo Hello World").strip()
        place.run("cancel", id)
        place.run("worker", "start", "--drain")
        job = place.job(id)
        assert (job.state, job.attempts) == ("cancelled", 0)

    def test_a_job_is_cancelled_while_it_runs(self, place: Place) -> None:
        id = place.run("submit", "sleep 60").strip()
        place.start_worker()
        place.until(id, "processing")
        place.run("cancel", id)
        place.until(id, "cancelled", within=5)


@pytest.mark.parametrize("kind", ["archived"])
@pytest.mark.usefixtures("named_by_word")
class TestPersistenceOfSeed000:
    """`REDIS_URL` names the store of waiting jobs, `MONGODB_URI` that of job status and execution history."""

    def test_ended_jobs_are_in_mongodb_and_not_in_redis(self, place: Place, database: RedisDatabase) -> None:
        never, ran = (place.run("submit", "echo Hello World").strip() for _ in range(2))
        place.run("cancel", never)
        running = place.run("submit", "echo begun; sleep 60").strip()
        assert database.past(ran) is None
        place.start_worker("--count", "2")
        past = self.kept(database, ran)
        assert (past.state, past.exit_code, past.output_tail) == ("completed", 0, "Hello World\n")
        assert [(attempt.outcome, attempt.exit_code) for attempt in past.history] == [("exited", 0)]
        eventually(lambda: not database.holds(past.number), what="the job gone from Redis")
        assert "completed" in place.run("status", ran)
        assert place.run("logs", ran) == "Hello World\n"

        past = self.kept(database, never)
        assert (past.state, past.attempts, past.history) == ("cancelled", 0, ())
        assert "cancelled" in place.run("status", never)

        eventually(lambda: place.output(running) == b"begun\n", what="the command")
        place.run("cancel", running)
        past = self.kept(database, running)
        assert (past.state, [attempt.outcome for attempt in past.history]) == ("cancelled", ["cancelled"])
        eventually(lambda: not database.holds(past.number), what="the job gone from Redis")
        assert place.run("logs", running) == "begun\n"

    @staticmethod
    def kept(database: RedisDatabase, id: str) -> Job:
        """The job as MongoDB has it, once it does."""
        return eventually(lambda: database.past(id), what=f"{id} in MongoDB")  # type: ignore[return-value]


@pytest.mark.usefixtures("named_by_word")
class TestSeed001:
    """The commands enqueue JSON, worker start/stop, status, list, dlq and config work."""

    def test_the_usage_examples_of_seed001_work(self, place: Place) -> None:
        id = place.run("enqueue", '{"command":"echo Hello && sleep 1","max_retries":3}').strip()
        assert id in place.run("list", "--state", "pending")
        place.start_worker("--count", "3")
        place.until(id, "completed")
        assert place.run("worker", "stop").strip().endswith("stopped")
        assert "completed:  1" in place.run("status")
        assert place.run("dlq", "list") == ""
        place.run("config", "set", "backoff_base", "3")
        assert place.run("config", "get", "backoff_base") == "3\n"

    def test_a_dead_job_is_retried_from_the_dlq(self, place: Place) -> None:
        id = place.enqueue('{"command":"test -f repaired","max_retries":0}')
        worker = place.start_worker()
        place.until(id, "dead")
        assert id in place.run("dlq", "list")
        (place.work / "repaired").touch()
        place.run("dlq", "retry", id)
        place.until(id, "completed")
        assert worker.process.poll() is None

    def test_the_delay_is_base_to_the_power_of_attempts(self, place: Place) -> None:
        place.run("config", "set", "backoff_base", "3")
        id = place.enqueue("exit 1")
        place.start_worker()
        job = place.until(id, "failed")
        assert job.finished_at is None
        assert (job.run_at - job.updated_at).total_seconds() == 3.0


class TestSeed002:
    """The summary of jobs and workers, --retries, dlq retry --all and five configuration keys work."""

    def test_a_failing_job_with_two_retries_dies_after_three_attempts(self, place: Place) -> None:
        place.run("config", "set", "backoff_factor_ms", "10")
        id = place.enqueue("exit 1", "--retries", "2")
        place.run("worker", "start", "--drain")
        job = place.job(id)
        assert (job.state, job.attempts, job.exit_code) == ("dead", 3, 1)
        assert id in place.run("list", "--state", "dead")

    def test_status_summarises_jobs_and_workers(self, place: Place) -> None:
        done = place.enqueue("echo 'Hello World'")
        running = place.enqueue("sleep 60")
        place.start_worker("--count", "3")
        place.until(done, "completed")
        place.until(running, "processing")
        slots = eventually(lambda: place.json("status")["slots"], what="slots")
        eventually(lambda: place.json("status")["slots"] == {"live": 3, "processing": 1, "idle": 2})
        jobs = place.json("status")["jobs"]
        assert (jobs["processing"], jobs["completed"], jobs["total"]) == (1, 1, 2)
        assert set(slots) == {"live", "processing", "idle"}

    def test_all_dead_jobs_are_retried_at_once(self, place: Place) -> None:
        ids = {place.enqueue("test -f repaired", "--retries", "0") for _ in range(3)}
        place.run("worker", "start", "--drain")
        assert {place.job(id).state for id in ids} == {"dead"}
        (place.work / "repaired").touch()
        assert set(place.run("dlq", "retry", "--all").split()) == ids | {"pending"}
        place.run("worker", "start", "--drain")
        assert {place.job(id).state for id in ids} == {"completed"}

    def test_the_five_configuration_keys_of_seed002_work(self, place: Place) -> None:
        listed = place.run("config", "list")
        for key, value in {
            "max_retries": "5",
            "backoff_base": "4",
            "backoff_factor_ms": "250",
            "tick_interval_ms": "500",
            "save_interval_ms": "2000",
        }.items():
            assert f"{key} = " in listed
            place.run("config", "set", key, value)
            assert place.run("config", "get", key) == f"{value}\n"

    def test_worker_stop_lets_running_commands_finish(self, place: Place) -> None:
        id = place.enqueue("sleep 1; echo finished")
        worker = place.start_worker()
        place.until(id, "processing")
        place.run("worker", "stop")
        assert worker.wait() == 0
        assert place.job(id).state == "completed"
        assert place.output(id) == b"finished\n"


@pytest.mark.usefixtures("named_by_word")
class TestSeed003:
    """worker:start works, output and error are stored with the job, and no job runs twice."""

    def test_the_commands_of_seed003_work(self, place: Place) -> None:
        id = place.run("enqueue", '{ "command": "echo hello world" }').strip()
        place.start_worker_as_spelt("worker:start", "--count", "2")
        place.until(id, "completed")
        assert place.job(id).output_tail == "hello world\n"
        assert id in place.run("list")
        assert place.run("worker:stop").strip().endswith("stopped")

    def test_output_and_error_are_stored_with_the_job(self, place: Place) -> None:
        id = place.enqueue("echo out; echo broken >&2; exit 4", "--retries", "0")
        place.run("worker", "start", "--drain")
        job = place.json("show", id)["job"]
        assert job["output_tail"] == "out\nbroken\n"
        assert (job["last_error"], job["exit_code"]) == ("exit code 4", 4)

    def test_no_job_is_executed_twice(self, place: Place) -> None:
        ids = place.run("enqueue", "-", input='echo ran >> "ran-$QUEUECTL_JOB_ID"\n' * 60).split()
        place.start_worker("--count", "4")
        place.start_worker("--count", "4")
        place.until_all_ended()
        assert [(place.work / f"ran-{id}").read_text() for id in ids] == ["ran\n"] * 60


@SUPABASE
@pytest.mark.usefixtures("named_by_word")
class TestSeed004:
    """The scenarios basic, multiple worker, persistence and invalid command work."""

    @pytest.mark.doubles
    def test_the_basic_scenario_works(self, place: Place) -> None:
        place.start_worker()
        place.run("enqueue", '{"id":"test1","command":"echo Success"}')
        place.until("test1", "completed")
        assert "completed" in place.run("status")
        assert "test1" in place.run("list", "--state", "completed")

    def test_the_usage_examples_of_seed004_work(self, place: Place) -> None:
        assert place.run("enqueue", '{"id":"job1","command":"echo Hello World"}') == "job1\n"
        assert place.run("enqueue", '{"id":"job2","command":"sleep 2","max_retries":5}') == "job2\n"
        delayed = '{"id":"job3","command":"echo Delayed","scheduled_at":"2025-11-15T12:00:00Z"}'
        assert place.run("enqueue", delayed) == "job3\n"
        assert place.job("job2").spec.retry.max_retries == 5
        assert place.job("job3").run_at == datetime(2025, 11, 15, 12, tzinfo=UTC)
        place.run("config", "set", "max-retries", "5")
        place.run("config", "set", "backoff-base", "3")
        assert place.run("config", "get", "max-retries") == "5\n"
        for state in ("pending", "completed", "failed", "dead"):
            place.run("list", "--state", state)

    def test_a_job_scheduled_for_later_waits(self, place: Place) -> None:
        place.run("enqueue", '{"id":"job3","command":"echo Delayed","scheduled_at":"2099-11-15T12:00:00Z"}')
        place.run("worker", "start", "--drain")
        assert place.job("job3").state == "pending"

    def test_the_multiple_worker_scenario_works(self, place: Place) -> None:
        worker = place.start_worker("--count", "3")
        # The seed's `sleep 3`, but no longer than it takes until three are there.
        command = "touch up-$QUEUECTL_JOB_ID; until [ -e up-job3 ]; do sleep 0.05; done"
        for i in range(1, 11):
            place.run("enqueue", f'{{"id":"job{i}","command":"{command}"}}')
        jobs = place.until_all_ended()
        assert len(jobs) == 10
        assert {job.state for job in jobs} == {"completed"}
        assert _most_at_once(jobs) == 3
        assert worker.process.poll() is None

    @pytest.mark.doubles
    def test_the_persistence_scenario_works(self, place: Place) -> None:
        place.run("enqueue", '{"id":"persist1","command":"echo Test"}')
        place.run("enqueue", '{"id":"persist2","command":"sleep 0.5"}')
        assert "pending:    2" in place.run("status")
        worker = place.start_worker()
        worker.signal(signal.SIGINT)
        assert worker.wait() == 0
        assert {job["id"] for job in place.json("list")["jobs"]} == {"persist1", "persist2"}
        place.run("worker", "start", "--drain")
        assert {place.job(id).state for id in ("persist1", "persist2")} == {"completed"}

    def test_the_invalid_command_scenario_works(self, place: Place) -> None:
        place.run("config", "set", "backoff_factor_ms", "20")
        place.run("enqueue", '{"id":"invalid1","command":"nonexistent-command"}')
        place.run("worker", "start", "--drain")
        job = place.job("invalid1")
        assert (job.state, job.attempts, job.exit_code) == ("dead", 4, 127)
        assert "not found" in job.output_tail
        assert "invalid1" in place.run("dlq", "list")

    def test_status_shows_active_workers_with_their_job_and_uptime(self, place: Place) -> None:
        place.enqueue("--id", "job-xyz", "sleep 60")
        place.start_worker("--name", "worker-abc123")
        place.until("job-xyz", "processing")
        shown = eventually(lambda: (text := place.run("status")) and "slot 0: job-xyz" in text and text)
        assert "worker worker-abc123" in str(shown)
        assert "uptime" in str(shown)


@pytest.mark.waits
class TestRetryScenarioOfSeed004:
    """The retry scenario works with the original delays; one store is enough, because delays are equal on all
    stores."""

    @pytest.mark.parametrize("kind", ["postgres"])
    def test_the_retry_scenario_works(self, place: Place) -> None:
        worker = place.start_worker()
        place.run("enqueue", '{"id":"fail1","command":"exit 1","max_retries":3}')
        first = place.until("fail1", "failed")
        assert round((first.run_at - first.history[0].finished_at).total_seconds(), 1) == 2.0
        place.until("fail1", "dead", within=25)
        delays = _pauses(place, "fail1")
        pauses = (2, 4, 8)
        # The clocks of store and host differ by some milliseconds, and a busy machine starts a job late.
        assert all(delay + 0.1 >= pause for delay, pause in zip(delays, pauses, strict=True)), delays
        if any(delay + 0.1 >= 2 * pause for delay, pause in zip(delays, pauses, strict=True)):
            raise TooSlow(f"the pauses {pauses} took {delays}")
        assert "fail1" in place.run("dlq", "list")
        said = "\n".join(worker.lines())
        assert said.count("fail1 exit code 1") == 4
        place.run("dlq", "retry", "fail1")
        eventually(lambda: place.job("fail1").attempts == 5)


class TestSetup:
    """Seed 004: `Update .env file with your credentials.` Seed 001: `Copy .env.example to .env and edit if needed.`"""

    @pytest.mark.parametrize("kind", [POOLED, "mongodb", "archived"])
    def test_the_connection_is_read_from_dotenv(self, place: Place, database: Shared) -> None:
        del place.env["QUEUECTL_STORE"]
        lines = [f"{name}={value}\n" for name, value in database.named.items()]
        (place.work / ".env").write_text("".join(lines))
        id = place.enqueue('{"command":"echo Hello World"}')
        worker = place.start_worker()
        place.until(id, "completed")
        assert place.run("worker", "stop").strip().endswith("stopped")
        assert worker.wait() == 0


def _pauses(place: Place, id: str) -> list[float]:
    history = place.job(id).history
    return [
        (after.started_at - before.finished_at).total_seconds()
        for before, after in itertools.pairwise(history)
        if after.started_at
    ]


def _most_at_once(jobs: list[object]) -> int:
    """The highest number of attempts that overlap in time."""
    edges = []
    for job in jobs:
        past = job.history[-1]  # type: ignore[attr-defined]
        edges += [(past.started_at, 1), (past.finished_at, -1)]
    most = now = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return most
