"""A durable queue for shell commands.

    from queuectl import Queue

    with Queue() as queue:
        job = queue.enqueue("make report", retries=5, timeout="10m")
        job = queue.wait(job)
        print(job.state, queue.output(job).text)

Importing this package imports nothing else: each name below is loaded when it is first used.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # `typing` is not imported: that takes longer than this whole package
if TYPE_CHECKING:
    from queuectl.errors import (
        CommandFailed,
        Conflict,
        Forbidden,
        InvalidInput,
        NotFound,
        OutcomeUnknown,
        QueuectlError,
        StoreError,
        StoreUnavailable,
        StoreUnusable,
        Unauthenticated,
        UnreadableJob,
    )
    from queuectl.python.async_queue import AsyncQueue
    from queuectl.python.errors import ClosedQueue, WaitTimeout
    from queuectl.python.events import Event
    from queuectl.python.hook_values import Hook
    from queuectl.python.operations import Operation
    from queuectl.python.queue import Queue
    from queuectl.python.schedule_values import Decision, Difference, Preview, Schedule
    from queuectl.python.system_values import (
        Attention,
        Check,
        Diagnosis,
        Explanation,
        QueueStatus,
        Setting,
        Slot,
        Stats,
        StatsRow,
        Status,
        Worker,
    )
    from queuectl.python.transfers import Exported, Imported
    from queuectl.python.values import Added, Attempt, Change, Job, Output, Part

__all__ = [
    "Added", "AsyncQueue", "Attempt", "Attention", "Change", "Check", "ClosedQueue", "CommandFailed",
    "Conflict", "Decision", "Diagnosis", "Difference", "Event", "Explanation", "Exported", "Forbidden", "Hook",
    "Imported",
    "InvalidInput", "Job", "NotFound", "Operation", "OutcomeUnknown", "Output", "Part", "Preview", "Queue",
    "QueuectlError", "QueueStatus", "Schedule", "Setting", "Slot", "Stats", "StatsRow", "Status", "StoreError",
    "StoreUnavailable",
    "StoreUnusable", "Unauthenticated", "UnreadableJob", "WaitTimeout", "Worker",
]  # fmt: skip

_MODULES = {
    "queuectl.python.queue": ("Queue",),
    "queuectl.python.async_queue": ("AsyncQueue",),
    "queuectl.python.schedule_values": ("Decision", "Difference", "Preview", "Schedule"),
    "queuectl.python.system_values": (
        "Attention", "Check", "Diagnosis", "Explanation", "QueueStatus", "Setting", "Slot", "Stats",
        "StatsRow", "Status", "Worker",
    ),
    "queuectl.python.transfers": ("Exported", "Imported"),
    "queuectl.python.values": ("Added", "Attempt", "Change", "Job", "Output", "Part"),
    "queuectl.python.hook_values": ("Hook",),
    "queuectl.python.operations": ("Operation",),
    "queuectl.python.errors": ("ClosedQueue", "WaitTimeout"),
    "queuectl.python.events": ("Event",),
}  # fmt: skip
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a name of the Python API at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PLACES.get(name, "queuectl.errors")), name)
    globals()[name] = value
    return value
