"""A test puts this file on the path of a worker: the wall clock of the host is wrong, the clock of the store is
right."""

import os
import time

_SHIFT = float(os.environ.get("CLOCK_IS_WRONG_BY", "0"))
_right = time.time
time.time = lambda: _right() + _SHIFT
