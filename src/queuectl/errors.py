"""Every error this product raises on purpose.

    QueuectlError             exit  code
    ├── InvalidInput          2     invalid_input      what was given cannot be understood or is out of range
    ├── NotFound              3     not_found          no such job, queue, worker or key
    ├── Conflict              4     conflict           the state does not allow it, or an id or key is taken
    ├── StoreError
    │   ├── StoreUnavailable  5     store_unavailable  out of reach, busy or full; nothing was changed
    │   │   └── StoreAbsent   5     store_unavailable  reached, and there is no queue in it
    │   └── StoreUnusable     5     store_unusable     not to be worked on: corrupt, newer, read-only
    ├── OutcomeUnknown        75    unknown            the reply was lost; repeating the same call is safe
    ├── CommandFailed         1     failed             the command could not do what was asked
    ├── UnreadableJob         1     unreadable         what is stored of the job cannot be decoded
    └── InternalError         1     internal           a fault in this program

A message says what is wrong and where; a hint says what to do next. Both are sentences for a person, without a
trailing newline. Errors of libraries are translated where the library is called, with the cause kept.
"""


class QueuectlError(Exception):
    """The root: catch this to catch everything that was raised on purpose."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(QueuectlError):
    """What was given cannot be understood, or is out of range. Nothing was changed."""

    code = "invalid_input"
    exit_code = 2


class NotFound(QueuectlError):
    """No such job, queue, worker or key."""

    code = "not_found"
    exit_code = 3


class Conflict(QueuectlError):
    """The state does not allow it, the id exists with other content, or the unique key is taken."""

    code = "conflict"
    exit_code = 4


class StoreError(QueuectlError):
    """The store could not do its part. Nothing was changed."""

    code = "store_error"
    exit_code = 5


class StoreUnavailable(StoreError):
    """The store cannot be reached, stays busy, or is full: trying again later may work."""

    code = "store_unavailable"


class StoreAbsent(StoreUnavailable):
    """The place was reached and holds no queue. Only what is asked to create one does so.

    `description` is what a server says of itself all the same: a store's `Description`.
    """

    description: object = None


class StoreUnusable(StoreError):
    """The store was reached and must not be worked on: corrupt, of a newer schema, read-only, on a network disk."""

    code = "store_unusable"


class StoreGone(StoreUnusable):
    """What the address names is not the queue that it was, or no queue. `was_open`: it was when we opened it."""

    def __init__(self, message: str, hint: str | None = None, *, was_open: bool = False) -> None:
        super().__init__(message, hint)
        self.was_open = was_open


class OutcomeUnknown(QueuectlError):
    """The request was sent and its reply was lost (guarantee G2). Repeating the same call is safe."""

    code = "unknown"
    exit_code = 75


class CommandFailed(QueuectlError):
    """The command was understood and could not do what was asked."""

    code = "failed"


class UnreadableJob(QueuectlError):
    """What is stored of the job cannot be decoded: a hand has edited it, or a disk has damaged it."""

    code = "unreadable"

    def __init__(self, id: str, number: int, reason: str) -> None:
        super().__init__(
            f"job {number} ({id}) cannot be read: {reason}", f"queuectl delete {number} deletes it for good"
        )
        self.id, self.number, self.reason = id, number, reason


class InternalError(QueuectlError):
    """A fault in this program: an exception that nobody expected."""

    code = "internal"

    def __init__(self, error: Exception) -> None:
        what = " ".join(str(error).split())
        super().__init__(
            f"internal error: {type(error).__name__}{': ' if what else ''}{what}",
            "a fault in queuectl: run it again with -v, and report what it prints with the output of queuectl doctor",
        )
        self.__cause__ = error
