"""The screens are stored as files: each screen at 80, 200 and 30 columns is compared character by character.

`QUEUECTL_TEST_REDRAW=1` writes the files anew; look at the difference before you commit it.
"""

import os
import re
import signal
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cli.acting import Actor
from cli.conftest import CommandLine
from cli.doors import OTHER_STORE, direct
from cli.terminals import Terminal
from facts import eventually
from launcher import Launcher

SCREENS = Path(__file__).parent / "screens"
REDRAW = bool(os.environ.get("QUEUECTL_TEST_REDRAW"))
WIDTHS = (80, 200, 30)
SHOWN = {
    "list": ("list",),
    "list_next": ("list", "--sort", "next"),
    "list_verbose": ("list", "-v"),
    "list_utc": ("list", "--utc"),
    "list_columns": ("list", "--columns", "id,state"),
    "dlq_list": ("dlq", "list"),
    "status": ("status",),
    "queue_list": ("queue", "list"),
    "worker_list": ("worker", "list"),
    "show_dead": ("show", "nightly"),
    "show_running": ("show", "4"),
    "explain_pending": ("explain", "6"),
}


TOLD: dict[str, tuple[tuple[str, ...], str, int]] = {
    "doctor_well": (("doctor",), "well", 0),
    "doctor_faults": (("doctor",), "unused", 1),
    "wait_one": (("wait", "nightly"), "", 1),
    "wait_batch": (("wait", "--batch", "night"), "batch", 1),
    "wait_timed_out": (("wait", "4", "--timeout", "300ms"), "", 125),
    "wait_many_timed_out": (("wait", "4", "5", "--timeout", "300ms"), "", 1),
    "logs": (("logs", "4"), "logs", 0),
    "logs_coloured": (("logs", "4"), "logs", 0),
    "logs_plain": (("logs", "4", "--plain"), "logs", 0),
    "logs_tail": (("logs", "4", "--tail", "2"), "logs", 0),
    "logs_nothing": (("logs", "6"), "", 0),
}
"""Other screens: the command, the scene, and the exit code."""


Shown = Callable[..., str]


@pytest.fixture
def shown(launcher: Launcher | None) -> Shown:
    """What a terminal shows of the scene."""
    return partial(shown_by, launcher)


def shown_by(
    launcher: Launcher | None,
    words: Sequence[str],
    width: int,
    home: str,
    scene: str = "",
    code: int = 0,
    **variables: str,
) -> str:
    """What a terminal of this width shows of the scene. The store's place has another name, of the same length."""
    terminal = Terminal(
        [sys.executable, "-m", "cli.scene", *words],
        columns=width,
        launcher=launcher,
        **{"NO_COLOR": "1", **variables},
        XDG_DATA_HOME=os.path.join(home, "d"),
        PYTHONPATH=os.pathsep.join(sys.path),
        SCENE=scene,
    )
    assert terminal.wait() == code, terminal.text
    return terminal.text.replace(home, "/tmp/screen-" + "x" * (len(home) - len("/tmp/screen-")))


@direct(OTHER_STORE)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.usefixtures("queuectl")
def test_a_screen_equals_the_stored_file(name: str, width: int, shown: Shown) -> None:
    with TemporaryDirectory(prefix="screen-", dir="/tmp") as home:
        text = shown(SHOWN[name], width, home)
    file = SCREENS / f"{name}_{width}.txt"
    if REDRAW:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()
    tables = not name.startswith(("show", "explain", "list_verbose", "list_utc"))
    lines = [line for line in text.splitlines() if not line.startswith("store ")]
    assert not tables or max(map(len, lines)) <= max(width, len("  queuectl worker start --queue gpu"))


@direct(OTHER_STORE)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TOLD)
@pytest.mark.usefixtures("queuectl")
def test_messages_equal_the_stored_file(name: str, width: int, shown: Shown) -> None:
    words, scene, code = TOLD[name]
    variables = {"DATABASE_URL": "postgresql://db/jobs"} if scene == "unused" else {}
    if name.endswith("coloured"):
        variables["NO_COLOR"] = ""
    with TemporaryDirectory(prefix="screen-", dir="/tmp") as home:
        text = shown(words, width, home, scene, code, **variables)
    # the number of redraws of a live line depends on the time
    text = re.sub(r"(\r\x1b\[K[^\r\n]*)+(?=\r\x1b\[K)", r"\1", text)
    text = re.sub(r"[^\n\x20-\x7e\x80-\U0010ffff]", lambda found: f"<{ord(found.group()):02x}>", text)
    file = SCREENS / f"{name}_{width}.txt"
    if REDRAW:
        file.write_text(text)
    assert text == file.read_text()


def test_only_hints_of_doctor_are_wider_than_the_terminal() -> None:
    for width in WIDTHS:
        for name in ("doctor_well", "doctor_faults"):
            lines = (SCREENS / f"{name}_{width}.txt").read_text().splitlines()
            wide = [line for line in lines if len(line) > width]
            assert all(re.search(r"queuectl |sqlite:|export ", line) for line in wide)


