"""Reads the events of a queue over HTTP: pages, and a stream that is opened again behind the last event."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from queuectl.domain.event import Event
from queuectl.domain.instant import format_instant
from queuectl.errors import StoreUnavailable
from queuectl.http.client import streams
from queuectl.http.client.channel import Channel
from queuectl.http.client.connection import NotSent, ReplyLost
from queuectl.http.client.decoding import understood
from queuectl.http.client.tries import FIRST_PAUSE, LONGEST_PAUSE
from queuectl.service.events import EVERYTHING, EventPage, Selected
from queuectl.service.shapes import events as shapes

PATH = "/v1/events"
MOST = 1000
"""Events in one answer."""
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
"""A time before all events."""

Found = tuple[str, Event] | None


class RemoteEvents:
    """`Events` of the queue behind a server."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def page(self, after: str | None, limit: int, selected: Selected = EVERYTHING) -> EventPage:
        """At most `limit` of the selected events behind a cursor."""
        begin = self.cursor(OLDEST) if after is None else after
        query = {"since": begin, "limit": min(limit, MOST), **_query_of(selected)}
        document = self._channel.read(PATH, query)
        with understood(self._channel):
            return shapes.page_of(document)

    def cursor(self, at: datetime | None) -> str:
        """The cursor behind all events that were written before this time."""
        since = "now" if at is None else format_instant(at)
        document = self._channel.read(PATH, {"since": since, "limit": 0})
        with understood(self._channel):
            return shapes.page_of(document).next

    def follow(
        self,
        after: str,
        selected: Selected = EVERYTHING,
        notice: Callable[[str], None] = lambda text: None,
        look: Callable[[bool], None] = lambda answers: None,
    ) -> Iterator[Found]:
        """The selected events behind a cursor, then each later one."""
        return _Follower(self._channel, after, selected, notice).events(look)


def _query_of(selected: Selected) -> dict[str, Any]:
    kinds, where = selected.kinds, selected.where
    return {
        "type": None if kinds is None else ",".join(sorted(kinds)),
        "where": None if where is None else where.text,
    }


class _Follower:
    """Follows the events through the ends of streams and servers."""

    def __init__(
        self, channel: Channel, after: str, selected: Selected, notice: Callable[[str], None]
    ) -> None:
        self._channel, self._last_id, self._notice = channel, after, notice
        self._target = channel.target(PATH, _query_of(selected))
        self._is_away = False

    def events(self, look: Callable[[bool], None]) -> Iterator[Found]:
        """The events, without end. The last id goes on where the stream before has ended."""
        pause = FIRST_PAUSE
        while True:
            for received in self._received():
                if received is None:
                    look(True)
                    continue
                pause = FIRST_PAUSE
                found = self._found(received)
                if found is not None or received.name == shapes.GAP["event"]:
                    yield found
                self._last_id = received.id or self._last_id
            look(False)
            self._channel.pause(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _found(self, received: streams.Event) -> Found:
        """The event in an event of the stream; None if there is none in it."""
        if not received.name.startswith("job."):
            return None
        with understood(self._channel):
            return shapes.event_of(received.data)

    def _received(self) -> Iterator[streams.Event | None]:
        """The events of one connection; None where nothing came for a moment. Ends when the connection breaks."""
        try:
            stream = streams.opened(self._channel, self._target, self._last_id)
            if isinstance(stream, streams.Refused):
                streams.check(self._channel, stream)
                return
        except (NotSent, ReplyLost, StoreUnavailable) as error:
            if not self._is_away:
                self._notice(f"{self._channel.address.url} does not answer ({error}); waiting for it")
            self._is_away = True
            return
        if self._is_away:
            self._notice(f"{self._channel.address.url} answers again")
        self._is_away = False
        try:
            yield from stream.until_closed()
        finally:
            stream.close()
