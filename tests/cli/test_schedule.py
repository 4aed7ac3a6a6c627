"""`queuectl schedule`: output, exit codes, and what is said on stderr."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.conftest import CommandLine

NIGHTLY = ("schedule", "add", "backup", "30 2 * * *", "--tz", "Europe/Berlin", "make backup")


def shown(queuectl: CommandLine, name: str = "backup") -> dict[str, object]:
    found: dict[str, object] = queuectl.json("schedule", "show", name)["schedule"]
    return found


class TestAdd:
    def test_it_prints_the_name_and_says_the_next_run_in_local_time(self, queuectl: CommandLine) -> None:
        assert queuectl.lines(*NIGHTLY) == ["backup"]
        assert "At 02:30 every day; next: " in queuectl.err
        assert "02:30:00 Europe/Berlin" in queuectl.err
        assert "the clocks go" in queuectl.err
        assert "no worker lives, so nothing will fire" in queuectl.err

    def test_the_same_again_succeeds_and_other_content_conflicts(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY)
        assert queuectl.lines(*NIGHTLY) == ["backup"]
        queuectl(*NIGHTLY, "--queue", "other", code=4)
        assert "queuectl schedule edit" in queuectl.err

    @pytest.mark.parametrize(
        ("words", "field"),
        [
            (("61 2 * * *", "true"), "when"),
            (("@reboot", "true"), "@reboot"),
            (("@daily", "--tz", "Mars/Base", "true"), "timezone"),
            (("@daily", "--overlap", "never", "true"), "overlap"),
            (("@daily", "--not-on", "christmas", "true"), "not_on"),
            (("@daily", "--priority", "9999", "true"), "priority"),
            (("@daily",), "no command"),
        ],
        ids=lambda value: value if isinstance(value, str) else " ".join(value),
    )
    def test_a_mistake_names_the_field_and_stores_nothing(
        self, queuectl: CommandLine, words: tuple[str, ...], field: str
    ) -> None:
        queuectl("schedule", "add", "s", *words, code=2)
        assert field in queuectl.err
        assert queuectl.json("schedule", "list")["schedules"] == []

    def test_options_may_stand_before_between_and_after_the_words(self, queuectl: CommandLine) -> None:
        queuectl("schedule", "add", "--queue", "q", "a", "--overlap", "allow", "@every 5m", "--", "ls", "-l")
        queuectl("schedule", "add", "b", "@every 5m", "ls", "--catchup", "all", "--paused")
        assert shown(queuectl, "a")["job"] == {"argv": ["ls", "-l"], "queue": "q", "cwd": str(Path.cwd())}
        assert (shown(queuectl, "b")["catchup"], shown(queuectl, "b")["next"]) == ("all", None)

    def test_days_off_are_read_from_a_file(self, queuectl: CommandLine) -> None:
        (Path.cwd() / "off").write_text("2026-12-24 # eve\n2026-12-25\n")
        queuectl("schedule", "add", "s", "@daily", "--not-on", "@off", "true")
        assert shown(queuectl, "s")["not_on"] == ["2026-12-24", "2026-12-25"]


class TestLook:
    def test_list_prints_each_with_its_next_five_instants(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY)
        [found] = queuectl.json("schedule", "list")["schedules"]
        assert {key: found[key] for key in ("name", "when", "description", "timezone", "last", "paused")} == {
            "name": "backup",
            "when": "30 2 * * *",
            "description": "At 02:30 every day",
            "timezone": "Europe/Berlin",
            "last": None,
            "paused": None,
        }
        instants = [datetime.fromisoformat(each) for each in found["next"]]
        assert len(instants) == 5
        assert instants[0] > datetime.now(UTC)
        [line] = queuectl.lines("schedule", "list")
        assert line.split("\t")[:2] == ["backup", "At 02:30 every day"]

    def test_an_ended_schedule_is_hidden_without_all(self, queuectl: CommandLine) -> None:
        queuectl("schedule", "add", "s", "@daily", "--end", "2020-01-01T00:00:00Z", "true")
        assert queuectl.lines("schedule", "list") == []
        assert "--all shows it" in queuectl.err
        [found] = queuectl.json("schedule", "list", "--all")["schedules"]
        assert found["next"] is None

    def test_show_takes_a_number_of_instants(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY)
        assert len(queuectl.json("schedule", "show", "backup", "--next", "2")["schedule"]["next"]) == 2
        queuectl("schedule", "show", "backup", "--next", "0", code=2)
        queuectl("schedule", "show", "nothing", code=3)

    def test_preview_notes_the_shift_and_opens_no_store(self, queuectl: CommandLine) -> None:
        found = queuectl.json(
            "schedule", "preview", "30 2 * * *", "--tz", "Europe/Berlin",
            "--from", "2026-10-24T00:00:00Z", "--to", "2026-10-27T00:00:00Z",
        )  # fmt: skip
        assert found["instants"] == [
            "2026-10-24T00:30:00.000000Z",
            "2026-10-25T00:30:00.000000Z",
            "2026-10-26T01:30:00.000000Z",
        ]
        [note] = found["notes"]
        assert "once, the first time" in note

    def test_history_lists_the_decisions(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY)
        assert queuectl.json("schedule", "history", "backup") == {"schema": 1, "decisions": []}


class TestAct:
    def test_pause_and_resume(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY)
        queuectl("schedule", "pause", "backup", "--reason", "repair")
        paused = shown(queuectl)["paused"]
        assert isinstance(paused, dict)
        assert paused["reason"] == "repair"
        assert "@" in paused["by"] or paused["by"].startswith("local:")
        [line] = [line for line in queuectl.lines("schedule", "show", "backup") if "# paused" in line]
        assert f" by {paused['by']}: repair" in line
        queuectl("schedule", "resume", "backup", "--catch-up")
        assert shown(queuectl)["paused"] is None

    @pytest.mark.parametrize("words", [("apply",), ("diff",), ("import", "crontab")])
    def test_a_file_that_is_missing_is_named_without_an_option(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        queuectl("schedule", *words, "absent", code=2)
        assert queuectl.err == "queuectl: cannot read absent: No such file or directory\n"

    def test_run_prints_the_id_and_obeys_the_overlap_policy(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY)
        [id] = queuectl.lines("schedule", "run", "backup")
        assert id.startswith("backup:")
        queuectl("schedule", "run", "backup", code=4)
        [forced] = queuectl.json("schedule", "run", "backup", "--force")["jobs"]
        assert forced["id"] != id
        assert queuectl.json("show", id)["job"]["schedule"] == "backup"

    def test_remove_leaves_jobs_or_cancels_them(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY)
        [id] = queuectl.lines("schedule", "run", "backup")
        queuectl("schedule", "remove", "backup")
        assert queuectl.json("show", id)["job"]["state"] == "pending"
        queuectl(*NIGHTLY)
        assert queuectl.json("schedule", "remove", "backup", "--cancel")["cancelled"] == 1
        queuectl("schedule", "remove", "backup", code=3)

    def test_edit_changes_what_is_given(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY)
        queuectl("schedule", "edit", "backup", "--when", "0 3 * * *", "--timeout", "2h")
        found = shown(queuectl)
        assert (found["when"], found["timezone"]) == ("0 3 * * *", "Europe/Berlin")
        assert found["job"] == {"command": "make backup", "timeout": "2h", "cwd": str(Path.cwd())}
        queuectl("schedule", "edit", "backup", code=2)
        queuectl("schedule", "edit", "nothing", "--when", "@daily", code=3)


class TestFile:
    FILE = """
