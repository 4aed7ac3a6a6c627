"""A schedule: its definition and entry, and what an edit, a pause and a resume do to its next instant."""

import json
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from queuectl.domain import schedule as schedules
from queuectl.domain.firing import plan
from queuectl.domain.schedule import Pause, Schedule, entry_of, schedule_of
from queuectl.domain.schedule_definition import Definition, define
from queuectl.errors import InvalidInput

NOW = datetime(2026, 11, 30, 8, 30, 15, 250_000, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PAUSE = Pause(by="ada@atlas", at=NOW, reason="maintenance")


def defined(when: str = "0 * * * *", **given: Any) -> Definition:
    return define({"when": when, "job": {"command": "true"}, **given}, timezone="UTC")


def new(when: str = "0 * * * *", *, now: datetime = NOW, **given: Any) -> Schedule:
    return schedules.new("backup", defined(when, **given), now)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


class TestDefinition:
    def test_defaults(self) -> None:
        made = define({"when": " 30  2 * * * ", "job": {"command": "true"}}, timezone="Europe/Berlin")
        assert (made.when, made.timezone, made.overlap, made.catchup) == (
            "30 2 * * *",
            "Europe/Berlin",
            "skip",
            "last",
        )
        assert (made.catchup_window, made.jitter, made.not_on) == (DAY, timedelta(0), ())

    def test_every_field_is_converted(self) -> None:
        made = defined(
            timezone="Europe/Berlin", overlap="queue", catchup="all", catchup_window="2h30m", jitter=90,
            start="2026-12-01T00:00:00", end=at("2026-12-31T00:00:00.5+00:00"), owner="ops",
            not_on="2026-12-25,2026-12-24  # holidays\n2026-12-24",
        )  # fmt: skip
        assert (made.catchup_window, made.jitter) == (2.5 * HOUR, timedelta(seconds=90))
        assert made.start == at("2026-11-30T23:00:00+00:00")
        assert made.end == at("2026-12-31T00:00:00+00:00")
        assert made.not_on == (date(2026, 12, 24), date(2026, 12, 25))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"when": "daily"}, "when: 'daily' has 1 field"),
            ({"when": 5}, "when: 5 is not a text"),
            ({"timezone": "Mars/Base"}, "timezone: 'Mars/Base' is not a time zone that this host knows"),
            ({"timezone": 1}, "timezone: 1 is not a text"),
            ({"overlap": "wait"}, "overlap: 'wait' is not known"),
            ({"overlap": ["skip"]}, "overlap: ['skip'] is not known"),
            ({"catchup": "none"}, "catchup: 'none' is not known"),
            ({"catchup_window": "soon"}, "catchup_window: 'soon' is not a duration"),
            ({"catchup_window": -1}, "catchup_window: '-1' is not a duration"),
            ({"catchup_window": True}, "catchup_window: True is not a duration"),
            ({"jitter": [1]}, "jitter: [1] is not a duration"),
            ({"jitter": float("nan")}, "jitter: 'nan' is not a duration"),
            ({"start": "tomorrow"}, "start: 'tomorrow' is not a time"),
            ({"start": 5}, "start: 5 is not a text"),
            ({"start": "1950-01-01T00:00:00Z"}, "start: 1950-01-01T00:00:00+00:00 is out of range"),
            ({"end": datetime(1, 1, 1)}, "end: 0001-01-01T00:00:00+00:00 is out of range"),
            ({"start": "2027-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "end: lies before start"),
            ({"not_on": 5}, "not_on: is not a list of at most 1000 dates"),
            ({"not_on": ["24.12."]}, "not_on: '24.12.' is not a date"),
            ({"not_on": "2026-02-30"}, "not_on: '2026-02-30' is not a date"),
            ({"owner": "a b"}, "owner: owner 'a b' is not allowed"),
            ({"job": "true"}, "job: is not an object"),
            ({"job": {}}, "job: has no command"),
            ({"job": {"command": "true", "run_at": "now"}}, "job.run_at: is set by the schedule"),
            ({"job": {"command": "true", "id": "x"}}, "job.id: is set by the schedule"),
            ({"colour": "red"}, "colour: a schedule has no such field"),
        ],
    )  # fmt: skip
    def test_a_bad_field_is_named(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            defined(**({"when": "@daily"} | given))
        assert refused.value.message == message
        assert refused.value.hint

    @pytest.mark.parametrize("missing", ["when", "job"])
    def test_a_missing_field_is_named(self, missing: str) -> None:
        given: dict[str, Any] = {"when": "@daily", "job": {"command": "true"}}
        del given[missing]
        with pytest.raises(InvalidInput, match=f"^{missing}: is missing"):
            define(given, timezone="UTC")

    def test_a_change_keeps_what_is_not_given_and_none_clears_an_end(self) -> None:
        base = new(end="2027-01-01T00:00:00Z", jitter=5, owner="ops")
        changed = define({"jitter": 7, "end": "none", "overlap": None}, timezone="UTC", base=base)
        assert (changed.end, changed.jitter, changed.overlap, changed.owner) == (
            None,
            timedelta(seconds=7),
            "skip",
            "ops",
        )
        assert type(changed) is Definition

    @pytest.mark.parametrize("name", ["", "a:b", "-a", "a b", "x" * 65, "é"])
    def test_a_bad_name_is_refused(self, name: str) -> None:
        with pytest.raises(InvalidInput, match=r"^name"):
            schedules.new(name, defined(), NOW)

    def test_a_good_name_is_kept(self) -> None:
        assert schedules.new("a.B_9-" + "x" * 58, defined(), NOW).name == "a.B_9-" + "x" * 58


class TestEntry:
    def full(self) -> Schedule:
        entry = new(
            start="2026-11-01T00:00:00Z", not_on=["2026-12-24"], jitter="90s", owner="ops", now=NOW - 3 * HOUR
        )
        return schedules.paused(plan(entry, NOW, []).entry, PAUSE)

    def test_the_stored_entry_is_json_and_decodes_to_the_same_schedule(self) -> None:
        entry = self.full()
        stored = json.loads(json.dumps(entry_of(entry)))
        assert schedule_of("backup", stored) == entry
        assert "name" not in stored

    @pytest.mark.parametrize(
        "wrong",
        [
            {"overlap": "ask"},
            {"next": "soon"},
            {"next": "2026-11-30T09:00:00"},
            {"pause_after": 3},
            {"when": None},
        ],
    )
    def test_a_damaged_or_newer_entry_is_not_understood(self, wrong: dict[str, Any]) -> None:
        assert schedule_of("backup", entry_of(self.full()) | wrong) is None
        assert schedule_of("backup", {"text": "x"}) is None

    def test_the_id_of_a_job_shows_its_instant(self) -> None:
        assert schedules.job_id("backup", at("2026-11-30T03:30:00+01:00")) == "backup:20261130T023000Z"
        assert schedules.instant_of("backup:20261130T023000Z") == at("2026-11-30T02:30:00+00:00")
        assert schedules.instant_of("backup:run-1") is None


class TestInstants:
    def test_nothing_lies_before_start_and_after_end(self) -> None:
        entry = new(start="2026-12-01T10:00:00Z", end="2026-12-01T12:00:00Z")
        assert [m.hour for m in entry.forward(NOW)] == [10, 11, 12]
        assert [m.hour for m in entry.backward(at("2027-01-01T00:00:00+00:00"))] == [12, 11, 10]
        assert entry.next == at("2026-12-01T10:00:00+00:00")

    @pytest.mark.parametrize("end", ["2020-01-01T00:00:00Z", "2026-11-30T08:59:59Z"])
    def test_an_ended_schedule_has_no_next_instant(self, end: str) -> None:
        entry = new(end=end)
        assert (entry.next, entry.due) == (None, None)
        assert plan(entry, NOW + DAY, []).entry == entry

    @pytest.mark.parametrize("when", ["30 */8 * * *", "30 1,9,17 * * *", "@every 8h"])
    def test_dates_of_not_on_have_no_instants_in_the_zone_of_the_schedule(self, when: str) -> None:
        entry = new(when, timezone="Pacific/Auckland", not_on=["2026-12-02", "2026-12-03"])
        found = list(islice(entry.forward(NOW), 12))
        days = {m.astimezone(entry.rule().zone).date() for m in found}
        assert days.isdisjoint(entry.not_on)
        assert {date(2026, 12, 1), date(2026, 12, 4)} <= days
        assert list(islice(entry.backward(found[-1]), 12)) == found[::-1]

    def test_a_day_off_that_begins_in_a_gap_is_off_as_a_whole(self) -> None:
        entry = new(
            "0 * * * *",
            now=at("2018-11-01T00:00:00+00:00"),
            timezone="America/Sao_Paulo",
            not_on="2018-11-04",
        )
        before, after = islice(entry.forward(at("2018-11-04T01:00:00+00:00")), 2)
        assert before == at("2018-11-03T23:00:00-03:00")
        assert after == at("2018-11-05T00:00:00-02:00")
        assert next(entry.backward(after - timedelta(seconds=1))) == before

    def test_every_second_week_begins_with_its_start(self) -> None:
        entry = new("@every 14d", start="2026-12-07T06:00:00Z")
        assert [f"{m:%m-%dT%H}" for m in islice(entry.forward(NOW), 2)] == ["12-07T06", "12-21T06"]

    def test_every_counts_from_the_add_without_a_start(self) -> None:
        assert new("@every 90m").next == at("2026-11-30T10:00:15+00:00")


class TestNext:
    def test_a_new_schedule_fires_after_now(self) -> None:
        assert new(now=at("2026-11-30T09:00:00+00:00")).next == at("2026-11-30T10:00:00+00:00")

    def test_a_schedule_that_is_added_again_does_not_decide_a_known_instant(self) -> None:
        known = at("2026-11-30T11:00:00+00:00")
        assert schedules.new("backup", defined(), NOW, decided=known).next == at("2026-11-30T12:00:00+00:00")

    def test_an_edit_of_another_field_keeps_next_so_that_an_overdue_instant_is_not_lost(self) -> None:
        entry = new(now=NOW - 2 * HOUR)
        changed = schedules.edited(entry, defined(job={"command": "false"}), NOW)
        assert (changed.next, changed.job) == (at("2026-11-30T07:00:00+00:00"), {"command": "false"})
        assert changed.decisions == ()

    def test_an_edit_of_the_rule_notes_overdue_instants_as_missed_and_goes_on_after_now(self) -> None:
        entry = new(now=NOW - 2 * HOUR)
        changed = schedules.edited(entry, defined("*/20 * * * *"), NOW)
        assert changed.next == at("2026-11-30T08:40:00+00:00")
        [missed] = changed.decisions
        assert (missed.decision, missed.count) == ("missed", 2)
        assert (missed.first, missed.instant) == (
            at("2026-11-30T07:00:00+00:00"),
            at("2026-11-30T08:00:00+00:00"),
        )

    def test_an_edit_does_not_decide_an_instant_again_after_the_clock_was_set_back(self) -> None:
        entry = plan(new(now=NOW - HOUR), NOW, []).entry
        assert entry.last_decided == at("2026-11-30T08:00:00+00:00")
        changed = schedules.edited(entry, defined("0,30 * * * *"), NOW - 3 * HOUR)
        assert changed.next == at("2026-11-30T08:30:00+00:00")

    def test_an_edit_keeps_the_anchor_unless_the_rule_changes(self) -> None:
        entry = new("@every 90m")
        later = NOW + timedelta(minutes=7)
        assert (
            schedules.edited(entry, defined("@every 90m", end="2027-01-01T00:00:00Z"), later).next
            == entry.next
        )
        assert schedules.edited(entry, defined("@every 1h"), later).next == at("2026-11-30T09:37:15+00:00")

    def test_an_edit_of_a_paused_schedule_keeps_the_pause_and_misses_nothing(self) -> None:
        entry = schedules.paused(new(now=NOW - 2 * HOUR), PAUSE)
        changed = schedules.edited(entry, defined("*/20 * * * *"), NOW)
        assert (changed.paused, changed.decisions, changed.due) == (PAUSE, (), None)

    def test_an_edit_replaces_a_zone_that_this_host_does_not_know(self) -> None:
        entry = schedule_of("backup", entry_of(new(now=NOW - 2 * HOUR)) | {"timezone": "Mars/Base"})
        assert entry is not None
        assert schedules.edited(entry, defined(), NOW).next == at("2026-11-30T09:00:00+00:00")


class TestPause:
    def test_a_paused_schedule_is_never_due(self) -> None:
        entry = schedules.paused(new(), PAUSE)
        assert entry.due is None
        assert plan(entry, NOW + DAY, []).entry == entry

    def test_a_second_pause_keeps_the_first(self) -> None:
        entry = schedules.paused(new(), PAUSE)
        assert schedules.paused(entry, Pause(by="bob", at=NOW)).paused == PAUSE

    def test_a_resume_goes_on_with_the_next_instant_and_misses_nothing(self) -> None:
        entry = schedules.resumed(schedules.paused(new(), PAUSE), NOW + 3 * HOUR)
        assert (entry.paused, entry.next, entry.decisions) == (None, at("2026-11-30T12:00:00+00:00"), ())

    def test_a_resume_of_a_running_schedule_changes_nothing(self) -> None:
        entry = new(now=NOW - 2 * HOUR)
        assert schedules.resumed(entry, NOW) == entry

    @pytest.mark.parametrize(
        ("catchup", "verdicts", "jobs"),
        [
            ("last", [("missed", 3), ("fired", 1)], ["12"]),
            ("skip", [("missed", 4)], []),
            ("all", [("fired", 1)] * 4, ["09", "10", "11", "12"]),
        ],
    )
    def test_catch_up_decides_all_instants_of_the_pause_those_of_the_last_minute_too(
        self, catchup: str, verdicts: list[tuple[str, int]], jobs: list[str]
    ) -> None:
        resumed_at = at("2026-11-30T12:00:30+00:00")
        entry = schedules.resumed(schedules.paused(new(catchup=catchup), PAUSE), resumed_at, catch_up=True)
        planned = plan(entry, resumed_at, [])
        assert [(d.decision, d.count) for d in planned.decisions] == verdicts
        assert [f"{job.instant:%H}" for job in planned.jobs] == jobs
        assert (planned.entry.next, planned.entry.backlog) == (at("2026-11-30T13:00:00+00:00"), None)

    def test_catch_up_without_an_instant_in_the_pause_leaves_no_backlog(self) -> None:
        entry = schedules.resumed(schedules.paused(new(), PAUSE), NOW + timedelta(minutes=1), catch_up=True)
        assert (entry.backlog, entry.due) == (None, at("2026-11-30T09:00:00+00:00"))

    def test_a_backlog_waits_for_its_moment_if_the_clock_is_set_back(self) -> None:
        entry = schedules.resumed(schedules.paused(new(catchup="last"), PAUSE), NOW + 5 * HOUR, catch_up=True)
        assert plan(entry, NOW + 2 * HOUR, []).entry == entry
        assert len(plan(entry, NOW + 5 * HOUR, []).jobs) == 1
