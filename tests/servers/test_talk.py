"""The messages between client and server show when all requests are answered."""

import struct

import pytest

from servers.talk import MongoTalk, PostgresTalk, RedisTalk

ENCRYPTION = struct.pack("!II", 8, 80877103)
STARTUP = struct.pack("!II", 13, 196608) + b"user\0"


def message(letter: bytes, body: bytes = b"") -> bytes:
    """A message of the client or the server."""
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


def test_the_first_ready_message_answers_a_login() -> None:
    talk = PostgresTalk()
    talk.sent(ENCRYPTION)
    talk.answered(b"N")
    talk.sent(STARTUP)
    assert not talk.settled()
    talk.answered(READY)
    assert talk.settled()


def test_only_the_ready_message_answers_a_query() -> None:
    talk = logged_in()
    talk.sent(QUERY)
    talk.answered(ROW)
    assert not talk.settled()
    talk.answered(READY)
    assert talk.settled()


def test_each_of_several_queries_needs_an_answer() -> None:
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


def test_messages_before_a_sync_are_not_answered_yet() -> None:
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


def test_a_flush_after_the_sync_needs_no_answer() -> None:
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


def test_a_reply_answers_the_request_that_it_names() -> None:
    talk = MongoTalk()
    talk.sent(msg(7))
    talk.answered(msg(100, answers=6))
    assert not talk.settled()
    talk.answered(msg(101, answers=7))
    assert talk.settled()


def test_each_of_several_requests_needs_a_reply() -> None:
    talk = MongoTalk()
    talk.sent(msg(1) + msg(2))
    talk.answered(msg(100, answers=2))
    assert not talk.settled()
    talk.answered(msg(101, answers=1))
    assert talk.settled()


def test_an_old_query_and_a_compressed_request_need_a_reply() -> None:
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


def test_a_request_with_more_to_come_needs_no_reply() -> None:
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


# Redis

OK, NUMBER, NOTHING, NO_LIST, REFUSED = b"+OK\r\n", b":7\r\n", b"$-1\r\n", b"*-1\r\n", b"-NOPERM no\r\n"
NESTED = b"*3\r\n:1\r\n*2\r\n$3\r\n\r\n*\r\n*0\r\n*1\r\n$-1\r\n"
REPLIES = (OK, NUMBER, NOTHING, NO_LIST, REFUSED, NESTED, b"$5\r\n+OK\r\n\r\n", b"*0\r\n")


def array(*values: str | int) -> bytes:
    """A request, or a reply of several parts."""
    parts = [f":{v}\r\n" if isinstance(v, int) else f"${len(v)}\r\n{v}\r\n" for v in values]
    return f"*{len(values)}\r\n{''.join(parts)}".encode()


GET = array("GET", "a\r\n*9\r\n")
PUBLISHED = array("message", "bell", "ring")


@pytest.mark.parametrize("reply", REPLIES)
def test_one_complete_reply_answers_a_command(reply: bytes) -> None:
    talk = RedisTalk()
    talk.sent(GET)
    for byte in reply:
        assert not talk.settled()
        talk.answered(bytes([byte]))
    assert talk.settled()


def test_each_of_several_commands_needs_a_reply() -> None:
    talk = RedisTalk()
    talk.sent(GET * len(REPLIES))
    talk.answered(b"".join(REPLIES[:-1]))
    assert not talk.settled()
    talk.answered(REPLIES[-1])
    assert talk.settled()


def test_commands_in_pieces_are_counted_once() -> None:
    talk = RedisTalk()
    for byte in GET + GET:
        talk.sent(bytes([byte]))
        assert not talk.settled()
    talk.answered(OK)
    assert not talk.settled()
    talk.answered(OK)
    assert talk.settled()


def test_the_reply_to_the_previous_command_does_not_answer_half_a_command() -> None:
    talk = RedisTalk()
    for end in (-1, -len(b"$8\r\na\r\n*9\r\n\r\n")):  # within a word, and between two
        talk.sent(GET + GET[:end])
        talk.answered(OK)
        assert not talk.settled()
        talk.sent(GET[end:])
        talk.answered(OK)
        assert talk.settled()


def test_an_inline_command_needs_a_reply_and_an_empty_line_none() -> None:
    talk = RedisTalk()
    talk.sent(b"\r\nPING\r\n\r\n")
    assert not talk.settled()
    talk.answered(OK)
    assert talk.settled()


def test_a_published_message_answers_no_command() -> None:
    talk = RedisTalk()
    talk.sent(array("SUBSCRIBE", "bell"))
    talk.answered(array("subscribe", "bell", 1) + PUBLISHED)
    assert talk.settled()
    talk.sent(array("PING"))
    talk.answered(PUBLISHED + array("pmessage", "b*", "bell", "ring"))
    assert not talk.settled()
    talk.answered(array("pong", ""))
    assert talk.settled()


def test_a_reply_that_resembles_a_published_message_is_an_answer() -> None:
    talk = RedisTalk()
    talk.sent(array("LRANGE", "words", "0", "-1"))
    talk.answered(PUBLISHED)
    assert talk.settled()


def test_a_subscription_has_one_answer_per_channel() -> None:
    talk = RedisTalk()
    talk.sent(array("subscribe", "one", "two"))
    talk.answered(array("subscribe", "one", 1) + PUBLISHED)
    assert not talk.settled()
    talk.answered(array("subscribe", "two", 2))
    assert talk.settled()


def test_a_refused_subscription_has_one_answer() -> None:
    talk = RedisTalk()
    talk.sent(array("PSUBSCRIBE", "one", "two") + GET)
    talk.answered(REFUSED)
    assert not talk.settled()
    talk.answered(OK)
    assert talk.settled()


def test_an_unsubscription_has_one_answer_per_channel() -> None:
    talk = RedisTalk()
    talk.sent(array("SUBSCRIBE", "one", "two", "three") + array("PSUBSCRIBE", "o*"))
    talk.answered(OK * 4)
    for request, replies in (
        (array("UNSUBSCRIBE", "two"), 1),
        (array("UNSUBSCRIBE"), 2),
        (array("UNSUBSCRIBE"), 1),  # one answer reports that no channel was subscribed
        (array("PUNSUBSCRIBE"), 1),
    ):
        talk.sent(request)
        talk.answered(OK * (replies - 1))
        assert not talk.settled()
        talk.answered(OK)
        assert talk.settled()


def test_a_server_may_refuse_before_the_first_command() -> None:
    talk = RedisTalk()
    talk.answered(b"-ERR max number of clients reached\r\n")
    assert talk.settled()
    talk.sent(GET)
    assert not talk.settled()
