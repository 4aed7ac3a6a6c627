"""A request becomes a job: JSON fields are converted, settings fill missing fields, and a digest is computed."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from factories import NOW
from queuectl.config import OPTIONS
from queuectl.domain.job import Job, Parent, Spec
from queuectl.errors import InvalidInput
from queuectl.service import shapes
from queuectl.service.enqueueing import Enqueuer
from queuectl.service.request.fields import JobRequest, convert_request, decode_request, flags
from queuectl.service.request.spec import Defaults, content_of, spec_of
from service.conftest import settings_of

DEFAULTS = Defaults(settings_of(), "/here")


def spec(**fields: Any) -> Spec:
    """The spec of a JSON job with these fields."""
    text = json.dumps({"command": "x", **fields})
    return spec_of(decode_request(text), DEFAULTS)


def job(document: dict[str, Any]) -> Job:
    return Enqueuer(DEFAULTS, NOW).job(decode_request(json.dumps(document)))


MINUTE = timedelta(minutes=1)

FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({"shell": "bash -e"}, "shell", "bash -e"),
    ({"cwd": "/srv"}, "cwd", "/srv"),
    ({"cwd": "sub/dir"}, "cwd", "/here/sub/dir"),
    ({"cwd": None}, "cwd", "/here"),
    ({"env": {"A": "1", "B": ""}}, "env", {"A": "1", "B": ""}),
    ({"umask": "022"}, "umask", 0o22),
    ({"umask": 18}, "umask", 0o22),
    ({"stdin": "héllo\n"}, "stdin", "héllo\n".encode()),
    ({"stdin": ""}, "stdin", b""),
    ({"timeout": 60}, "timeout", MINUTE),
    ({"timeout": 0.25}, "timeout", timedelta(milliseconds=250)),
    ({"timeout": "1m"}, "timeout", MINUTE),
    ({"timeout": "none"}, "timeout", None),
    ({"kill_grace": 0}, "kill_grace", timedelta(0)),
    ({"output_limit": 512}, "output_limit", 512),
    ({"output_limit": "64KiB"}, "output_limit", 65536),
    ({"output_limit": 0}, "output_limit", 0),
    ({"split": True}, "split", True),
    ({"allow_detached": True}, "allow_detached", True),
    ({"unique_key": "k"}, "unique_key", "k"),
    ({"after": ["a", "b:any", "c:failed", "d:e"]}, "after",
     (Parent("a"), Parent("b", "any"), Parent("c", "failed"), Parent("d:e"))),
    ({"after": [{"job": "a", "on": "any"}, {"job": "b"}]}, "after", (Parent("a", "any"), Parent("b"))),
    ({"after_failure": "hold"}, "after_failure", "hold"),
    ({"batch": "nightly"}, "batch", "nightly"),
    ({"tags": ["a", "b"]}, "tags", ("a", "b")),
    ({"meta": {"a": [1, {"b": None}]}}, "meta", {"a": [1, {"b": None}]}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "name", "value"), FIELDS, ids=[str(given) for given, *_ in FIELDS])
def test_a_json_field_becomes_a_field_of_the_spec(given: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(spec(**given), name) == value


RETRIES: list[tuple[dict[str, Any], str, Any]] = [
    ({"max_retries": 0}, "max_retries", 0),
    ({"max_retries": -1}, "max_retries", -1),
    ({"no_retry_codes": [2, 64]}, "no_retry_codes", (2, 64)),
    ({"backoff_base": 3}, "base", 3.0),
    ({"backoff": {"base": 3}}, "base", 3.0),
    ({"backoff_factor": "500ms"}, "factor", timedelta(milliseconds=500)),
    ({"backoff": {"factor": 2}}, "factor", timedelta(seconds=2)),
    ({"backoff_max": "1m"}, "longest", MINUTE),
    ({"backoff": {"max": 60}}, "longest", MINUTE),
    ({"jitter": 0.5}, "jitter", 0.5),
    ({"backoff": {"jitter": 0}}, "jitter", 0.0),
    ({"backoff_base": 3, "backoff": {"base": 5}}, "base", 3.0),
]


@pytest.mark.parametrize(("given", "name", "value"), RETRIES, ids=[str(given) for given, *_ in RETRIES])
def test_a_json_field_becomes_a_field_of_the_retry_policy(
    given: dict[str, Any], name: str, value: Any
) -> None:
    assert getattr(spec(**given).retry, name) == value


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"id": "a"}, "id", "a"),
        ({"queue": "mail"}, "queue", "mail"),
        ({}, "queue", "default"),
        ({"priority": -3}, "priority", -3),
        ({}, "priority", 0),
        ({"run_at": "2026-11-23T01:00:00+01:00"}, "run_at", datetime(2026, 11, 23, tzinfo=UTC)),
        ({"scheduled_at": "2026-11-23T00:00:00Z"}, "run_at", datetime(2026, 11, 23, tzinfo=UTC)),
        ({"delay": "1m"}, "run_at", NOW + MINUTE),
        ({"delay": 60}, "run_at", NOW + MINUTE),
        ({}, "run_at", NOW),
        ({"hold": True}, "state", "held"),
        ({"after": ["p"]}, "state", "blocked"),
        ({"hold": False}, "state", "pending"),
    ],
)
def test_a_json_field_becomes_a_field_of_the_job(given: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(job({"command": "x", **given}), name) == value


def test_a_command_can_be_given_in_three_ways() -> None:
    assert job({"command": "a b"}).spec.command == "a b"
    assert job({"payload": {"command": "a b"}}).spec.command == "a b"
    assert job({"argv": ["a", "b c", ""]}).spec.argv == ("a", "b c", "")


def test_null_is_the_same_as_not_given() -> None:
    every = dict.fromkeys(set(JobRequest.__struct_fields__) - {"command"})
    one, other = job({"command": "x"}), job({"command": "x", **every})
    assert one.spec == other.spec


def test_the_json_of_a_shown_job_can_be_enqueued_again() -> None:
    given: dict[str, Any] = {
        "command": "x", "queue": "mail", "priority": 5, "max_retries": 7, "no_retry_codes": [3], "timeout": "90s",
        "kill_grace": 1.5, "cwd": "/srv", "env": {"A": "1"}, "umask": "077", "stdin": "in", "output_limit": 100,
        "split": True, "allow_detached": True, "unique_key": "k", "after": ["p:any"], "after_failure": "hold",
        "batch": "b", "tags": ["t"], "meta": {"m": 1}, "backoff": {"base": 3, "factor": 0.5, "max": 60, "jitter": 0.1},
        "shell": "bash",
    }  # fmt: skip
    first = job(given)
    shown = shapes.job(first)
    again = job({name: shown[name] for name in given})
    assert {name: shapes.job(again)[name] for name in given} == {name: shown[name] for name in given}


class TestDefaults:
    def test_the_settings_are_resolved_into_the_spec(self) -> None:
        settings = settings_of(
            max_retries="7", max_losses="9", backoff_base="3", backoff_factor_ms="250", backoff_max="2m", jitter="0.5",
            timeout="1h", kill_grace="3s", output_limit="2KiB", priority_boost="10m",
        )  # fmt: skip
        made = spec_of(JobRequest(command="x"), Defaults(settings, None))
        retry = made.retry
        assert (retry.max_retries, retry.max_losses, retry.base, retry.jitter) == (7, 9, 3.0, 0.5)
        assert (retry.factor, retry.longest) == (timedelta(milliseconds=250), 2 * MINUTE)
        assert (made.timeout, made.kill_grace) == (60 * MINUTE, timedelta(seconds=3))
        assert (made.output_limit, made.boost, made.cwd) == (2048, 10 * MINUTE, None)

    def test_fields_of_the_request_win_over_the_settings(self) -> None:
        defaults = Defaults(settings_of(timeout="1h", max_retries="7"), None)
        made = spec_of(JobRequest(command="x", timeout="none", max_retries=0), defaults)
        assert (made.timeout, made.retry.max_retries) == (None, 0)

    def test_the_default_delays_are_two_four_and_eight_seconds(self) -> None:
        policy = spec().retry
        delays = [policy.delay(n, 0.5).total_seconds() for n in (1, 2, 3)]
        assert delays == [2, 4, 8]


class TestContent:
    """The content digest distinguishes a repeated enqueue from a different one under the same id."""

    def content(self, here: str | None = "/here", **fields: Any) -> str:
        return content_of(decode_request(json.dumps({"command": "x", **fields})), here)

    OTHERS: tuple[dict[str, Any], ...] = (
        {"command": "y"}, {"queue": "q"}, {"priority": 1}, {"run_at": "2026-11-23T00:00:00Z"}, {"delay": 1},
        {"max_retries": 3}, {"no_retry_codes": [1]}, {"backoff": {"base": 2}}, {"backoff_base": 2}, {"timeout": 1},
        {"kill_grace": 10}, {"cwd": "/there"}, {"env": {"A": "1"}}, {"env": {"A": "2"}}, {"umask": "022"},
        {"stdin": "x"}, {"shell": "bash"}, {"unique_key": "k"}, {"after": ["a"]}, {"after": ["a:any"]},
        {"after_failure": "cancel"}, {"batch": "b"}, {"tags": ["t"]}, {"meta": {"a": 1}}, {"hold": False},
        {"output_limit": 1048576}, {"split": False}, {"allow_detached": False}, {"jitter": 0},
    )  # fmt: skip

    def test_each_field_changes_the_digest(self) -> None:
        contents = [self.content(**other) for other in ({}, *self.OTHERS)]
        assert len(set(contents)) == len(contents)

    def test_the_id_does_not_change_the_digest(self) -> None:
        assert self.content(id="a") == self.content(id="b") == self.content()

    def test_the_order_of_keys_does_not_change_the_digest(self) -> None:
        assert self.content(env={"A": "1", "B": "2"}, meta={"x": 1, "y": 2}) == self.content(
            meta={"y": 2, "x": 1}, env={"B": "2", "A": "1"}
        )

    def test_another_directory_changes_the_digest(self) -> None:
        assert self.content("/here") != self.content("/there")
        assert self.content("/here", cwd="/there") == self.content("/elsewhere", cwd="/there")

    def test_a_changed_setting_does_not_change_the_digest(self) -> None:
        asked = JobRequest(command="x")
        before = spec_of(asked, Defaults(settings_of(), "/here"))
        after = spec_of(asked, Defaults(settings_of(max_retries="9"), "/here"))
        assert before.content == after.content
        assert before.retry != after.retry

    def test_input_that_is_not_text_changes_the_digest(self) -> None:
        one, other = (convert_request({"command": "x", "stdin": text}) for text in ("\udcff", "\udcfe"))
        assert content_of(one, None) != content_of(other, None)
        assert spec_of(one, DEFAULTS).stdin == b"\xff"


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"command": None}, "there is no command"),
            ({"shell": " "}, "shell: may not be empty"),
            ({"env": {"A=B": "1"}}, "not a variable's name"),
            ({"env": {"": "1"}}, "not a variable's name"),
            ({"env": {"A": "x" * 131_071}}, "longer than the system allows"),
            ({"umask": "0o999"}, "umask"),
            ({"umask": 512}, "umask"),
            ({"stdin": "x" * (1024 * 1024 + 1)}, "stdin has 1048577 bytes"),
            ({"timeout": "0s"}, "would end the command"),
            ({"timeout": "1h1h"}, "not a duration"),
            ({"output_limit": 1024**3 + 1}, "out of range"),
            ({"output_limit": -1}, "out of range"),
            ({"after": ["a b"]}, "is not allowed"),
            ({"after_failure": "retry"}, "not cancel or hold"),
            ({"meta": {"a": "x" * 16 * 1024}}, "more than 16 KiB"),
            ({"queue": " x"}, "is not allowed"),
            ({"queue": ""}, "queue: may not be empty"),
            ({"delay": "36500d", "run_at": "2026-11-22T00:00:00Z"}, "say the same thing twice"),
            (
                {"run_at": "2026-11-22T00:00:00Z", "scheduled_at": "2026-11-22T00:00:00Z"},
                "the same thing twice",
            ),
            ({"retries": 1, "max_retries": 1}, "the same thing twice"),
            ({"id": "a b"}, "is not allowed"),
            ({"tags": [""]}, "tags"),
            ({"unknown": 1}, "there is no field 'unknown'"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_the_error_names_the_field_and_the_reason(self, fields: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidInput, match=words):
            job({"command": "x", **fields})

    @pytest.mark.parametrize("text", ['{"command":"a","command":"b"}', '{"command":"a","command" :"b"}',
                                      '{"command":"a:b","meta":{"x":1,"x" : 2}}'])  # fmt: skip
    def test_a_duplicate_key_is_refused_for_any_spacing(self, text: str) -> None:
        with pytest.raises(InvalidInput, match="is given twice"):
            decode_request(text)

    NO_TEXT = "a\udcff"

    @pytest.mark.parametrize(
        "fields",
        [
            {"queue": NO_TEXT}, {"run_at": NO_TEXT}, {"delay": NO_TEXT}, {"cwd": NO_TEXT}, {"shell": NO_TEXT},
            {"batch": NO_TEXT}, {"unique_key": NO_TEXT}, {"command": NO_TEXT}, {"env": {"A": NO_TEXT}},
            {"env": {NO_TEXT: "1"}}, {"tags": [NO_TEXT]}, {"after": [NO_TEXT]}, {"after_failure": NO_TEXT},
            {"timeout": NO_TEXT}, {"output_limit": NO_TEXT}, {"command": None, "argv": ["x", NO_TEXT]},
        ],
        ids=ascii,
    )  # fmt: skip
    def test_text_that_is_not_utf8_is_refused_in_every_field(self, fields: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput):
            Enqueuer(DEFAULTS, NOW).job(convert_request({"command": "x"} | fields))

    def test_a_directory_that_is_not_utf8_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="cwd: not valid UTF-8"):
            spec_of(JobRequest(command="x"), Defaults(settings_of(), "/d\udcff"))

    @pytest.mark.parametrize("argv", [[" "], ["x", "y" * 131_072], ["x"] + ["y" * 100_000] * 11])
    def test_arguments_that_no_system_accepts_are_refused(self, argv: list[str]) -> None:
        with pytest.raises(InvalidInput):
            job({"argv": argv})


def test_every_setting_of_a_job_exists_as_an_option() -> None:
    named = {"max_retries", "backoff_base", "backoff_factor_ms", "backoff_max", "jitter", "timeout", "kill_grace",
             "output_limit", "max_losses", "priority_boost"}  # fmt: skip
    assert named <= OPTIONS.keys()


# The rows of the fields


def test_every_field_has_a_flag_or_is_listed_as_without_flag() -> None:
    without = {
        "command",
        "argv",
        "payload",
        "scheduled_at",
        "retries",
        "backoff",
        "env",
        "stdin",
    }  # arguments, JSON, files
    assert {name for name, _ in flags()} == set(JobRequest.__struct_fields__) - without


def test_no_flag_sets_two_fields() -> None:
    names = [name for _, flag in flags() for name in flag.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ('{"command":"x"}', "8957e8ee374085201c1642f8101afb6e"),
        ('{"argv":["a","b"],"hold":true,"output_limit":"1MiB"}', "0f928f563e88e18441a5d92ebd43e6a4"),
    ],
)
def test_a_digest_is_the_same_in_every_version(text: str, digest: str) -> None:
    """Stored jobs carry it: with another one, repeating an enqueue after an upgrade would be a conflict."""
    assert content_of(decode_request(text), "/x") == digest
