"""Reading events: pages, filters, and a follower that outlives the absence of its store."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from factories import NOW
from queuectl.domain.event import Event
from queuectl.domain.where import parse
from queuectl.errors import InvalidInput, StoreUnavailable
from queuectl.service import commands, events
from queuectl.service.events import LocalEvents, Selected, kinds_of
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.service.shapes import events as shapes
from queuectl.store.memory import MemoryStore
from service.conftest import Overtaken


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pauses of a follower."""
    monkeypatch.setattr(events, "PACE", 0.0)
    monkeypatch.setattr(events, "LATE", 0.01)


def enqueue(queue: LocalQueue, /, *ids: str, **fields: Any) -> None:
    queue.enqueue([JobRequest(id=id, command="true", **fields) for id in ids])


def where(text: str) -> Selected:
    return Selected(where=parse(text, NOW))


def told(found: list[tuple[str, Event]]) -> list[tuple[str, str]]:
    return [(event.event.removeprefix("job."), event.job) for _, event in found]


class TestPage:
    def test_a_page_goes_on_where_the_last_one_ended(self, queue: LocalQueue) -> None:
        enqueue(queue, *(f"j{n}" for n in range(7)))
        reader, after, seen = queue.events(), None, list[tuple[str, str]]()
        while (page := reader.page(after, 3)).events:
            seen, after = seen + told(page.events), page.next
        assert seen == [("enqueued", f"j{n}") for n in range(7)]
        assert reader.page(after, 3).next == after

    def test_kinds_and_a_filter_select_events(self, queue: LocalQueue) -> None:
        enqueue(queue, "a", queue="mail", batch="b")
        enqueue(queue, "b")
        list(queue.cancel(["a"]))
        list(queue.delete(["a"]))
        reader = queue.events()
        assert told(reader.page(None, 9, Selected(kinds_of("deleted,job.enqueued"))).events) == [
            ("enqueued", "a"),
            ("enqueued", "b"),
            ("deleted", "a"),
        ]
        of_mail = [("enqueued", "a"), ("cancelled", "a"), ("deleted", "a")]
        assert told(reader.page(None, 9, where("queue:mail")).events) == of_mail
        assert told(reader.page(None, 9, where("batch:b")).events) == of_mail
        assert told(reader.page(None, 9, where("state:pending")).events) == [
            ("enqueued", "a"),
            ("enqueued", "b"),
        ]
        assert told(reader.page(None, 9, where("cmd:true")).events) == [("enqueued", "b")]

    def test_a_filter_reads_further_until_the_page_is_full(
        self, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "STEP", 2)
        for n in range(9):
            enqueue(queue, f"j{n}", queue="mail" if n in (1, 6, 8) else "other")
        reader = queue.events()
        first = reader.page(None, 2, where("queue:mail"))
        assert told(first.events) == [("enqueued", "j1"), ("enqueued", "j6")]
        assert told(reader.page(first.next, 2, where("queue:mail")).events) == [("enqueued", "j8")]

    def test_a_page_looks_at_a_bounded_number_of_events(
        self, queue: LocalQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "STEP", 2)
        monkeypatch.setattr(events, "LOOKED_AT", 4)
        enqueue(queue, *(f"j{n}" for n in range(9)))
        enqueue(queue, "m", queue="mail")
        page = queue.events().page(None, 5, where("queue:mail"))
        assert page.events == []
        later = queue.events().page(page.next, 5, where("queue:mail"))
        assert told(queue.events().page(later.next, 5, where("queue:mail")).events) == [("enqueued", "m")]

    @pytest.mark.parametrize("text", ["", "gone", "job.", "dead,", "completed;dead"])
    def test_an_unknown_kind_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidInput, match="there is no event"):
            kinds_of(text)


class TestFollow:
    def take(self, follower: Iterator[Any], count: int) -> list[Any]:
        return [next(follower) for _ in range(count)]

    def test_later_events_follow_the_earlier_ones(self, queue: LocalQueue, store: MemoryStore) -> None:
        enqueue(queue, "a", "b")
        reader = LocalEvents(store)
        follower = reader.follow(reader.cursor(NOW))
        assert told(self.take(follower, 2)) == [("enqueued", "a"), ("enqueued", "b")]
        list(queue.hold(["a"]))
        enqueue(queue, "c")
        assert told(self.take(follower, 2)) == [("held", "a"), ("enqueued", "c")]

    def test_an_outage_is_noted_once_and_no_event_is_repeated(
        self, queue: LocalQueue, overtaken: Overtaken, store: MemoryStore
    ) -> None:
        enqueue(queue, "a")
        notes, down = list[str](), [False, True, True, True, False]
        read = store.read_events

        def flaky(after: str | None, limit: int) -> Any:
            if down and down.pop(0):
                raise StoreUnavailable("the store is away")
            return read(after, limit)

        overtaken.replace("read_events", flaky)
        follower = LocalEvents(overtaken).follow("0", notice=notes.append)  # type: ignore[arg-type]
        assert told(self.take(follower, 1)) == [("enqueued", "a")]
        enqueue(queue, "b")
        assert told(self.take(follower, 1)) == [("enqueued", "b")]
        assert notes == ["the store is away; waiting for the store", "the store is back"]

    def test_deleted_events_are_one_gap(self, queue: LocalQueue, store: MemoryStore) -> None:
        enqueue(queue, *(f"j{n}" for n in range(5)))
        store.trim_events(NOW, 2, 10)
        with closing(LocalEvents(store).follow("1")) as follower:  # type: ignore[type-var]
            assert next(follower) is None
            assert told(self.take(follower, 2)) == [("enqueued", "j3"), ("enqueued", "j4")]


def test_the_document_of_an_event_has_all_keys_and_is_read_back(
    queue: LocalQueue, store: MemoryStore
) -> None:
    enqueue(queue, "a")
    commands.hold(store, ["a"])
    for cursor, event in store.read_events(None, 9).events:
        shown = shapes.event(cursor, event)
        assert list(shown) == [
            "schema", "event", "id", "at", "job", "number", "queue", "batch", "state", "before", "attempt",
            "attempt_id", "worker", "exit_code", "signal", "cause", "by", "via",
        ]  # fmt: skip
        assert shapes.event_of(shown) == (cursor, event)
    page = queue.events().page(None, 9)
    assert shapes.page_of(shapes.page(page.events, page.next, gap=page.gap)) == page
