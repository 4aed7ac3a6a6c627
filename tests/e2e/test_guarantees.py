"""G1 to G8 and G10, each with real processes: whichever process dies, no job is lost and no job runs twice."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.harness import Place, WorkerProcess, alive
from facts import eventually
from queuectl.domain.job import Job
from queuectl.domain.query import Filter, Page


def tick(place: Place, id: str) -> Path:
    """The file into which a job of `ticking` writes."""
    return place.work / f"{id}.ticks"


def enqueue_ticking(place: Place, id: str, ticks: int = 30, *words: str) -> str:
    """Enqueue a job that prints its attempt, then ticks ten times a second, then prints that it is done."""
    script = f"""
        f={id}.ticks; echo "start $QUEUECTL_ATTEMPT_ID $$" >> $f; i=0
        while [ $i -lt {ticks} ]; do echo tick >> $f; echo out $i; sleep 0.1; i=$((i+1)); done
        echo end >> $f"""
    return place.enqueue("--id", id, *words, script)


def begun(place: Place, id: str) -> int:
    """The pid of a ticking job, once it ticks."""
    line = eventually(
        lambda: _starts(place, id) and "tick" in tick(place, id).read_text() and _starts(place, id)[-1]
    )
    return int(str(line).split()[2])


def _starts(place: Place, id: str) -> list[str]:
    path = tick(place, id)
    return (
        [line for line in path.read_text().splitlines() if line.startswith("start")] if path.exists() else []
    )


class TestG1AcknowledgedIsStored:
    """After exit code 0 of enqueue, the job survives the death of all processes of queuectl."""

    def test_a_job_is_stored_after_kill_9_of_the_worker_group(self, place: Place) -> None:
        worker = place.start_worker()
        ids = [place.run("enqueue", f"echo {i}").strip() for i in range(5)]
        worker.kill()
        assert all(place.job(id).id == id for id in ids)

    def test_status_shows_the_durability_read_from_the_store(self, place: Place, kind: str) -> None:
        assert place.json("status")["store"]["durability"] == "power-safe"
        # Of Redis the server alone decides: who accepts less has it as safe as it is.
        fast = "power-safe" if kind in ("redis", "archived") else "memory-safe"
        assert place.json("--durability", "fast", "status")["store"]["durability"] == fast

    def test_an_enqueue_killed_at_its_commit_stored_nothing_or_everything(self, place: Place) -> None:
        lines = "true\n" * 3000
        for name, stored in (("before_add", 0), ("after_add", 3000)):
            done = place.invoke("enqueue", "-", input=lines, QUEUECTL_CRASH_AT=name)
            assert done.returncode == -signal.SIGKILL, done
            assert place.store.counts(Filter()).total() == stored


class TestG2ThreeResults:
    """A request is done, refused or of unknown outcome, and repeating it is safe."""

    def test_the_same_id_and_content_return_the_same_job(self, place: Place) -> None:
        first = place.json("enqueue", "--id", "a", "--delay", "1h", "echo a")
        again = place.json("enqueue", "--id", "a", "--delay", "1h", "echo a")
        assert [item["jobs"][0]["existing"] for item in (first, again)] == [False, True]
        assert first["jobs"][0]["number"] == again["jobs"][0]["number"]

    def test_the_same_id_with_other_content_is_a_conflict(self, place: Place) -> None:
        place.enqueue("--id", "a", "echo a")
        place.run("enqueue", "--id", "a", "echo b", code=4)
        assert place.job("a").spec.command == "echo a"


class TestG3OneLiveAttempt:
    """A job is never run by two live attempts, and late results are refused."""

    @pytest.mark.timeout(120)
    def test_two_workers_run_500_short_jobs_once_each(self, place: Place) -> None:
        place.run("enqueue", "-", input='echo "$QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT" >> ran\n' * 500)
        first, second = place.start_worker("--count", "4"), place.start_worker("--count", "4")
        jobs = place.until_all_ended(within=60)
        ran = (place.work / "ran").read_text().split("\n")[:-1]
        assert len(ran) == len(set(ran)) == 500
        assert {job.state for job in jobs} == {"completed"}
        assert {job.attempts for job in jobs} == {1}
        assert {job.history[0].worker for job in jobs} <= {first.id, second.id}

    @pytest.mark.waits
    def test_the_late_result_of_an_agent_stopped_beyond_its_lease_is_refused(self, place: Place) -> None:
        place.quick()
        enqueue_ticking(place, "j", 30, "--kill-grace", "200ms")
        frozen = place.start_worker()
        pid = begun(place, "j")
        os.kill(place.agent_pid(frozen), signal.SIGSTOP)
        place.start_worker()
        eventually(lambda: not alive(pid), within=6, what="the first attempt ended by its holder")
        eventually(lambda: len(_starts(place, "j")) == 2, within=15, what="a second attempt")
        os.kill(place.agent_pid(frozen), signal.SIGCONT)
        job = place.until("j", "completed", within=20)
        assert [past.outcome for past in job.history] == ["lost", "exited"]
        assert tick(place, "j").read_text().count("end") == 1


class TestG4Crashes:
    """`kill -9` ends the agent, the holder, the guard, or all of them."""

    def test_kill_9_of_the_agent_loses_and_repeats_no_job(self, place: Place) -> None:
        script = "until [ -e enough ]; do echo tick >> j.ticks; echo out $((i)); i=$((i+1)); sleep 0.1; done"
        place.enqueue("--id", "j", f'echo "start $QUEUECTL_ATTEMPT_ID $$" >> j.ticks; {script}')
        worker = place.start_worker()
        pid = begun(place, "j")
        for _ in range(3):
            before = place.agent_pid(worker)
            os.kill(before, signal.SIGKILL)
            eventually(lambda before=before: place.agent_pid(worker) != before, what="a new agent")  # type: ignore[misc]
        assert alive(pid)
        (place.work / "enough").touch()
        job = place.until("j", "completed")
        assert (job.attempts, len(_starts(place, "j"))) == (1, 1)
        ticks = tick(place, "j").read_text().count("tick")
        assert place.output("j") == b"".join(b"out %d\n" % i for i in range(ticks))

    def test_a_result_without_a_live_agent_is_recorded_later(self, place: Place) -> None:
        enqueue_ticking(place, "j", 3)
        worker = place.start_worker()
        pid = begun(place, "j")
        agent = place.agent_pid(worker)
        os.kill(agent, signal.SIGSTOP)
        eventually(lambda: not alive(pid))
        os.kill(agent, signal.SIGKILL)
        job = place.until("j", "completed")
        assert (job.attempts, place.output("j")) == (1, b"out 0\nout 1\nout 2\n")

    def test_kill_9_of_the_holder_ends_its_commands_and_requeues_them(self, place: Place) -> None:
        place.enqueue(
            "--id",
            "j",
            "(trap '' TERM; exec sleep 300) & setsid sleep 301 >/dev/null 2>&1 & echo $! > pids; sleep 302",
        )
        worker = place.start_worker()
        eventually(lambda: (place.work / "pids").exists() and len(_commands(place)) >= 4)
        worker.kill()
        eventually(lambda: not _commands(place), within=2, what="the whole tree gone")
        job = place.until("j", "pending", within=5)
        assert (job.losses, job.history[0].outcome) == (1, "lost")
        eventually(lambda: not place.processes(), within=5, what="agent and guard gone")

    def test_the_next_start_cleans_up_after_kill_9_of_all_processes(self, place: Place) -> None:
        enqueue_ticking(place, "j", 600)
        worker = place.start_worker()
        pid = begun(place, "j")
        doomed = [worker.guard_pid(), place.agent_pid(worker), worker.pid]
        for victim in doomed:
            os.kill(victim, signal.SIGSTOP)
        for victim in doomed:
            os.kill(victim, signal.SIGKILL)
        worker.process.wait(10)
        assert alive(pid), "the point of this test is that the command is left over"
        place.start_worker()
        eventually(lambda: not alive(pid), within=5, what="the leftover ended")
        eventually(lambda: len(_starts(place, "j")) == 2, what="the job started again")
        history = place.job("j").history
        assert [past.outcome for past in history] == ["lost"]

    def test_kill_9_of_the_guard_does_not_affect_the_job(self, place: Place) -> None:
        enqueue_ticking(place, "j", 15)
        worker = place.start_worker()
        begun(place, "j")
        guard = worker.guard_pid()
        os.kill(guard, signal.SIGKILL)
        eventually(lambda: _other_guard(worker, guard), what="a new guard")
        assert place.until("j", "completed").attempts == 1


def _other_guard(worker: WorkerProcess, old: int) -> bool:
    try:
        return worker.guard_pid() != old
    except StopIteration:
        return False


def _commands(place: Place) -> list[int]:
    """The living processes of commands: they carry a job's id."""
    return [pid for pid in place.processes() if _is_command(pid)]