@direct(OTHER_STORE)
@pytest.mark.usefixtures("queuectl")
def test_doctor_colours_each_result_and_prints_one_line_each_in_a_pipe(tmp_path: Path, shown: Shown) -> None:
    url = {"DATABASE_URL": "postgresql://db/jobs"}
    text = shown(["doctor"], 80, str(tmp_path), "", 1, NO_COLOR="", **url)
    assert {("32", "ok   "), ("33", "warn "), ("31", "FAULT")} == set(
        re.findall(r"\x1b\[(3\d)m(.....)", text)
    )
    plain = shown(["doctor", "-v"], 80, str(tmp_path), "", 1, **url)
    assert re.search(r"FAULT  no worker .*\(queuectl worker start --queue gpu\)\n", plain)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.usefixtures("queuectl")
def test_number_state_and_command_are_shown_at_every_width(width: int, tmp_path: Path) -> None:
    lines = (SCREENS / f"list_{width}.txt").read_text().splitlines()
    heading = lines[0].split()
    assert {"NUMBER", "STATE", "COMMAND"} <= set(heading)
    assert all(re.match(r" +\d+ ", line) for line in lines[1:])


@direct(OTHER_STORE)
class TestColour:
    @pytest.mark.usefixtures("queuectl")
    def test_colour_repeats_a_word_and_sets_no_background(self, tmp_path: Path) -> None:
        for words in (("list",), ("status",)):
            terminal = Terminal(
                [sys.executable, "-m", "cli.scene", *words],
                XDG_DATA_HOME=str(tmp_path / "d"),
                PYTHONPATH=os.pathsep.join(sys.path),
            )
            assert terminal.wait() == 0
            codes = set(re.findall(r"\x1b\[([0-9;]*)m", terminal.text))
            assert codes
            numbers = {int(part) for code in codes for part in code.split(";") if part}
            assert numbers <= {0, 1, 2, *range(31, 37)}


class TestWatch:
    @pytest.fixture
    def watching(self, queuectl: CommandLine) -> Iterator[Terminal]:
        queuectl("enqueue", "--id", "first", "make x")
        terminal = Terminal(
            [sys.executable, "-m", "queuectl", "list", "--watch"], PYTHONPATH=os.pathsep.join(sys.path)
        )
        eventually(lambda: "first" in terminal.read(), within=20, what="the first drawing")
        yield terminal
        terminal.close()

    def test_the_screen_is_redrawn_in_place_and_q_ends_the_command(
        self, queuectl: CommandLine, watching: Terminal
    ) -> None:
        queuectl("enqueue", "--id", "second", "make y")
        eventually(lambda: "second" in watching.read(), within=20, what="another drawing")
        watching.type("q")
        assert watching.wait() == 0
        assert self.restored(watching)

    def test_control_c_ends_the_command(self, watching: Terminal) -> None:
        watching.type("\x03")
        assert watching.wait() == 130
        assert self.restored(watching)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_the_command_and_restores_the_terminal(
        self, watching: Terminal, number: int
    ) -> None:
        os.kill(watching.pid, number)
        assert watching.wait() == 128 + number
        assert self.restored(watching)

    def test_the_screen_is_redrawn_at_once_for_a_new_size(self, watching: Terminal) -> None:
        drawn = watching.read().count("\x1b[H")
        watching.resize(30)
        eventually(
            lambda: watching.read().count("\x1b[H") > drawn, within=20, what="a drawing for the new size"
        )
        watching.type("q")
        assert watching.wait() == 0

    def test_the_status_can_be_watched(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "first", "make x")
        terminal = Terminal(
            [sys.executable, "-m", "queuectl", "status", "--watch"], PYTHONPATH=os.pathsep.join(sys.path)
        )
        eventually(lambda: "1 pending" in terminal.read(), within=20, what="the first drawing")
        terminal.type("q")
        assert terminal.wait() == 0

    def test_watching_without_a_terminal_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("status", "--watch", code=2)
        assert "--watch needs a terminal" in queuectl.err

    @staticmethod
    def restored(terminal: Terminal) -> bool:
        return terminal.text.endswith("\x1b[?25h\x1b[?1049l") and bool(terminal.modes[3] & termios.ICANON)


def test_held_jobs_are_listed_after_jobs_that_run_next(queuectl: CommandLine, actor: Actor) -> None:
    queuectl("enqueue", "--id", "held", "--hold", "x")
    queuectl("enqueue", "--id", "later", "--in", "1h", "x")
    queuectl("enqueue", "--id", "soon", "x")
    actor.runs(queuectl.enqueue("--id", "ended", "x"))
    order = [job["id"] for job in queuectl.json("list", "--sort", "next")["jobs"]]
    assert order[:2] == ["soon", "later"]
    assert set(order[2:]) == {"held", "ended"}
    seen, cursor = [], None
    while cursor != "":
        found = queuectl.json(
            "list", "--sort", "next", "--limit", "1", *(["--after", cursor] if cursor else [])
        )
        seen += [job["id"] for job in found["jobs"]]
        cursor = found["next"] or ""
    assert seen == order


def test_a_queue_keeps_its_name_on_a_narrow_terminal(queuectl: CommandLine) -> None:
    queuectl("enqueue", "-Q", "gpu", "x")
    queuectl("queue", "limit", "gpu", "3")
    terminal = Terminal([sys.executable, "-m", "queuectl", "status"], columns=30, NO_COLOR="1")
    assert terminal.wait() == 0, terminal.text
    assert re.search(r"^gpu +limit 3 +1", terminal.text, re.MULTILINE)
