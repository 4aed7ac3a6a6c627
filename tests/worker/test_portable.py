"""Without a list of processes, the process group is still ended, and the worker reports what it cannot do."""

import subprocess
from pathlib import Path

import pytest
from holders import IGNORE_TERM, all_dead, pids_in

from facts import eventually
from queuectl.clock import boottime
from queuectl.worker.holder.kill_ladder import KillLadder, Snapshot
from queuectl.worker.host import process_table
from queuectl.worker.host.cleanup import kill
from queuectl.worker.host.slot_file import RUNNING, Record


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without /proc."""
    monkeypatch.setattr(process_table, "LINUX", False)
    monkeypatch.setattr(process_table, "processes", list)


def group(tmp_path: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A leader that goes at TERM, and a child that does not."""
    command = f'sh -c "{IGNORE_TERM}" > {tmp_path}/pid & wait'
    leader = subprocess.Popen(["sh", "-c", command], start_new_session=True)
    return leader, pids_in(tmp_path / "pid")


@pytest.mark.usefixtures("elsewhere")
def test_a_ladder_ends_the_group(tmp_path: Path) -> None:
    leader, pids = group(tmp_path)
    ladder = KillLadder(leader.pid, grace=0.2, now=boottime())
    start = boottime()

    def done() -> bool:
        ladder.step(boottime(), Snapshot(), set(), leader_alive=leader.poll() is None)
        return ladder.done

    eventually(done, within=3)
    assert boottime() - start >= 0.2
    assert ladder.unkillable == []
    all_dead(pids, within=0.2)


@pytest.mark.usefixtures("elsewhere")
def test_a_guard_ends_the_groups_in_the_table_at_once(tmp_path: Path) -> None:
    leader, pids = group(tmp_path)
    record = Record(RUNNING, 0, leader.pid, 0, 0, "a" * 32)
    assert kill([record], within=1.0) == [], "later, a pid alone is no proof"
    assert leader.poll() is None
    kill([record], within=1.0, at_once=True)
    assert leader.wait(2) == -9
    all_dead(pids)


@pytest.mark.usefixtures("elsewhere")
def test_the_missing_feature_is_reported() -> None:
    (sentence,) = process_table.missing()
    assert "setsid" in sentence


def test_no_feature_is_missing_on_linux() -> None:
    assert process_table.missing() == []


def test_a_process_that_no_signal_ends_is_given_up_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in state D cannot be created on demand, so the test drops the signals."""
    monkeypatch.setattr(process_table, "signal_group", lambda *_: None)
    monkeypatch.setattr(process_table, "signal_process", lambda *_: None)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        now = boottime()
        ladder, snapshot = KillLadder(process.pid, grace=1.0, now=now), Snapshot()
        while not ladder.done:
            ladder.step(now, snapshot, set(), leader_alive=True)
            assert ladder.next_at > now or ladder.done
            now = ladder.next_at
        assert ladder.unkillable == [process.pid]
        process.kill()


class Scripted(Snapshot):
    """A snapshot of given processes."""

    def __init__(self, *members: process_table.Process) -> None:
        super().__init__()
        self._processes = list(members)


def test_one_empty_search_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that starts while /proc is read may be missing in this reading; the next one shows it."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(
        process_table, "signal_process", lambda process, number: killed.append((process.pid, number))
    )
    escapee = process_table.Process(900, "S", 1, 900, 900, 1)
    ladder = KillLadder(800, grace=0.0, now=0.0)
    for view in (Scripted(), Scripted(escapee), Scripted(), Scripted()):
        assert not ladder.done
        ladder.step(ladder.next_at, view, {900}, leader_alive=False)
    assert killed == [(900, 9)]
    assert ladder.done
