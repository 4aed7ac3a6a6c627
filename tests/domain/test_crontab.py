"""A crontab as a file of schedules: variables, percent signs, users, names, and what has no schedule."""

from typing import Any

import pytest

from queuectl.domain.crontab import CronLine, Remark, read_crontab, write_file
from queuectl.domain.schedule_file import check_file, parse_toml
from queuectl.errors import InvalidInput


def read(text: str, **given: Any) -> list[Remark | CronLine]:
    return read_crontab(text, **({"timezone": "Europe/Berlin", "home": "/home/ada"} | given))


def lines(text: str, **given: Any) -> list[CronLine]:
    return [each for each in read(text, **given) if isinstance(each, CronLine)]


def job(text: str, **given: Any) -> dict[str, Any]:
    [line] = lines(text, **given)
    return line.entry.definition.job


RULES = [
    ("*/7 * * * * true", "*/7 * * * *"),
    ("  0\t5  * * 1\ttrue", "0 5 * * 1"),
    ("30 2 * jan-mar mon-fri true", "30 2 * jan-mar mon-fri"),
    ("0 0 1,15 * * true", "0 0 1,15 * *"),
    ("@hourly true", "@hourly"),
    ("@Daily true", "@Daily"),
    ("@annually true", "@yearly"),
    ("@midnight\ttrue", "@midnight"),
]


@pytest.mark.parametrize(("line", "when"), RULES)
def test_the_time_fields_become_the_rule(line: str, when: str) -> None:
    [found] = lines(line)
    assert (found.entry.definition.when, found.entry.definition.job["command"]) == (when, "true")
    assert found.entry.definition.timezone == "Europe/Berlin"


COMMANDS = [
    ("date", "date", None),
    (r"date +\%s", "date +%s", None),
    ("mail root%hello", "mail root", "hello\n"),
    ("mail root % Dear,%%bye%", "mail root", " Dear,\n\nbye\n"),
    (r"mail -s 2\% root%50 \% of%it", "mail -s 2% root", "50 % of\nit\n"),
    (r"printf '\n' 100\\%x", r"printf '\n' 100\\", "x\n"),
    ("cat%", "cat", None),
    ("""echo "a 'b' # c" > '/tmp/x y'""", """echo "a 'b' # c" > '/tmp/x y'""", None),
    (r"awk '{ print $1 }' \\", r"awk '{ print $1 }' \\", None),
]


@pytest.mark.parametrize(("written", "command", "stdin"), COMMANDS)
def test_the_first_unescaped_percent_sign_begins_the_input(
    written: str, command: str, stdin: str | None
) -> None:
    found = job(f"* * * * * {written}")
    assert (found["command"], found.get("stdin")) == (command, stdin)


def test_variables_hold_for_the_lines_below_them() -> None:
    text = """
    * * * * * first
    PATH = "/opt/bin:/usr/bin"
    GREETING='hello world'
    EMPTY=
    * * * * * second
    PATH=/bin
    SHELL=/bin/bash
    HOME=/srv
    * * * * * third
    SHELL=/bin/sh
    * * * * * fourth
    """
    first, second, third, fourth = (each.entry.definition.job for each in lines(text))
    assert first == {"command": "first", "cwd": "/home/ada"}
    assert second["env"] == {"PATH": "/opt/bin:/usr/bin", "GREETING": "hello world", "EMPTY": ""}
    assert third["env"] == {"PATH": "/bin", "GREETING": "hello world", "EMPTY": "", "HOME": "/srv"}
    assert (third["shell"], third["cwd"]) == ("/bin/bash", "/srv")
    assert "shell" not in fourth


def test_cron_tz_is_the_zone_of_the_lines_below_it() -> None:
    found = lines("CRON_TZ=America/New_York\n@daily a\nCRON_TZ=\n@daily b\nTZ=UTC\n@daily c")
    assert [each.entry.definition.timezone for each in found] == [
        "America/New_York",
        "Europe/Berlin",
        "Europe/Berlin",
    ]
    assert found[2].entry.definition.job["env"] == {"TZ": "UTC"}


