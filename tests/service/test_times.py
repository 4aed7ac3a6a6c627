"""Times in the user's notation, also on days when the clocks change."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from queuectl.errors import InvalidInput
from queuectl.service.times import parse_since, read_time

NOW = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)  # 13:00 in Berlin, the day before the clocks go forward


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment", "note"),
    [
        ("2026-11-22T15:00:00Z", "2026-11-22 15:00", None),
        ("2026-11-22T15:00:00+01:00", "2026-11-22 14:00", None),
        ("now", "2026-03-28 12:00", None),
        (" NOW ", "2026-03-28 12:00", None),
        ("@1798761600", "2027-01-01 00:00", None),
        ("@0", "1970-01-01 00:00", None),
        ("@1.5", "1970-01-01 00:00:01.5", None),
        ("2026-07-01 10:00", "2026-07-01 08:00", "has no zone; taken as local time, that is 2026-07-01T08:00:00"),
        ("2026-03-29 01:59", "2026-03-29 00:59", "has no zone"),
        ("2026-03-29 02:00", "2026-03-29 01:00", "does not exist here, the clocks go forward; taken the first time"),
        ("2026-03-29 02:30", "2026-03-29 01:00", "does not exist here"),
        ("2026-03-29 02:59:59", "2026-03-29 01:00", "does not exist here"),
        ("2026-03-29 03:00", "2026-03-29 01:00", "has no zone"),
        ("2026-10-25 02:30", "2026-10-25 00:30", "exists twice here; taken the first, 2026-10-25T00:30:00.000000Z"),
        ("13:01", "2026-03-28 12:01", "2026-03-28 13:01:00 has no zone"),
        ("13:00", "2026-03-29 11:00", "2026-03-29 13:00:00 has no zone"),
        ("2:30", "2026-03-29 01:00", "does not exist here"),
        ("23:59:59", "2026-03-28 22:59:59", "has no zone"),
    ],
)  # fmt: skip
def test_a_time_is_parsed_to_its_moment_with_a_note(text: str, moment: str, note: str | None) -> None:
    meant = read_time(text, NOW)
    assert meant.at == utc(moment)
    assert meant.note is None if note is None else note in (meant.note or "")


@pytest.mark.parametrize(
    "text",
    ["tomorrow 02:00", "24:00", "1:2", "10:60", "@", "@-1", "@1e5", "@nan", "@99999999999999", "soon", "", "\uff12:30",
     "9999-12-31T23:59", "0001-01-01T00:00", "1960-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"],
)  # fmt: skip
def test_other_texts_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        read_time(text, NOW)
    assert error.value.hint


def test_a_wrong_begin_of_a_span_is_refused_with_examples_of_the_past() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_since("soon", NOW)
    assert caught.value.hint is not None
    assert "a duration before now" in caught.value.hint
    assert "--in" not in caught.value.hint
