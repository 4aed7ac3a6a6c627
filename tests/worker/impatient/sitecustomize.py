"""Put on a holder's path by a test: a holder that gives up soon."""

from queuectl.worker.holder import shutdown

shutdown.GIVE_UP = 1.0
