"""A test puts this file on the path of a holder: the timeouts of the holder are short."""

from queuectl.worker.holder import shutdown

shutdown.GIVE_UP = 1.0