def test_what_has_no_schedule_becomes_a_comment_that_names_what_does_it() -> None:
    mail, boot = read("MAILTO=ops@example.org\nMAILTO=\n@reboot /usr/bin/start-it --now")
    assert isinstance(mail, Remark)
    assert isinstance(boot, Remark)
    assert "MAILTO=ops@example.org" in mail.text
    assert "queuectl hook add" in mail.text
    assert "@reboot /usr/bin/start-it --now" in boot.text
    assert "systemd" in boot.text


class TestNames:
    def name(self, command: str) -> str:
        [line] = lines(f"@daily {command}")
        return line.name

    @pytest.mark.parametrize(
        ("command", "beginning"),
        [
            ("/usr/local/bin/poll.sh --quiet >/dev/null 2>&1", "poll.sh-"),
            ("cd /srv/app && ./manage.py clearsessions", "manage.py-clearsessions-"),
            ("TOKEN=x nice -n 10 /opt/a_b sync", "a_b-sync-"),
            ("[ -x /usr/bin/x ] && x", "x-x-"),
            ("ü é", "job-"),
            ("x" * 500, "x" * 40 + "-"),
        ],
    )
    def test_a_name_is_made_of_the_command(self, command: str, beginning: str) -> None:
        assert self.name(command).startswith(beginning)
        assert len(self.name(command)) == len(beginning) + 6

    def test_a_name_does_not_depend_on_other_lines_or_on_the_time(self) -> None:
        alone = self.name("backup --all")
        found = {
            each.entry.definition.job["command"]: each.name
            for each in lines("@hourly x\n0 3 * * * backup --all")
        }
        assert found["backup --all"] == alone
        assert self.name("backup --some") != alone

    def test_lines_with_the_same_command_have_names_of_their_own(self) -> None:
        names = [each.name for each in lines("@daily x\n@weekly x\n@weekly x\n@weekly x")]
        assert len(set(names)) == 4
        assert names[1] == lines("@daily x\n@weekly x")[1].name


class TestSystemForm:
    @pytest.mark.parametrize(
        "line", ["0 5 * * * root cd / && run", "0 5 * * *\troot\tcd / && run", "@daily root  cd / && run"]
    )
    def test_the_column_of_the_user_is_no_part_of_the_command(self, line: str) -> None:
        assert job(line, user="root")["command"] == "cd / && run"

    def test_a_line_of_another_user_is_refused_with_its_number(self) -> None:
        with pytest.raises(InvalidInput) as refused:
            read("\n0 5 * * * www-data run", user="root")
        assert refused.value.message == "line 2: the line is for the user 'www-data', and you are 'root'"

    def test_a_line_without_a_user_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="line 1: 'run' has no user and command"):
            read("0 5 * * * run", user="root")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n* * * *", "line 3: '* * * *' is not a line of a crontab"),
        ("61 * * * * x", "line 1: when: '61 * * * *': bad minute"),
        ("0 0 30 2 * x", "line 1: when: '0 0 30 2 *': bad day-of-month"),
        ("@fortnightly x", "line 1: when: '@fortnightly' is not known"),
        ("@daily", "line 1: '@daily' is not a line of a crontab"),
        ("* * * * * % input", "line 1: there is no command before the first %"),
        (
            "CRON_TZ=Mars/Base\n@daily x",
            "line 2: timezone: 'Mars/Base' is not a time zone that this host knows",
        ),
    ],
)
def test_a_bad_line_is_refused_with_its_number(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(text)
    assert refused.value.message == message


def test_a_crontab_is_printed_as_a_file_with_the_same_schedules() -> None:
    text = "\n".join(
        ["# nightly \x01 jobs", "MAILTO=a@b", "X='\"\\'", "@reboot x", *(line for line, _ in RULES)]
        + [f"* * * * * {written}" for written, _, _ in COMMANDS]
    )
    written = write_file(read(text))
    file = check_file(parse_toml(written), timezone="UTC")
    assert file.entries == {each.name: each.entry for each in lines(text)}
    assert written.startswith("# nightly ? jobs\n\n# MAILTO=a@b: ")


def test_an_empty_crontab_is_an_empty_file() -> None:
    assert write_file(read("\n \n")) == ""
