"""A reader of output continues at any byte, over retries, and reads every attempt in order."""

from collections.abc import Iterator

import pytest

from cli.acting import Actor
from queuectl.domain.job import Job
from queuectl.domain.output import STDERR, STDOUT, Chunk, Piece, between
from queuectl.service.following import Begin, End, Part, Position, chunk_before, start_of
from queuectl.service.local_queue import LocalQueue
from queuectl.service.request.fields import JobRequest
from queuectl.service.shapes import output as shapes
from queuectl.store.memory import MemoryStore


class AtTheEnd(Exception):
    """All output so far has been read."""


@pytest.fixture
def actor(store: MemoryStore) -> Actor:
    return Actor(store)


@pytest.fixture
def id(queue: LocalQueue) -> str:
    queue.enqueue([JobRequest(id="a", command="x", max_retries=3)])
    return "a"


def stop(_job: object) -> None:
    raise AtTheEnd


def so_far(queue: LocalQueue, after: Position | None = None, attempt: int | None = None) -> list[Part]:
    """The parts until the reader would have to wait, or until the end."""
    return list(_until_it_waits(queue.follow("a", after=after, attempt=attempt, look=stop)))


def _until_it_waits(parts: Iterator[Part]) -> Iterator[Part]:
    try:
        yield from parts
    except AtTheEnd:
        return


def data(parts: list[Part]) -> bytes:
    return b"".join(part.data for part in parts if isinstance(part, Chunk))


def test_a_reader_continues_at_every_byte(queue: LocalQueue, actor: Actor, id: str) -> None:
    actor.take(id)
    actor.prints(id, b"one", b"\xe6\x97\xa5", b"four")
    for offset in range(11):
        parts = so_far(queue, Position("a-1", offset))
        assert data(parts) == b"one\xe6\x97\xa5four"[offset:]
        assert [part.offset for part in parts if isinstance(part, Chunk)][:1] == (
            [offset] if offset < 10 else []
        )


def test_a_reader_continues_with_the_retries_that_it_missed(queue: LocalQueue, actor: Actor, id: str) -> None:
    for text in (b"first", b"second", b"third"):
        actor.take(id)
        actor.prints(id, text)
        actor.ends(id, exit_code=1)
    parts = so_far(queue, Position("a-1", 2))
    assert data(parts) == b"rstsecondthird"
    assert [part.attempt for part in parts if isinstance(part, Begin)] == [2, 3]


def test_without_a_position_reading_starts_at_the_newest_attempt(
    queue: LocalQueue, actor: Actor, id: str
) -> None:
    for text in (b"first", b"second"):
        actor.take(id)
        actor.prints(id, text)
        actor.ends(id, exit_code=1)
    assert data(so_far(queue)) == b"second"


def test_a_reader_that_came_before_the_first_attempt_reads_all_of_them(
    queue: LocalQueue, actor: Actor, id: str
) -> None:
    def two_attempts(job: Job) -> None:
        if job.history:
            raise AtTheEnd
        for text in (b"first", b"second"):
            actor.take(id)
            actor.prints(id, text)
            actor.ends(id, exit_code=1)

    assert data(list(_until_it_waits(queue.follow("a", look=two_attempts)))) == b"firstsecond"


def test_the_output_of_one_attempt_ends_although_its_job_is_retried(
    queue: LocalQueue, actor: Actor, id: str
) -> None:
    actor.take(id)
    actor.prints(id, b"first")
    actor.ends(id, exit_code=1)
    actor.take(id)
    parts = so_far(queue, attempt=1)
    assert data(parts) == b"first"
    assert isinstance(parts[-1], End)


def test_the_output_of_another_job_is_not_returned(queue: LocalQueue, actor: Actor, id: str) -> None:
    queue.enqueue([JobRequest(id="b", command="x")])
    actor.take("b")
    actor.prints("b", b"of b")
    actor.take(id)
    actor.prints(id, b"of a")
    assert data(so_far(queue, Position("b-1", 0))) == b"of a"


def test_many_small_chunks_are_read_in_few_calls(queue: LocalQueue, actor: Actor, id: str) -> None:
    actor.take(id)
    actor.prints(id, *(b"%d\n" % n for n in range(600)))
    calls = []
    read = actor.store.read_output
    actor.store.read_output = lambda *given: calls.append(given) or read(*given)  # type: ignore[func-returns-value, method-assign, assignment]
    assert data(so_far(queue)) == b"".join(b"%d\n" % n for n in range(600))
    assert len(calls) == 5


def fails_twice(actor: Actor, id: str) -> None:
    for text in (b"first", b"second"):
        actor.take(id)
        actor.prints(id, text)
        actor.ends(id, exit_code=1)


