"""Runs the commands of the documentation in a new home and on a terminal, and ends all their processes.

Output is compared after `plain`: ids, times, pids and durations differ from run to run, names of places from one
machine to the next. In an expected output `…` stands for anything in a line, and alone on a line for any lines.
"""

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple

from facts import eventually
from launcher import Launched, Launcher, needs_interpreter

SOURCE = Path(__file__).parents[1] / "src"
WIDTH = 100
LONGEST = 60.0
MARK = "QUEUECTL_TEST_HOME"
PERSON, HOST = "ada", "atlas"


class Command(NamedTuple):
    """One line after `$ `, its expected output (None: unknown), and its expected exit code."""

    line: str
    expected: str | None
    code: int


class Home:
    """The home directory and terminal of a user. Closing checks that no process is left.

    `names`: what stands in a page for what there is here. `places`: the other way round, in what is typed. `tools`:
    shell scripts by the names of programs that are not installed like that here. `launcher`: runs the lines that need
    no shell.
    """

    def __init__(
        self,
        root: Path,
        names: Mapping[str, str] | None = None,
        places: Mapping[str, str] | None = None,
        tools: Mapping[str, str] | None = None,
        launcher: Launcher | None = None,
        **settings: str,
    ) -> None:
        self.root = root
        self._launcher = launcher
        self.names = dict(names or {})
        self.places = dict(places or {})
        self.home = root / "home" / PERSON
        self.work = self.home / "work"
        self.data = self.home / ".local" / "share" / "queuectl"
        self._token = uuid.uuid4().hex
        self._background: list[tuple[Terminal, str | None]] = []
        self.work.mkdir(parents=True, mode=0o700)
        (root / "tmp").mkdir()
        self._make_program(root / "bin", "queuectl", f'exec {sys.executable} -m queuectl "$@"')
        self._make_program(root / "bin", "python", f'exec {sys.executable} "$@"')
        for name, script in (tools or {}).items():
            self._make_program(root / "bin", name, script)
        self.environment = {
            "HOME": str(self.home), "USER": PERSON, "LOGNAME": PERSON, "PATH": f"{root / 'bin'}:/usr/bin:/bin",
            "PYTHONPATH": str(SOURCE), "LANG": "C.UTF-8", "TZ": "UTC", "TERM": "xterm", "NO_COLOR": "1",
            "TMPDIR": str(root / "tmp"), "COLUMNS": str(WIDTH),
            "QUEUECTL_HEARTBEAT_INTERVAL": "200ms", MARK: self._token, **settings,
        }  # fmt: skip

    def furnish(self, template: "Home") -> None:
        """Begin with a copy of another home's store."""
        shutil.copytree(template.data, self.data, ignore=shutil.ignore_patterns("*-workers"))

    def run(self, command: str, code: int | None = 0) -> str:
        """What a command prints on a terminal, once it has ended with this exit code (None: with any)."""
        terminal = self._terminal(command)
        answer = terminal.wait()
        text = self.plain(terminal.text)
        assert code is None or answer == code, f"$ {command}\nexits with {answer} instead of {code}:\n{text}"
        return text

    def start(self, command: str, expected: str | None = None) -> None:
        """Start a worker or a server that stays; it is there when this returns. What it says is compared when it is
        ended.
        """
        before = self.agents()
        terminal = self._terminal(on_free_port(command))
        self._background.append((terminal, expected))
        if serves(command):
            eventually(lambda: terminal.ended or LISTENS.search(terminal.text), within=20)
            self._note_port(command, terminal.text)
        else:
            eventually(lambda: terminal.ended or self.agents() - before, within=20, what=f"$ {command}")
        assert not terminal.ended, f"$ {command}\nended at once:\n{terminal.text}"

    def do(self, command: Command) -> None:
        """Run one command of a page and compare."""
        line = command.line
        for shown, place in self.places.items():
            line = line.replace(shown, place)
        if stays(line) or serves(line):
            self.start(line, command.expected)
            return
        printed = self.run(line, command.code)
        self.compare(command.line, command.expected, printed)

    def compare(self, line: str, expected: str | None, printed: str) -> None:
        """Fail if a command printed something else than the page shows."""
        if expected is not None:
            wanted = self.plain(expected)
            assert pattern(wanted).fullmatch(f"{printed}\n"), (
                f"$ {line}\nprints:\n{printed}\n\nthe page shows:\n{wanted}"
            )

    def end_background(self) -> None:
        """TERM to each worker and server in front, by its pid; it ends in order and exits with 0."""
        for terminal, expected in self._background:
            os.kill(terminal.pid, signal.SIGTERM)
            code = terminal.wait()
            assert code == 0, f"a worker exits with {code}:\n{terminal.text}"
            self.compare("queuectl worker start", expected, self.plain(terminal.text))
        self._background.clear()

    def close(self) -> None:
        """End what was started here; fail if something else is left."""
        try:
            self.end_background()
            if self.processes():
                self.run("queuectl worker stop --now --timeout 20s")
            eventually(lambda: not self.processes(), within=5, what="no process of this home is left")
        finally:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """The processes that carry this home's mark in their environment."""
        mark = f"{MARK}={self._token}".encode()
        return [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdecimal() and mark in _environ(path)
        ]

    def plain(self, text: str) -> str:
        """Text without what is different every time and everywhere."""
        text = text.replace(str(self.home), f"/home/{PERSON}").replace("\r\n", "\n")
        for name, shown in self.names.items():
            text = text.replace(name, shown)
        text = re.sub(rf"(?<![\w.-]){re.escape(os.uname().nodename)}(?![\w.])", HOST, text)
        for found, put in VARYING:
            text = found.sub(put, text)
        return "\n".join(line.rstrip() for line in text.splitlines() if not UNSAID.search(line)).strip("\n")

    def agents(self) -> set[int]:
        """The agents of the workers in the registry: each worker has one, and another one after a reload."""
        listing = ["worker", "list", "--json"]
        if self._launcher:
            done = self._launcher.run(listing, self.environment, self.work)
        else:
            command = ["queuectl", *listing]
            done = subprocess.run(
                command, env=self.environment, cwd=self.work, capture_output=True, check=True
            )
        return {worker["agent_pid"] for worker in json.loads(done.stdout)["workers"]}

    def _note_port(self, command: str, printed: str) -> None:
        """From now on the port that the page names means the free port that the server got."""
        found = LISTENS.search(printed)
        shown = re.search(r"--port (\d+)|--serve \S+:(\d+)", command)
        if found and found[1]:
            name = (shown and (shown[1] or shown[2])) or "7733"
            self.places[f":{name}"], self.names[f":{found[1]}"] = f":{found[1]}", f":{name}"

    def _terminal(self, command: str) -> "Terminal":
        return Terminal(command, self.environment, self.work, self._launcher)

    def _make_program(self, folder: Path, name: str, script: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


class Terminal:
    """One command on a terminal of its own. A launcher, if there is one, runs it unless it needs a shell."""

    def __init__(
        self, command: str, environment: dict[str, str], folder: Path, launcher: Launcher | None = None
    ) -> None:
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
        self._process: subprocess.Popen[bytes] | Launched
        words = words_without_shell(command)
        if launcher is not None and words is not None and not needs_interpreter(words, {}):
            with open(os.devnull, "rb") as nothing:
                self._process = launcher.start(words, environment, folder, (nothing.fileno(), theirs, theirs))
        else:
            # `exec`, so that a simple command has the pid that we signal.
            simple = not re.search(r"[;|&]", re.sub(r"'[^']*'", "", command))
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}" if simple else command],
                env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                start_new_session=True,
            )  # fmt: skip
        os.close(theirs)
        self._text = b""
        self.pid = self._process.pid

    @property
    def text(self) -> str:
        """The output so far."""
        return self._text.decode("utf-8", "replace")

    @property
    def ended(self) -> bool:
        """Whether it has exited. What it printed until now is read on the way."""
        self._read(0)
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        deadline = time.monotonic() + LONGEST
        try:
            while self._read(max(0.0, deadline - time.monotonic())):
                if time.monotonic() > deadline:
                    self._process.kill()
                    raise AssertionError(f"still runs after {LONGEST} s:\n{self.text}")
            return self._process.wait(timeout=10)
        finally:
            os.close(self._ours)

    def _read(self, patience: float) -> bool:
        """Read the available output for up to `patience` seconds; returns False at the end of the output."""
        ready, _, _ = select.select([self._ours], [], [], patience)
        if not ready:
            return True
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # EIO: the last writer has closed its end
            return False
        self._text += data
        return bool(data)


