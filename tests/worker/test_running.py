"""Commands run, and their ends are reported as the kernel returns them."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from holders import Agent, Worker, pids_in

from facts import TooSlow
from queuectl.worker.holder import attempt


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 128, 137, 255])
def test_exit_codes_are_reported_unchanged(agent: Agent, code: int) -> None:
    ended, _ = agent.run(f"exit {code}")
    assert (ended["kind"], ended["exit_code"], ended["signal"]) == ("exited", code, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE])
def test_an_end_by_a_signal_has_no_exit_code(agent: Agent, number: int) -> None:
    ended, _ = agent.run(f"kill -{int(number)} $$")
    assert (ended["kind"], ended["exit_code"], ended["signal"]) == ("signalled", None, number)
    assert (ended["core"], ended["ended_by"]) == (False, None)


def test_a_core_dump_is_reported(agent: Agent, tmp_path: Path) -> None:
    ended, _ = agent.run("ulimit -c unlimited; kill -ABRT $$", cwd=str(tmp_path))
    piped = Path("/proc/sys/kernel/core_pattern").read_text().startswith("|")
    assert ended["signal"] == signal.SIGABRT
    assert ended["core"] == (piped or any(tmp_path.glob("*core*")))


def test_the_result_contains_times_cpu_usage_pid_and_slot(agent: Agent) -> None:
    attempt_id = agent.start("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done")
    started, ended = agent.started(attempt_id), agent.exited(attempt_id)
    assert ended["pid"] == started["pid"]
    assert ended["slot"] == started["slot"] == 0
    assert started["at"] == ended["started_at"] <= ended["finished_at"]
    assert ended["user_cpu"] + ended["system_cpu"] > 0
    assert (ended["output_bytes"], ended["leftovers"]) == (5, 0)


@pytest.mark.parametrize("jump", [30 * 86400, -30 * 86400])
def test_a_clock_change_during_a_command_does_not_change_its_run_time(
    new_worker: Callable[..., Worker], tmp_path: Path, jump: int
) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here / "jumping"), str(here.parents[1] / "src")])
    worker = new_worker(env={"PYTHONPATH": path, "QUEUECTL_TEST_AHEAD": str(tmp_path / "ahead")})
    attempt_id = worker.agent.start(f"while [ ! -e {tmp_path}/ahead ]; do sleep 0.02; done; sleep 0.2")
    worker.agent.started(attempt_id)
    (tmp_path / "new").write_text(str(jump))
    (tmp_path / "new").rename(tmp_path / "ahead")
    ended = worker.agent.exited(attempt_id)
    assert 0.2 <= ended["finished_at"] - ended["started_at"] < 5


def test_the_peak_memory_is_that_of_the_command_or_unknown(agent: Agent) -> None:
    """A process starts with the memory of its parent: for a small command, the kernel reports the memory of the
    holder."""
    small, _ = agent.run("true")
    assert small["max_rss"] is None
    large, _ = agent.run("head -c 80000000 /dev/zero | tail | wc -c")
    assert 80_000_000 < large["max_rss"] < 100_000_000


def test_the_peak_memory_of_the_holder_is_not_read_for_each_command(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = list[int]()
    monkeypatch.setattr(attempt, "_own_peak", [0])
    monkeypatch.setattr(attempt.process_table, "peak_memory", lambda: reads.append(1) or 20 << 20)
    usage = list(resource.getrusage(resource.RUSAGE_SELF))
    usage[2] = (20 << 20) // attempt._RSS_UNIT
    small = resource.struct_rusage(usage)
    assert [attempt._max_rss(small) for _ in range(100)] == [None] * 100
    assert len(reads) == 1


def test_the_result_contains_the_end_of_the_output(agent: Agent) -> None:
    attempt_id = agent.start("seq 1000")
    _, last = agent.expect("exited", attempt_id)
    assert last == b"".join(b"%d\n" % n for n in range(1, 1001))[-400:]


def test_more_starts_than_slots_wait_and_take_the_lowest_free_slot(agent: Agent) -> None:
    ids = [agent.start("true") for _ in range(20)]
    assert {agent.exited(i)["slot"] for i in ids} <= {0, 1}
    starts = [agent.exited(i)["started_at"] for i in ids]
    assert starts == sorted(starts)


def test_for_a_short_command_only_the_end_is_reported(agent: Agent) -> None:
    attempt_id = agent.start("true")
    agent.exited(attempt_id)
    if [m for m, _ in agent.of("started") if m["attempt_id"] == attempt_id]:
        raise TooSlow("it was no short command, or was reported all the same")


def test_a_command_has_a_high_score_for_the_out_of_memory_killer(agent: Agent) -> None:
    _, output = agent.expect("exited", agent.start("cat /proc/self/oom_score_adj"))
    assert output == b"500\n"


def test_a_repeated_start_message_runs_the_command_once(agent: Agent, tmp_path: Path) -> None:
    order = {"attempt_id": "a" * 32, "job_id": "j"}
    for _ in range(3):
        agent.start(f"echo x >> {tmp_path}/runs", **order)
    agent.exited("a" * 32)
    agent.run("true")
    assert (tmp_path / "runs").read_text() == "x\n"


def test_the_environment_names_the_job_and_the_attempt(agent: Agent) -> None:
    _, output = agent.run(
        "env", job_id="report-7", attempt=3, queue="nightly", env={"PATH": "/usr/bin:/bin", "A": "ü"}
    )
    variables = dict(line.split("=", 1) for line in output.decode().splitlines() if "=" in line)
    assert variables["QUEUECTL_JOB_ID"] == "report-7"
    assert variables["QUEUECTL_ATTEMPT"] == "3"
    assert variables["QUEUECTL_QUEUE"] == "nightly"
    assert variables["QUEUECTL_WORKER"] == "test"
    assert variables["QUEUECTL_SLOT"] == "0"
    assert len(variables["QUEUECTL_ATTEMPT_ID"]) == 32
    assert variables["A"] == "ü"


def test_commands_that_run_at_once_have_different_slots(
    new_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = new_worker(count=3)
    command = f"echo $QUEUECTL_SLOT >> {tmp_path}/slots; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
    ids = [worker.agent.start(command) for _ in range(3)]
    assert sorted(pids_in(tmp_path / "slots", 3)) == [0, 1, 2]
    (tmp_path / "go").touch()
    for attempt_id in ids:
        worker.agent.exited(attempt_id)


def test_variables_for_tests_do_not_reach_the_command(new_worker: object) -> None:
    worker: Worker = new_worker(env={"QUEUECTL_CRASH_AT": "never", "KEPT": "1"})  # type: ignore[operator]
    _, output = worker.agent.run("env")
    assert b"QUEUECTL_CRASH_AT" not in output
    assert b"KEPT=1" in output


def test_a_command_inherits_only_the_three_standard_descriptors(worker: Worker) -> None:
    busy = worker.agent.start("sleep 60")
    worker.agent.started(busy)
    _, output = worker.agent.run("ls /proc/self/fd | sort -n | xargs")
    # ls itself has the directory open
    assert output.split() == [b"0", b"1", b"2", b"3"]
    _, where = worker.agent.run(
        "readlink /proc/self/fd/0; [ /proc/self/fd/1 -ef /proc/self/fd/2 ] && echo same"
    )
    assert where == b"/dev/null\nsame\n"


def test_an_inherited_open_descriptor_is_closed(tmp_path: Path, new_worker: object) -> None:
    forgotten = os.open(tmp_path / "forgotten", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(forgotten, True)
    worker: Worker = new_worker(keep_open=(forgotten,))  # type: ignore[operator]
    os.close(forgotten)
    targets = [os.readlink(f"/proc/{worker.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{worker.pid}/fd")]
    assert str(tmp_path / "forgotten") not in targets


def test_signals_are_neither_blocked_nor_ignored(new_worker: object) -> None:
    def as_if_under_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    worker: Worker = new_worker(preexec=as_if_under_nohup)  # type: ignore[operator]
    # Without a shell: dash clears its mask at start, which would hide ours.
    _, output = worker.agent.run(None, argv=["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
    blocked, ignored = (int(line.split()[1], 16) for line in output.splitlines())
    # 32 and 33: no program can use them, and glibc's posix_spawn ignores them.
    own_of_the_c_library = 0b11 << 31
    assert (blocked, ignored & ~own_of_the_c_library) == (0, 0)


def test_the_command_leads_its_own_session_and_group(agent: Agent) -> None:
    attempt_id = agent.start("cat /proc/$$/stat")
    ended = agent.exited(attempt_id)
    fields = agent.output(attempt_id).rsplit(b")", 1)[1].split()
    assert int(fields[2]) == int(fields[3]) == ended["pid"]


def test_the_out_of_memory_killer_prefers_the_command_to_the_holder(worker: Worker) -> None:
    attempt_id = worker.agent.start("sleep 60")
    pid = worker.agent.started(attempt_id)["pid"]
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
    own = Path(f"/proc/{worker.pid}/oom_score_adj").read_text()
    assert own == Path("/proc/self/oom_score_adj").read_text()


def test_umask_and_directory_are_those_of_the_job(worker: Worker, tmp_path: Path) -> None:
    before = os.readlink(f"/proc/{worker.pid}/cwd")
    _, output = worker.agent.run("umask; pwd; touch new; stat -c %a new", umask=0o077, cwd=str(tmp_path))
    assert output.decode().split() == ["0077", str(tmp_path), "600"]
    _, output = worker.agent.run("umask; pwd")
    assert output.decode().split() == [f"{_own_umask():04o}", before]


def _own_umask() -> int:
    value = os.umask(0o22)
    os.umask(value)
    return value


def test_stdin_is_empty_unless_given(agent: Agent) -> None:
    _, output = agent.run("cat; echo end")
    assert output == b"end\n"


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_stdin_is_passed_byte_for_byte(agent: Agent, size: int) -> None:
    data = os.urandom(size)
    _, output = agent.run("cat", stdin=data, output_limit=4_000_000)
    assert output == data


def test_a_command_that_does_not_read_its_stdin_ends_normally(agent: Agent) -> None:
    ended, output = agent.run("echo not interested", stdin=b"x" * 1_000_000)
    assert (ended["exit_code"], output) == (0, b"not interested\n")


def test_binary_output_is_exact(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(data := os.urandom(700_000))
    _, output = agent.run(f"cat {tmp_path}/data")
    assert output == data


def test_stdout_and_stderr_share_one_stream_in_order(agent: Agent) -> None:
    _, output = agent.run("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    assert output == b"".join(b"out %d\nerr %d\n" % (i, i) for i in (1, 2, 3))


def test_split_streams_are_stored_separately(agent: Agent) -> None:
    attempt_id = agent.start("echo out; echo err >&2", split=True)
    agent.exited(attempt_id)
    streams = {m["stream"]: data for m, data in agent.of("output", attempt_id)}
    assert streams == {1: b"out\n", 2: b"err\n"}


def test_many_jobs_leave_no_zombies(worker: Worker) -> None:
    ids = [worker.agent.start("(true &) ; true") for _ in range(300)]
    for attempt_id in ids:
        worker.agent.exited(attempt_id)
    worker.agent.run("true")
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    children = [s.rsplit(")", 1)[1].split() for s in stats]
    assert [c for c in children if c[0] == "Z" and int(c[1]) == worker.pid] == []


def test_a_worker_can_have_2000_slots(new_worker: Callable[..., Worker], tmp_path: Path) -> None:
    worker = new_worker(count=2000)
    command = f"echo $QUEUECTL_SLOT >> {tmp_path}/slots; while [ ! -e {tmp_path}/go ]; do sleep 0.5; done"
    ids = [worker.agent.start(command) for _ in range(100)]
    assert sorted(pids_in(tmp_path / "slots", 100)) == list(range(100))
    (tmp_path / "go").touch()
    for attempt_id in ids:
        assert worker.agent.exited(attempt_id)["exit_code"] == 0
