"""A reader of output continues at any byte, over retries, and reads every attempt in order."""

from collections.abc import Iterator

import pytest

from cli.acting import Actor
from queuectl.domain.job import Job
from queuectl.domain.output import STDERR, STDOUT, Chunk, Piece, between
from queuectl.service.following import Begin, End, Part, Position
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
        parts = so_far(queue, ("a-1", offset))
        assert data(parts) == b"one\xe6\x97\xa5four"[offset:]
        assert [part.offset for part in parts if isinstance(part, Chunk)][:1] == (
            [offset] if offset < 10 else []
        )


def test_a_reader_continues_with_the_retries_that_it_missed(queue: LocalQueue, actor: Actor, id: str) -> None:
    for text in (b"first", b"second", b"third"):
        actor.take(id)
        actor.prints(id, text)
        actor.ends(id, exit_code=1)
    parts = so_far(queue, ("a-1", 2))
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
    assert data(so_far(queue, ("b-1", 0))) == b"of a"


def test_many_small_chunks_are_read_in_few_calls(queue: LocalQueue, actor: Actor, id: str) -> None:
    actor.take(id)
    actor.prints(id, *(b"%d\n" % n for n in range(600)))
    calls = []
    read = actor.store.read_output
    actor.store.read_output = lambda *given: calls.append(given) or read(*given)  # type: ignore[func-returns-value, method-assign, assignment]
    assert data(so_far(queue)) == b"".join(b"%d\n" % n for n in range(600))
    assert len(calls) == 5


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