LISTENS = re.compile(r"listening on \S+?(?::(\d+))?\s")
VARYING = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<hex>"),
    (re.compile(r"\b[0-9a-f]{26}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"^\d\d:\d\d:\d\d ", re.MULTILINE), "<clock> "),
    (re.compile(r"\bpid \d+"), "pid <n>"),
    (re.compile(rf"\b{HOST}-\d+\b"), f"{HOST}-<n>"),
    (re.compile(r"(?<!= )\b\d+(\.\d+)?(ms|s)\b"), "<span>"),
    (re.compile(r"\b\d+(\.\d+)?(B|KiB|MiB)\b"), "<size>"),
    (re.compile(r"─+"), "─"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
)  # fmt: skip
UNSAID = re.compile(r"this (worker|server) runs as root|^\S+ worker +draining")
"""Said to some people only, or by another process at the same moment, in any order."""


def words_without_shell(line: str) -> list[str] | None:
    """The arguments of a `queuectl` command that means the same without a shell; None for any other line."""
    if not line.startswith("queuectl ") or re.search(r"[^\w\s.,:/=+@%'\"-]", re.sub(r"'[^']*'", "''", line)):
        return None
    return shlex.split(line)[1:]


def stays(line: str) -> bool:
    """Whether a command runs until it receives a signal."""
    return line.startswith("queuectl worker start") and "--drain" not in line and "--detach" not in line


def serves(line: str) -> bool:
    """Whether a command is a server, or a worker with one, which goes on until it is told to end."""
    is_server = line.startswith("queuectl serve") and "--help" not in line
    return is_server or (stays(line) and "--serve" in line)


def on_free_port(line: str) -> str:
    """The command of a server with port 0: several test runs share this machine, and its ports."""
    if line.startswith("queuectl serve") and not {"--port", "none"}.intersection(line.split()):
        return f"{line} --port 0"
    return re.sub(r"(--port |--serve \S+:)\d+", r"\g<1>0", line) if serves(line) else line


def pattern(expected: str) -> re.Pattern[str]:
    """The pattern of an expected output, with the end of its last line."""
    return re.compile(
        "".join(
            r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", ".*?") + r"\n"
            for line in expected.splitlines()
        )
    )


def commands(block: str) -> list[Command]:
    """The commands of a console block. A line that begins with `> ` continues the previous line."""
    found: list[Command] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            text, _, note = line[2:].partition("  # exits ")
            found.append(Command(text.strip(), None, int(note) if note else 0))
        elif line.startswith("> ") and found and found[-1].expected is None:
            found[-1] = found[-1]._replace(line=f"{found[-1].line}\n{line[2:]}")
        elif found:
            last = found[-1]
            found[-1] = last._replace(expected=line if last.expected is None else f"{last.expected}\n{line}")
    return [c._replace(expected=c.expected.strip("\n") or None if c.expected else None) for c in found]


def _environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
