"""Rules of time: cron, names and `@every`, their instants at shifts of time zones, words and notes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from queuectl.domain.recurrence import LAST, NAMED, Rule, parse
from queuectl.errors import InvalidInput

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def rule(when: str, timezone: str = "UTC") -> Rule:
    return parse(when, timezone, ANCHOR)


def local_times(when: str, timezone: str, day: str) -> list[str]:
    """The instants of a local date, as local times with the offset."""
    zone = ZoneInfo(timezone)
    start = datetime.fromisoformat(day).replace(tzinfo=zone).astimezone(UTC) - timedelta(seconds=1)
    found = (moment.astimezone(zone) for moment in rule(when, timezone).forward(start))
    return [f"{moment:%H:%M%z}" for moment in takewhile(lambda moment: f"{moment:%Y-%m-%d}" == day, found)]


SHIFTS = [
    # Berlin: 2027-03-28 02:00 → 03:00, 2026-10-25 03:00 → 02:00
    ("Europe/Berlin", "30 2 * * *", "2027-03-28", ["03:00+0200"]),
    ("Europe/Berlin", "15,45 2 * * *", "2027-03-28", ["03:00+0200"]),
    ("Europe/Berlin", "0 2,3 * * *", "2027-03-28", ["03:00+0200"]),
    ("Europe/Berlin", "30 2-3 * * *", "2027-03-28", ["03:00+0200", "03:30+0200"]),
    ("Europe/Berlin", "0 30 2 * * *", "2027-03-28", ["03:00+0200"]),
    ("Europe/Berlin", "*/15 2 * * *", "2027-03-28", []),
    ("Europe/Berlin", "30 */2 * * *", "2027-03-28", [
        "00:30+0100", *(f"{hour:02}:30+0200" for hour in range(4, 24, 2))]),
    ("Europe/Berlin", "30 2 * * *", "2026-10-25", ["02:30+0200"]),
    ("Europe/Berlin", "0 30 2 * * *", "2026-10-25", ["02:30+0200"]),
    ("Europe/Berlin", "*/30 2 * * *", "2026-10-25", ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]),
    ("Europe/Berlin", "0 0-3 * * *", "2026-10-25", ["00:00+0200", "01:00+0200", "02:00+0200", "03:00+0100"]),
    ("Europe/Berlin", "0 1-3/1 * * *", "2026-10-25", ["01:00+0200", "02:00+0200", "03:00+0100"]),
    ("Europe/Berlin", "*/60 1,2,3 * * *", "2026-10-25", ["01:00+0200", "02:00+0200", "02:00+0100", "03:00+0100"]),
    # New York: 2027-03-14 02:00 → 03:00, 2026-11-01 02:00 → 01:00
    ("America/New_York", "5 2 * * *", "2027-03-14", ["03:00-0400"]),
    ("America/New_York", "*/20 1-3 * * *", "2027-03-14", [
        "01:00-0500", "01:20-0500", "01:40-0500", "03:00-0400", "03:20-0400", "03:40-0400"]),
    ("America/New_York", "30 1 * * *", "2026-11-01", ["01:30-0400"]),
    ("America/New_York", "*/30 1 * * *", "2026-11-01", ["01:00-0400", "01:30-0400", "01:00-0500", "01:30-0500"]),
    # Lord Howe: 2026-10-04 02:00 → 02:30, 2027-04-04 02:00 → 01:30
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04", ["02:30+1100"]),
    ("Australia/Lord_Howe", "45 2 * * *", "2026-10-04", ["02:45+1100"]),
    ("Australia/Lord_Howe", "*/15 3 * * *", "2026-10-04", ["03:00+1100", "03:15+1100", "03:30+1100", "03:45+1100"]),
    ("Australia/Lord_Howe", "*/15 2 * * *", "2026-10-04", ["02:30+1100", "02:45+1100"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2027-04-04", ["01:45+1100"]),
    ("Australia/Lord_Howe", "15 1 * * *", "2027-04-04", ["01:15+1100"]),
    ("Australia/Lord_Howe", "*/15 1 * * *", "2027-04-04", [
        "01:00+1100", "01:15+1100", "01:30+1100", "01:45+1100", "01:30+1030", "01:45+1030"]),
    # São Paulo: 2018-11-04 00:00 → 01:00, 2018-02-18 00:00 → 2018-02-17 23:00
    ("America/Sao_Paulo", "0 0 * * *", "2018-11-04", ["01:00-0200"]),
    ("America/Sao_Paulo", "@daily", "2018-11-04", ["01:00-0200"]),
    ("America/Sao_Paulo", "*/15 0 * * *", "2018-11-04", []),
    ("America/Sao_Paulo", "30 23 * * *", "2018-02-17", ["23:30-0200"]),
    ("America/Sao_Paulo", "*/30 23 * * *", "2018-02-17", ["23:00-0200", "23:30-0200", "23:00-0300", "23:30-0300"]),
    ("America/Sao_Paulo", "0 0 * * *", "2018-02-18", ["00:00-0300"]),
    # without shifts
    ("UTC", "30 2 * * *", "2027-03-28", ["02:30+0000"]),
    ("Asia/Kathmandu", "*/30 2 * * *", "2027-03-28", ["02:00+0545", "02:30+0545"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("timezone", "when", "day", "expected"), SHIFTS, ids=[f"{z}-{w}-{d}" for z, w, d, _ in SHIFTS]
)
def test_a_rule_fires_on_the_day_of_a_shift_as_the_table_says(
    timezone: str, when: str, day: str, expected: list[str]
) -> None:
    assert local_times(when, timezone, day) == expected


def test_a_local_date_that_does_not_exist_fires_once_at_its_end() -> None:
    """Samoa had no 30 December 2011."""
    found = islice(rule("0 12 * * *", "Pacific/Apia").forward(at("2011-12-29T23:59:59-10:00")), 2)
    assert [moment.isoformat() for moment in found] == [
        "2011-12-30T10:00:00+00:00",
        "2011-12-30T22:00:00+00:00",
    ]


def test_the_instant_after_one_in_the_second_half_of_an_overlap_is_later() -> None:
    second_half = at("2026-10-25T02:40:00+01:00")
    assert rule("50 2 * * *", "Europe/Berlin").next_after(second_half) == at("2026-10-26T02:50:00+01:00")


def test_the_instant_until_the_second_half_of_an_overlap_is_the_last_of_the_first_half() -> None:
    second_half = at("2026-10-25T02:10:00+01:00")
    assert next(rule("50 2 * * *", "Europe/Berlin").backward(second_half)) == at("2026-10-25T02:50:00+02:00")


@pytest.mark.parametrize(
    ("when", "after", "expected"),
    [
        ("0 0 29 2 *", "2026-11-30T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        ("0 0 L * *", "2027-02-01T00:00:00Z", "2027-02-28T00:00:00Z"),
        ("0 0 LW 1 *", "2027-01-01T00:00:00Z", "2027-01-29T00:00:00Z"),
        ("0 0 * * 5#3", "2026-12-01T00:00:00Z", "2026-12-18T00:00:00Z"),
        ("0 0 * * 5L", "2026-12-01T00:00:00Z", "2026-12-25T00:00:00Z"),
        ("*/10 * * * * *", "2026-12-01T00:00:03.5Z", "2026-12-01T00:00:10Z"),
        ("0 0 13 * fri", "2026-12-01T00:00:00Z", "2026-12-04T00:00:00Z"),
        ("0 0 */13 * fri", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("0 9 * jan-mar mon", "2026-11-30T00:00:00Z", "2027-01-04T09:00:00Z"),
        ("0 0 * * 7", "2026-11-30T00:00:00Z", "2026-12-06T00:00:00Z"),
        ("@hourly", "2026-11-30T10:00:00Z", "2026-11-30T11:00:00Z"),
        ("@weekly", "2026-11-30T10:00:00Z", "2026-12-06T00:00:00Z"),
        ("@monthly", "2026-11-30T10:00:00Z", "2026-12-01T00:00:00Z"),
        ("@YEARLY", "2026-11-30T10:00:00Z", "2027-01-01T00:00:00Z"),
        ("@midnight", "2026-11-30T23:59:59.9Z", "2026-12-01T00:00:00Z"),
    ],
)
def test_the_next_instant_of_a_rule(when: str, after: str, expected: str) -> None:
    assert rule(when).next_after(at(after)) == at(expected)


def test_every_counts_elapsed_time_from_its_anchor() -> None:
    every = parse("@every 1h30m", "Europe/Berlin", at("2026-10-25T00:00:00.7Z"))
    assert every.next_after(at("2026-10-20T00:00:00Z")) == at("2026-10-25T00:00:00Z")
    assert every.next_after(at("2026-10-25T00:00:00Z")) == at("2026-10-25T01:30:00Z")
    assert every.next_after(at("2026-10-25T04:29:59.9Z")) == at("2026-10-25T04:30:00Z")
    assert list(every.backward(at("2026-10-25T03:10:00Z"))) == [
        at(f"2026-10-25T0{t}:00Z") for t in ("3:00", "1:30", "0:00")
    ]
    assert not list(every.backward(at("2026-10-24T23:59:59Z")))


@pytest.mark.parametrize("when", ["@every 36500d", "0 0 29 2 *", "*/30 0 1 1 *"])
def test_the_instants_of_a_rule_end_before_the_years_that_python_does_not_know(when: str) -> None:
    last = at("8900-01-01T00:00:00Z")
    found = [*rule(when, "Asia/Kathmandu").forward(last)]
    assert last < found[0]
    assert found[-1] <= LAST


def test_notes_look_a_hundred_years_ahead() -> None:
    assert len(rule("30 2 * * *", "Europe/Berlin").notes(ANCHOR, LAST)) == 200


def test_fractions_of_a_second_are_cut_off_so_that_each_instant_has_its_own_second() -> None:
    every = parse("@every 1500ms", "UTC", ANCHOR)
    assert [m.second for m in islice(every.forward(ANCHOR), 4)] == [1, 3, 4, 6]
    assert [m.second for m in every.backward(ANCHOR + timedelta(seconds=4))] == [4, 3, 1, 0]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("", "when: '' has 0 fields"),
        ("* * * *", "when: '* * * *' has 4 fields"),
        ("* * * * * * *", "when: '* * * * * * *' has 7 fields"),
        ("61 * * * *", "when: '61 * * * *': bad minute"),
        ("* 24 * * *", "when: '* 24 * * *': bad hour"),
        ("* * 0 * *", "when: '* * 0 * *': bad day-of-month"),
        ("* * * 13 *", "when: '* * * 13 *': bad month"),
        ("* * * * 8", "when: '* * * * 8': bad day-of-week"),
        ("60 * * * * *", "when: '60 * * * * *': bad second"),
        ("*/0 * * * *", "when: '*/0 * * * *': bad minute"),
        ("*/61 * * * *", "when: '*/61 * * * *': bad minute: the step of */61 is greater than 60"),
        ("1,*/90 * * * * *", "when: '1,*/90 * * * * *': bad second: the step of */90 is greater than 60"),
        ("0 0/25 * * *", "when: '0 0/25 * * *': bad hour: the step of 0/25 is greater than 24"),
        ("0 0 1-31/32 * *", "when: '0 0 1-31/32 * *': bad day-of-month: the step of 1-31/32 is greater than 31"),
        ("0 0 * */13 *", "when: '0 0 * */13 *': bad month: the step of */13 is greater than 12"),
        ("0 0 * * */8", "when: '0 0 * * */8': bad day-of-week: the step of */8 is greater than 7"),
        ("0 0 30 2 *", "when: '0 0 30 2 *': bad day-of-month"),
        ("0 0 */31 * MON#5", "when: '0 0 */31 * MON#5' never matches a date"),
        ("@reboot", "when: @reboot is not a time"),
        ("@fortnightly", "when: '@fortnightly' is not known"),
        ("@every", "when: '@every': '' is not a duration"),
        ("@every soon", "when: '@every soon': 'soon' is not a duration"),
        ("@every 999ms", "when: '@every 999ms' is shorter than a second"),
        ("٣ * * * *", "when: '٣ * * * *' is not a rule: too long, or not ASCII"),
        ("0," * 200 + "0 * * * *", "when: " + repr("0," * 40) + " is not a rule: too long, or not ASCII"),
    ],
)  # fmt: skip
def test_a_bad_rule_is_refused_with_the_field_and_a_hint(when: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        rule(when)
    assert refused.value.message == message
    assert refused.value.hint


@pytest.mark.parametrize(
    "name", ["", "Mars/Base", "Europe", "../../etc/passwd", "/etc/passwd", "localtime", "\0", "x" * 5000]
)
def test_a_text_that_names_no_zone_is_refused_with_the_field(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"^timezone: "):
        rule("@daily", name)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("30 2 * * *", "At 02:30 every day"),
        ("*/10 * * * * *", "Every 10th second of every minute"),
        ("@hourly", "At the start of every hour"),
        ("@every 90m", "Every 1h30m"),
        ("0 9-17 * * MON-FRI", "At minute 0 past every hour from 9 through 17 on Monday through Friday"),
    ],
)
def test_a_rule_is_described_in_words(when: str, words: str) -> None:
    assert rule(when).describe() == words


BERLIN_SPRING = "2027-03-28 in Europe/Berlin: the clocks go forward from 02:00 to 03:00; "
BERLIN_AUTUMN = "2026-10-25 in Europe/Berlin: the clocks go back from 03:00 to 02:00; "


@pytest.mark.parametrize(
    ("when", "after", "note"),
    [
        ("30 2 * * *", "2026-11-30", BERLIN_SPRING + "what lies in between runs once, at 03:00"),
        ("*/5 * * * *", "2026-11-30", BERLIN_SPRING + "what lies in between does not run"),
        ("0 3 * * *", "2026-11-30", BERLIN_SPRING + "no run lies in between"),
        ("30 2 * * *", "2026-10-01", BERLIN_AUTUMN + "what lies in between runs once, the first time"),
        ("*/5 2 * * *", "2026-10-01", BERLIN_AUTUMN + "what lies in between runs both times"),
        ("0 3 * * *", "2026-10-01", BERLIN_AUTUMN + "no run lies in between"),
    ],
)
def test_a_note_tells_what_the_next_shift_does_to_the_rule(when: str, after: str, note: str) -> None:
    assert rule(when, "Europe/Berlin").notes(at(f"{after}T00:00:00Z")) == [note]


def test_a_range_has_a_note_for_each_of_its_shifts() -> None:
    notes = rule("@daily", "Europe/Berlin").notes(at("2026-01-01T00:00:00Z"), at("2027-12-31T00:00:00Z"))
    assert [note[:10] for note in notes] == ["2026-03-29", "2026-10-25", "2027-03-28", "2027-10-31"]
    assert not rule("@daily", "Europe/Berlin").notes(at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z"))


@pytest.mark.parametrize(
    ("when", "timezone"), [("@every 1h", "Europe/Berlin"), ("@daily", "UTC"), ("@daily", "Asia/Kathmandu")]
)
def test_a_rule_without_shifts_has_no_notes(when: str, timezone: str) -> None:
    assert rule(when, timezone).notes(ANCHOR) == []


def test_a_note_says_that_day_of_month_or_day_of_week_is_enough() -> None:
    either = "day of month and day of week are both given: it fires when either matches"
    assert rule("0 0 13 * 5").notes(ANCHOR) == [either]
    assert rule("0 0 0 13 * 5").notes(ANCHOR) == [either]
    assert rule("0 0 */2 * 5").notes(ANCHOR) == []
    assert rule("0 0 13 * *").notes(ANCHOR) == []


ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
]
MINUTES = ["*", "*/7", "*/30", "0", "17", "0,30", "10-20/5", "59"]
HOURS = ["*", "*/2", "0", "1-3", "2", "23", "0-23"]
WEEKDAYS = ["*", "0", "1-5"]
NEAR_SHIFTS = [
    "2026-10-25T00:00:00Z", "2027-03-28T00:00:00Z", "2026-11-01T05:00:00Z", "2027-03-14T06:00:00Z",
    "2026-10-03T14:00:00Z", "2027-04-03T14:00:00Z", "2018-11-04T02:00:00Z", "2018-02-18T01:00:00Z",
    "2026-02-15T01:00:00Z", "2026-03-22T01:00:00Z",
]  # fmt: skip


def matches(field: str, value: int) -> bool:
    """Whether a value matches a field of the forms in MINUTES, HOURS and WEEKDAYS."""

    def one(term: str) -> bool:
        span, _, step = term.partition("/")
        low, _, high = ("0-59" if span == "*" else span).partition("-")
        return int(low) <= value <= int(high or low) and (value - int(low)) % int(step or 1) == 0

    return any(one(term) for term in field.split(","))


def walk(
    minute: str, hour: str, weekday: str, timezone: str, start: datetime, count: int
) -> Iterator[datetime]:
    """The instants among the next minutes, each minute tried on its own: what `forward` computes without trying."""
    fixed, zone = not (minute.startswith("*") or hour.startswith("*")), ZoneInfo(timezone)

    def matching(wall: datetime) -> bool:
        return (
            matches(minute, wall.minute)
            and matches(hour, wall.hour)
            and matches(weekday, wall.isoweekday() % 7)
        )

    for moment in (start + n * MINUTE for n in range(1, count + 1)):
        there = moment.astimezone(zone)
        before = (moment - MINUTE).astimezone(zone).replace(tzinfo=None) + MINUTE
        wall = there.replace(tzinfo=None)
        gap = [before + n * MINUTE for n in range(max(0, int((wall - before) / MINUTE)))]
        if (matching(wall) and not (fixed and there.fold)) or (fixed and any(map(matching, gap))):
            yield moment


@given(
    st.sampled_from(MINUTES), st.sampled_from(HOURS), st.sampled_from(WEEKDAYS), st.sampled_from(ZONES),
    st.sampled_from(NEAR_SHIFTS), st.integers(-120, 120), st.integers(60, 600),
)  # fmt: skip
@example("*/7", "1-3", "*", "Australia/Lord_Howe", "2026-10-03T14:00:00Z", 0, 600)
@example("0,30", "2", "*", "Europe/Berlin", "2027-03-28T00:00:00Z", 0, 600)
@example("10-20/5", "0-23", "*", "America/Sao_Paulo", "2018-02-18T01:00:00Z", 0, 600)
def test_a_rule_gives_the_instants_that_a_walk_through_all_minutes_finds(
    minute: str, hour: str, weekday: str, timezone: str, near: str, shift: int, count: int
) -> None:
    start = at(near) - 3 * HOUR + shift * MINUTE
    expected = list(walk(minute, hour, weekday, timezone, start, count))
    tried = rule(f"{minute} {hour} * * {weekday}", timezone)
    end = start + count * MINUTE
    assert list(takewhile(lambda moment: moment <= end, tried.forward(start))) == expected
    assert list(takewhile(lambda moment: moment > start, tried.backward(end))) == expected[::-1]


@given(
    st.sampled_from(
        [
            "30 2 * * *",
            "*/7 * * * *",
            "0 0-23 * * *",
            "15 */3 * * 1",
            "*/20 30 1-3 * * *",
            "0 0 29 2 *",
            *NAMED,
            "@every 7h13m11s",
        ]
    ),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2017, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
)
def test_instants_rise_strictly_and_do_not_depend_on_where_the_search_begins(
    when: str, timezone: str, start: datetime
) -> None:
    tried = rule(when, timezone)
    found = list(islice(tried.forward(start), 12))
    assert all(a < b for a, b in zip([start, *found], found, strict=False))
    assert [tried.next_after(moment) for moment in found[:-1]] == found[1:]
    assert [tried.next_after(moment - timedelta(microseconds=1)) for moment in found] == found
    assert list(islice(tried.backward(found[-1]), 12)) == found[::-1]
    assert not any(moment.microsecond for moment in found)