def _is_command(pid: int) -> bool:
    try:
        return b"QUEUECTL_ATTEMPT_ID=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("point", ["after_claim", "before_commit", "after_commit"])
class TestCrashPoints:
    """The agent dies repeatedly at the named places; every job still runs exactly once."""

    def test_every_job_runs_once(self, place: Place, point: str) -> None:
        ids = place.run("enqueue", "-", input='echo x >> "ran-$QUEUECTL_JOB_ID"\n' * 6).split()
        place.start_worker("--count", "2", QUEUECTL_CRASH_AT=f"{point}:2")
        jobs = {job.id: job for job in place.until_all_ended(within=30)}
        assert [(place.work / f"ran-{id}").read_text() for id in ids] == ["x\n"] * 6
        assert {jobs[id].attempts for id in ids} == {1}
        assert {jobs[id].losses for id in ids} == {0}


@pytest.mark.parametrize("point", ["after_spawn", "after_exit"])
class TestHolderCrashPoints:
    """The holder dies at the named places: what had started is lost, never repeated while it still runs."""

    def test_a_started_job_is_lost_and_runs_again(self, place: Place, point: str) -> None:
        place.enqueue("--id", "j", "echo $$ >> ran; sleep 0.2")
        place.start_worker_that_dies("--count", "2", QUEUECTL_CRASH_AT=point)
        job = place.until("j", "pending", within=10)
        assert [past.outcome for past in job.history] == ["lost"]
        place.run("worker", "start", "--drain")
        assert place.job("j").state == "completed"


