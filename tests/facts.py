"""Waits for facts with one deadline. Tests wait only in this way and never sleep for a fixed time."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")

SHORTEST, LONGEST = 0.01, 0.05
"""Seconds between two questions. The pause grows with the wait, up to a twentieth of the wait: no test gets noticeably
slower, and a server that needs seconds is not asked a hundred times in each."""


def eventually(fact: Callable[[], Fact], *, within: float = 10.0, what: str | None = None) -> Fact:
    """Ask until the answer is true, and return it; fail with the last answer when `within` seconds are over."""
    start = time.monotonic()
    pause = threading.Event()
    while True:
        answer = fact()
        if answer:
            return answer
        waited = time.monotonic() - start
        if waited > within:
            raise AssertionError(f"not within {within} s: {what or fact}; last answer: {answer!r}")
        pause.wait(min(max(SHORTEST, waited / 20), LONGEST))
