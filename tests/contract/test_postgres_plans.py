"""Query plans of PostgreSQL for frequent statements: each uses its index and reads no more rows than necessary.

The server is asked for the plans it really used, those inside functions included, with a queue that has a long past and
a long future. A statement that began to read a whole table would still pass every other test.
"""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import psycopg
import pytest

from contract.grounds import PostgresGround, rising_tokens
from factories import LEASE, NOW, in_state, new_job, report
from queuectl.domain import lifecycle
from queuectl.domain.event import between
from queuectl.domain.job import Job, State
from queuectl.domain.output import Chunk, Trim
from queuectl.domain.query import Filter, Page
from queuectl.store.driver.attempt_ids import AttemptIds
from queuectl.store.driver.set_aside import SetAside
from queuectl.store.postgres import claim, events, find, output, purge, write
from queuectl.store.postgres.connect import Line
from queuectl.store.protocol import AttemptRef, ClaimRequest
from servers.postgres import GivenServer, PostgresServer

MANY = 20_000
FEW = 300
"""The maximum number of rows that a step of a frequent statement may read."""
EXPLAINED = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}


class Step(NamedTuple):
    """One node of an executed plan: its kind, its table, and the number of rows that it read."""

    kind: str
    table: str
    rows: int


class Crowd:
    """A schema with many ended and many waiting jobs, and a connection whose statements are explained."""

    def __init__(self, ground: PostgresGround) -> None:
        self.store = ground.open()
        self.steps: list[Step] = []
        samples = {state: in_state(state, f"seed-{state}") for state in _STATES}
        samples["delayed"] = new_job("seed-delayed", run_at=NOW + timedelta(days=1))
        samples["busy"] = new_job("seed-busy", queue="busy")
        for job in self.store.add([*samples.values()]):
            _multiply(ground, job.job)
        ground.admin.execute(
            f"INSERT INTO {ground.schema}.output SELECT md5(n::text), 1, n, 0, 0, 0, 'x' "
            f"FROM generate_series(1, {MANY}) AS n"
        )
        ground.admin.execute(
            f"INSERT INTO {ground.schema}.event (xid, at, line) SELECT '3', 0, '{{}}' FROM generate_series(1, {MANY})"
        )
        ground.admin.execute(f"VACUUM ANALYZE {', '.join(f'{ground.schema}.{t}' for t in _TABLES)}")
        words = " ".join(f"-c {name}={value}" for name, value in EXPLAINED.items())
        self.line = Line.connect(ground.plain_url, options=words, autocommit=True, prepare_threshold=None)
        self.line.schema = ground.schema
        self.line.add_notice_handler(self._note)

    def plan(self, work: Callable[[Line], Any]) -> list[Step]:
        """The steps of a piece of work, once its plans have settled."""
        for _ in range(7):  # each of the first five runs of a statement in a function is planned again
            self.steps = []
            work(self.line)
        assert self.steps
        return self.steps

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        text = notice.message_primary or ""
        if "plan:" in text:
            self.steps += _steps(json.loads(text.partition("plan:\n")[2])["Plan"], 1)


_STATES: tuple[State, ...] = ("pending", "processing", "dead", "completed", "blocked")
_TABLES = ("body", "live", "ended", "output", "event")


