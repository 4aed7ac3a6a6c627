"""A test puts this file on the path of a holder: the wall clock is ahead by the seconds that a file contains."""

import os
import time

_now = time.time


def _ahead() -> float:
    try:
        with open(os.environ["QUEUECTL_TEST_AHEAD"]) as seconds:
            return _now() + float(seconds.read())
    except FileNotFoundError:
        return _now()


time.time = _ahead
