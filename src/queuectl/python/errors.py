"""Errors that only the Python API raises."""

from queuectl.errors import QueuectlError


class ClosedQueue(QueuectlError):
    """The queue was closed before."""

    code = "closed"


class WaitTimeout(QueuectlError):
    """A job had not ended when the timeout of `Queue.wait` was over. The job goes on."""

    code = "wait_timeout"
