"""The schema of a PostgreSQL store: created on first use, migrated under a lock, distinguished from other programs."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contract.grounds import PostgresGround, race
from factories import LEASE, NOW, new_job, report, statuses
from queuectl.domain import lifecycle
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.postgres import PostgresStore, schema
from servers.postgres import GivenServer, PostgresServer

NEWEST = schema.known()
Opener = Callable[..., PostgresStore]


@pytest.fixture
def ground(postgres_server: PostgresServer | GivenServer) -> Iterator[PostgresGround]:
    ground = PostgresGround(postgres_server)
    yield ground
    ground.close()


@pytest.fixture
def open_store(ground: PostgresGround) -> Iterator[Opener]:
    """Stores on one schema, each with options of its own."""
    opened: list[PostgresStore] = []

    def open_store(**options: Any) -> PostgresStore:
        opened.append(PostgresStore(ground.url, **options))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a program of tomorrow, which has one more."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.SCRIPTS, folder)
    (folder / f"{NEWEST + 1:04}.sql").write_text(
        "ALTER TABLE {schema}.live ADD COLUMN mood text DEFAULT 'fine';"
    )
    return folder


def versions(ground: PostgresGround) -> list[int]:
    rows = ground.admin.execute(f"SELECT version FROM {ground.schema}.migration ORDER BY version")
    return [version for (version,) in rows]


def test_the_schema_is_created_on_first_use_by_all_migrations(
    ground: PostgresGround, open_store: Opener
) -> None:
    open_store().counts(Filter())
    assert versions(ground) == list(range(1, NEWEST + 1))
    assert open_store().describe().schema == NEWEST


def test_of_concurrent_first_uses_one_creates_the_schema(ground: PostgresGround, open_store: Opener) -> None:
    stores = [open_store() for _ in range(8)]
    answers = race(*[lambda s=store: s.add([new_job("a", content="x")])[0].status for store in stores])
    assert sorted(answers) == ["added"] + ["existing"] * 7
    assert versions(ground) == list(range(1, NEWEST + 1))


def test_a_newer_schema_is_refused_with_both_versions(ground: PostgresGround, open_store: Opener) -> None:
    open_store().migrate()
    ground.admin.execute(f"INSERT INTO {ground.schema}.migration (version) VALUES (99)")
    with pytest.raises(
        StoreUnusable, match=f"has schema 99, and this program knows schemas up to {NEWEST}"
    ) as caught:
        open_store().counts(Filter())
    assert "upgrade" in (caught.value.hint or "")


def test_a_running_worker_continues_while_a_newer_program_migrates(
    ground: PostgresGround, open_store: Opener, later: Path
) -> None:
    old = open_store()
    old.add([new_job("a", now=old.now(), run_at=old.now()), new_job("b", now=old.now(), run_at=old.now())])
    [before] = old.claim("w1", (), 1, LEASE)
    open_store(migrations=str(later)).migrate()
    assert versions(ground)[-1] == NEWEST + 1
    now = old.now()
    assert statuses(old.save([lifecycle.finish(before, report(now=now), now=now, random_number=0.5)])) == [
        "accepted"
    ]
    assert [job.id for job in old.claim("w1", (), 5, LEASE)] == ["b"]


def test_a_worker_of_schema_2_continues_during_the_migration_to_schema_3(
    ground: PostgresGround, open_store: Opener, tmp_path: Path
) -> None:
    folder = tmp_path / "before"
    shutil.copytree(schema.SCRIPTS, folder, ignore=shutil.ignore_patterns("000[3-9].sql"))
    old = ground.admin
    with psycopg.connect(ground.plain_url, autocommit=True):
        open_store(migrations=str(folder)).migrate()
    assert versions(ground) == [1, 2]
    enqueue = f"SELECT {ground.schema}.enqueue('true', id => %s, hold => %s)"
    old.execute(enqueue, ("a", False))
    claim = f"SELECT id, spec FROM {ground.schema}.claim('w1', '{{}}', 1, 30000000, ARRAY['{'a' * 32}'])"
    assert [row[0] for row in old.execute(claim).fetchall()] == ["a"]
    new = open_store()
    new.migrate()
    running = new.get(["a"])["a"]
    assert (running.state, running.attempt_id) == ("processing", "a" * 32)
    renewal = f"SELECT id FROM {ground.schema}.renew('w1', ARRAY['a'], ARRAY['{'a' * 32}'], 30000000)"
    assert old.execute(renewal).fetchall() == [("a",)]
    old.execute(enqueue, ("h", True))
    assert new.get(["h"])["h"].cause == "person"
    running = new.get(["a"])["a"]
    ended = lifecycle.finish(running, report(now=new.now()), now=new.now(), random_number=0.5)
    assert statuses(new.save([ended])) == ["accepted"]


def test_a_failed_migration_changes_nothing(ground: PostgresGround, open_store: Opener, later: Path) -> None:
    open_store().add([new_job("a")])
    (later / f"{NEWEST + 1:04}.sql").write_text(
        "ALTER TABLE {schema}.live ADD COLUMN mood text; SELECT nonsense;"
    )
    with pytest.raises(StoreUnusable, match="nonsense"):
        open_store(migrations=str(later)).migrate()
    assert versions(ground)[-1] == NEWEST
    with pytest.raises(psycopg.errors.UndefinedColumn):
        ground.admin.execute(f"SELECT mood FROM {ground.schema}.live")
    assert set(open_store().get(["a"])) == {"a"}


def test_a_migration_waits_only_shortly_for_another_transaction(
    ground: PostgresGround, open_store: Opener, later: Path
) -> None:
    """While a migration waits for its lock, all later transactions wait too."""
    open_store().migrate()
    with psycopg.connect(ground.plain_url) as other:
        other.execute(f"SELECT count(*) FROM {ground.schema}.live")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            open_store(migrations=str(later)).migrate()


def test_a_worker_does_not_create_a_missing_queue(ground: PostgresGround, open_store: Opener) -> None:
    with pytest.raises(StoreUnavailable, match="no queue in schema"):
        open_store(create=False).counts(Filter())
    found = ground.admin.execute(
        "SELECT count(*) FROM pg_namespace WHERE nspname = %s", (ground.schema,)
    ).fetchone()
    assert found == (0,)


def test_an_empty_schema_made_by_an_administrator_is_used(ground: PostgresGround, open_store: Opener) -> None:
    ground.admin.execute(f"CREATE SCHEMA {ground.schema}")
    assert open_store().add([new_job("a")])[0].status == "added"


def test_two_queues_in_one_database_are_independent(
    ground: PostgresGround, open_store: Opener, postgres_server: PostgresServer | GivenServer
) -> None:
    neighbour = PostgresGround(postgres_server)
    try:
        other = neighbour.open()
        open_store().add([new_job("a")])
        assert other.add([new_job("a", content="other")])[0].status == "added"
        assert open_store().counts(Filter()).total() == other.counts(Filter()).total() == 1
    finally:
        neighbour.close()


def test_a_thorough_check_finds_wrong_data(ground: PostgresGround, open_store: Opener) -> None:
    store = open_store()
    store.add([new_job("a", now=NOW), new_job("b", now=NOW)])
    assert store.describe(thorough=True).faults == ()
    ground.admin.execute(f"DELETE FROM {ground.schema}.live WHERE number = 1")
    ground.admin.execute(f"INSERT INTO {ground.schema}.tally VALUES ('default', 'dead', 5)")
    ground.admin.execute(f"INSERT INTO {ground.schema}.output VALUES ('{'a' * 32}', 1, 77, 0, 0, 0, 'x')")
    faults = store.describe(thorough=True).faults
    assert set(faults) == {
        "1 jobs without a state",
        "1 counts that are wrong",
        "1 chunks of output without a job",
    }
