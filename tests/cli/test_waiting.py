"""`wait`, `enqueue --wait` and `logs -f` print why no job starts, and waiting for ten thousand jobs costs no more."""

import os
import resource
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine, OnWait, interrupt
from cli.doors import SQLITE, direct
from cli.terminals import Terminal
from facts import TooSlow, eventually
from queuectl.service import waiting
from queuectl.store.driver.notifier import Subscription
from queuectl.store.sqlite import SqliteStore


class TestNoWorker:
    @pytest.fixture(autouse=True)
    def ends_at_once(self, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
        """While a command waits, the newest job runs."""

        def run(_subscription: Subscription, _timeout: float) -> bool:
            actor.runs("a")
            return True

        monkeypatch.setattr(Subscription, "wait", run)

    SAID = "queuectl: no worker serves queue default: queuectl worker start\n"

    def test_enqueue_and_wait_reports_a_missing_worker_at_once(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--wait", "--id", "a", "x")
        assert self.SAID in queuectl.err

    @pytest.mark.parametrize("words", [("wait",), ("logs", "-f")])
    def test_wait_and_logs_report_a_missing_worker(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl(*words, "a")
        assert queuectl.err == self.SAID

    @pytest.mark.parametrize("words", [("wait",), ("logs", "-f")])
    def test_with_quiet_a_missing_worker_is_not_reported(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl(*words, "a", "-q")
        assert queuectl.err == ""

    def test_no_message_is_printed_if_a_worker_serves_the_queue(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        queuectl("enqueue", "--id", "a", "x")
        actor.enters("w1")
        queuectl("wait", "a")
        assert queuectl.err == ""

    def test_a_worker_of_other_queues_does_not_count(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "a", "-Q", "gpu", "x")
        actor.enters("w1", queues=("mail",))
        queuectl("wait", "a")
        assert queuectl.err == "queuectl: no worker serves queue gpu: queuectl worker start --queue gpu\n"

    def test_a_paused_queue_is_named(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("queue", "pause", "default")
        actor.enters("w1")
        queuectl("wait", "a")
        assert queuectl.err == "queuectl: queue default is paused: queuectl queue resume default\n"

    def test_every_hint_can_be_pasted(self, queuectl: CommandLine, actor: Actor) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("enqueue", "--id", "h", "--hold", "x")
        queuectl("queue", "pause", "default")
        store = queuectl.store()
        from queuectl.config import resolve

        found = waiting.obstacles(store, resolve({}, {}, {}, {}), [actor.job("a"), actor.job("h")])
        store.close()
        assert [text.partition(": ")[2] for text in found] == [
            "queuectl queue resume default",
            "queuectl worker start",
            "queuectl release h",
        ]
        queuectl("queue", "resume", "default")
        queuectl("release", "h")


def test_a_changed_reason_is_printed_again(
    queuectl: CommandLine, actor: Actor, monkeypatch: pytest.MonkeyPatch, on_wait: OnWait
) -> None:
    queuectl("enqueue", "--id", "a", "x")
    monkeypatch.setattr("queuectl.cli.wait.AGAIN", 0.0)
    acts: Iterator[object] = iter(
        (
            lambda: None,
            lambda: queuectl_in(queuectl, "queue", "pause", "default"),
            lambda: (actor.enters("w1"), queuectl_in(queuectl, "queue", "resume", "default")),
            lambda: actor.runs("a"),
        )
    )
    on_wait(lambda: next(acts)())  # type: ignore[operator]
    queuectl("wait", "a")
    assert queuectl.err.splitlines() == [
        "queuectl: no worker serves queue default: queuectl worker start",
        "queuectl: queue default is paused: queuectl queue resume default",
        "queuectl: nothing prevents the jobs from running any more",
    ]


def queuectl_in(queuectl: CommandLine, *words: str) -> None:
    """Another command meanwhile, in a process of its own: the output of the first is not touched."""
    assert queuectl.process(*words).returncode == 0


class TestMany:
    COUNT = 10_000

    @pytest.fixture
    def many(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "-", "--batch", "b", input="true\n" * self.COUNT)

    @direct(SQLITE)
    @pytest.mark.usefixtures("many")
    @pytest.mark.parametrize(
        "words",
        [pytest.param(("--all",), marks=pytest.mark.proof), ("--batch", "b")],
        ids=" ".join,
    )
    def test_waiting_for_many_jobs_reads_few_jobs(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
    ) -> None:
        asked: list[int] = []
        get = SqliteStore.get
        monkeypatch.setattr(SqliteStore, "get", lambda store, ids: asked.append(len(ids)) or get(store, ids))
        monkeypatch.setattr("threading.Event.wait", lambda _event, _seconds: False)
        clock = iter(range(10_000_000))
        monkeypatch.setattr("queuectl.cli.wait.boottime", lambda: float(next(clock)) / 10)
        queuectl("wait", *words, "--timeout", "2s", code=1)
        rounds = asked[:-1] if len(asked) > 1 else asked
        assert len(rounds) > 10
        assert sum(count for count in asked if count <= waiting.HEAD) <= waiting.HEAD * len(asked)
        assert sum(1 for count in asked if count > waiting.HEAD) <= self.COUNT / 1000
        assert f"{self.COUNT} of {self.COUNT} jobs have not ended" in queuectl.err

    @pytest.mark.usefixtures("many")
    @pytest.mark.waits
    def test_waiting_costs_at_most_one_percent_of_a_core(self, queuectl: CommandLine) -> None:
        def spent(seconds: str) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = queuectl.process("wait", "--all", "-q", "--timeout", seconds, interpreter=True)
            assert (done.returncode, done.stdout) == (1, b"")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        begin = spent("0s")
        cost = spent("8s") - begin
        if cost > 0.08 + begin * 0.25:  # the cost of start and end varies a little
            raise TooSlow(f"{cost:.2f} s of CPU in 8 s")

    def test_the_result_of_many_jobs_is_one_line_of_totals(self, queuectl: CommandLine, actor: Actor) -> None:
        for id in ("a", "b", "c"):
            queuectl("enqueue", "--id", id, "--retries", "0", "--batch", "n", "x")
        for id, code in (("a", 0), ("b", 0), ("c", 1)):
            actor.runs(id, exit_code=code)
        assert queuectl("wait", "--batch", "n", code=1) == "3 jobs: 2 completed, 1 dead\n"
        assert queuectl("wait", "--batch", "n", "-q", code=1) == ""
        assert queuectl("wait", "--all") == "nothing to wait for\n"

    def test_the_results_of_more_jobs_than_one_round_are_counted(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        ids = queuectl("enqueue", "-", "--batch", "n", "--retries", "0", input="true\n" * 250).split()
        for id in ids:
            actor.runs(id, exit_code=1 if id == ids[120] else 0)
        assert queuectl("wait", "--batch", "n", code=1) == "250 jobs: 249 completed, 1 dead\n"
        assert len(queuectl.json("wait", "--batch", "n", code=1)["jobs"]) == 250

    def test_on_a_terminal_progress_is_shown_and_cleared(self, queuectl: CommandLine, actor: Actor) -> None:
        for id in ("a", "b", "c"):
            queuectl("enqueue", "--id", id, "--batch", "n", "x")
        actor.enters("w1")
        actor.runs("a")
        actor.take("b")
        terminal = Terminal(
            [sys.executable, "-m", "queuectl", "wait", "--batch", "n"],
            PYTHONPATH=os.pathsep.join(sys.path),
            QUEUECTL_HEARTBEAT_INTERVAL="9s",
        )
        eventually(lambda: "1 done, 1 running, 1 waiting" in terminal.read(), within=20, what="the progress")
        actor.ends("b")
        actor.runs("c")
        assert terminal.wait() == 0
        assert terminal.text.endswith("\r\x1b[K3 jobs: 3 completed\n")

    @pytest.mark.parametrize(
        ("words", "hint"),
        [
            (("--batch", "n"), "queuectl cancel --batch n"),
            (("--all",), "queuectl status"),
            (("1", "2"), "queuectl cancel 1 2"),
            (("1",), "queuectl cancel 1"),
        ],
    )
    def test_ctrl_c_prints_the_command_to_cancel_the_jobs(
        self, queuectl: CommandLine, on_wait: OnWait, words: tuple[str, ...], hint: str
    ) -> None:
        queuectl("enqueue", "-", "--batch", "n", input="true\n" * 9)
        on_wait(interrupt)
        queuectl("wait", *words, code=130)
        assert queuectl.err.endswith(f"{hint}\n")


def test_a_busy_store_does_not_make_one_wait_busy(
    actor: Actor, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of any job wakes the waiting command: it runs twenty rounds at once, then ten a second."""
    queuectl("enqueue", "--id", "a", "x")
    rests: list[float] = []
    monkeypatch.setattr("threading.Event.wait", lambda _event, seconds: rests.append(seconds) or False)
    left = iter(range(100))

    def change(_subscription: Subscription, _timeout: float) -> bool:
        if next(left) == 60:
            actor.runs("a")
        return True

    store = queuectl.store()
    monkeypatch.setattr(Subscription, "wait", change)
    found = waiting.wait_for(store, ["a"], timeout=timedelta(hours=1), any_one=False, monotonic=lambda: 1.0)
    store.close()
    assert found["a"].state == "completed"
    assert len(rests) == 41
    assert set(rests) == {0.1}
