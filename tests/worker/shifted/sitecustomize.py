"""Put on a worker's path by a test: a host whose wall clock is wrong by so many seconds; the store's is right."""

import os
import time

_SHIFT = float(os.environ.get("CLOCK_IS_WRONG_BY", "0"))
_right = time.time
time.time = lambda: _right() + _SHIFT
