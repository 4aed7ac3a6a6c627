"""Ctrl+C at any moment of a command ends it with exit code 130 and without output."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.conftest import CommandLine
from queuectl import interrupt

TRIES = int(os.environ.get("QUEUECTL_TEST_INTERRUPTS", "100"))
PROGRAM = """
import os, sys
from queuectl.cli.start import entry
os.write(int(sys.argv.pop(1)), b".")
entry()
"""
"""The console script, which reports that its first line has run: Python's start before this line cannot be changed."""
COMMANDS = [
    ("list",),
    ("show", "a"),
    ("enqueue", "true"),
    ("enqueue", '{"command":"true"}'),
    ("status", "--json"),
]


def interrupted(words: tuple[str, ...], after: float) -> tuple[int, bytes, bytes]:
    """How a command ends that gets SIGINT so long after its first line."""
    ready, write = os.pipe()
    command = [sys.executable, "-c", PROGRAM, str(write), *words]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), **os.environ}
    process = subprocess.Popen(
        command, env=environment, pass_fds=(write,), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        os.close(write)
        assert os.read(ready, 1) == b"."
        os.close(ready)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    return process.returncode, out, err


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_ctrl_c_ends_a_short_command_without_output(
    queuectl: CommandLine, words: tuple[str, ...], thorough: bool
) -> None:
    queuectl("enqueue", "--id", "a", "--meta", '{"a":1}', "true")
    random_number = random.Random(0)
    codes = set()
    for _ in range(-(-TRIES // len(COMMANDS)) // (1 if thorough else 2)):
        after = random_number.uniform(0, 0.2)
        code, out, err = interrupted(words, after)
        assert code in (0, 130), (code, after, err)
        assert err == b"", after
        assert out == b"" or out.endswith(b"\n")
        codes.add(code)
    assert 130 in codes


@pytest.mark.parametrize("words", [("wait", "a"), ("logs", "-f", "a")], ids=" ".join)
def test_ctrl_c_ends_a_waiting_command(queuectl: CommandLine, words: tuple[str, ...]) -> None:
    queuectl("enqueue", "--id", "a", "true")
    random_number = random.Random(0)
    for after in (0.0, 2.0, *(random_number.uniform(0, 0.4) for _ in range(6))):
        code, out, err = interrupted(words, after)
        assert (code, out) == (130, b"")
        assert b"Traceback" not in err


@contextmanager
def handled(handler: object) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class TestHeld:
    def test_a_signal_during_the_block_is_raised_at_its_end(self) -> None:
        reached = False
        with handled(signal.default_int_handler):
            with pytest.raises(KeyboardInterrupt), interrupt.held():
                os.kill(os.getpid(), signal.SIGINT)
                reached = True
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert reached

    def test_other_handlers_are_not_replaced(self) -> None:
        with handled(signal.SIG_IGN), interrupt.held():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    def test_in_another_thread_no_handler_is_replaced(self) -> None:
        seen = []

        def work() -> None:
            with interrupt.held():
                seen.append(signal.getsignal(signal.SIGINT))

        with handled(signal.default_int_handler):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert seen == [signal.default_int_handler]


def test_an_ignored_sigint_stays_ignored() -> None:
    with handled(signal.SIG_IGN):
        interrupt.end_at_once()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
