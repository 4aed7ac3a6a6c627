"""A file of schedules: TOML and JSON, checked as a whole, written back, and compared with the stored schedules."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain import schedule as schedules
from queuectl.domain.schedule import Pause, Schedule
from queuectl.domain.schedule_difference import FieldChange, difference
from queuectl.domain.schedule_file import FileEntry, ScheduleFile, check_file, export, parse_toml
from queuectl.errors import InvalidInput

NOW = datetime(2026, 11, 30, 8, 30, tzinfo=UTC)

FILE = """
owner = "ops"

[schedule.backup]
when = "30 2 * * *"
timezone = "Europe/Berlin"
command = "make backup"
queue = "slow"
env = { LEVEL = "9" }
catchup = "all"
catchup_window = "2d"
jitter = 90
job.jitter = 0.5
start = 2026-12-01T00:00:00
end = 2027-12-01T00:00:00Z
not_on = [2026-12-24, "2026-12-25"]

[schedule."report.daily"]
when = "@daily"
argv = ["make", "report"]
paused = true

[schedule.report]
when = "@every 1h"
job = { command = "true", tags = ["a"] }
owner = "dev"
"""


def read(text: str) -> ScheduleFile:
    return check_file(parse_toml(text), timezone="UTC")


def stored(file: ScheduleFile) -> dict[str, Schedule]:
    """The schedules of a file as an apply adds them."""
    pause = Pause(by="ada", at=NOW)
    return {
        name: schedules.new(name, entry.definition, NOW, pause=pause if entry.paused else None)
        for name, entry in file.entries.items()
    }


def table(**fields: Any) -> dict[str, Any]:
    return {"schedule": {"a": {"when": "@daily", "command": "true"} | fields}}


class TestReading:
    def test_fields_of_the_schedule_and_keys_of_the_job_stand_in_one_table(self) -> None:
        made = read(FILE).entries["backup"].definition
        assert (made.when, made.timezone, made.catchup, made.owner) == (
            "30 2 * * *",
            "Europe/Berlin",
            "all",
            "ops",
        )
        assert (made.catchup_window, made.jitter) == (timedelta(days=2), timedelta(seconds=90))
        assert made.start == datetime(2026, 11, 30, 23, tzinfo=UTC)
        assert made.not_on == (date(2026, 12, 24), date(2026, 12, 25))
        assert made.job == {"command": "make backup", "queue": "slow", "env": {"LEVEL": "9"}, "jitter": 0.5}

    def test_defaults_are_those_of_the_file_and_the_client(self) -> None:
        file = read(FILE)
        assert file.owner == "ops"
        assert file.entries["report.daily"].paused
        assert file.entries["report.daily"].definition.timezone == "UTC"
        assert [each.definition.owner for each in file.entries.values()] == ["ops", "ops", "dev"]

    def test_json_has_the_same_keys(self) -> None:
        document = parse_toml(FILE)
        as_json = json.loads(
            json.dumps(document, default=str).replace("2026-12-01 00:00:00", "2026-12-01T00:00:00")
        )
        assert check_file(as_json, timezone="UTC") == read(FILE)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({"schedules": {}}, "schedules: a file of schedules has no such key"),
            ({"schedule": []}, None),
            ({"schedule": ["a"]}, "schedule: is not a table of at most 10000 schedules"),
            ({"schedule": {"a": 5}}, "schedule.a: is not a table"),
            ({"schedule": {"a b": {}}}, "schedule.a b: name 'a b' is not allowed"),
            ({"schedule": {"a:b": {}}}, "schedule.a:b: name: 'a:b' is not allowed for a schedule"),
            ({"schedule": {"a": {"command": "true"}}}, "schedule.a: when: is missing"),
            ({"schedule": {"a": {"when": "@daily"}}}, "schedule.a: job: has no command"),
            (table(when="@often"), "schedule.a: when: '@often' is not known"),
            (table(overlap="never"), "schedule.a: overlap: 'never' is not known"),
            (table(paused="yes"), "schedule.a: paused: 'yes' is not true or false"),
            (table(job=5), "schedule.a: job: is not a table"),
            (table(job={"command": "x"}), "schedule.a: command: is given twice"),
            (table(run_at="now"), "schedule.a: job.run_at: is set by the schedule"),
            (table() | {"owner": "a b"}, "owner: owner 'a b' is not allowed"),
        ],
    )
    def test_a_fault_is_named_with_schedule_and_field(
        self, document: dict[str, Any], message: str | None
    ) -> None:
        if message is None:
            assert check_file(document, timezone="UTC").entries == {}
            return
        with pytest.raises(InvalidInput) as refused:
            check_file(document, timezone="UTC")
        assert refused.value.message == message

    def test_one_bad_schedule_refuses_the_whole_file(self) -> None:
        with pytest.raises(InvalidInput, match=r"schedule\.zz: when"):
            read(FILE + '[schedule.zz]\nwhen = "x"\ncommand = "true"')

    def test_text_that_is_not_toml_is_refused_with_its_line(self) -> None:
        with pytest.raises(InvalidInput, match="line 2"):
            parse_toml('owner = "a"\nwhen = daily\n')

    def test_a_thousand_schedules_are_read(self) -> None:
        text = "".join(f'[schedule.s{n}]\nwhen = "*/7 * * * *"\ncommand = "true"\n' for n in range(1000))
        assert len(read(text).entries) == 1000


class TestExport:
    def test_an_export_contains_the_same_schedules(self) -> None:
        file = read(FILE)
        again = read(export(stored(file).values()))
        assert again.entries == file.entries

    def test_an_owner_of_all_stands_at_the_head_and_defaults_are_left_out(self) -> None:
        file = read('owner = "ops"\n[schedule.a]\nwhen = "@daily"\ncommand = "true"\noverlap = "skip"')
        assert export(stored(file).values()) == (
            'owner = "ops"\n\n[schedule.a]\nwhen = "@daily"\ntimezone = "UTC"\ncommand = "true"\n'
        )

    def test_an_export_of_nothing_is_an_empty_file(self) -> None:
        assert export([]) == ""
        assert read("").entries == {}

    def test_null_in_a_list_is_refused_and_elsewhere_left_out(self) -> None:
        kept = check_file(table(meta={"a": None, "b": 1}), timezone="UTC")
        assert read(export(stored(kept).values())).entries["a"].definition.job["meta"] == {"b": 1}
        with pytest.raises(InvalidInput, match="null"):
            export(stored(check_file(table(meta={"a": [None]}), timezone="UTC")).values())

    @given(
        st.text(st.characters(codec="utf-8")),
        st.dictionaries(
            st.text(st.characters(codec="utf-8"), max_size=5),
            st.recursive(
                st.text(st.characters(codec="utf-8")) | st.booleans() | st.integers(-(2**63), 2**63 - 1)
                | st.floats(allow_nan=False, allow_infinity=False),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=5,
            ),
            max_size=3,
        ),
    )  # fmt: skip
    def test_any_text_and_any_small_object_survive_an_export(self, text: str, meta: dict[str, Any]) -> None:
        file = check_file(table(command=text, meta=meta), timezone="UTC")
        assert read(export(stored(file).values())).entries == file.entries


class TestDifference:
    def test_a_file_that_was_applied_differs_in_nothing(self) -> None:
        file = read(FILE)
        found = difference(file, stored(file), prune=True)
        assert found.empty
        assert list(found.lines()) == ["= 3 unchanged"]

    def test_added_changed_and_unchanged_schedules(self) -> None:
        before = stored(read(FILE))
        text = (
            FILE.replace('"30 2 * * *"', '"0 3 * * *"').replace('"slow"', '"fast"').replace('LEVEL = "9"', "")
        )
        found = difference(read(text + '[schedule.new]\nwhen = "@daily"\ncommand = "x"'), before)
        assert found.added == ("new",)
        assert found.changed["backup"] == (
            FieldChange("when", "30 2 * * *", "0 3 * * *"),
            FieldChange("job.queue", "slow", "fast"),
            FieldChange("job.env", {"LEVEL": "9"}, {}),
        )
        assert list(found.lines()) == [
            "+ new",
            "~ backup when: 30 2 * * * → 0 3 * * *",
            "~ backup job.queue: slow → fast",
            '~ backup job.env: {"LEVEL":"9"} → {}',
            "= 2 unchanged",
        ]
        assert not found.empty

    def test_a_field_that_is_set_or_cleared_shows_none(self) -> None:
        base = check_file(table(not_on="2026-12-24", command="a\nb"), timezone="UTC")
        found = difference(check_file(table(end="2027-01-01T00:00:00Z"), timezone="UTC"), stored(base))
        assert list(found.lines())[:-1] == [
            "~ a end: none → 2027-01-01T00:00:00Z",
            '~ a not_on: ["2026-12-24"] → none',
            '~ a job.command: "a\\nb" → true',
        ]

    def test_prune_removes_only_schedules_of_the_same_owner(self) -> None:
        before = stored(read(FILE)) | stored(check_file(table(), timezone="UTC"))
        file = read('owner = "ops"\n[schedule.backup]\nwhen = "@daily"\ncommand = "x"')
        assert difference(file, before, prune=True).removed == ("report.daily",)
        assert difference(file, before).removed == ()

    def test_an_owner_without_schedules_is_checked(self) -> None:
        with pytest.raises(InvalidInput, match="owner: 5 is not a text"):
            read("owner = 5")
        assert read('owner = "none"').owner is None

    def test_prune_without_an_owner_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="owner"):
            difference(read(""), {}, prune=True)

    def test_a_pause_is_no_difference(self) -> None:
        file = read(FILE)
        before = stored(file) | {"backup": schedules.paused(stored(file)["backup"], Pause(by="ada", at=NOW))}
        assert difference(file, before).empty
        assert file.entries["backup"] == FileEntry(definition=file.entries["backup"].definition)
