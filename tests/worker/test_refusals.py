"""Commands that cannot start: a fault of the job is a result with a message, a fault of the host is reported as
trouble."""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from holders import Agent, Worker

BOTH_LINES = "#!/bin/cat\nsecond line\n"


def refused(agent: Agent, command: str | None = None, **order: object) -> str:
    ended, _ = agent.run(command, **order)  # type: ignore[arg-type]
    assert (ended["kind"], ended["exit_code"], ended["pid"]) == ("spawn_error", None, None)
    return str(ended["error"])


def test_a_missing_directory_is_reported(agent: Agent) -> None:
    why = refused(agent, "true", cwd="/nowhere/at/all")
    assert why == "the working directory '/nowhere/at/all' does not exist"


def test_a_directory_that_is_a_file_is_reported(agent: Agent) -> None:
    why = refused(agent, "true", cwd="/etc/passwd")
    assert why == "the working directory '/etc/passwd' is not a directory"


@pytest.mark.parametrize("argv", [["no-such-program"], ["/no/such/program"]])
def test_a_missing_program_is_reported(agent: Agent, argv: list[str]) -> None:
    assert refused(agent, argv=argv).startswith(f"{argv[0]}: not found")


def test_a_missing_shell_is_reported(agent: Agent) -> None:
    assert refused(agent, "true", shell="/bin/no-such-shell").startswith("/bin/no-such-shell: not found")


def test_a_file_that_is_not_executable_is_reported(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    assert refused(agent, argv=["tool"], env={"PATH": str(tmp_path)}) == "tool: not executable"


def test_a_file_that_is_not_a_program_is_reported(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("just text\n")
    (tmp_path / "tool").chmod(0o755)
    assert "exec format error" in refused(agent, argv=[str(tmp_path / "tool")])


def test_an_argument_that_is_too_long_is_reported(agent: Agent) -> None:
    assert "too long" in refused(agent, argv=["echo", "x" * 200_000])


@pytest.mark.parametrize("order", [{"env": {"A=B": "c"}}, {"env": {"A": "\0"}}, {"argv": ["echo", "\0"]}])
def test_values_that_no_program_can_receive_are_reported(agent: Agent, order: dict[str, object]) -> None:
    assert refused(agent, "true", **order).startswith("cannot be passed to a program: ")


@pytest.mark.parametrize(
    ("shell", "why"),
    [("  ", "the shell is empty"), ("'unclosed", "cannot be passed to a program: No closing quotation")],
)
def test_an_unusable_shell_is_reported(agent: Agent, shell: str, why: str) -> None:
    assert refused(agent, "true", shell=shell) == why


def test_a_refused_command_leaves_no_slot_and_no_descriptor_in_use(worker: Worker) -> None:
    before = len(os.listdir(f"/proc/{worker.pid}/fd"))
    for _ in range(10):
        refused(worker.agent, "true", cwd="/nowhere", stdin=b"x")
        refused(worker.agent, argv=["no-such-program"])
    assert worker.agent.run("echo on")[1] == b"on\n"
    assert len(os.listdir(f"/proc/{worker.pid}/fd")) == before


def test_a_shell_is_searched_in_the_path_of_the_job(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "mysh").symlink_to("/bin/echo")
    _, output = agent.run("hello", shell="mysh -n -e", env={"PATH": str(tmp_path)})
    assert output == b"-e -c hello" or output == b"-c hello"


def test_a_program_is_searched_in_the_path_and_directory_of_the_job(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").symlink_to("/bin/echo")
    _, output = agent.run(None, argv=["tool", "a b", "*"], env={"PATH": "bin"}, cwd=str(tmp_path))
    assert output == b"a b *\n"


def test_a_command_of_one_mebibyte_runs_from_a_temporary_private_file(worker: Worker) -> None:
    command = "stat -c %a $0\n: " + "x" * (1 << 20) + "\necho end"
    _, output = worker.agent.run(command)
    assert output == b"700\nend\n"
    assert sorted(path.name for path in worker.directory.iterdir()) == [
        f"{worker.id}.progress",
        worker.slots_file.name,
    ]


def test_a_command_with_an_interpreter_line_runs_in_this_interpreter(agent: Agent) -> None:
    assert agent.run(BOTH_LINES)[1] == BOTH_LINES.encode()
    assert agent.run("#!/usr/bin/env -S printf %s\\n\n")[1].endswith(b".script\n")


def test_a_long_command_without_interpreter_line_runs_in_its_shell(agent: Agent) -> None:
    _, output = agent.run("echo ${BASH_VERSION:+bash} #" + "x" * 70_000, shell="/bin/bash")
    assert output == b"bash\n"


def test_a_lack_of_descriptors_is_reported_as_a_fault_of_the_host(new_worker: Callable[..., Worker]) -> None:
    worker = new_worker(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (22, 22)), count=10)
    ids = [worker.agent.start("sleep 60") for _ in range(10)]
    trouble, _ = worker.agent.expect("trouble")
    assert trouble["errno"] == errno.EMFILE
    assert trouble["attempt_id"] in ids
    assert worker.agent.of("exited") == []
    # The attempt is forgotten, so the same claim can be tried again here later.
    running = worker.agent.started(ids[0])
    worker.agent.send("kill", attempt_id=running["attempt_id"], reason="cancelled")
    worker.agent.exited(ids[0])
    worker.agent.start("true", attempt_id=trouble["attempt_id"], job_id="again")
    assert worker.agent.exited(trouble["attempt_id"])["exit_code"] == 0


def test_an_invalid_message_ends_the_agent_and_not_the_holder(worker: Worker) -> None:
    attempt_id = worker.agent.start("sleep 60")
    worker.agent.started(attempt_id)
    worker.agent.send("start", nonsense=True)
    worker.agent.hung_up()
    welcome = worker.next_agent(greet=False).hello()
    assert [a["attempt_id"] for a in welcome["attempts"]] == [attempt_id]


def test_unknown_messages_and_fields_of_a_newer_agent_are_ignored(agent: Agent) -> None:
    agent.send("from-the-future", x=1)
    assert agent.run("echo on", from_the_future=2)[1] == b"on\n"