class TestG5NoLimitFromLeases:
    """A lease is renewed for as long as the command lives."""

    def test_a_command_outlives_many_leases(self, place: Place) -> None:
        place.quick()
        place.enqueue("--id", "j", "sleep 3.5")
        place.start_worker()
        place.start_worker()
        job = place.until("j", "completed")
        assert (job.attempts, job.losses) == (1, 0)


class TestG6StoreOutage:
    """While the store cannot be reached, running commands continue and results wait."""

    @pytest.mark.waits
    def test_a_locked_database_delays_results_and_loses_none(self, place: Place) -> None:
        place.quick()
        enqueue_ticking(place, "j", 10)
        worker = place.start_worker()
        pid = begun(place, "j")
        with place.locked_database():
            eventually(lambda: not alive(pid), what="the command went on and ended")
            eventually(
                lambda: "commands run on" in worker.log.read_text(), within=30, what="the outage was noticed"
            )
        job = place.until("j", "completed", within=20)
        assert (job.attempts, tick(place, "j").read_text().count("end")) == (1, 1)

    def test_an_outage_longer_than_the_lease_ends_no_command(self, place: Place) -> None:
        place.quick()
        enqueue_ticking(place, "j", 40)
        place.start_worker()
        pid = begun(place, "j")
        with place.locked_database():
            eventually(
                lambda: tick(place, "j").read_text().count("tick") > 35, what="ticks beyond two leases"
            )
            assert alive(pid)
        job = place.until("j", "completed", within=30)
        assert (job.attempts, job.losses) == (1, 0)

    def test_with_on_disconnect_stop_the_command_ends_before_its_lease(self, place: Place) -> None:
        place.quick()
        enqueue_ticking(place, "j", 200, "--kill-grace", "100ms")
        place.start_worker("--on-disconnect", "stop")
        pid = begun(place, "j")
        with place.locked_database():
            eventually(lambda: not alive(pid), within=3, what="the command ended within the lease")
        job = place.until("j", "pending", "processing", within=30)
        assert job.attempts <= 2
        eventually(lambda: [past.outcome for past in place.job("j").history][:1] == ["lost"], within=20)