class TestRestart:
    """A reader that starts again from its position reads what a reader without a break would have read."""

    def test_before_the_first_attempt(self, queue: LocalQueue, actor: Actor, id: str) -> None:
        start = start_of(queue.show(id))
        fails_twice(actor, id)
        assert data(so_far(queue, start)) == b"firstsecond"

    def test_after_the_shown_attempt_was_given_back(self, queue: LocalQueue, actor: Actor, id: str) -> None:
        actor.take(id)
        [begin] = so_far(queue)
        actor.gives_back(id)
        fails_twice(actor, id)
        parts = so_far(queue, Position("", 0).after(begin))
        assert data(parts) == b"firstsecond"
        assert [part.attempt for part in parts if isinstance(part, Begin)] == [1, 2]

    def test_after_the_newest_attempt_was_given_back(self, queue: LocalQueue, actor: Actor, id: str) -> None:
        actor.runs(id, b"zero", exit_code=1)
        actor.take(id)
        start = start_of(queue.show(id))
        assert start.attempt == 2
        actor.gives_back(id)
        fails_twice(actor, id)
        assert data(so_far(queue, start)) == b"firstsecond"

    def test_one_attempt_that_was_given_back(self, queue: LocalQueue, actor: Actor, id: str) -> None:
        actor.take(id)
        [begin] = so_far(queue, attempt=1)
        position = Position("", 0).after(begin)
        actor.gives_back(id)
        assert so_far(queue, position, attempt=1) == []
        fails_twice(actor, id)
        assert data(so_far(queue, position, attempt=1)) == b"first"

    def test_with_an_attempt_that_the_history_has_dropped(
        self, queue: LocalQueue, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"old", exit_code=1)
        for n in range(25):
            for _ in queue.retry([id]):
                pass
            actor.runs(id, b"%d " % n, exit_code=1)
        known = b"".join(b"%d " % n for n in range(5, 25))
        assert data(so_far(queue, Position("unknown", 3))) == known
        assert data(so_far(queue, Position("a-1", 3, attempt=1))) == known


class TestCost:
    """A reader that continues reads what is new, not the output before it."""

    @pytest.fixture
    def read(self, actor: Actor, id: str, monkeypatch: pytest.MonkeyPatch) -> list[Chunk]:
        """The chunks that are read from the store; the running attempt has 600 of them."""
        actor.take(id)
        actor.prints(id, *(b"%06d\n" % n for n in range(600)))
        found, read_output = list[Chunk](), actor.store.read_output

        def reading(attempt_id: str, after: int, limit: int) -> list[Chunk]:
            chunks = read_output(attempt_id, after, limit)
            found.extend(chunks)
            return chunks

        monkeypatch.setattr(actor.store, "read_output", reading)
        return found

    def test_with_a_chunk_in_its_position(self, queue: LocalQueue, actor: Actor, read: list[Chunk]) -> None:
        position = Position("", 0)
        for part in so_far(queue):
            position = position.after(part)
        assert (position.offset, position.chunk) == (4200, 600)
        del read[:]
        assert so_far(queue, position) == []
        actor.prints("a", b"new")
        assert data(so_far(queue, position)) == b"new"
        assert len(read) == 1

    def test_with_an_offset_alone(self, queue: LocalQueue, read: list[Chunk]) -> None:
        assert data(so_far(queue, Position("a-1", 4193))) == b"000599\n"
        assert len(read) < 15

    @pytest.mark.usefixtures("read")
    @pytest.mark.parametrize("offset", [0, 1, 6, 7, 8, 350, 351, 352, 4199, 4200, 4201, 10**17])
    def test_the_chunk_before_an_offset_is_found(self, actor: Actor, id: str, offset: int) -> None:
        actor.forgets(id, 51, 550)  # the chunks from 52 on, that is the bytes from 357 to 3843, are not kept
        found = chunk_before(actor.store, "a-1", offset)
        stored = actor.store.read_output("a-1", 0, 1000)
        assert found == max((chunk.n for chunk in stored if chunk.n * 7 <= offset), default=0)


class TestShapes:
    def test_an_output_can_be_decoded_from_its_json(self, queue: LocalQueue, actor: Actor, id: str) -> None:
        actor.take(id)
        actor.prints(id, b"text")
        actor.prints(id, b"\xff\xfe", skip=3)
        found = queue.output(id)
        assert shapes.output_of(shapes.output(found), found.job) == found

    def test_parts_can_be_decoded_from_their_json(self, queue: LocalQueue, actor: Actor, id: str) -> None:
        actor.take(id)
        actor.prints(id, b"text", b"\xff")
        begin, *chunks = so_far(queue)
        assert isinstance(begin, Begin)
        assert shapes.begin_of(shapes.begin(begin)) == begin
        for chunk in chunks:
            assert isinstance(chunk, Chunk)
            assert shapes.chunk_of(shapes.chunk(chunk), id, "a-1") == chunk

    def test_the_end_contains_the_result_of_the_attempt(
        self, queue: LocalQueue, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"x", exit_code=3)
        assert shapes.end(queue.show(id), "a-1") == {
            "state": "failed", "outcome": "exited", "exit_code": 3, "signal": None
        }  # fmt: skip
        assert shapes.end(None, "a-1") == {"state": None, "outcome": None, "exit_code": None, "signal": None}


def test_a_range_of_an_output_counts_the_omitted_bytes() -> None:
    pieces = [Piece(STDOUT, b"abc"), Piece(0, omitted=5), Piece(STDERR, b"xyz")]
    assert between(pieces, 0, 11) == pieces
    assert between(pieces, 1, 9) == [Piece(STDOUT, b"bc"), Piece(0, omitted=5), Piece(STDERR, b"x")]
    assert between(pieces, 4, 6) == [Piece(0, omitted=2)]
    assert between(pieces, 11, 20) == []