def _multiply(ground: PostgresGround, job: Job) -> None:
    """Many more of the same, by SQL: few of those that run, more that failed for good, a great many of the others."""
    count = {"processing": 100, "blocked": 100, "dead": MANY // 10}.get(job.state, MANY)
    table = "ended" if job.ended else "live"
    columns = [name for (name,) in ground.admin.execute(_COLUMNS, (ground.schema, table)) if name != "number"]
    ground.admin.execute(
        f"""WITH bodies AS (
            INSERT INTO {ground.schema}.body (id, created_at, spec)
            SELECT id || '-' || n, created_at, spec FROM {ground.schema}.body, generate_series(1, {count}) AS n
            WHERE number = {job.number} RETURNING number)
        INSERT INTO {ground.schema}.{table} (number, {", ".join(columns)})
        SELECT bodies.number, {", ".join(f"one.{column}" for column in columns)}
        FROM bodies, {ground.schema}.{table} AS one WHERE one.number = {job.number}"""
    )


_COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"


def _steps(node: dict[str, Any], loops: int) -> Iterator[Step]:
    loops = int(node.get("Actual Loops", 1)) or 1
    looked = (float(node["Actual Rows"]) + float(node.get("Rows Removed by Filter", 0))) * loops
    yield Step(node["Node Type"], node.get("Relation Name", ""), round(looked))
    for child in node.get("Plans", ()):
        yield from _steps(child, loops)


@pytest.fixture(scope="module")
def crowd(postgres_server: PostgresServer | GivenServer) -> Iterator[Crowd]:
    ground = PostgresGround(postgres_server)
    crowd = Crowd(ground)
    yield crowd
    crowd.line.close()
    ground.close()


def _claimed(line: Line) -> list[Job]:
    return claim.claim(line, ClaimRequest("w1", (), 10, LEASE), None, AttemptIds(rising_tokens()), SetAside())


def _ended(line: Line) -> None:
    now = NOW + timedelta(seconds=1)
    jobs = [lifecycle.finish(job, report(now=now), now=now, random_number=0.5) for job in _claimed(line)]
    assert write.save(line, jobs, now) == [job.version + 1 for job in jobs]


def _told(line: Line) -> None:
    now = NOW + timedelta(seconds=1)
    request = ClaimRequest("w1", (), 10, LEASE, tell=True)
    jobs = claim.claim(line, request, None, AttemptIds(rising_tokens()), SetAside())
    ended = [lifecycle.finish(job, report(now=now), now=now, random_number=0.5) for job in jobs]
    told = [between(*pair) for pair in zip(jobs, ended, strict=True)]
    assert write.save(line, ended, now, told) == [job.version + 1 for job in jobs]


def _printed(line: Line) -> None:
    [job, *_] = _claimed(line)
    chunks = [Chunk(job.id, job.attempt_id or "", n, 0, NOW, n, b"x") for n in range(1, 9)]
    assert output.write(line, chunks, [Trim(job.id, job.attempt_id or "", 2, 5)]) == set()
    assert len(output.read(line, job.attempt_id or "", 0, 256)) == 6


def _page(sort: Any = "created", **wanted: Any) -> Callable[[Line], Any]:
    return lambda line: find.find(line, Filter(**wanted), Page(limit=50, sort=sort))


HOT: dict[str, Callable[[Line], Any]] = {
    "claim": _claimed,
    "claim from named queues": lambda line: claim.claim(
        line, ClaimRequest("w1", ("busy", "no"), 10, LEASE), None, AttemptIds(rising_tokens()), SetAside()
    ),
    "renew": lambda line: claim.renew(line, "w1", [_held(job) for job in _claimed(line)], LEASE, None),
    "save": _ended,
    "claim and save with events": _told,
    "add with events": lambda line: write.add(
        line, jobs := [new_job()], NOW, [between(None, job) for job in jobs]
    ),
    "events": lambda line: events.read(line, "3-12345", 50),
    "oldest events": lambda line: events.read(line, None, 50),
    "end of the events": lambda line: events.cursor(line, None),
    "trim": lambda line: events.trim(line, NOW, MANY, 50),
    "add": lambda line: write.add(line, [new_job() for _ in range(10)], NOW),
    "get": lambda line: find.get(line, [f"seed-pending-{n}" for n in range(1, 50)]),
    "output": _printed,
    "expired_leases": lambda line: claim.expired_leases(line, 10, None),
    "due since": lambda line: claim.due_since(line, None),
    "newest": _page(),
    "last finished": _page(sort="updated", states=frozenset(("completed",))),
    "newest dead": _page(states=frozenset(("dead",))),
    "last changed": _page(sort="updated", states=frozenset(("dead", "completed"))),
    "last ended": _page(sort="ended"),
    "last dead": _page(sort="ended", states=frozenset(("dead",))),
    "oldest": _page(sort="number"),
    "oldest dead": _page(sort="number", states=frozenset(("dead",))),
    "newest of several states": _page(states=frozenset(("dead", "cancelled", "processing"))),
    "newest blocked": _page(states=frozenset(("blocked",))),
    "one by its number": _page(number=17),
    "by the beginning of an id": _page(id_prefix="seed-dead-170"),
    "children": _page(states=frozenset(("blocked", "held")), waiting_for=("nobody",)),
    "cancelled children": _page(states=frozenset(("cancelled",)), waiting_for=("nobody",)),
    "held by a worker": _page(worker="w1", states=frozenset(("processing",))),
    "by batch": _page(batch="b"),
    "by tag": _page(tag="t"),
    "by unique key": _page(unique_key="k"),
    "purge": lambda line: purge.purge(
        line,
        Filter(states=frozenset(("completed", "cancelled")), ended_before=NOW + timedelta(days=1)),
        10,
        None,
    ),
    "purge of nothing": lambda line: purge.purge(
        line,
        Filter(states=frozenset(("completed", "cancelled")), ended_before=NOW - timedelta(days=1)),
        10,
        None,
    ),
    "purge of the dead": lambda line: purge.purge(
        line, Filter(states=frozenset(("dead",)), ended_before=NOW + timedelta(days=1)), 10, None
    ),
}


def _held(job: Job) -> AttemptRef:
    return AttemptRef(job.id, job.attempt_id or "")


@pytest.mark.parametrize("name", HOT)
def test_a_frequent_statement_reads_only_a_few_rows(crowd: Crowd, name: str) -> None:
    steps = crowd.plan(HOT[name])
    assert not [step for step in steps if step.kind == "Seq Scan" and step.table in _TABLES], steps
    assert max(step.rows for step in steps) <= FEW * 2, sorted(steps, key=lambda step: -step.rows)[:5]


def test_counting_rare_states_reads_no_other_states(crowd: Crowd) -> None:
    """After each batch of results, the worker asks whether any job waits for a parent."""
    steps = crowd.plan(lambda line: find.counts(line, Filter(states=frozenset(("blocked", "held")))))
    assert max(step.rows for step in steps if step.table == "live") <= FEW


def test_counting_reads_no_ended_job(crowd: Crowd) -> None:
    steps = crowd.plan(lambda line: find.counts(line, Filter()))
    assert {step.table for step in steps} == {"", "live", "tally"}
    assert sum(find.counts(crowd.line, Filter()).states().values()) > 3 * MANY


def test_a_renewal_changes_no_index(crowd: Crowd) -> None:
    """A renewal is a heap-only update: otherwise each renewal of a long job would leave dead entries in every index."""
    crowd.line.execute("SELECT pg_stat_force_next_flush()")
    [job] = claim.claim(
        crowd.line, ClaimRequest("long", ("busy",), 1, LEASE), None, AttemptIds(rising_tokens()), SetAside()
    )
    before = _updates(crowd)
    for _ in range(20):
        assert claim.renew(crowd.line, "long", [_held(job)], LEASE, None)
    after = _updates(crowd)
    assert after[0] - before[0] == 20
    assert after[1] - before[1] >= 18


def _updates(crowd: Crowd) -> tuple[int, int]:
    crowd.line.execute("SELECT pg_stat_force_next_flush()")
    row = crowd.line.rows(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = %s AND relname = 'live'",
        (crowd.line.schema,),
    )[0]
    return int(row[0]), int(row[1])