class TestG7CancelAndTimeout:
    """A cancel and a timeout end all processes of a command."""

    STUBBORN = """
        trap '' TERM; setsid sh -c "trap '' TERM; sleep 300" >/dev/null 2>&1 &
        sleep 301 & echo up > up; wait; sleep 302"""

    def test_a_cancel_ends_all_processes_within_the_grace_and_a_second(self, place: Place) -> None:
        place.enqueue("--id", "j", "--kill-grace", "500ms", self.STUBBORN)
        place.start_worker()
        eventually(lambda: (place.work / "up").exists())
        place.run("cancel", "j", "--reason", "enough")
        job = place.until("j", "cancelled", within=3.5)
        assert not _commands(place)
        assert "enough" in str(job.last_error)

    def test_a_timeout_ends_all_processes_of_the_command(self, place: Place) -> None:
        place.enqueue(
            "--id", "j", "--timeout", "1s", "--kill-grace", "300ms", "--retries", "0", self.STUBBORN
        )
        place.start_worker()
        job = place.until("j", "dead", within=5)
        assert not _commands(place)
        assert job.history[0].outcome == "timed_out"

    def test_a_cancelled_job_never_starts(self, place: Place) -> None:
        ids = place.run("enqueue", "-", input="touch ran\n" * 20).split()
        place.run("cancel", *ids)
        place.run("worker", "start", "--drain")
        assert not (place.work / "ran").exists()

    def test_leftovers_of_a_command_are_ended(self, place: Place) -> None:
        place.enqueue("--id", "j", "setsid sleep 300 >/dev/null 2>&1 & sleep 301 >/dev/null 2>&1 & echo done")
        worker = place.start_worker()
        job = place.until("j", "completed", within=5)
        assert not _commands(place)
        assert job.history[0].ended_processes == 2
        assert place.json("show", "j")["job"]["history"][0]["ended_processes"] == 2
        assert "attempt 1 left 2 processes running: ended (--allow-detached keeps them)" in place.run(
            "show", "j"
        )
        eventually(
            lambda: (
                "(ended 2 processes it left running; --allow-detached keeps them)" in worker.log.read_text()
            )
        )

    def test_a_background_process_with_open_stdout_does_not_delay_the_job(self, place: Place) -> None:
        place.enqueue("--id", "j", "sleep 300 & echo done")
        place.start_worker()
        job = place.until("j", "completed", within=5)
        assert job.output_tail == "done\n"

    def test_with_allow_detached_leftovers_are_not_ended(self, place: Place) -> None:
        place.enqueue("--id", "j", "--allow-detached", "setsid sleep 300 >/dev/null 2>&1 & echo done")
        place.start_worker()
        job = place.until("j", "completed", within=5)
        assert _commands(place)
        assert job.history[0].ended_processes == 0


class TestG8Counting:
    """A claim that never started is not counted, and lost attempts have their own budget."""

    def test_a_job_that_repeatedly_kills_its_worker_ends_as_a_crash_loop(self, place: Place) -> None:
        place.run("config", "set", "max_losses", "1")
        place.enqueue("--id", "j", "echo up >> up; sleep 60")
        for losses in (1, 2):
            worker = place.start_worker()
            eventually(
                lambda losses=losses: (
                    (place.work / "up").exists() and (place.work / "up").read_text().count("up") == losses
                )
            )  # type: ignore[misc]
            worker.kill()
            place.until("j", "pending" if losses == 1 else "dead")
        job = place.job("j")
        assert (job.losses, job.failures, job.attempts) == (2, 0, 2)
        assert "crash loop" in str(job.last_error)

    def test_a_draining_worker_gives_back_jobs_claimed_ahead_uncounted(self, place: Place) -> None:
        place.run("enqueue", "-", input="true\n" * 400)
        worker = place.start_worker("--count", "2")
        eventually(lambda: place.store.counts(Filter()).of("completed") > 50)
        place.enqueue("--priority", "1000", "sleep 0.5")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        jobs: list[Job] = place.store.find(Filter(), Page(limit=1000)).jobs
        assert {job.state for job in jobs} <= {"completed", "pending"}
        assert {(job.state, job.attempts) for job in jobs} <= {("completed", 1), ("pending", 0)}


class TestG10Terminal:
    """Only a command of a person changes a job that is completed, dead or cancelled."""

    def test_a_worker_does_not_change_ended_jobs(self, place: Place) -> None:
        for id, command in (("ok", "true"), ("bad", "false")):
            place.enqueue("--id", id, "--retries", "0", command)
        place.enqueue("--id", "off", "--hold", "true")
        place.run("cancel", "off")
        place.run("worker", "start", "--drain")
        versions = {id: place.job(id).version for id in ("ok", "bad", "off")}
        place.run("worker", "start", "--drain")
        assert versions == {id: place.job(id).version for id in ("ok", "bad", "off")}
        place.run("retry", "ok", code=4)
        place.run("retry", "ok", "--force")
        assert place.job("ok").state == "pending"


