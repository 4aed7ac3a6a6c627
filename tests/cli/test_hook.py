"""`queuectl hook`: output, exit codes, and what is said on stderr."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import CommandLine

ADD = ("hook", "add", "note", "--on", "dead,failed", "--where", "queue:mail", "cat")
SECRET = "s3cret-that-nobody-may-see"


def shown(queuectl: CommandLine, name: str = "note") -> dict[str, Any]:
    found: dict[str, Any] = queuectl.json("hook", "show", name)["hook"]
    return found


class TestAdd:
    def test_it_prints_the_name_and_reports_that_nobody_delivers(self, queuectl: CommandLine) -> None:
        assert queuectl.lines(*ADD) == ["note"]
        assert "no live worker serves queue hooks" in queuectl.err
        hook = shown(queuectl)
        assert hook["on"] == ["job.dead", "job.failed"]
        assert (hook["where"], hook["job"]["command"]) == ("queue:mail", "cat")
        assert hook["job"]["cwd"] == str(Path.cwd())

    def test_the_same_again_succeeds_and_other_content_conflicts(self, queuectl: CommandLine) -> None:
        queuectl(*ADD)
        assert queuectl.lines(*ADD) == ["note"]
        assert "already exists" in queuectl.err
        queuectl(*ADD[:-1], "ls", code=4)
        assert "queuectl hook remove note" in queuectl.err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--on", "nonsense", "cat"), "there is no event 'nonsense'"),
            (("--on", "ded", "cat"), "dead"),
            (("cat",), "on: is missing"),
            (("--on", "dead"), "neither a command nor a URL"),
            (("--on", "dead", "--url", "https://x/", "cat"), "either a command or a URL"),
            (("--on", "dead", "--secret", "env:K", "cat"), "secret: belongs to a URL"),
            (("--on", "dead", "--where", "nothing:1", "cat"), "nothing"),
            (("--on", "dead", "--url", "ftp://x/"), "url: is not a URL"),
            (("--on", "dead", "--url", "https://x/#f"), "url: is not a URL"),
            (("--on", "dead", "--url", "https://x/", "--timeout", "2h"), "timeout: 2h is out of range"),
            (("--on", "dead", "--url", "https://x/", "--header", "Host:y"), "headers.Host: is set"),
            (("--on", "dead", "--url", "https://x/", "--header", "Xy"), "no colon"),
            (("--on", "dead", "--url", "https://x/", "--proxy", "socks5://y"), "proxy: is not a URL"),
            (("--on", "dead", "--stdin", "-", "cat"), "the event is the input"),
        ],
        ids=" ".join,
    )
    def test_a_mistake_names_the_field_and_stores_nothing(
        self, queuectl: CommandLine, words: tuple[str, ...], said: str
    ) -> None:
        queuectl("hook", "add", "h", *words, code=2)
        assert said in queuectl.err
        assert queuectl.json("hook", "list")["hooks"] == []

    @pytest.mark.parametrize("name", ["a.b", "a:b", "x" * 51, "-x"])
    def test_a_name_is_checked(self, queuectl: CommandLine, name: str) -> None:
        queuectl("hook", "add", "--on", "dead", "--", name, "cat", code=2)

    @pytest.mark.parametrize(
        "words",
        [
            ("--secret", SECRET),
            ("--header", f"Authorization:{SECRET}"),
            ("--url", f"https://ada:{SECRET}@x.example/"),
        ],
        ids=lambda words: words[0],
    )
    def test_a_secret_is_refused_and_not_repeated(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        url = () if words[0] == "--url" else ("--url", "https://x.example/")
        queuectl("hook", "add", "h", "--on", "dead", *url, *words, code=2)
        assert "env:NAME" in queuectl.err
        assert SECRET not in queuectl.err

    def test_a_webhook_with_references(self, queuectl: CommandLine) -> None:
        given = ("--url", "env:CHAT_URL", "--secret", "file:/run/key", "--header", "Authorization:env:TOKEN")
        queuectl("hook", "add", "h", "--on", "job.dead", *given, "--timeout", "3s")
        hook = shown(queuectl, "h")
        assert (hook["url"], hook["secret"], hook["timeout"]) == ("env:CHAT_URL", "file:/run/key", 3)
        assert hook["headers"] == {"Authorization": "env:TOKEN"}


class TestTheSettingEvents:
    def test_it_cannot_be_none_while_there_are_hooks(self, queuectl: CommandLine) -> None:
        queuectl(*ADD)
        queuectl("config", "set", "events", "none", code=4)
        assert "note" in queuectl.err
        queuectl("config", "set", "events", "ends")
        queuectl("hook", "remove", "note")
        queuectl("config", "set", "events", "none")

    def test_a_hook_is_refused_if_its_events_are_not_written(self, queuectl: CommandLine) -> None:
        queuectl("config", "set", "events", "none")
        queuectl(*ADD, code=4)
        assert "queuectl config set events all" in queuectl.err
        queuectl("config", "set", "events", "ends")
        queuectl("hook", "add", "h", "--on", "enqueued", "cat", code=4)
        queuectl(*ADD)


class TestOthers:
    def test_an_unknown_hook_exits_with_3(self, queuectl: CommandLine) -> None:
        for verb in ("show", "pause", "resume", "test", "remove"):
            queuectl("hook", verb, "nobody", code=3)
            assert "there is no hook 'nobody'" in queuectl.err

    def test_pause_and_resume(self, queuectl: CommandLine) -> None:
        queuectl(*ADD)
        assert queuectl.lines("hook", "pause", "note", "--reason", "moves") == ["hook note paused"]
        assert shown(queuectl)["paused"]["reason"] == "moves"
        assert "paused" in queuectl("hook", "list")
        queuectl("hook", "resume", "note", "--skip")
        assert shown(queuectl)["paused"] is None

    def test_a_test_prints_the_id_of_its_job(self, queuectl: CommandLine) -> None:
        queuectl(*ADD)
        [id] = queuectl.lines("hook", "test", "note", "--event", '{"job":"j7","exit_code":3}')
        job = queuectl.json("show", id)["job"]
        assert job["queue"] == "hooks"
        assert json.loads(job["stdin"])["job"] == "j7"
        assert job["env"]["QUEUECTL_EVENT_EXIT_CODE"] == "3"
        for wrong in ("[]", "{", '{"event":"nothing"}', '{"number":"x"}', '{"colour":1}'):
            queuectl("hook", "test", "note", "--event", wrong, code=2)

    def test_what_show_prints_is_a_file_for_apply(self, queuectl: CommandLine) -> None:
        queuectl(*ADD)
        queuectl("hook", "add", "web", "--on", "dead", "--url", "https://x.example/", "--header", "A:b")
        before = {name: shown(queuectl, name) for name in ("note", "web")}
        Path("hooks.toml").write_text(queuectl("hook", "show", "note") + queuectl("hook", "show", "web"))
        assert queuectl.json("hook", "apply", "hooks.toml")["unchanged"] == ["note", "web"]
        queuectl("hook", "remove", "note", "web")
        assert queuectl.lines("hook", "apply", "hooks.toml") == ["+ note", "+ web"]
        for name, hook in before.items():
            after = shown(queuectl, name)
            assert {key: after[key] for key in ("on", "where", "job", "url", "headers", "timeout")} == {
                key: hook[key] for key in ("on", "where", "job", "url", "headers", "timeout")
            }

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[hook.h]\non = 'nonsense'\ncommand = 'cat'", "hook.h: there is no event"),
            ("[hook.h]\non = 'dead'\nurl = 'https://x/'\ncommand = 'cat'", "hook.h: command: belongs to"),
            (
                "[hook.h]\non = 'dead'\ncommand = 'cat'\nqueue = 'mail'",
                "hook.h: job.queue: is set by the hook",
            ),
            ("[hook.h]\non = 'dead'\ncommand = 'cat'\nbogus = 1", "bogus"),
            ("[schedule.h]\nwhen = '@daily'", "schedule"),
            ("x", "not TOML"),
        ],
    )
    def test_a_wrong_file_changes_nothing(self, queuectl: CommandLine, text: str, said: str) -> None:
        Path("hooks.toml").write_text(f"[hook.fine]\non = ['dead']\ncommand = 'cat'\n{text}\n")
        queuectl("hook", "apply", "hooks.toml", code=2)
        assert said in queuectl.err
        assert queuectl.json("hook", "list")["hooks"] == []

    def test_the_timeout_of_a_file_is_that_of_the_request_or_of_the_job(self, queuectl: CommandLine) -> None:
        Path("hooks.toml").write_text(
            "[hook.a]\non = 'dead'\ncommand = 'cat'\ntimeout = '5m'\n"
            "[hook.b]\non = 'dead'\nurl = 'https://x.example/'\ntimeout = '5s'\n"
        )
        queuectl("hook", "apply", "hooks.toml")
        assert shown(queuectl, "a")["job"]["timeout"] == "5m"
        assert shown(queuectl, "b")["timeout"] == timedelta(seconds=5).total_seconds()

    def test_doctor_reports_that_no_worker_serves_hooks(self, queuectl: CommandLine) -> None:
        queuectl(*ADD)
        assert "no live worker serves queue hooks, so no hook is delivered" in queuectl("doctor", code=1)
        queuectl("hook", "remove", "note")
        assert "hooks" not in queuectl("doctor")
