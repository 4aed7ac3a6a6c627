"""Frames are decoded for any split into pieces, other data is refused, and two versions of the protocol work
together."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.worker.protocol import (
    MAX_PAYLOAD,
    MESSAGES,
    Exited,
    Fields,
    LeaseDeadline,
    MalformedFrame,
    Reader,
    Start,
    Welcome,
    encode,
    frame,
    from_fields,
    to_fields,
)

messages = st.builds(
    lambda kind, text: {"type": kind, "text": text}, st.text(max_size=9), st.text(max_size=90)
)
"""Cutting depends on the length of a message alone: what JSON can hold is of no interest here."""


@given(st.lists(st.tuples(messages, st.binary(max_size=200)), max_size=8), st.lists(st.integers(1, 50)))
def test_frames_are_decoded_for_any_split_into_pieces(
    sent: list[tuple[dict[str, object], bytes]], cuts: list[int]
) -> None:
    stream = b"".join(frame(json.dumps(fields).encode(), payload) for fields, payload in sent)
    reader, got = Reader(), []
    for cut in cuts:
        got += reader.feed(stream[:cut])
        stream = stream[cut:]
    got += reader.feed(stream)
    assert got == sent


@given(st.binary(max_size=200))
def test_random_bytes_raise_no_error_except_malformed_frame(noise: bytes) -> None:
    try:
        list(Reader().feed(noise))
    except MalformedFrame:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\0\0\0\0\0\0\0\0",
        b"\0\0\0\2" + (MAX_PAYLOAD + 1).to_bytes(4) + b"{}",
        b"\0\0\0\2\0\0\0\0[]",
        b"\0\0\0\2\0\0\0\0{}",
        b"\0\0\0\2\0\0\0\0\xff\xff",
    ],
    ids=["json too long", "no json", "payload too long", "no object", "no type", "no utf-8"],
)
def test_a_frame_out_of_bounds_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedFrame):
        list(Reader().feed(data))


START = Start("a1", "j1", 1, "default", 10.0, 1000)


def test_a_path_that_is_not_utf8_is_transmitted_unchanged() -> None:
    name = b"/tmp/\xff\xfe".decode("utf-8", "surrogateescape")
    assert next(Reader().feed(encode(START._replace(cwd=name))))[0]["cwd"] == name


VERSION_1 = {
    "hello": "protocol pid",
    "start": "attempt_id job_id attempt queue grace output_limit [deadline command argv shell cwd env umask timeout "
    "split allow_detached has_stdin]",
    "kill": "attempt_id reason",
    "drop": "attempt_ids",
    "ack": "attempt_ids",
    "ack_output": "attempt_id n",
    "lease": "deadline attempt_ids",
    "drain": "[done]",
    "stop": "[now]",
    "store_lost": "why",
    "store": "[away]",
    "name": "name",
    "reload": "",
    "welcome": "protocol config worker holder_pid boot_id started_at count phase attempts [directory born]",
    "started": "attempt_id pid slot at [born]",
    "output": "attempt_id job_id n stream at offset",
    "exited": "attempt_id job_id kind [exit_code signal core error ended_by pid slot started_at finished_at born "
    "user_cpu system_cpu max_rss output_bytes leftovers progress]",
    "progress": "attempt_id percent message at",
    "dropped": "attempt_ids",
    "trouble": "attempt_id error [errno]",
    "bye": "",
}
"""What a holder and an agent of the first version send and read; in brackets what may be missing.

A field that is added has a default. One of these that is renamed, or becomes required, would break `worker reload`
under a holder that runs: so this table only grows, in its brackets.
"""


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_field_names_of_version_1_do_not_change(kind: str) -> None:
    required, _, optional = VERSION_1[kind].replace("]", "").partition("[")
    defaults = MESSAGES[kind]._field_defaults
    assert {name for name in MESSAGES[kind]._fields if name not in defaults} == set(required.split())
    assert set(optional.split()) <= defaults.keys()


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_of_another_version_is_decoded(kind: str) -> None:
    """Unknown fields are ignored, and missing fields have their defaults."""
    cls = MESSAGES[kind]
    required: Fields = {name: name for name in cls._fields if name not in cls._field_defaults}
    message = from_fields({"type": kind, "of_a_later_version": 1, **required})
    assert message is not None
    assert message._asdict() == required | cls._field_defaults


def test_a_message_type_of_a_later_version_is_ignored() -> None:
    assert from_fields({"type": "of_a_later_version"}) is None


def test_a_message_without_a_required_field_is_refused() -> None:
    with pytest.raises(MalformedFrame, match="'kill' without 'reason'"):
        from_fields({"type": "kill", "attempt_id": "a1"})


def test_defaults_are_left_out_and_required_fields_are_not() -> None:
    assert to_fields(LeaseDeadline(None, ["a1"])) == {
        "type": "lease",
        "deadline": None,
        "attempt_ids": ["a1"],
    }
    short = Exited("a1", "j1", "exited", exit_code=0)
    assert to_fields(short) == {
        "type": "exited",
        "attempt_id": "a1",
        "job_id": "j1",
        "kind": "exited",
        "exit_code": 0,
    }


def test_a_message_is_equal_after_encoding_and_decoding() -> None:
    full = START._replace(command="true", env={"A": "b"}, umask=0, timeout=1.5, split=True, has_stdin=True)
    for message in (START, full, Exited("a1", "j1", "signalled", signal=9, core=True, output_bytes=7)):
        assert from_fields(next(Reader().feed(encode(message)))[0]) == message


def test_a_welcome_lists_attempts_of_an_older_holder() -> None:
    attempt = {"attempt_id": "a1", "job_id": "j1", "state": "queued", "of_a_later_version": 1}
    welcome = Welcome(1, {}, {}, 7, "boot", 1.0, 2, "running", [attempt])
    (known,) = welcome.known()
    assert (known.attempt_id, known.state, known.pid) == ("a1", "queued", None)