class TestStopping:
    """The first signal lets commands finish, the second gives their jobs back, the third kills them."""

    def test_the_second_signal_gives_running_jobs_back_as_interrupted(self, place: Place) -> None:
        place.enqueue("--id", "j", "sleep 60")
        worker = place.start_worker()
        place.until("j", "processing")
        eventually(lambda: _commands(place))
        worker.signal(signal.SIGINT)
        eventually(lambda: any("drain" in line for line in worker.lines()))
        worker.signal(signal.SIGINT)
        assert worker.wait() == 0
        job = place.job("j")
        assert (job.state, job.failures, job.losses) == ("pending", 0, 0)
        assert "interrupted" in str(job.history[0].error)
        assert any("requeued" in line and "interrupted" in line for line in worker.lines())

    def test_worker_stop_now_gives_running_jobs_back(self, place: Place) -> None:
        place.enqueue("--id", "j", "sleep 60")
        worker = place.start_worker()
        place.until("j", "processing")
        eventually(lambda: _commands(place))
        place.run("worker", "stop", "--now")
        assert worker.wait() == 0
        assert place.job("j").state == "pending"

    def test_reload_replaces_the_agent_while_commands_run(self, place: Place) -> None:
        enqueue_ticking(place, "j", 15)
        worker = place.start_worker()
        begun(place, "j")
        before = place.agent_pid(worker)
        place.run("worker", "reload")
        eventually(lambda: place.agent_pid(worker) != before, what="a new agent")
        assert place.until("j", "completed").attempts == 1

    def test_a_detached_worker_runs_in_the_background_with_a_log(self, place: Place) -> None:
        started = place.json("worker", "start", "--detach", "--count", "2")["worker"]
        id = place.enqueue("echo hello")
        place.until(id, "completed")
        eventually(lambda: id in Path(started["log"]).read_text(), what="the job in the log")
        place.run("worker", "stop")
        assert not alive(started["holder_pid"])


