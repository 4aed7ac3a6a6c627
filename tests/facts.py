"""Waiting for facts: the only way a test waits. One deadline, no sleeping for a fixed time."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")


def eventually(fact: Callable[[], Fact], *, within: float = 10.0, what: str | None = None) -> Fact:
    """Ask until the answer is true, and return it; fail with the last answer when `within` seconds are over."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while True:
        answer = fact()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or fact}; last answer: {answer!r}")
        pause.wait(0.01)
