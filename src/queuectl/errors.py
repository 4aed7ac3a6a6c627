"""All errors that queuectl raises deliberately.

    QueuectlError             exit  code
    ├── InvalidInput          2     invalid_input      the input is not understood or is out of range
    ├── NotFound              3     not_found          no such job, queue, worker or key
    ├── Conflict              4     conflict           the state does not allow it, or an id or key is taken
    │   └── Changed           4     changed            the thing has another version than the caller expects
    ├── StoreError
    │   ├── StoreUnavailable  5     store_unavailable  not reachable, busy or full; nothing was changed
    │   │   └── StoreAbsent   5     store_unavailable  reachable, but it contains no queue
    │   └── StoreUnusable     5     store_unusable     must not be used: corrupt, newer, read-only
    ├── OutcomeUnknown        75    unknown            the reply was lost; repeating the same call is safe
    ├── MissingExtra          5     missing_extra      a library of an optional part is not installed
    ├── Unauthenticated       1     unauthenticated    the server requires a token, or does not accept this one
    ├── Forbidden             1     forbidden          the token does not allow it
    ├── CommandFailed         1     failed             the command could not be carried out
    ├── UnreadableJob         1     unreadable         the stored job cannot be decoded
    └── InternalError         1     internal           a bug in this program

A message says what is wrong and where; a hint says what to do next. Both are sentences for a person, without a
trailing newline. Errors of libraries are translated where the library is called, with the cause kept.
"""


class QueuectlError(Exception):
    """The base of all errors that queuectl raises deliberately."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(QueuectlError):
    """The input is invalid or out of range. Nothing was changed.

    `index` is the position of the wrong item where several were given. `pointer` is the JSON pointer (RFC 6901) to the
    wrong value in a JSON document.
    """

    code = "invalid_input"
    exit_code = 2
    index: int | None = None
    pointer: str | None = None


class NotFound(QueuectlError):
    """The job, queue, worker or key does not exist."""

    code = "not_found"
    exit_code = 3


class Conflict(QueuectlError):
    """The state does not allow the call, the id exists with other content, or another job has the unique key."""

    code = "conflict"
    exit_code = 4


class Changed(Conflict):
    """A job, a queue or a setting has another version than the caller expects. Nothing was changed."""

    code = "changed"


class StoreError(QueuectlError):
    """The store could not carry out the call. Nothing was changed."""

    code = "store_error"
    exit_code = 5


class StoreUnavailable(StoreError):
    """The store cannot be reached, stays busy, or is full. A later try may succeed."""

    code = "store_unavailable"


class StoreAbsent(StoreUnavailable):
    """The store was reached and contains no queue. Only commands that may create a queue create one.

    `description` is the `Description` of the server, if it has one.
    """

    description: object = None


class StoreUnusable(StoreError):
    """The store was reached and must not be used: corrupt, of a newer schema, read-only, or on a network disk."""

    code = "store_unusable"


class StoreGone(StoreUnusable):
    """The URL no longer names the same queue, or names no queue. `was_open`: it named one when the store was opened."""

    def __init__(self, message: str, hint: str | None = None, *, was_open: bool = False) -> None:
        super().__init__(message, hint)
        self.was_open = was_open


class OutcomeUnknown(QueuectlError):
    """The request was sent and its reply was lost (guarantee G2). Repeating the same call is safe.

    `ids` are the ids of the jobs that an enqueue may have stored: enqueue them again under these.
    """

    code = "unknown"
    exit_code = 75
    ids: tuple[str, ...] = ()


class MissingExtra(QueuectlError):
    """A library that an optional part of queuectl needs is not installed."""

    code = "missing_extra"
    exit_code = 5


class Unauthenticated(QueuectlError):
    """The server requires a token, or does not accept the token that was sent."""

    code = "unauthenticated"


class Forbidden(QueuectlError):
    """The token is valid, but does not allow the request."""

    code = "forbidden"


class CommandFailed(QueuectlError):
    """The command is valid, but could not be carried out."""

    code = "failed"


class UnreadableJob(QueuectlError):
    """The stored job cannot be decoded, because a person edited it or a disk damaged it."""

    code = "unreadable"

    def __init__(self, id: str, number: int, reason: str) -> None:
        super().__init__(
            f"job {number} ({id}) cannot be read: {reason}", f"queuectl delete {number} deletes it for good"
        )
        self.id, self.number, self.reason = id, number, reason


class InternalError(QueuectlError):
    """A bug in this program: an unexpected exception."""

    code = "internal"

    def __init__(self, error: Exception) -> None:
        what = " ".join(str(error).split())
        super().__init__(
            f"internal error: {type(error).__name__}{': ' if what else ''}{what}",
            "this is a bug in queuectl: run it again with -v, and report its output and that of queuectl doctor",
        )
        self.__cause__ = error