owner = "ops"
[schedule.backup]
when = "30 2 * * *"
timezone = "Europe/Berlin"
command = "make backup"
[schedule.ping]
when = "@every 10m"
argv = ["true"]
overlap = "allow"
"""

    def test_apply_diff_and_prune(self, queuectl: CommandLine) -> None:
        file = Path.cwd() / "s.toml"
        file.write_text(self.FILE)
        queuectl("schedule", "diff", "s.toml", code=1)
        assert queuectl.lines("schedule", "apply", "s.toml", "--dry-run") == [
            "+ backup",
            "+ ping",
            "= 0 unchanged",
        ]
        assert queuectl.json("schedule", "list")["schedules"] == []
        queuectl("schedule", "apply", "s.toml")
        assert queuectl.lines("schedule", "diff", "s.toml") == ["= 2 unchanged"]
        queuectl("schedule", "add", "mine", "@daily", "true")
        file.write_text(self.FILE.partition("[schedule.ping]")[0].replace("30 2", "45 2"))
        assert queuectl.lines("schedule", "apply", "s.toml", "--prune") == [
            "~ backup when: 30 2 * * * → 45 2 * * *",
            "- ping",
            "= 0 unchanged",
        ]
        assert [each["name"] for each in queuectl.json("schedule", "list")["schedules"]] == ["backup", "mine"]

    def test_an_export_can_be_applied(self, queuectl: CommandLine) -> None:
        queuectl(*NIGHTLY, "--env", "A=b")
        (Path.cwd() / "s.toml").write_text(queuectl("schedule", "export"))
        assert queuectl.lines("schedule", "diff", "s.toml") == ["= 1 unchanged"]
        (Path.cwd() / "s.json").write_text(json.dumps(queuectl.json("schedule", "export")))
        assert queuectl.lines("schedule", "diff", "s.json") == ["= 1 unchanged"]

    def test_a_wrong_file_changes_nothing(self, queuectl: CommandLine) -> None:
        (Path.cwd() / "s.toml").write_text(self.FILE.replace("@every 10m", "@every never"))
        queuectl("schedule", "apply", "s.toml", code=2)
        assert "schedule.ping" in queuectl.err
        assert queuectl.json("schedule", "list")["schedules"] == []
        queuectl("schedule", "apply", "absent.toml", code=2)

    def test_a_crontab_becomes_a_file(self, queuectl: CommandLine) -> None:
        (Path.cwd() / "tab").write_text("MAILTO=ops\n*/7 * * * * tar %y%a\n@reboot x\n")
        text = queuectl("schedule", "import", "crontab", "tab", "--tz", "UTC")
        assert 'when = "*/7 * * * *"' in text
        assert 'stdin = "y\\na\\n"' in text
        (Path.cwd() / "s.toml").write_text(text)
        queuectl("schedule", "apply", "s.toml")
        queuectl("schedule", "import", "atjobs", "tab", code=2)


def test_doctor_reports_a_late_schedule_and_exits_with_1(queuectl: CommandLine) -> None:
    begin = datetime.now(UTC) - timedelta(hours=1)
    queuectl("schedule", "add", "s", "@every 5m", "--start", begin.isoformat(), "true")
    queuectl("doctor")
    store = queuectl.store()
    entry = store.read_table("schedules")["s"]
    from queuectl.store.protocol import Swap

    late = {**entry.value, "next": begin.isoformat()}
    store.swap([Swap("schedules", "s", late, entry.version, due=begin)])
    assert "schedule s is late" in queuectl("doctor", code=1)
    queuectl("status")
