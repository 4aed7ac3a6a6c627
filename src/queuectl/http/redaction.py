"""What a caller sees of a job: the values of `env` and `stdin` only with the right to enqueue in the queue of the job.

With this right a caller could print them by a job anyway; without it the caller could not.
"""

from typing import Any

from queuectl.http.caller import Caller

SECRET = ("env", "stdin")


def redacted(caller: Caller, queue: str, job: dict[str, Any]) -> dict[str, Any]:
    """The document of a job of this queue (`shapes.job`, whole or some of its keys) as this caller may see it."""
    hidden = [key for key in SECRET if key in job]
    if not hidden or caller.may_enqueue_in(queue):
        return job
    return job | dict.fromkeys(hidden) | {"redacted": hidden}
