"""A search finds all processes, also one that starts during the search and one that is changing its
program."""

import io
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from queuectl.worker.holder.attempt import Attempt
from queuectl.worker.holder.kill_ladder import KillLadder, Snapshot
from queuectl.worker.holder.leftovers import EXEC_PATIENCE, Leftovers
from queuectl.worker.host import process_table
from queuectl.worker.host.process_table import Process
from queuectl.worker.protocol import Start

ORPHAN = Process(pid=900, state="S", ppid=os.getpid(), pgid=900, sid=900, start=5000)

kernel_look, open_to_read = process_table.look, process_table._open_to_read


class Scene(Snapshot):
    """Processes as a test wants them."""

    def __init__(self, *processes: Process) -> None:
        super().__init__()
        self._processes = list(processes)
        for process in processes:
            self._children.setdefault(process.ppid, []).append(process)


class Chain:
    """A process that starts a child and ends as soon as it is read; its child does the same, `links` times."""

    def __init__(self, links: int) -> None:
        program = 'read x; [ "$1" = 0 ] && exec sleep 60; { sh -c "$0" "$0" $(($1 - 1)) <&3 & } 3<&0; echo $!'
        (stdin, self._stdin), (self._stdout, stdout) = os.pipe(), os.pipe()
        command = ["sh", "-c", program, program, str(links)]
        self._process = subprocess.Popen(command, stdin=stdin, stdout=stdout, start_new_session=True)
        os.close(stdin), os.close(stdout)
        self._links = links
        self.newest = self._process.pid

    def look(self, pid: int) -> Process | None:
        if pid == self.newest and self._links:
            self._go_on(pid)
        return kernel_look(pid)

    def _go_on(self, pid: int) -> None:
        self._links -= 1
        os.write(self._stdin, b"\n")
        self.newest = int(os.read(self._stdout, 100))
        while (process := kernel_look(pid)) and process.state != "Z":
            process_table.await_exits([process], 5)

    def close(self) -> None:
        process_table.signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._stdin), os.close(self._stdout)


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Chain]]:
    chains: list[Chain] = []

    def new(links: int) -> Chain:
        chains.append(Chain(links))
        monkeypatch.setattr(process_table, "look", chains[-1].look)
        return chains[-1]

    yield new
    for each in chains:
        each.close()


@pytest.mark.parametrize("links", [1, 5])
def test_a_process_that_replaces_another_during_the_search_is_found(
    chain: Callable[[int], Chain], links: int
) -> None:
    loop = chain(links)
    first = loop.newest
    found = {process.pid for process in process_table.processes()}
    assert loop.newest != first
    assert loop.newest in found
    assert first not in found


@pytest.mark.parametrize("links", [1, 5])
def test_a_leftover_is_found_although_it_is_replaced_meanwhile(
    chain: Callable[[int], Chain], monkeypatch: pytest.MonkeyPatch, links: int
) -> None:
    monkeypatch.setattr(
        process_table,
        "_open_to_read",
        lambda path: None if path.endswith("/children") else open_to_read(path),
    )
    loop = chain(links)
    found = process_table.Offspring().since(loop.newest - 1, age=0.0, known=())
    assert loop.newest in {process.pid for process in found or ()}


def test_an_undecided_orphan_keeps_the_kill_ladder_running() -> None:
    ladder = KillLadder(800, grace=0.0, now=0.0)
    for now in (0.0, 1.0, 2.0):
        ladder.step(now, Scene(), set(), leader_alive=False, undecided=True)
    ladder.step(3.0, Scene(), set(), leader_alive=False)
    assert not ladder.done
    ladder.step(4.0, Scene(), set(), leader_alive=False)
    assert ladder.done


def attempt(name: str, pid: int, born: float) -> Attempt:
    made = Attempt(Start(name, "job", 1, "default", 1.0, 1000))
    made.started(0, pid, born, 0.0)
    return made


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> tuple[Leftovers, Attempt]:
    """The orphans of two attempts that ran when ORPHAN was born, and one of the attempts."""
    ours, other = attempt("ours", 700, 1.0), attempt("other", 701, 1.0)
    monkeypatch.setattr(process_table, "marker", lambda _pid: None)
    return Leftovers((), (), (ours, other)), ours


def test_an_orphan_is_undecided_while_it_changes_its_program(
    two: tuple[Leftovers, Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_orphans, ours = two
    monkeypatch.setattr(process_table, "is_between_programs", lambda pid: pid == ORPHAN.pid)
    assert all_orphans.of(ours, Scene(ORPHAN), 60.0) == (set(), True)
    monkeypatch.setattr(process_table, "marker", lambda _pid: "ours")
    assert all_orphans.of(ours, Scene(ORPHAN), 60.1) == ({ORPHAN.pid}, False)


def test_an_orphan_that_stays_undecided_belongs_to_no_command(
    two: tuple[Leftovers, Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_orphans, ours = two
    monkeypatch.setattr(process_table, "is_between_programs", lambda pid: pid == ORPHAN.pid)
    assert all_orphans.of(ours, Scene(ORPHAN), 60.0).undecided
    assert all_orphans.of(ours, Scene(ORPHAN), 60.0 + EXEC_PATIENCE) == (set(), False)


def test_an_empty_environment_is_distinguished_from_an_ended_process() -> None:
    command = ["env", "-i", "/bin/sh", "-c", "echo; read x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as scrubbed:
        (process,) = filter(None, [process_table.look(scrubbed.pid)])
        assert scrubbed.stdout is not None
        scrubbed.stdout.readline()
        assert not process_table.is_between_programs(scrubbed.pid)
        process_table.signal_process(process, signal.SIGKILL)
        process_table.await_exits([process], 5)
        assert process_table.is_between_programs(scrubbed.pid)


@pytest.mark.parametrize(("threads", "state"), [(0, "Z"), (1, "Z"), (2, "S")])
def test_a_zombie_counts_as_alive_only_with_further_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, state: str
) -> None:
    """A process that its parent has just waited for has no threads."""
    line = b"7 (sh) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 %d 0 5000 0" % threads
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.BytesIO(line))
    process = process_table.look(7)
    monkeypatch.undo()
    assert process == Process(7, state, 1, 7, 7, 5000)
