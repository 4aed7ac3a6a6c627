"""Output is written to the store: exactly head and tail are kept for all chunk sizes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import LEASE, NOW, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.job import Job
from queuectl.domain.output import assemble, head_size
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.memory import MemoryStore
from queuectl.worker.agent import output
from queuectl.worker.agent.output import OutputShipper
from queuectl.worker.protocol import Message, Output, to_fields

WORKER = "w1"


class Line:
    """The end of a line that remembers what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def queue(self, message: Message, _payload: bytes = b"") -> None:
        """Queue a message for the next flush."""
        self.sent.append(to_fields(message))


class Ship:
    """A running job of a store, its output on the way there."""

    def __init__(self, limit: int = 1 << 20, store: Any = None) -> None:
        self.store = store or MemoryStore()
        self.store.add([new_job("a", now=self.store.now())])
        self.job: Job = self.store.claim(WORKER, [], 1, LEASE)[0]
        self.attempt = self.job.attempt_id or ""
        self.line = Line()
        self.outputs = OutputShipper(self.store)
        self.outputs.expect(self.attempt, limit)
        self.limit, self.total, self.n = limit, 0, 0

    def prints(self, data: bytes, skip: int = 0) -> None:
        """Receive output from the holder."""
        self.total += skip
        self.n += 1
        message = Output(self.attempt, "a", self.n, 0, 0.0, self.total)
        self.outputs.add(message, data)
        self.total += len(data)

    def write(self) -> None:
        """Store the waiting output."""
        self.outputs.write(self.line)  # type: ignore[arg-type]

    def tries(self) -> bool:
        """Store what waits, if that can be done."""
        return self.outputs.try_to_write(self.line)  # type: ignore[arg-type]

    def stored(self) -> list[Any]:
        """The chunks that the store has."""
        return list(self.store.read_output(self.attempt, 0, 10_000))

    def shown(self) -> tuple[bytes, int]:
        """The shown bytes, and the number of bytes reported as omitted."""
        pieces = assemble(self.stored(), self.limit, self.total)
        return b"".join(piece.data for piece in pieces), sum(piece.omitted for piece in pieces)


