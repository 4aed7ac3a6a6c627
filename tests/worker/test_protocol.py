"""Frames survive any cutting, and what is no frame is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.worker.protocol import MAX_PAYLOAD, MalformedFrame, Reader, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
messages = st.builds(lambda kind, rest: {**rest, "type": kind}, st.text(), st.dictionaries(st.text(), values))


@given(st.lists(st.tuples(messages, st.binary(max_size=200)), max_size=8), st.lists(st.integers(1, 50)))
def test_what_was_sent_arrives_however_it_is_cut(
    sent: list[tuple[dict[str, object], bytes]], cuts: list[int]
) -> None:
    stream = b"".join(encode(message, payload) for message, payload in sent)
    reader, got = Reader(), []
    for cut in cuts:
        got += reader.feed(stream[:cut])
        stream = stream[cut:]
    got += reader.feed(stream)
    assert got == sent


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waited_for_and_never_crashes(noise: bytes) -> None:
    try:
        list(Reader().feed(noise))
    except MalformedFrame:
        return


@pytest.mark.parametrize(
    "frame",
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
def test_a_frame_out_of_bounds_is_refused(frame: bytes) -> None:
    with pytest.raises(MalformedFrame):
        list(Reader().feed(frame))


def test_a_name_that_is_no_utf8_survives() -> None:
    name = b"/tmp/\xff\xfe".decode("utf-8", "surrogateescape")
    assert next(Reader().feed(encode({"type": "start", "cwd": name})))[0]["cwd"] == name
