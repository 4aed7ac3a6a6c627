"""Every document can be read again: the value that is read from the JSON equals the value that was written."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy
from msgspec import Struct
from msgspec.json import decode, encode

from factories import in_state
from queuectl import errors
from queuectl.config import OPTIONS, Option, Settings
from queuectl.domain.job import Attempt, CancelRequest, Job, Lease
from queuectl.domain.query import Unreadable
from queuectl.errors import QueuectlError
from queuectl.service import shapes
from queuectl.service.doctor import Check
from queuectl.service.enqueueing import Enqueued, JobSummary
from queuectl.service.explain import Explanation
from queuectl.service.queue_status import QueueStatus
from queuectl.service.registry import Silence
from queuectl.service.shapes import diagnosis, jobs, workers
from queuectl.service.status import Attention, Status
from queuectl.service.worker_status import SlotStatus, WorkerStatus

TEXT = st.text(max_size=20)
WHOLE = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=False, allow_infinity=False)
PLAIN: dict[Any, SearchStrategy[Any]] = {
    str: TEXT,
    int: WHOLE,
    float: REAL,
    bool: st.booleans(),
    bytes: st.binary(max_size=20) | TEXT.map(str.encode),
    NoneType: st.none(),
    datetime: st.datetimes(datetime(1970, 1, 1), datetime(8999, 12, 31), timezones=st.just(UTC)),
    timedelta: st.timedeltas(timedelta(0), timedelta(days=36500)),
    Any: st.recursive(st.none() | st.booleans() | WHOLE | REAL | TEXT, lambda inner: st.lists(inner, max_size=3)),
}  # fmt: skip


@cache
def of(annotation: Any) -> SearchStrategy[Any]:
    """Any value of this type."""
    if annotation in PLAIN:
        return PLAIN[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return st.builds(annotation, **{name: of(kind) for name, kind in annotation.__annotations__.items()})
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (Union, UnionType):
        return st.one_of(*map(of, parts))
    if origin is dict:
        return st.dictionaries(of(parts[0]), of(parts[1]), max_size=3)
    many = st.lists(of(parts[0]), max_size=3)
    return many.map(tuple) if origin is tuple else many


def through(document: Mapping[str, Any]) -> Any:
    """The document after its way over a wire."""
    return decode(encode(document))


@pytest.mark.parametrize(
    ("kind", "write", "read"),
    [
        (Job, shapes.job, shapes.job_of),
        (Attempt, shapes.attempt, shapes.attempt_of),
        (Lease, jobs.LEASE.encode, jobs.LEASE.decode),
        (CancelRequest, jobs.CANCEL_REQUEST.encode, jobs.CANCEL_REQUEST.decode),
        (Unreadable, shapes.unreadable, shapes.unreadable_of),
        (WorkerStatus, shapes.worker, shapes.worker_of),
        (SlotStatus, workers.SLOT.encode, workers.SLOT.decode),
        (Status, shapes.status, shapes.status_of),
        (Attention, shapes.attention, shapes.attention_of),
        (Explanation, diagnosis.explanation, diagnosis.explanation_of),
        (Silence, lambda silent: shapes.silence(silent, complete=True), shapes.silence_of),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_a_value_is_equal_after_writing_and_reading(
    kind: type[Struct],
    write: Callable[[Any], Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], Any],
    data: DataObject,
) -> None:
    value = data.draw(of(kind))
    assert read(through(write(value))) == value


@given(of(QueueStatus))
def test_a_list_of_queues_can_be_read(queue: QueueStatus) -> None:
    assert shapes.queue_of(through(shapes.queue(queue))) == QueueStatus(
        queue.name, queue.paused, queue.limit, queue.jobs, reason=queue.reason, version=queue.version
    )


@given(st.lists(of(Check), max_size=3))
def test_the_checks_of_doctor_can_be_read(checks: Sequence[Check]) -> None:
    assert diagnosis.checks_of(through(diagnosis.checks(checks))) == checks


def values_of(option: Option) -> SearchStrategy[Any]:
    """Any value that `config set` accepts for an option."""
    some: SearchStrategy[Any]
    if option.choices:
        some = st.sampled_from(option.choices)
    elif isinstance(option.low, timedelta):
        some = st.timedeltas(option.low, option.high).map(
            lambda time: max(option.low, time - time % timedelta(milliseconds=1))
        )
    elif option.kind == "text":
        some = st.text("abc:/?=é", min_size=1)
    elif option.kind == "number":
        some = st.floats(option.low, option.high)
    else:
        some = st.integers(option.low, option.high)
    return st.none() | some if option.optional else some


@given(
    st.fixed_dictionaries({key: values_of(option) for key, option in OPTIONS.items()}),
    st.fixed_dictionaries(dict.fromkeys(OPTIONS, TEXT)),
)
def test_settings_can_be_read(values: dict[str, Any], origins: dict[str, str]) -> None:
    settings = Settings(**values, origins=origins)
    assert shapes.settings_of(through(shapes.settings(settings))) == settings


def test_settings_missing_in_the_document_have_their_defaults(settings: Settings) -> None:
    shown = shapes.settings(settings)
    shown["settings"] = [entry for entry in shown["settings"] if entry["key"] != "jitter"]
    shown["settings"].append({"key": "invented_later", "value": 1, "origin": "default", "help": "?"})
    assert shapes.settings_of(shown) == settings


FAULTS = [
    errors.InvalidInput("m", "h"),
    errors.NotFound("m"),
    errors.Conflict("m"),
    errors.StoreError("m"),
    errors.StoreUnavailable("m"),
    errors.StoreUnusable("m"),
    errors.OutcomeUnknown("m"),
    errors.CommandFailed("m"),
    errors.UnreadableJob("id", 0, "torn"),
    errors.InternalError(ValueError("x")),
    errors.QueuectlError("m"),
]


def parts(fault: QueuectlError) -> list[Any]:
    further = [getattr(fault, name, None) for name in ("index", "ids", "id", "number", "reason")]
    return [type(fault), fault.code, fault.exit_code, fault.message, fault.hint, str(fault), *further]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_an_error_can_be_read(fault: QueuectlError) -> None:
    assert parts(shapes.error_of(through(shapes.error(fault)))) == parts(fault)


def test_the_attributes_of_an_error_can_be_read() -> None:
    invalid, unknown = errors.InvalidInput("m"), errors.OutcomeUnknown("m")
    invalid.index, unknown.ids = 0, ("a", "b")
    for fault in (invalid, unknown):
        assert parts(shapes.error_of(through(shapes.error(fault)))) == parts(fault)


@pytest.mark.parametrize(
    ("fault", "read"),
    [(errors.StoreAbsent("m"), errors.StoreUnavailable), (errors.StoreGone("m"), errors.StoreUnusable)],
)
def test_errors_of_absent_stores_are_read_as_their_general_kinds(fault: QueuectlError, read: type) -> None:
    assert type(shapes.error_of(shapes.error(fault))) is read


def test_an_unknown_error_code_is_read_as_a_general_error() -> None:
    found = shapes.error_of({"error": {"code": "invented_later", "message": "m", "hint": None}})
    assert (type(found), found.message) == (QueuectlError, "m")


@pytest.mark.parametrize("status", ["added", "existing"])
def test_the_answer_to_an_enqueue_can_be_read(status: Any) -> None:
    item = Enqueued(in_state("pending", "a"), status)
    assert shapes.enqueued_of(through(shapes.enqueued(item, whole=True))) == item


@pytest.mark.parametrize("status", ["added", "existing"])
@pytest.mark.parametrize("state", ["pending", "dead"])
def test_the_brief_answer_to_an_enqueue_can_be_read(state: Any, status: Any) -> None:
    job = in_state(state, "a")
    shown = through(shapes.enqueued(Enqueued(job, status)))
    assert shown.keys() - {"finished_at"} == {"id", "number", "state", "existing"}
    assert shapes.enqueued_of(shown) == Enqueued(
        JobSummary(job.id, job.number, job.state, job.finished_at), status
    )


def test_the_brief_refusal_of_an_enqueue_can_be_read() -> None:
    item = Enqueued(in_state("dead", "a"), "conflict", errors.Conflict("taken", "choose another id"))
    found = shapes.enqueued_of(through(shapes.refused(item, index=3, id="b")))
    assert found.job is None
    assert found.refused
    assert item.refused
    assert parts(found.refused) == parts(item.refused)


def test_the_refusal_of_an_enqueue_can_be_read() -> None:
    item = Enqueued(in_state("dead", "a"), "conflict", errors.Conflict("taken", "choose another id"))
    shown = through(shapes.refused(item, index=3, id="b", whole=True))
    assert (shown["index"], shown["id"]) == (3, "b")
    found = shapes.enqueued_of(shown)
    assert (found.job, found.status) == (item.job, item.status)
    assert found.refused
    assert item.refused
    assert parts(found.refused) == parts(item.refused)


def test_an_unknown_key_is_ignored() -> None:
    job = in_state("dead")
    assert shapes.job_of({**shapes.job(job), "invented_later": 1}) == job