def head_and_tail(data: bytes, limit: int) -> bytes:
    """The head and tail of an output."""
    return data if len(data) <= limit else data[: head_size(limit)] + data[len(data) - limit // 2 :]


CHUNKS = st.lists(st.binary(min_size=1, max_size=30), max_size=40)


@given(CHUNKS, st.integers(0, 64), st.sets(st.integers(0, 40)))
def test_exactly_head_and_tail_are_shown_for_all_chunk_sizes(
    chunks: list[bytes], limit: int, pauses: set[int]
) -> None:
    ship = Ship(limit)
    for number, chunk in enumerate(chunks):
        ship.prints(chunk)
        if number in pauses:
            ship.write()
    ship.write()
    whole = b"".join(chunks)
    kept = head_and_tail(whole, limit)
    assert ship.shown() == (kept, len(whole) - len(kept))


@given(CHUNKS, st.integers(0, 64))
def test_the_store_keeps_little_more_than_the_limit(chunks: list[bytes], limit: int) -> None:
    ship = Ship(limit)
    for chunk in chunks:
        ship.prints(chunk)
        ship.write()
    held = sum(len(chunk.data) for chunk in ship.stored())
    # A chunk that lies across an edge is kept whole: at most one at each.
    assert held <= limit + 2 * 30


class Failing(MemoryStore):
    """A store whose writes fail: before the write, or after it, so that only the answer is lost."""

    def __init__(self, *fails: str) -> None:
        super().__init__()
        self._fails = list(fails)

    def write_output(self, *args: Any) -> set[str]:
        how = self._fails.pop(0) if self._fails else "well"
        answer = set() if how == "before" else super().write_output(*args)
        if how != "well":
            raise StoreUnavailable("away")
        return answer


@pytest.mark.parametrize("how", ["before", "after"])
def test_output_of_a_failed_write_is_written_once_later(how: str) -> None:
    ship = Ship(store=Failing(how))
    ship.prints(b"one ")
    with pytest.raises(StoreUnavailable):
        ship.write()
    assert ship.outputs.pending
    assert ship.line.sent == []
    ship.prints(b"two")
    ship.write()
    assert not ship.outputs.pending
    assert ship.shown() == (b"one two", 0)
    assert ship.line.sent == [{"type": "ack_output", "attempt_id": ship.attempt, "n": 2}]


class Unusable(MemoryStore):
    """A store that keeps no output."""

    def write_output(self, *_: Any) -> set[str]:
        raise StoreUnusable("no rights")


def test_a_result_waits_for_its_output_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(output, "boottime", lambda: now)
    ship = Ship(store=Failing("before", "before"))
    ship.prints(b"x")
    assert not ship.tries()
    assert ship.outputs.unwritten() == {ship.attempt}
    assert ship.outputs.retry_at == now + output.RETRY_AFTER
    now += output.GIVE_UP_AFTER
    assert not ship.tries()
    assert ship.outputs.unwritten() == frozenset()
    assert ship.tries()
    assert (ship.outputs.unwritten(), ship.outputs.fault) == (frozenset(), None)


def test_a_result_without_unwritten_output_does_not_wait() -> None:
    ship = Ship(store=Failing("before"))
    ship.prints(b"x")
    assert not ship.tries()
    ship.outputs.expect("quiet", 100)
    assert "quiet" not in ship.outputs.unwritten()


def test_a_result_does_not_wait_after_a_permanent_error_of_its_output() -> None:
    ship = Ship(store=Unusable())
    ship.prints(b"x")
    assert not ship.tries()
    assert isinstance(ship.outputs.fault, StoreUnusable)
    assert ship.outputs.unwritten() == {ship.attempt}, "one refusal may be the last one"
    assert not ship.tries()
    assert ship.outputs.unwritten() == frozenset()


def test_refusals_during_an_outage_of_the_store_are_not_counted() -> None:
    ship = Ship(store=Unusable())
    ship.prints(b"x")
    for _ in range(3):
        assert not ship.tries()
        ship.outputs.note_outage()
    assert not ship.tries()
    assert ship.outputs.unwritten() == {ship.attempt}


def test_a_trim_that_failed_during_an_outage_is_repeated() -> None:
    ship = Ship(limit=20, store=Failing(*["well"] * 4, "before"))
    for _ in range(40):
        ship.prints(b"x" * 10)
        try:
            ship.write()
        except StoreUnavailable:
            continue
    assert sum(len(chunk.data) for chunk in ship.stored()) == 20


def test_each_attempt_is_acknowledged_up_to_its_newest_chunk() -> None:
    ship = Ship()
    for _ in range(3):
        ship.prints(b"x")
    ship.write()
    ship.write()
    assert ship.line.sent == [{"type": "ack_output", "attempt_id": ship.attempt, "n": 3}]


def test_no_output_is_written_for_a_forgotten_attempt() -> None:
    ship = Ship()
    ship.prints(b"x")
    ship.outputs.forget(ship.attempt)
    assert not ship.outputs.pending
    ship.write()
    assert ship.stored() == []


def test_a_late_chunk_of_a_lost_attempt_is_refused_and_still_acknowledged() -> None:
    ship = Ship()
    ended: Job = lifecycle.finish(ship.job, report(now=NOW), now=ship.store.now(), random_number=0.5)
    assert statuses(ship.store.save([ended])) == ["accepted"]
    ship.prints(b"late")
    ship.write()
    assert ship.stored() == []
    assert [message["n"] for message in ship.line.sent] == [1]
    assert not ship.outputs.pending


def test_bytes_that_the_holder_did_not_keep_are_counted_as_omitted() -> None:
    ship = Ship(limit=8)
    ship.prints(b"abcd")
    ship.prints(b"wxyz", skip=1000)
    ship.write()
    assert ship.shown() == (b"abcdwxyz", 1000)
