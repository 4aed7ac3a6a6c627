"""What a caller sees of a job: the values of `env` and `stdin` only with the scope `enqueue`.

Who may enqueue could print them by a job anyway. Who may only look or operate could not.
"""

from typing import Any

from queuectl.http.caller import Caller

SECRET = ("env", "stdin")


def redacted(caller: Caller, job: dict[str, Any]) -> dict[str, Any]:
    """The document of a job (`shapes.job`, whole or some of its keys) as this caller may see it."""
    hidden = [key for key in SECRET if key in job]
    if caller.may("enqueue") or not hidden:
        return job
    return job | dict.fromkeys(hidden) | {"redacted": hidden}
