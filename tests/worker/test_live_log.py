"""A worker's lines at a terminal: aligned, coloured by event, cut at the width, and folded while many commands end."""

import os
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from factories import NOW, processing, report
from queuectl.domain import lifecycle
from queuectl.domain.outcome import Outcome
from queuectl.worker.agent.live_log import CLEAR, FOLD_ABOVE, LiveLog
from queuectl.worker.agent.log import Log

SCREENS = Path(__file__).parents[1] / "cli" / "screens"
REDRAW = bool(os.environ.get("QUEUECTL_TEST_REDRAW"))


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """Logs commands that start and end as the test chooses, and keeps the output."""

    def __init__(
        self, *, width: int = 80, colour: bool = False, fold: bool = True, verbose: bool = False
    ) -> None:
        self.clock = Clock()
        self.live = LiveLog(
            lambda: width, colour=colour, fold=fold, verbose=verbose, waiting=lambda: 7, clock=self.clock
        )
        self.log = Log(live=self.live, out=self)  # type: ignore[arg-type]
        self.text = ""

    def writelines(self, lines: list[str]) -> None:
        self.text += "".join(lines)

    def flush(self) -> None:
        """Do nothing: no output is buffered."""

    def runs(
        self,
        id: str,
        code: int = 0,
        *,
        retries: int = 3,
        command: str = "make all",
        outcome: Outcome | None = None,
    ) -> None:
        """A command starts and ends."""
        job = processing(id, command=command, max_retries=retries)
        self.log.started(job, 0, 77)
        outcome = outcome or Outcome(kind="exited", exit_code=code)
        said = replace(report(exit_code=code, now=NOW), outcome=outcome)
        after = lifecycle.finish(job, said, now=NOW, random_number=0.5)
        self.log.finished(job, after, outcome, 0.012)

    def said(self) -> list[str]:
        """The lines so far, the clock left out."""
        self.log.flush()
        return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in self.text.splitlines()]


def test_each_event_has_an_aligned_line_with_the_handle_of_its_job() -> None:
    worker = Worker()
    worker.runs("a")
    worker.runs("b", 3)
    worker.runs("c", 3, retries=0)
    assert worker.said() == [
        "start     a     make all",
        "done      a       12ms  make all",
        "start     b     make all",
        "retry     b     exit code 3 after 12ms, retry 1 in 2s:  make all",
        "start     c     make all",
        "dead      c     exit code 3 after 12ms:  make all",
    ]


def test_a_generated_id_is_shown_as_its_number() -> None:
    worker = Worker()
    worker.runs("1a203177a40000000000000006")
    assert worker.said()[0] == "start     0     make all"


@pytest.mark.parametrize("width", [30, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int) -> None:
    worker = Worker(width=width)
    worker.runs("a", 1, command="x" * 500)
    worker.log.note("store", "y" * 500)
    assert {len(line) for line in worker.text.splitlines()} <= {width}
    worker.said()
    assert {len(line) for line in worker.text.splitlines()} == {width}


def test_control_characters_are_escaped() -> None:
    worker = Worker()
    worker.runs("a", command="\x1b[2J\x07")
    assert "\\x1b[2J\\x07" in worker.said()[0]


def test_only_the_event_is_coloured() -> None:
    worker = Worker(colour=True)
    worker.runs("a")
    assert worker.said()[1] == "\x1b[32mdone     \x1b[0m a       12ms  make all"


@pytest.mark.parametrize("colour", [False, True], ids=["plain", "coloured"])
@pytest.mark.parametrize("width", [80, 200, 30])
def test_the_screen_equals_the_stored_file(width: int, colour: bool) -> None:
    """With `QUEUECTL_TEST_REDRAW=1` the test writes the files again."""
    worker = Worker(width=width, colour=colour)
    worker.log.note("store", "the store answers again")
    worker.runs(
        "1a203177a40000000000000006",
        command="echo 'naïve 日本語 text' | mail -s 'a long subject' ada@example.org",
    )
    worker.runs("nightly", 1, command="pg_dump --format custom jobs > /backup/jobs.dump")
    worker.runs("nightly", 1, command="pg_dump --format custom jobs > /backup/jobs.dump", retries=0)
    late = Outcome(kind="timed_out", signal=15)
    worker.runs("slow", outcome=late, command="train --epochs 12 --data /srv/data/images", retries=0)
    for number in range(60):
        worker.runs(f"j{number}", command="true")
        worker.clock.now += 0.02
        if number == 40:
            worker.runs("bad", 3, command="make check", retries=0)
        worker.log.flush()
    worker.clock.now += 5
    worker.log.note("idle", "nothing is left to do; leaving")
    worker.log.close()
    text = re.sub(r"\d\d:\d\d:\d\d", "12:00:00", worker.text).replace("\x1b", "<1b>")
    file = SCREENS / f"worker_start{'_coloured' if colour else ''}_{width}.txt"
    if REDRAW:
        file.write_text(text)
    assert text == file.read_text()


class TestFolding:
    def many(self, worker: Worker, count: int) -> None:
        for number in range(count):
            worker.runs(f"j{number}")

    def test_successes_fold_into_a_live_line_above_twenty_a_second(self) -> None:
        worker = Worker()
        self.many(worker, 500)
        lines = worker.said()
        assert len([line for line in lines if line.startswith("done")]) == FOLD_ABOVE
        assert lines[-1].endswith("500 done, 21/s, 7 waiting")

    def test_failures_are_always_shown(self) -> None:
        worker = Worker()
        self.many(worker, 100)
        worker.runs("bad", 3)
        worker.runs("worse", 3, retries=0)
        self.many(worker, 100)
        text = "\n".join(worker.said())
        assert "retry     bad" in text
        assert "dead      worse" in text
        assert "200 done, 21/s, 2 failed, 7 waiting" in text

    def test_the_live_line_is_redrawn_at_most_five_times_a_second(self) -> None:
        worker = Worker()
        self.many(worker, 100)
        worker.log.flush()
        drawn = worker.text.count(CLEAR)
        self.many(worker, 100)
        worker.log.flush()
        assert worker.text.count(CLEAR) == drawn
        worker.clock.now += 0.25
        worker.log.flush()
        assert worker.text.count(CLEAR) == drawn + 1

    def test_at_a_low_rate_every_command_has_its_own_line_again(self) -> None:
        worker = Worker()
        self.many(worker, 100)
        worker.log.flush()
        worker.clock.now += 20
        worker.runs("calm")
        lines = worker.said()
        assert any(line.endswith("80 commands in 20 s had no line of their own") for line in lines)
        assert lines[-1] == "done      calm    12ms  make all"

    def test_the_end_of_the_worker_leaves_no_live_line(self) -> None:
        worker = Worker()
        self.many(worker, 100)
        worker.log.flush()
        worker.log.close()
        assert worker.text.endswith("had no line of their own\n")

    def test_verbose_shows_a_line_for_every_event(self) -> None:
        worker = Worker(fold=False, verbose=True)
        self.many(worker, 500)
        assert len(worker.said()) == 1000
        assert "attempt 1, slot 0, pid 77: make all" in worker.text

    def test_a_low_rate_of_commands_is_never_folded(self) -> None:
        worker = Worker()
        for _ in range(10):
            self.many(worker, FOLD_ABOVE)
            worker.clock.now += 1.0
        assert len(worker.said()) == 400
