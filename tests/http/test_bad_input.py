"""No input makes the server answer 500: paths, queries, cursors, bodies and headers of any content."""

import logging
import re
from typing import Any
from urllib.parse import quote, quote_from_bytes

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factories import in_state
from http_client import Client
from queuectl.domain.query import Sort
from queuectl.http.routes import ROUTES
from queuectl.http.table import Route
from queuectl.service.local_queue import LocalQueue

ODD = (
    "", "a", "1", "@last", "-1", "0", "\0", "~", "..", "%", "é", "x" * 300, "1e999", "9" * 30, "a:b", "[", "{}",
    "'; --",
)  # fmt: skip
TEXTS = st.sampled_from(ODD) | st.text(max_size=12)
PARTS = TEXTS.map(lambda text: quote(text.encode("utf-8", "replace"), safe="")) | st.binary(max_size=6).map(
    lambda raw: quote_from_bytes(raw, safe="")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
HEADERS = TEXTS.map(lambda text: re.sub(r"[^ -~]", "?", text))
"""Values that `http.client` sends: test_wire.py has the others."""


def fields_of(kind: Any) -> list[str]:
    kinds = kind if isinstance(kind, tuple) else () if kind is None else (kind,)
    return [field.encode_name for each in kinds for field in msgspec.structs.fields(each)]


def requests(route: Route) -> st.SearchStrategy[tuple[str, bytes | None, dict[str, str]]]:
    """Targets, bodies and headers for a route. Half of the names are those that it knows."""
    names = re.findall(r"\{(\w+)\}", route.path)
    queries = st.lists(
        st.tuples(st.sampled_from([*fields_of(route.query), "nonsense"]), PARTS),
        max_size=3,
        unique_by=lambda p: p[0],
    )
    keys = st.sampled_from([*fields_of(route.body), "nonsense"])
    bodies = (
        st.none()
        | st.binary(max_size=20)
        | st.dictionaries(keys, VALUES, max_size=3).map(_json)
        | VALUES.map(_json)
    )

    def target(values: list[str], query: list[tuple[str, str]]) -> str:
        rest = iter(values)
        path = re.sub(r"\{\w+\}", lambda _: next(rest) or "x", route.path)
        return path + ("?" + "&".join(f"{name}={value}" for name, value in query) if query else "")

    return st.tuples(
        st.builds(target, st.lists(PARTS, min_size=len(names), max_size=len(names)), queries),
        bodies if route.method != "GET" else st.none(),
        st.fixed_dictionaries(
            {},
            optional={
                "Last_Event_ID": HEADERS,
                "If_Match": HEADERS,
                "If_None_Match": HEADERS,
                "Idempotency_Key": HEADERS,
                "Prefer": st.sampled_from(["wait=0", "wait=x", "wait=-1", "respond-async", "wait="]),
                "Accept": st.sampled_from(["application/json", "application/jsonl", "x", "*/*"]),
                "Accept_Encoding": st.sampled_from(["gzip", "gzip;q=x", ";", "gzip;q=0"]),
            },
        ),
    )


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value) if not _has_surrogate(value) else b"{}"


def _has_surrogate(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return True
    return False


@pytest.fixture
def examples(pytestconfig: pytest.Config) -> int:
    """The number of requests on each route; in `make proof` more."""
    return 25 if pytestconfig.getoption("circle") in ("quick", "test") else 300


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_no_input_is_answered_with_a_bug(
    server: Client, queue: LocalQueue, examples: int, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    queue._store.add([in_state("dead", "a"), in_state("pending", "b")])

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(requests(route))
    def check(request: tuple[str, bytes | None, dict[str, str]]) -> None:
        target, raw, headers = request
        if raw is not None:
            headers = {"Content_Type": "application/json", **headers}
            raw = re.sub(rb'"timeout":[^,}]*', b'"timeout":0', raw)  # a wait would last
        answer = server(route.method, target, raw=raw, **headers)
        assert answer.status != 500, answer.body
        assert b"Traceback" not in answer.body

    with caplog.at_level(logging.ERROR, "queuectl.http"):
        check()
    assert not caplog.records


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    sort=st.sampled_from(Sort.__args__),
    cursor=TEXTS | st.from_regex(r"~?-?\d{1,25}(:-?\d{1,25})?", fullmatch=True),
)
def test_any_cursor_is_a_position_or_is_refused(server: Client, sort: str, cursor: str) -> None:
    answer = server("GET", f"/v1/jobs?sort={sort}&cursor={quote(cursor.encode('utf-8', 'replace'))}")
    assert answer.status in (200, 400), answer.body