class TestOutput:
    """Output is stored byte for byte, its head and tail are kept, and memory stays bounded."""

    def test_binary_output_is_returned_byte_for_byte(self, place: Place) -> None:
        place.enqueue("--id", "j", "head -c 100000 /dev/urandom | tee bytes")
        place.run("worker", "start", "--drain")
        done = place.invoke("logs", "j", "--raw")
        assert done.stdout == (place.work / "bytes").read_bytes()

    def test_endless_output_keeps_head_and_tail_and_counts_the_middle(self, place: Place) -> None:
        place.enqueue(
            "--id",
            "j",
            "--timeout",
            "1s",
            "--kill-grace",
            "100ms",
            "--retries",
            "0",
            "--output-limit",
            "64KiB",
            "yes",
        )
        worker = place.start_worker()
        before = _rss(worker.pid) + _rss(place.agent_pid(worker))
        job = place.until("j", "dead", within=10)
        grown = _rss(worker.pid) + _rss(place.agent_pid(worker)) - before
        shown = place.json("logs", "j")
        kept = sum(len(piece.get("text", "")) for piece in shown["pieces"])
        assert job.history[0].output_bytes == shown["bytes"] > 10**7
        assert kept == 64 * 1024
        assert grown < 32 * 1024**2, grown

    def test_following_prints_the_output_live_and_ends_with_the_job(self, place: Place) -> None:
        place.start_worker()
        shown = place.run(
            "enqueue",
            "--follow",
            "for i in 1 2 3; do echo line $i; sleep 0.2; done; exit 7",
            "--retries",
            "0",
            code=7,
        )
        assert shown.splitlines()[1:] == ["line 1", "line 2", "line 3"]


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fill(pipe: int) -> None:
    """Write to a pipe until it takes no more: the next writer waits for a reader."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while os.write(pipe, bytes(4096)):
            pass
    os.set_blocking(pipe, True)


class TestEndOfLeasesAndWorkers:
    """Commands and results at the end of leases, agents and workers."""

    def test_a_command_that_ignores_term_does_not_outlive_its_lease(self, place: Place) -> None:
        place.quick()
        place.enqueue("--id", "j", "trap '' TERM; echo $$ >> pids; while :; do sleep 0.05; done")
        frozen = place.start_worker()
        pids = place.work / "pids"
        first = int(str(eventually(lambda: pids.exists() and pids.read_text().split())[0]))  # type: ignore[index]
        os.kill(place.agent_pid(frozen), signal.SIGSTOP)
        place.start_worker()
        eventually(lambda: len(pids.read_text().split()) == 2, within=15, what="a second attempt")
        assert not alive(first)

    @pytest.mark.parametrize("kind", ["sqlite"])  # of a server, other hosts may have the job by then
    @pytest.mark.waits
    def test_a_stopped_worker_keeps_commands_that_run_on_this_host(self, place: Place) -> None:
        place.quick()
        enqueue_ticking(place, "j", 75)
        worker = place.start_worker()
        begun(place, "j")
        place.start_worker()
        agent = place.agent_pid(worker)
        for pid in (worker.pid, agent):
            os.kill(pid, signal.SIGSTOP)
        before = tick(place, "j").read_text().count("tick")
        eventually(
            lambda: tick(place, "j").read_text().count("tick") > before + 30, what="two leases in ticks"
        )
        for pid in (agent, worker.pid):
            os.kill(pid, signal.SIGCONT)
        job = place.until("j", "completed", within=20)
        assert (job.attempts, job.losses, len(_starts(place, "j"))) == (1, 0, 1)

    @pytest.mark.parametrize("kind", ["postgres", "mongodb", "redis", "archived"])
    def test_a_worker_stopped_beyond_its_lease_ends_its_commands(self, place: Place) -> None:
        place.quick()
        forever = "while :; do echo tick >> j.ticks; sleep 0.1; done"
        script = f'echo "start $QUEUECTL_ATTEMPT_ID $$" >> j.ticks; [ $QUEUECTL_ATTEMPT -gt 1 ] || {forever}'
        place.enqueue("--id", "j", script)
        worker = place.start_worker()
        pid = begun(place, "j")
        place.start_worker()
        agent = place.agent_pid(worker)
        for stopped in (worker.pid, agent):
            os.kill(stopped, signal.SIGSTOP)
        before = tick(place, "j").read_text().count("tick")
        eventually(
            lambda: tick(place, "j").read_text().count("tick") > before + 30, what="two leases in ticks"
        )
        assert len(_starts(place, "j")) == 1, "what lives on this host is not started here once more"
        worker.signal(signal.SIGCONT)
        eventually(lambda: not alive(pid), within=3, what="the command ended")
        os.kill(agent, signal.SIGCONT)
        job = place.until("j", "completed", within=20)
        assert [past.outcome for past in job.history] == ["lost", "exited"]

    def test_a_new_agent_of_a_draining_worker_gives_back_waiting_jobs(self, place: Place) -> None:
        place.run("enqueue", "-", input="true\n" * 1500)
        worker = place.start_worker("--count", "2")
        eventually(lambda: place.store.counts(Filter()).of("completed") > 100)
        os.kill(place.agent_pid(worker), signal.SIGKILL)
        worker.signal(signal.SIGTERM)
        assert worker.wait(within=20) == 0
        assert place.store.counts(Filter()).of("processing") == 0
        jobs = place.store.find(Filter(), Page(limit=2000)).jobs
        assert {(job.state, job.attempts) for job in jobs} <= {("completed", 1), ("pending", 0)}

    def test_a_reader_of_the_log_that_stalls_does_not_stop_the_worker(self, place: Place) -> None:
        place.run("enqueue", "-", input="true\n" * 50)
        reader, writer = os.pipe()
        fill(writer)
        try:
            worker = place.start_worker("--count", "2", "--drain", stdout=writer)
            place.until_all_ended(within=40)
            assert worker.wait(within=20) == 0
        finally:
            os.close(reader)
            os.close(writer)

    def test_idle_workers_do_not_wake_each_other(self, place: Place) -> None:
        place.run("config", "set", "heartbeat_interval", "500ms")
        workers = [place.start_worker(), place.start_worker()]
        beats: dict[str, set[object]] = {worker.id: set() for worker in workers}

        def four_beats() -> bool:
            for entry in place.store.workers():
                beats[entry.id].add(entry.heartbeat)
            return len(beats[workers[0].id]) >= 5

        eventually(four_beats, within=15)
        assert len(beats[workers[1].id]) <= 7

    def test_output_without_a_live_agent_is_kept_up_to_the_limit_of_the_job(self, place: Place) -> None:
        script = "touch up; until [ -e go ]; do sleep 0.02; done; head -c 6000000 /dev/zero; touch done"
        place.enqueue("--id", "j", "--output-limit", "20MiB", script)
        worker = place.start_worker()
        eventually(lambda: (place.work / "up").exists())
        agent = place.agent_pid(worker)
        os.kill(agent, signal.SIGSTOP)
        (place.work / "go").touch()
        eventually(lambda: (place.work / "done").exists())
        eventually(lambda: not _commands(place))
        os.kill(agent, signal.SIGKILL)
        place.until("j", "completed")
        assert len(place.output("j")) == 6_000_000
