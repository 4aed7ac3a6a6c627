"""When a server owes no answer any more: read off the messages as they go by."""

import struct

from servers.talk import MongoTalk, PostgresTalk

ENCRYPTION = struct.pack("!II", 8, 80877103)
STARTUP = struct.pack("!II", 13, 196608) + b"user\0"


def message(letter: bytes, body: bytes = b"") -> bytes:
    """A message of either side."""
    return letter + struct.pack("!I", 4 + len(body)) + body


PARSE, BIND, EXECUTE, SYNC, FLUSH = (message(letter, b"...") for letter in (b"P", b"B", b"E", b"S", b"H"))
QUERY = message(b"Q", b"SELECT 'Z'\0")
ROW = message(b"D", b"Z" * 20)
READY = message(b"Z", b"I")


def logged_in() -> PostgresTalk:
    """A connection whose login is over."""
    talk = PostgresTalk()
    talk.sent(ENCRYPTION)
    talk.answered(b"N")
    talk.sent(STARTUP)
    talk.answered(message(b"R", b"\0\0\0\0") + READY)
    return talk


def test_a_login_is_answered_by_the_first_ready() -> None:
    talk = PostgresTalk()
    talk.sent(ENCRYPTION)
    talk.answered(b"N")
    talk.sent(STARTUP)
    assert not talk.settled()
    talk.answered(READY)
    assert talk.settled()


def test_a_query_is_answered_by_its_ready_and_by_nothing_before_it() -> None:
    talk = logged_in()
    talk.sent(QUERY)
    talk.answered(ROW)
    assert not talk.settled()
    talk.answered(READY)
    assert talk.settled()


def test_each_of_several_queries_is_owed_an_answer() -> None:
    talk = logged_in()
    talk.sent(QUERY + QUERY)
    talk.answered(ROW + READY)
    assert not talk.settled()
    talk.answered(ROW + READY)
    assert talk.settled()


def test_messages_in_pieces_are_counted_once() -> None:
    talk = logged_in()
    for byte in QUERY:
        talk.sent(bytes([byte]))
    for byte in ROW + READY:
        assert not talk.settled()
        talk.answered(bytes([byte]))
    assert talk.settled()


def test_what_was_said_before_a_sync_is_not_answered_yet() -> None:
    talk = logged_in()
    talk.sent(PARSE + BIND + EXECUTE)
    assert not talk.settled()
    talk.sent(SYNC)
    assert not talk.settled()
    talk.answered(READY)
    assert talk.settled()


def test_half_a_query_is_not_answered() -> None:
    talk = logged_in()
    talk.sent(QUERY[:-1])
    assert not talk.settled()


def test_a_flush_after_the_sync_asks_for_nothing() -> None:
    talk = logged_in()
    talk.sent(EXECUTE + SYNC + FLUSH)
    talk.answered(READY)
    assert talk.settled()


# MongoDB

OP_REPLY, OP_QUERY, OP_COMPRESSED, OP_MSG = 1, 2004, 2012, 2013
MORE_TO_COME, EXHAUST_ALLOWED = 1 << 1, 1 << 16


def op(code: int, number: int, body: bytes = b"\xff" * 20, *, answers: int = 0) -> bytes:
    """A message of MongoDB's, of either side. (Its body is as full of flags as can be.)"""
    return struct.pack("<iiii", 16 + len(body), number, answers, code) + body


def msg(number: int, *, answers: int = 0, flags: int = 0) -> bytes:
    """One of the kind that has flags."""
    return op(OP_MSG, number, struct.pack("<I", flags) + b"\0a document", answers=answers)


def test_a_request_is_answered_by_the_reply_that_names_it() -> None:
    talk = MongoTalk()
    talk.sent(msg(7))
    talk.answered(msg(100, answers=6))
    assert not talk.settled()
    talk.answered(msg(101, answers=7))
    assert talk.settled()


def test_each_of_several_requests_is_owed_a_reply() -> None:
    talk = MongoTalk()
    talk.sent(msg(1) + msg(2))
    talk.answered(msg(100, answers=2))
    assert not talk.settled()
    talk.answered(msg(101, answers=1))
    assert talk.settled()


def test_an_old_query_and_a_compressed_request_are_owed_a_reply() -> None:
    talk = MongoTalk()
    for number, request, reply in ((1, OP_QUERY, OP_REPLY), (2, OP_COMPRESSED, OP_COMPRESSED)):
        talk.sent(op(request, number))
        assert not talk.settled()
        talk.answered(op(reply, 100 + number, answers=number))
        assert talk.settled()


def test_requests_and_replies_in_pieces_are_counted_once() -> None:
    talk = MongoTalk()
    for byte in msg(1) + msg(2, flags=MORE_TO_COME) + msg(3):
        talk.sent(bytes([byte]))
        assert not talk.settled()
    for byte in msg(100, answers=1) + msg(101, answers=3):
        assert not talk.settled()
        talk.answered(bytes([byte]))
    assert talk.settled()


def test_a_request_that_wants_no_reply_is_owed_none() -> None:
    talk = MongoTalk()
    talk.sent(msg(1, flags=MORE_TO_COME))
    assert talk.settled()


def test_half_a_request_is_not_answered() -> None:
    talk = MongoTalk()
    talk.sent(msg(1, flags=MORE_TO_COME)[:-1])
    assert not talk.settled()


def test_a_stream_of_replies_is_one_answer() -> None:
    talk = MongoTalk()
    talk.sent(msg(1, flags=EXHAUST_ALLOWED))
    talk.answered(msg(100, answers=1, flags=MORE_TO_COME))
    assert talk.settled()
    talk.answered(msg(101, answers=100, flags=MORE_TO_COME) + msg(102, answers=101, flags=MORE_TO_COME))
    talk.sent(msg(2))
    talk.answered(msg(103, answers=102))
    assert not talk.settled()
    talk.answered(msg(104, answers=2))
    assert talk.settled()
