"""When a PostgreSQL server owes no answer any more: read off the messages as they go by."""

import struct

from servers.talk import PostgresTalk

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


def test_a_flush_after_the_sync_asks_for_nothing() -> None:
    talk = logged_in()
    talk.sent(EXECUTE + SYNC + FLUSH)
    talk.answered(READY)
    assert talk.settled()
