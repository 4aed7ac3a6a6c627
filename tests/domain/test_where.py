"""The filter language of `--where`: its grammar, and what each field compares."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from factories import NOW, new_job
from queuectl.domain.job import Attempt, Job, Lease, Parent
from queuectl.domain.query import Filter, matches
from queuectl.domain.where import Where, parse, terms
from queuectl.domain.where_fields import FIELDS
from queuectl.errors import InvalidInput

HOUR = timedelta(hours=1)


def where(text: str) -> Where:
    return parse(text, NOW)


def attempt(**fields: Any) -> Attempt:
    given = {"attempt": 1, "attempt_id": "a" * 32, "worker": "w1", "outcome": "exited"}
    return Attempt(**{**given, "claimed_at": NOW, "finished_at": NOW, **fields})


PLAIN = new_job("nightly-1", now=NOW - 3 * HOUR, command="rsync -a, /x")
"""A job that waits, created three hours ago."""


@dataclass
class Case:
    """A term, a job that matches it, and one that does not."""

    term: str
    fits: Job
    other: Job


def job(**fields: Any) -> Job:
    return replace(PLAIN, **fields)


def spec(**fields: Any) -> Job:
    return replace(PLAIN, spec=replace(PLAIN.spec, **fields))


def ran(**fields: Any) -> Job:
    return job(history=(attempt(outcome="lost", worker="w0"), attempt(**fields)))


def lease(worker: str) -> Lease:
    return Lease(attempt_id="b" * 32, worker=worker, claimed_at=NOW, until=NOW)


def ended(ago: timedelta) -> Job:
    return job(state="completed", finished_at=NOW - ago)


CASES = [
    Case("state:dead,failed", job(state="failed"), PLAIN),
    Case("queue:mail", job(queue="mail"), job(queue="mail2")),
    Case("queue:mail*", job(queue="mail2"), job(queue="x-mail")),
    Case("queue:a,b", job(queue="b"), job(queue="c")),
    Case("tag:x", spec(tags=("y", "x")), spec(tags=("y",))),
    Case("batch:b1", spec(batch="b1"), PLAIN),
    Case("batch:b1*", spec(batch="b12"), spec(batch="b2")),
    Case("schedule:backup", spec(schedule="backup"), job(id="backup:by-hand")),
    Case("id:nightly-1", PLAIN, job(id="nightly-12")),
    Case("id:night*", PLAIN, job(id="daily")),
    Case("worker:w1", ran(), ran(worker="w2")),
    Case("worker:w2", job(lease=lease("w2"), history=(attempt(),)), job(lease=lease("w1"))),
    Case("cause:parent", job(state="cancelled", cause="parent"), job(state="cancelled", cause="person")),
    Case("outcome:timed_out,lost", ran(outcome="timed_out"), ran(outcome="exited")),
    Case("number:1-5,9", job(number=9), job(number=6)),
    Case("attempts:>2", job(attempts=3), job(attempts=2)),
    Case("priority:<0", job(priority=-1), PLAIN),
    Case("priority:-5", job(priority=-5), job(priority=5)),
    Case("priority:-5-2", job(priority=2), job(priority=-6)),
    Case("exit:>=1", job(exit_code=1), job(exit_code=0)),
    Case("exit:0", job(exit_code=0), PLAIN),
    Case("signal:9", ran(outcome="signalled", signal=9), ran()),
    Case("since:4h", PLAIN, job(created_at=NOW - 5 * HOUR)),
    Case("before:2h", PLAIN, job(created_at=NOW - HOUR)),
    Case(f"before:{(NOW - HOUR).isoformat()}", PLAIN, job(created_at=NOW)),
    Case("ended:1d", ended(HOUR), ended(25 * HOUR)),
    Case("ended:1d", ended(HOUR), job(state="failed", finished_at=NOW)),
    Case("older:7d", ended(8 * 24 * HOUR), ended(6 * 24 * HOUR)),
    Case("after:p", spec(after=(Parent("o"), Parent("p", "any"))), spec(after=(Parent("o"),))),
    Case('cmd:"rsync -a, /x"', PLAIN, spec(command="rsync")),
    Case("cmd:~RSYNC", PLAIN, spec(command="ls")),
    Case('cmd:~"-a, /"', PLAIN, spec(command="rsync -a /")),
    Case("cmd:~b", spec(command=None, argv=("a", "b")), spec(command=None, argv=("a",))),
    Case("error:~refused", job(last_error="connection Refused"), PLAIN),
    Case("meta.team:web", spec(meta={"team": "web"}), spec(meta={"team": "x"})),
    Case("meta.n:3,4", spec(meta={"n": 3}), spec(meta={"n": 5})),
    Case("meta.on:true", spec(meta={"on": True}), spec(meta={"on": "True"})),
    Case("meta.a.b:~x", spec(meta={"a.b": "axb"}), spec(meta={"a": {"b": "x"}})),
    Case("state:pending queue:default", PLAIN, job(queue="mail")),
]


@pytest.mark.parametrize("case", CASES, ids=[case.term for case in CASES])
def test_a_term_matches(case: Case) -> None:
    found = where(case.term)
    assert (found.matches(case.fits), found.matches(case.other)) == (True, False)


@pytest.mark.parametrize("case", CASES, ids=[case.term for case in CASES])
def test_the_store_filter_leaves_out_no_job_that_matches(case: Case) -> None:
    found = where(case.term)
    low, high = found.numbers
    fits = replace(case.fits, id="backup:x") if case.fits.spec.schedule else case.fits
    assert matches(fits, found.filter)
    assert low <= fits.number <= high


@pytest.mark.parametrize("case", CASES[:-1], ids=[case.term for case in CASES[:-1]])
def test_a_minus_is_the_opposite(case: Case) -> None:
    found = where(f"-{case.term}")
    assert (found.matches(case.fits), found.matches(case.other)) == (False, True)
    assert found.looks_at_all


def test_each_field_has_a_case() -> None:
    assert {term.field for case in CASES for term in terms(case.term)} >= set(FIELDS)


def test_terms_that_an_index_decides() -> None:
    found = where(
        "state:dead,failed state:dead queue:q tag:a tag:b batch:b id:x* since:2h older:1d number:3-9,4"
    )
    assert found.filter == Filter(
        states=frozenset(["dead"]),
        queue="q",
        tag="a",
        batch="b",
        id_prefix="x",
        created_since=NOW - 2 * HOUR,
        ended_before=NOW - 24 * HOUR,
    )
    assert found.numbers == (3, 9)
    assert not found.looks_at_all
    assert where("schedule:s").filter == Filter(id_prefix="s:")
    assert where("number:>5 number:<9").numbers == (6, 8)


@pytest.mark.parametrize("text", ["exit:1", "queue:a,b", "tag:x*", "-queue:a", "cmd:~x", "meta.a:b"])
def test_terms_for_which_every_job_is_read(text: str) -> None:
    assert where(text).looks_at_all


def test_contradictory_states_match_nothing() -> None:
    found = where("state:dead state:failed")
    assert not found.matches(job(state="dead"))
    assert not found.matches(job(state="failed"))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "the filter is empty", "state:dead"),
        ("  \n", "the filter is empty", "state:dead"),
        ("dead", "'dead' is not a term of a filter", "cmd:~dead"),
        ("state:dead mail", "'mail' is not a term", "cmd:~mail"),
        ("stat:dead", "a filter has no field 'stat'", "did you mean state?"),
        ("zzz:dead", "a filter has no field 'zzz'", "one of state, "),
        ("state:ded", "state: there is no state 'ded'", "did you mean dead?"),
        ("cause:x", "cause: there is no cause 'x'", "one of person, "),
        ("outcome:exit", "outcome: there is no outcome 'exit'", "did you mean exited?"),
        ("state:", "state: a value is missing", "state:dead"),
        ("queue:a,,b", "queue: a value is missing", "queue:x"),
        ("cmd:~", "cmd: a value is missing", "cmd:~make"),
        ("exit:one", "exit: 'one' is not a number", "exit:1-5,9"),
        ("number:5-1", "number: the range 5-1 is empty", "write 1-5"),
        ("number:1-", "number: '1-' is not a number", ""),
        ("since:soon", "since: 'soon' is not a duration", "7d"),
        ("since:1h,2h", "since: one time is expected, not 2", ""),
        ("since:2026-01-01T00:00:00", "has no zone", "2026-01-01T00:00:00Z"),
        ('cmd:"x', "a quote is missing", '"…"'),
        ('cmd:x"y', "a quote is missing", '"…"'),
        ("x" * 10_001, "more than 10000 characters", ""),
    ],
)
def test_a_wrong_filter_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        where(text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_quotes_and_backslashes() -> None:
    [term] = terms(r'cmd:"say \"hi\", you"," b\\c"x')
    assert term.values == ('say "hi", you', r" b\cx")


def test_an_age_before_1970_is_1970() -> None:
    assert where("since:36499d").filter.created_since == datetime(1970, 1, 1, tzinfo=UTC)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        found = where(text)
    except InvalidInput:
        return
    found.matches(PLAIN)


FIELD = st.sampled_from([*FIELDS, "meta.a"])
VALUE = st.one_of(
    st.sampled_from(["dead", "exited", "person", "3", "1-5", ">2", "2h", "~x", '"a b"', "x*"]),
    st.text(min_size=1, max_size=8),
)


@given(
    st.lists(st.tuples(st.booleans(), FIELD, st.lists(VALUE, min_size=1, max_size=3)), min_size=1, max_size=4)
)
def test_any_terms_are_a_filter_or_refused(parts: list[tuple[bool, str, list[str]]]) -> None:
    text = " ".join(f"{'-' if minus else ''}{field}:{','.join(values)}" for minus, field, values in parts)
    try:
        found = where(text)
    except InvalidInput:
        return
    found.matches(PLAIN)
    assert found.text == text
