"""The tries of one request: what is known after each of them, the pauses between them, and what is raised at the end.

| a try ends with | known about the change | what follows |
| --- | --- | --- |
| no connection; 429 or 503 of our server with `Retry-After` | not done | another try |
| no reply, or a broken one; 5xx of a proxy; 504 of our server | may be done | another try |
| another error | refused | the error |
| success | done | the answer |

The last error is raised when the patience ends. Once a change may be done, OutcomeUnknown replaces every error but
InvalidInput: the refusal of a repeated request says nothing about the first one, unless the request itself is wrong.
"""

from collections.abc import Callable, Iterator

from queuectl.clock import boottime
from queuectl.errors import InvalidInput, OutcomeUnknown, QueuectlError

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two tries: the pause doubles from the first to the longest."""

REPLY_TIMEOUT = 45.0
"""Seconds without a byte of the reply, after which it counts as lost. The server answers within 30 s, if at all."""

SHORTEST_WAIT = 5.0
"""Seconds that a read waits for its reply at least, however short the patience is."""

HELD = 0.5
"""Seconds after which a server that holds a request, because the request waits for something, counts as reached."""


class Tries:
    """The tries of one request.

    pause  waits for so many seconds
    waits  the request is a read that waits on the server: its patience begins again after each server that held it for
           a while, because a long wait outlives several servers
    """

    def __init__(
        self, patience: float, pause: Callable[[float], None], *, changes: bool, waits: bool = False
    ) -> None:
        self._patience, self._pause, self._changes, self._waits = patience, pause, changes, waits
        self._begun = boottime()
        self._deadline = self._begun + patience
        self._pauses = _pauses()
        self._was_sent = False

    @property
    def may_be_done(self) -> bool:
        """Whether a try may have made the change."""
        return self._was_sent and self._changes

    @property
    def seconds(self) -> float:
        """The time since the first try, or since a server held the request."""
        return boottime() - self._begun

    @property
    def connect_timeout(self) -> float:
        """Seconds that the next connection may take."""
        return max(self._deadline - boottime(), 0.5)

    @property
    def reply_timeout(self) -> float:
        """Seconds without a byte of the reply, after which it counts as lost. A reader is not kept much longer than the
        patience; the second reply to a change comes soon or not at all."""
        if self._was_sent:
            return max(self._deadline - boottime(), 0.5)
        return REPLY_TIMEOUT if self._changes else min(max(3 * self._patience, SHORTEST_WAIT), REPLY_TIMEOUT)

    def not_done(self, error: QueuectlError, pause: float | None = None) -> None:
        """Wait until the next try, for as long as the server asks. Raises an error if the patience ends before."""
        pause = next(self._pauses) if pause is None else pause
        if boottime() + pause > self._deadline:
            raise unknown(error) if self.may_be_done else error
        self._pause(pause)

    def lost(self, error: QueuectlError, held: float = 0.0) -> None:
        """Wait until the next try after one that may have made the change. The patience begins at the first such one.

        `held`: for how long the server held the request.
        """
        if self._waits and held > HELD:
            self._was_sent, self._pauses, self._begun = False, _pauses(), boottime()
        if not self._was_sent:
            self._was_sent, self._deadline = True, boottime() + self._patience
        self.not_done(error)

    def refusal(self, error: QueuectlError) -> QueuectlError:
        """What is raised for an error after which there is no other try."""
        return refused_again(error) if self.may_be_done else error


def unknown(
    error: QueuectlError, *, what: str = "the request was sent, and its reply is lost"
) -> OutcomeUnknown:
    """The error for a change that may be done. `error` says why no more is known."""
    found = OutcomeUnknown(f"{what}: {error.message}", "repeating the same command is safe")
    found.__cause__ = error
    return found


def refused_again(error: QueuectlError) -> QueuectlError:
    """The error of a change whose reply was lost and whose repetition was refused: the first request may be done."""
    if isinstance(error, InvalidInput):
        return error
    return unknown(error, what="the request was sent, and its reply is lost; sent again, it was refused")


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_PAUSE)
