"""Errors that only the Python API raises."""

from queuectl.errors import QueuectlError


class ClosedQueue(QueuectlError):
    """The queue was closed before the call."""

    code = "closed"


class WaitTimeout(QueuectlError):
    """A job did not end within the timeout of `Queue.wait`. The job goes on."""

    code = "wait_timeout"
