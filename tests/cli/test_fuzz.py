"""No input ends in a traceback: each parser returns a value or refuses the input with a message."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cli.conftest import CommandLine
from cli.doors import NO_STORE, direct
from queuectl import bootstrap, config
from queuectl.cli import texts
from queuectl.cli.jobs import columns_of
from queuectl.cli.selecting import states_of
from queuectl.config import OPTIONS, resolve
from queuectl.domain.dependency import parse_dependency
from queuectl.domain.ids import check_id
from queuectl.domain.instant import parse_instant
from queuectl.domain.quantity import parse_duration, parse_size
from queuectl.errors import InvalidInput, QueuectlError
from queuectl.service import references
from queuectl.service.request.fields import JobRequest, convert_request, decode_request
from queuectl.service.request.spec import Defaults, spec_of, start_of
from queuectl.service.settings import unused, url_of
from queuectl.service.times import read_time
from queuectl.store.driver import paging
from queuectl.store.memory import MemoryStore

pytestmark = direct(NO_STORE)

NOW = datetime(2026, 11, 22, 15, tzinfo=UTC)
DEFAULTS = Defaults(resolve({}, {}, {}, {}), "/")
EXAMPLES = int(os.environ.get("QUEUECTL_TEST_EXAMPLES", "60"))
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

anything = st.text(st.characters(codec=None), max_size=60) | st.text(
    "0123456789.:-+eEdhmsKMGiB @TZ", max_size=30
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | anything
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anything, inner, max_size=4)
)
FIELDS = (*JobRequest.__struct_fields__, "unknown")
jobs = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)


def refuses(parse: Callable[..., object], *given: object) -> None:
    """The call returns, or raises an error that `main` prints in one line."""
    with suppress(QueuectlError):
        parse(*given)


def job_of(text: str | bytes) -> None:
    request = decode_request(text)
    spec_of(request, DEFAULTS)
    start_of(request, NOW)


def option(key: str, text: str) -> None:
    value = OPTIONS[key].parse(text)
    assert OPTIONS[key].parse(OPTIONS[key].format(value)) == value or OPTIONS[key].kind == "duration"


PARSERS: dict[str, Callable[[str], object]] = {
    "duration": parse_duration,
    "size": parse_size,
    "instant": parse_instant,
    "moment": lambda text: read_time(text, NOW),
    "id": check_id,
    "wish": lambda text: convert_request({"command": "x", "after": [text]}),
    "split": parse_dependency,
    "states": states_of,
    "columns": columns_of,
    "reference": lambda text: references.resolve(MemoryStore(), [text]),
    "parents": lambda text: references.parents(MemoryStore(), [text]),
    "cursor": lambda text: [paging.parse_cursor(text, sort) for sort in ("created", "updated", "next")],
    "json": job_of,
    "kind": texts.begins_json,
    "word": lambda text: url_of(text, {"DATABASE_URL": text, "REDIS_URL": text, "MONGODB_URI": text}),
    "variables": lambda text: str(unused({"DATABASE_URL": text, "SUPABASE_URL": text})),
    "sqlite": lambda text: bootstrap.sqlite_path(url_of(text, {})),
    "shown": lambda text: bootstrap.shown(url_of(text, {})),
    "absolute": lambda text: bootstrap.absolute(url_of(text, {})),
    **{f"option {key}": lambda text, key=key: option(key, text) for key in OPTIONS},  # type: ignore[misc]
}
SCHEMES = (
    "sqlite:///",
    "postgresql://",
    "mongodb://",
    "mongodb+srv://",
    "redis://",
    "rediss://",
    "http://",
    "",
)
urls = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(SCHEMES),
        st.text("ab:@/?&=%[]#,0123456789~.\0é\udc80", max_size=40) | anything,
        st.sampled_from(
            ("", "?sslmode=", "?name=", "?archive=", "?w=", "?schema=", "/x?durability=", ":99999999")
        ),
        anything,
    ),
)


@pytest.mark.parametrize("name", PARSERS)
@bounded
@given(text=anything)
@example(text="9" * 5000)
@example(text="²")
@example(text="٣")
@example(text="-0")
@example(text="1e400")
@example(text="[" * 100_000)
@example(text='{"a":' * 100_000)
def test_no_text_crashes_a_parser(name: str, text: str) -> None:
    refuses(PARSERS[name], text)


@bounded
@given(fields=jobs, spaces=st.sampled_from(("", " ", "\n")))
def test_no_json_job_crashes_the_parser(fields: dict[str, object], spaces: str) -> None:
    with suppress(UnicodeEncodeError):
        refuses(job_of, spaces + json.dumps(fields))
        refuses(job_of, json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@bounded
@given(fields=jobs)
def test_no_fields_from_flags_crash_the_parser(fields: dict[str, object]) -> None:
    def make() -> None:
        request = convert_request(fields)
        spec_of(request, DEFAULTS)
        start_of(request, NOW)

    refuses(make)


@bounded
@given(raw=st.binary(max_size=200))
def test_no_bytes_crash_the_json_parser(raw: bytes) -> None:
    refuses(job_of, raw)
    refuses(job_of, b'{"' + raw)


@bounded
@given(url=urls)
@example(url="postgresql://[::1")
@example(url="redis://[")
@example(url="mongodb://[")
@example(url="mongodb://a,b,c:x/")
@example(url="redis://h:٣/0")
@example(url="postgresql://h:99999999999999999999/x")
def test_no_address_crashes_the_parser(url: str) -> None:
    for parse in (
        bootstrap.shown,
        bootstrap.absolute,
        bootstrap.has_archive,
        bootstrap.worker_directory,
        _opened,
    ):
        refuses(lambda parse=parse: parse(url_of(url, {})))


def _opened(url: str) -> None:
    if not url.startswith("sqlite"):
        bootstrap.open_store(url, DEFAULTS.settings, patience=0.0).close()


@bounded
@given(raw=st.binary(max_size=200) | anything.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(raw=b"\xef\xbb\xbf")
@example(raw=b"a=" + b"[" * 5000)
@example(raw=b"max_retries = 1979-05-27")
@example(raw=b"store = 1\0")
def test_no_file_crashes_a_reader(tmp_path: Path, queuectl: CommandLine, raw: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(raw)
    refuses(config.read_file, str(file), print)
    Path(".env").write_bytes(raw)
    refuses(lambda: queuectl("config", "get", "max_retries", code=_any))
    Path(".env").unlink()
    refuses(lambda: queuectl("enqueue", "--dry-run", "--env-file", str(file), "x", code=_any))
    refuses(lambda: queuectl("enqueue", "--dry-run", "--script", str(file), code=_any))
    refuses(lambda: queuectl("enqueue", "--dry-run", "-", code=_any, input=raw))
    refuses(lambda: queuectl("show", "-", code=_any, input=raw))
    assert "internal error" not in queuectl.err


class _Any(int):
    """Equals every code but that of an internal error."""

    def __eq__(self, other: object) -> bool:
        return other != 1

    __hash__ = int.__hash__


_any = _Any()


@bounded
@given(
    words=st.lists(
        anything | st.sampled_from(("list", "enqueue", "--after", "--meta", "--at", "--", "-")), max_size=5
    )
)
def test_no_command_line_crashes_the_program(queuectl: CommandLine, words: list[str]) -> None:
    for command in (
        ("list",),
        ("enqueue", "--dry-run"),
        ("show",),
        ("edit", "--at"),
        ("purge", "--older-than"),
    ):
        with suppress(InvalidInput):
            queuectl(*command, *words, code=_any)
        assert "internal error" not in queuectl.err
