"""What the type checker of a user finds in a program that imports `queuectl`."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio
from datetime import timedelta
from queuectl import Added, AsyncQueue, Change, Job, Output, Part, Queue, Setting, Status, Worker

async def main() -> None:
    async with AsyncQueue() as queue:
        job: Job = await queue.enqueue("make report", queue="reports", timeout=timedelta(minutes=5), after=["a"])
        one: Job = await queue.wait(job, timeout=600)
        two: list[Job] = await queue.wait([job, "b"])
        changes: list[Change] = await queue.cancel(await queue.list(state="pending"), reason="wrong")
        cancelled: Job = await queue.cancel(job)
        output: Output = await queue.output(job)
        status: Status = await queue.status()
        setting: Setting = await queue.set("timeout", "5m")
        workers: list[Worker] = await queue.stop(now=True)
        part: Part
        async for part in queue.follow(job):
            print(part.data)
        added: Added
        async for added in queue.enqueue_many([["ls", "-l"], {"command": "true"}]):
            print(added.job.id)
        reveal_type(await queue.enqueue("true"))
        reveal_type(await queue.wait([1]))

with Queue() as queue:
    reveal_type(queue.wait(1))
    reveal_type(queue.delete(["a"]))
asyncio.run(main())
"""
MISTAKES = """
from queuectl import AsyncQueue

async def main(queue: AsyncQueue) -> None:
    await queue.enqueue("true", qeue="reports")
    await queue.enqueue(7)
    number: int = await queue.enqueue("true")
    await queue.cancel(3.5)
"""

CACHE = Path(__file__).parents[2] / ".mypy_cache" / "of-users"
"""Kept between runs, because most of the time goes into the modules that a program imports."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says about both programs."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "mistakes.py").write_text(MISTAKES)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(CACHE),
        "program.py",
        "mistakes.py",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_program_has_the_types(said: list[str]) -> None:
    assert not [line for line in said if line.startswith("program.py") and "error" in line]
    revealed = [line.partition('type is "')[2] for line in said if "Revealed type" in line]
    job, change = "queuectl.python.values.Job", "queuectl.python.values.Change"
    assert revealed == [f'{job}"', f'list[{job}]"', f'{job}"', f'list[{change}]"']


def test_a_mistake_is_found(said: list[str]) -> None:
    wrong = [line.partition(": error")[0] for line in said if "error:" in line]
    assert wrong == [f"mistakes.py:{line}" for line in (5, 6, 7, 8)]
