"""Commands report their progress on the worker's pipe. Whatever they write, it never becomes an error of the job."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from holders import SOURCES, Agent, Worker

from facts import eventually
from queuectl.worker import progress_line
from queuectl.worker.progress_line import LONGEST_LINE, ProgressLine

SAY = 'echo "$QUEUECTL_ATTEMPT_ID progress %s" > "$QUEUECTL_PIPE"'
UNTIL_TOLD = "; while [ ! -e go ]; do sleep 0.02; done"
FROM_PYTHON = """
import os
line = f"{os.environ['QUEUECTL_ATTEMPT_ID']} progress 40 from Python\\n"
with open(os.environ["QUEUECTL_PIPE"], "w") as pipe:
    pipe.write(line)
"""


def pipe_of(worker: Worker) -> Path:
    return worker.directory / f"{worker.id}.progress"


def reported(agent: Agent, attempt_id: str) -> list[tuple[float, str | None]]:
    return [(m["percent"], m["message"]) for m, _ in agent.of("progress", attempt_id)]


def last(agent: Agent, command: str, **order: object) -> tuple[float, str | None] | None:
    """The progress in the result of a command that succeeds."""
    ended, output = agent.run(command, env={"PYTHONPATH": str(SOURCES), "HOME": "/nowhere"}, **order)
    assert ended["exit_code"] == 0, output
    return ended["progress"] and (ended["progress"]["percent"], ended["progress"]["message"])


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (SAY % "40 half of it", (40, "half of it")),
        (f"({SAY % '40'}) & wait", (40, None)),
        ("sh report", (7, None)),
        (f"{sys.executable} report.py", (40, "from Python")),
        (f"{sys.executable} -m queuectl progress 33.5 'page 1\n of 3 '", (33.5, "page 1  of 3")),
        (f"{SAY % '99'}; {SAY % '101'}; {SAY % 'many'}; {SAY % '-1'}; {SAY % 'nan'}; {SAY % ''}", (99, None)),
        (SAY % ("1 " + "x" * 201), None),
        (SAY % ("1 " + "é" * 200), (1, "é" * 200)),
        (SAY % "100 Größe 漢字 😀", (100, "Größe 漢字 😀")),
        ("printf '%s progress 5 a\\033[1m\\tb\\377\\n' $QUEUECTL_ATTEMPT_ID > $QUEUECTL_PIPE", (5, "a [1m b\ufffd")),
        ("echo other progress 40 > $QUEUECTL_PIPE; echo $QUEUECTL_ATTEMPT_ID 40 > $QUEUECTL_PIPE", None),
        ("head -c 100000 /dev/zero > $QUEUECTL_PIPE", None),
        (f"echo > $QUEUECTL_PIPE; {SAY % '3'}", (3, None)),
    ],
    ids=range(13),
)  # fmt: skip
def test_the_last_valid_progress_is_in_the_result(
    agent: Agent, tmp_path: Path, command: str, expected: tuple[float, str | None] | None
) -> None:
    (tmp_path / "report").write_text(f"( ({SAY % '7'}) & wait )")
    (tmp_path / "report.py").write_text(FROM_PYTHON)
    assert last(agent, command, cwd=str(tmp_path)) == expected


def test_the_pipe_is_private_and_there_is_one_for_all_jobs(worker: Worker, tmp_path: Path) -> None:
    mode = pipe_of(worker).stat().st_mode
    assert stat.S_ISFIFO(mode)
    assert stat.S_IMODE(mode) == 0o600
    before = sorted(worker.directory.iterdir())
    attempt_ids = [worker.agent.start(SAY % "1" + UNTIL_TOLD, cwd=str(tmp_path)) for _ in range(2)]
    for attempt_id in attempt_ids:
        worker.agent.expect("progress", attempt_id)
    assert sorted(worker.directory.iterdir()) == before
    (tmp_path / "go").touch()
    worker.agent.ack(*(attempt_id for attempt_id in attempt_ids if worker.agent.exited(attempt_id)))
    worker.signal(signal.SIGTERM)
    worker.agent.expect("bye")
    worker.agent.close()
    assert worker.exit_status() == 0
    assert not pipe_of(worker).exists()


def test_a_running_command_is_reported_and_the_next_agent_hears_it(worker: Worker, tmp_path: Path) -> None:
    attempt_id = worker.agent.start(SAY % "40 first" + UNTIL_TOLD, cwd=str(tmp_path))
    worker.agent.expect("progress", attempt_id)
    assert reported(worker.agent, attempt_id) == [(40, "first")]
    worker.agent.die()
    follower = worker.next_agent()
    follower.expect("progress", attempt_id)
    assert reported(follower, attempt_id) == [(40, "first")]
    with pipe_of(worker).open("w") as pipe:
        pipe.write(f"{attempt_id} progress 41\n")
    follower.wait(lambda: (41, None) in reported(follower, attempt_id))
    (tmp_path / "go").touch()
    assert follower.exited(attempt_id)["progress"]["percent"] == 41


def test_progress_after_the_end_and_of_other_attempts_is_ignored(worker: Worker, tmp_path: Path) -> None:
    agent = worker.agent
    ended, other = agent.start("true"), agent.start("true" + UNTIL_TOLD, cwd=str(tmp_path))
    agent.exited(ended)
    with pipe_of(worker).open("w") as pipe:
        pipe.write(f"{ended} progress 40\nnobody progress 50\n{other} progress 60\n")
    agent.expect("progress", other)
    assert not reported(agent, ended)
    assert not reported(agent, "nobody")
    (tmp_path / "go").touch()
    agent.exited(other)


def test_a_line_that_is_read_at_the_end_of_another_attempt_is_sent(worker: Worker, tmp_path: Path) -> None:
    agent = worker.agent
    running = agent.start(SAY % "1" + UNTIL_TOLD, cwd=str(tmp_path))
    agent.expect("progress", running)
    agent.run(f"echo {running} progress 2 > $QUEUECTL_PIPE")
    agent.wait(lambda: (2, None) in reported(agent, running))
    (tmp_path / "go").touch()
    assert agent.exited(running)["progress"]["percent"] == 2


def test_a_thousand_lines_a_second_are_few_messages_and_the_last_value_is_kept(agent: Agent) -> None:
    count = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); "
    command = count + SAY % "$((i % 100)) line $i" + "; done; " + SAY % "100 end"
    ended, _ = agent.run(command)
    lasted = ended["finished_at"] - ended["started_at"]
    messages = reported(agent, ended["attempt_id"])
    assert 0 < len(messages) <= lasted / 0.2 + 2
    assert ended["progress"]["message"] == "end"


def test_a_full_pipe_drops(worker: Worker, tmp_path: Path) -> None:
    attempt_id = worker.agent.start("sleep 60")
    worker.agent.started(attempt_id)
    worker.signal(signal.SIGSTOP)
    pipe = os.open(pipe_of(worker), os.O_WRONLY | os.O_NONBLOCK)
    for size in (1000, 1):
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pipe, b"\n" * size)
    done = progress_command(pipe_of(worker), attempt_id, "40")
    assert (done.returncode, done.stdout) == (0, "")
    assert "the progress is dropped: the pipe of the worker cannot take it" in done.stderr
    worker.signal(signal.SIGCONT)

    def taken() -> bool:
        return "dropped" not in progress_command(pipe_of(worker), attempt_id, "41").stderr

    eventually(taken)
    worker.agent.expect("progress", attempt_id)
    assert reported(worker.agent, attempt_id)[-1] == (41, None)
    worker.agent.send("kill", attempt_id=attempt_id, reason="cancelled")
    worker.agent.exited(attempt_id)


def progress_command(
    pipe: Path | None, attempt_id: str | None, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run `queuectl progress` in the environment of a job."""
    given = {"QUEUECTL_PIPE": pipe, "QUEUECTL_ATTEMPT_ID": attempt_id}
    env = {**os.environ, "PYTHONPATH": str(SOURCES), **{k: str(v) for k, v in given.items() if v is not None}}
    argv = [sys.executable, "-m", "queuectl", "progress", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_without_the_pipe_the_command_says_so_and_succeeds(worker: Worker, tmp_path: Path) -> None:
    pipe = pipe_of(worker)
    pipe.unlink()
    done = progress_command(pipe, "a", "40")
    assert (done.returncode, "cannot be opened: No such file" in done.stderr) == (0, True)
    ended, _ = worker.agent.run(SAY % "40 into a plain file")
    assert (ended["exit_code"], ended["progress"]) == (0, None)
    assert "replaced by a file" in progress_command(pipe, "a", "40").stderr
    assert "not the command of a job" in progress_command(None, None, "40").stderr


def test_the_command_says_why_a_progress_is_dropped(worker: Worker) -> None:
    pipe = pipe_of(worker)
    for words, why in ((("101",), "not a number from 0 to 100"), (("1", "x" * 201), "longer than 200")):
        done = progress_command(pipe, "a", *words)
        assert (done.returncode, why in done.stderr) == (0, True)
    assert progress_command(pipe, "a", "1", "-q").stderr == ""
    assert progress_command(pipe, "a", "1", "--json").stdout == '{"schema":1,"sent":true}\n'
    assert progress_command(pipe, "a", "x", "--json").stdout == '{"schema":1,"sent":false}\n'


def test_a_killed_worker_leaves_its_pipe_and_the_next_one_deletes_it(
    new_worker: Callable[..., Worker],
) -> None:
    worker = new_worker()
    worker.process.kill()
    worker.process.wait()
    assert pipe_of(worker).exists()
    worker.clean_up()
    assert not pipe_of(worker).exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"a progress 40", ProgressLine("a", 40, None)),
        (b"a progress 40.50 half\tof it ", ProgressLine("a", 40.5, "half of it")),
        (b"a  progress  100.0", ProgressLine("a", 100, None)),
        ("a progress 0 x\u2028y".encode(), ProgressLine("a", 0, "x y")),
        (b"a progress 40%", None),
        (b"a progress 1e1", None),
        (b"a progress \xc2\xb2", None),
        (b"a progress 100.1", None),
        (b"a Progress 1", None),
        (b"a progress", None),
        (b"", None),
        (b"a progress 1 " + b"x" * LONGEST_LINE, None),
    ],
)
def test_lines(line: bytes, expected: ProgressLine | None) -> None:
    assert progress_line.read(line) == expected
