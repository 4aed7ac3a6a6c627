"""The SQL function `enqueue` works in transactions of the caller, and follows the same rules as the program."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from contract.grounds import PostgresGround
from factories import LEASE, NOW, new_job, statuses
from queuectl.config import resolve
from queuectl.domain import lifecycle, topics
from queuectl.domain.job import Job, Parent
from queuectl.domain.query import Filter, Page
from queuectl.service.enqueueing import Enqueuer, enqueue
from queuectl.service.request.fields import convert_request
from queuectl.service.request.spec import Defaults
from queuectl.store.postgres import PostgresStore
from queuectl.store.protocol import Store, Swap
from servers.bouncer import Bouncer
from servers.postgres import GivenServer, PostgresServer


class Caller:
    """A program with its own connection, which uses only the function."""

    def __init__(self, ground: PostgresGround) -> None:
        self.schema = ground.schema
        self.connection = psycopg.connect(ground.plain_url)

    def enqueue(self, command: str | None = "true", **fields: Any) -> str:
        """Call the function and return the id."""
        names = "".join(f", {name} => %({name})s" for name in fields)
        return str(self.ask(f"SELECT {self.schema}.enqueue(%(command)s{names})", command=command, **fields))

    def ask(self, sql: str, **values: Any) -> Any:
        """The first column of the first row."""
        return self.connection.execute(sql, values).fetchone()[0]  # type: ignore[index]


@pytest.fixture
def ground(postgres_server: PostgresServer | GivenServer) -> Iterator[PostgresGround]:
    ground = PostgresGround(postgres_server)
    yield ground
    ground.close()


@pytest.fixture
def store(ground: PostgresGround) -> Store:
    return ground.open()


@pytest.fixture
def caller(ground: PostgresGround, store: Store) -> Iterator[Caller]:
    caller = Caller(ground)
    yield caller
    caller.connection.close()


def job(store: Store, id: str) -> Job:
    return store.get([id])[id]


def ids(store: Store) -> set[str]:
    return {job.id for job in store.find(Filter(), Page()).jobs}


def test_a_job_exists_if_and_only_if_the_callers_transaction_commits(store: Store, caller: Caller) -> None:
    caller.enqueue(id="undone")
    caller.connection.rollback()
    caller.enqueue(id="done")
    assert ids(store) == set()
    assert store.claim("w1", (), 5, LEASE) == []
    caller.connection.commit()
    assert ids(store) == {"done"}
    assert [job.id for job in store.claim("w1", (), 5, LEASE)] == ["done"]


def test_the_job_commits_or_rolls_back_with_the_other_statements(store: Store, caller: Caller) -> None:
    caller.connection.execute(f"CREATE TABLE {caller.schema}.orders (id int PRIMARY KEY)")
    caller.connection.commit()
    for number in (1, 2, 1):
        try:
            caller.enqueue(f"ship {number}")
            caller.connection.execute(f"INSERT INTO {caller.schema}.orders VALUES (%s)", (number,))
            caller.connection.commit()
        except psycopg.errors.UniqueViolation:
            caller.connection.rollback()
    assert {job.spec.command for job in store.find(Filter(), Page()).jobs} == {"ship 1", "ship 2"}


FIELDS: dict[str, Any] = {
    "queue": "mail",
    "priority": 7,
    "max_retries": 9,
    "timeout": timedelta(seconds=90.5),
    "cwd": "/srv",
    "env": {"A": "1", "B": "ü"},
    "unique_key": "k",
    "batch": "b",
    "tags": ["x", "y"],
    "meta": {"n": [1, None, 2.5], "z": None},
}


def asked_of_python(store: Store, shared: dict[str, str], **fields: Any) -> Job:
    """Enqueue the same job with the program."""
    settings = resolve({}, {}, {}, shared)
    asked = {name: value.total_seconds() if name == "timeout" else value for name, value in fields.items()}
    made = Enqueuer(Defaults(settings, None), store.now()).job(convert_request({"command": "true", **asked}))
    [added] = enqueue(store, [made])
    return added.job


def comparable(job: Job) -> Job:
    """Without what differs from job to job."""
    spec = replace(job.spec, content="", unique_key=None)
    return replace(job, id="", number=0, spec=spec)


ALL_SETTINGS = {
    "max_retries": "1",
    "max_losses": "0",
    "backoff_base": "1.5",
    "backoff_factor_ms": "250",
    "backoff_max": "2h30m",
    "jitter": "0.25",
    "timeout": "1m30s",
    "kill_grace": "1500ms",
    "output_limit": "64KiB",
    "priority_boost": "1d",
}


@pytest.mark.parametrize(
    "shared",
    [{}, ALL_SETTINGS, {"timeout": "none", "output_limit": "1000"}],
    ids=["defaults", "all settings", "none"],
)
@pytest.mark.parametrize("fields", [{}, FIELDS], ids=["plain", "full"])
def test_a_job_from_sql_equals_the_job_of_the_program(
    store: Store, caller: Caller, shared: dict[str, str], fields: dict[str, Any]
) -> None:
    for key, text in shared.items():
        assert store.swap([Swap("settings", key, {"value": text}, 0)])[0]
    as_json = {
        name: json.dumps(value) if isinstance(value, dict) else value for name, value in fields.items()
    }
    id = caller.enqueue(**as_json)
    caller.connection.commit()
    other = {**fields, "unique_key": "another"} if fields else {}
    assert comparable(job(store, id)) == comparable(asked_of_python(store, shared, **other))


def test_an_id_is_generated_as_by_the_program(store: Store, caller: Caller) -> None:
    made = [caller.enqueue() for _ in range(50)]
    assert len(set(made)) == 50
    milliseconds = {int(id[:11], 16) for id in made}
    assert milliseconds == {int(NOW.timestamp() * 1000)}
    assert {len(id) for id in made} == {26}


def test_delay_run_at_and_hold_decide_when_the_job_may_start(store: Store, caller: Caller) -> None:
    caller.enqueue(id="later", delay=timedelta(minutes=1.5))
    caller.enqueue(id="then", run_at=datetime(2030, 1, 1, 12, tzinfo=UTC))
    caller.enqueue(id="past", run_at=datetime(2020, 1, 1, tzinfo=UTC))
    caller.enqueue(id="held", hold=True)
    caller.connection.commit()
    assert job(store, "later").run_at == NOW + timedelta(minutes=1.5)
    assert job(store, "then").run_at == datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert job(store, "held").state == "held"
    assert [job.id for job in store.claim("w1", (), 5, LEASE)] == ["past"]


def test_the_job_waits_for_its_parents(store: Store, caller: Caller) -> None:
    for parent in ("p", "q:x"):
        caller.enqueue(id=parent)
    caller.enqueue(id="child", after=["p", "q:x:any"])
    caller.connection.commit()
    child = job(store, "child")
    assert (child.state, set(child.waiting_for)) == ("blocked", {"p", "q:x"})
    assert child.spec.after == (Parent("p"), Parent("q:x", "any"))


def test_a_repeated_enqueue_returns_the_same_job(store: Store, caller: Caller) -> None:
    for _ in range(2):
        assert caller.enqueue("x", id="a", tags=["t"], delay=timedelta(seconds=1)) == "a"
        caller.connection.commit()
    assert ids(store) == {"a"}


def test_a_repeated_enqueue_is_recognized_in_every_time_zone(store: Store, caller: Caller) -> None:
    start = datetime(2030, 1, 1, 12, tzinfo=UTC)
    for zone, style in (("UTC", "postgres"), ("Asia/Tokyo", "iso_8601")):
        caller.connection.execute(f"SET TimeZone = '{zone}'; SET IntervalStyle = '{style}'")
        caller.enqueue("x", id="a", run_at=start, timeout=timedelta(hours=30))
        caller.connection.commit()
    assert ids(store) == {"a"}


def test_a_repeated_enqueue_succeeds_after_its_parent_was_deleted(store: Store, caller: Caller) -> None:
    caller.enqueue(id="p")
    caller.enqueue(id="a", after=["p:any"])
    caller.connection.commit()
    now = store.now()
    store.save([lifecycle.cancel(job(store, "p"), by="me", reason=None, now=now)])
    store.purge(Filter(), 5)
    assert caller.enqueue(id="a", after=["p:any"]) == "a"


def test_a_held_job_has_a_cause_and_a_plain_number_is_refused_as_id(caller: Caller, store: Store) -> None:
    caller.enqueue(id="h", hold=True)
    caller.connection.commit()
    assert store.get(["h"])["h"].cause == "person"
    for number in ("0", "12"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"id '{number}' is not allowed"):
            caller.enqueue(id=number)
        caller.connection.rollback()
    assert caller.enqueue(id="12a") == "12a"


def test_the_view_of_jobs_works_with_an_unreadable_job(store: Store, ground: PostgresGround) -> None:
    store.add([new_job("bad"), new_job("good", command="echo")])
    ground.admin.execute(f"UPDATE {ground.schema}.body SET spec = '{{' WHERE id = 'bad'")
    rows = ground.admin.execute(f"SELECT id, command FROM {ground.schema}.job ORDER BY id").fetchall()
    assert rows == [("bad", None), ("good", "echo")]


def test_functions_of_other_users_are_never_called(
    ground: PostgresGround, store: Store, bouncer: Bouncer
) -> None:
    """In older servers every user may create a better matching function in `public`, which would run with our
    rights."""
    traps = {
        "unnest(text[])": "RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'",
        "cardinality(integer[])": "RETURNS integer LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'",
    }
    ground.admin.execute(";".join(f"CREATE FUNCTION public.{name} {body}" for name, body in traps.items()))
    try:
        pooled = PostgresStore(
            bouncer.url(schema=ground.schema)
        )  # no option of queuectl sets the search path here
        store.add([new_job("a", tags=("t",))])
        [job] = pooled.claim("w1", ("default",), 1, LEASE)
        assert statuses(pooled.save([job])) == ["accepted"]
        assert [found.id for found in pooled.find(Filter(tag="t"), Page()).jobs] == ["a"]
        pooled.close()
    finally:
        ground.admin.execute(";".join(f"DROP FUNCTION public.{name}" for name in traps))


def test_the_same_id_with_other_content_is_refused(store: Store, caller: Caller) -> None:
    caller.enqueue("x", id="a")
    with pytest.raises(psycopg.errors.UniqueViolation, match="id a exists with other content"):
        caller.enqueue("y", id="a")


def test_a_unique_key_is_unique_for_sql_and_the_program(store: Store, caller: Caller) -> None:
    asked_of_python(store, {}, unique_key="k")
    with pytest.raises(psycopg.errors.UniqueViolation, match="unique key k is taken by job"):
        caller.enqueue(unique_key="k")
    caller.connection.rollback()
    assert len(ids(store)) == 1


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"command": ""}, "the command is empty"),
    ({"command": " \n"}, "the command is empty"),
    ({"command": None}, "the command is empty"),
    ({"command": "x" * 1_048_577}, "more than 1048576 bytes"),
    ({"id": "-x"}, "id '-x' is not allowed"),
    ({"id": "x" * 129}, "is not allowed"),
    ({"queue": "a,b"}, "queue 'a,b' is not allowed"),
    ({"queue": " a"}, "queue ' a' is not allowed"),
    ({"queue": "a\tb"}, "is not allowed"),
    ({"queue": None}, "is not allowed"),
    ({"priority": 1001}, "priority: from -1000 to 1000"),
    ({"max_retries": -2}, "max_retries: from -1"),
    ({"delay": timedelta(seconds=-1)}, "delay: may not be negative"),
    ({"timeout": timedelta(0)}, "timeout: has to be longer than 0"),
    ({"delay": timedelta(0), "run_at": NOW}, "say the same thing twice"),
    ({"unique_key": ""}, "unique_key: from 1 to 200"),
    ({"batch": "b" * 201}, "batch: from 1 to 200"),
    ({"env": '{"A": 1}'}, "env: has to be an object of texts"),
    ({"env": '["A"]'}, "env: has to be an object of texts"),
    ({"env": '{"A=B": "1"}'}, "env: has to be an object of texts"),
    ({"meta": "3"}, "meta: has to be an object"),
    ({"meta": json.dumps({"a": "x" * 20_000})}, "meta has more than 16 KiB"),
    ({"after": ["nobody"]}, "there is no job 'nobody' to wait for"),
    ({"after": [None]}, "after: has to be a list"),
    ({"tags": ["a", None]}, "tags: has to be a list"),
    ({"tags": [["a"], ["b"]]}, "tags: has to be a list"),
    ({"tags": ["x" * 201]}, "tags: has to be a list"),
    ({"tags": ["x"] * 101}, "tags: has to be a list"),
    ({"queue": "a\u200bb"}, "is not allowed"),
    ({"queue": "a\u2028b"}, "is not allowed"),
    ({"queue": "\u00a0"}, "is not allowed"),
    ({"timeout": timedelta(days=36_501)}, "timeout: is longer than a hundred years"),
    ({"delay": timedelta(days=36_501)}, "the start is out of range"),
    ({"run_at": datetime(1969, 12, 31, tzinfo=UTC)}, "the start is out of range"),
    ({"run_at": datetime(9999, 1, 1, tzinfo=UTC)}, "the start is out of range"),
    ({"env": json.dumps({"A": "x" * 131_071})}, "none longer than the system allows"),
    ({"meta": '{"a": ' + "[" * 200 + "]" * 200 + "}"}, "meta: is nested too deeply"),
)


@pytest.mark.parametrize(
    ("fields", "said"), BAD, ids=[f"{n}: {said[:30]}" for n, (_, said) in enumerate(BAD)]
)
def test_invalid_arguments_are_refused(
    store: Store, caller: Caller, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=said) as refusal:
        caller.enqueue(**fields)
    hint = refusal.value.diag.message_hint
    assert hint is None or hint.strip(), "clients would print an empty HINT"
    caller.connection.rollback()
    assert ids(store) == set()


def test_a_role_that_may_only_enqueue_has_no_other_right(
    ground: PostgresGround, store: Store, postgres_server: PostgresServer | GivenServer
) -> None:
    role = f"app_{ground.schema}"
    ground.admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'app'")
    try:
        ground.admin.execute(f"GRANT USAGE ON SCHEMA {ground.schema} TO {role}")
        with psycopg.connect(postgres_server.url(user=role, password="app"), autocommit=True) as app:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(f"SELECT {ground.schema}.enqueue('true')")
            ground.admin.execute(f"GRANT EXECUTE ON FUNCTION {ground.schema}.enqueue TO {role}")
            app.execute(f"SELECT {ground.schema}.enqueue('true', id => 'mine')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(f"SELECT * FROM {ground.schema}.live")
    finally:
        ground.admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert ids(store) == {"mine"}


def test_an_enqueue_wakes_a_waiting_worker(
    ground: PostgresGround, store: PostgresStore, caller: Caller
) -> None:
    news = store.subscribe(topics.WORK)
    while news.wait(0.05):
        pass
    caller.enqueue()
    caller.connection.commit()
    assert news.wait(20.0)


def test_the_view_shows_every_job_in_readable_form(store: Store, caller: Caller) -> None:
    caller.enqueue("echo 'ü'", id="a", delay=timedelta(minutes=1))
    caller.connection.commit()
    [[command, state, run_at]] = caller.connection.execute(
        f"SELECT command, state, run_at FROM {caller.schema}.job WHERE id = 'a'"
    ).fetchall()
    assert (command, state, run_at) == ("echo 'ü'", "pending", NOW + timedelta(minutes=1))
