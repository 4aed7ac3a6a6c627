"""Follows output over HTTP: an event stream, which is opened again at the same byte for as long as it takes."""

from collections.abc import Callable, Iterator

from queuectl.domain.job import Job
from queuectl.errors import NotFound, StoreUnavailable
from queuectl.http.client import reading
from queuectl.http.client.channel import Channel, part
from queuectl.http.client.connection import NotSent, ReplyLost
from queuectl.http.client.decoding import understood
from queuectl.http.client.streams import Event, Refused, check, opened
from queuectl.http.client.tries import FIRST_PAUSE, LONGEST_PAUSE
from queuectl.service.following import End, Part, Position
from queuectl.service.shapes.output import begin_of, chunk_of, event_id

Notice = Callable[[str], None]


class Follower:
    """Reads the output of one job."""

    def __init__(
        self, channel: Channel, id: str, attempt: int | None, after: Position | None, notice: Notice
    ) -> None:
        self._channel, self._id, self._attempt, self._notice = channel, id, attempt, notice
        self._shown = after.attempt_id if after else ""
        """The attempt id of the output that comes next."""
        self._last_id = _id_of(after) if after else None
        self._has_said = False

    def parts(self, look: Callable[[Job], None]) -> Iterator[Part]:
        """The output as it is printed, until the job or the attempt has ended."""
        pause = FIRST_PAUSE
        if self._last_id is None:  # why a job does not run is told at once, as with a store
            self._look(look)
        while True:
            for item in self._events():
                if item is None:
                    self._look(look)
                elif isinstance(item, Event):
                    pause = FIRST_PAUSE
                    found = self._part(item)
                    self._last_id = item.id or self._last_id
                    if found is not None:
                        yield found
                    if isinstance(found, End):
                        return
            self._channel.pause(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _look(self, look: Callable[[Job], None]) -> None:
        try:
            look(reading.show(self._channel, self._id))
        except (StoreUnavailable, NotFound):  # the stream tells about both
            return

    def _part(self, event: Event) -> Part | None:
        """What an event says; None for one that only this class needs."""
        with understood(self._channel):
            if event.name == "attempt":
                begin, shown = begin_of(event.data), self._shown
                self._shown = begin.attempt_id
                return None if self._shown == shown else begin  # the server may name it once more
            if event.name == "output" and self._shown:
                return chunk_of(event.data, self._id, self._shown)
            if event.name == "end":
                return End(None if event.data["state"] is None else reading.show(self._channel, self._id))
        return None

    def _events(self) -> Iterator[Event | None]:
        """The events of one connection; None where nothing came for a moment. Ends when the connection breaks."""
        path = f"/v1/jobs/{part(self._id)}/output"
        target = self._channel.target(path, {"attempt": self._attempt, "follow": 1})
        try:
            stream = opened(self._channel, target, self._last_id)
            end = self._refused(stream) if isinstance(stream, Refused) else None
        except (NotSent, ReplyLost, StoreUnavailable) as error:
            self._say(str(error))
            return
        if isinstance(stream, Refused):
            if end is not None:
                yield end
            return
        self._has_said = False
        try:
            yield from stream.until_closed()
        finally:
            stream.close()

    def _refused(self, refused: Refused) -> Event | None:
        """The end of the output, if its event was lost: the server has no more events, or no job any more.

        Raises the error of another answer that is no stream, unless a later try may be answered.
        """
        if refused.reply.status == 204:
            return Event("end", None, {"state": "ended"})
        try:
            check(self._channel, refused)
        except NotFound:
            if self._last_id is None:
                raise
            return Event("end", None, {"state": None})
        return None

    def _say(self, why: str) -> None:
        """Tell once that the stream is broken."""
        if not self._has_said:
            self._notice(
                f"queuectl: {self._channel.address.url} does not answer ({why}); the output goes on when it does"
            )
        self._has_said = True


def _id_of(at: Position) -> str:
    """The id that continues at this position.

    An attempt that has printed nothing may have been given back, so its number is sent instead of its id.
    """
    return event_id(at if at.offset or not at.attempt else at._replace(attempt_id=""))
