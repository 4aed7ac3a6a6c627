"""Roles, replicas, schemas and durability of PostgreSQL: each error is one line with a hint and an exit code."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cli.conftest import CommandLine, Refused
from cli.doors import OTHER_STORE, direct
from cli.postgres import PASSWORD, Database
from facts import eventually
from queuectl.store.postgres.schema import known
from servers.daemon import Daemon
from servers.endpoint import free_port
from servers.postgres import PostgresServer

pytestmark = direct(OTHER_STORE)


class TestLogin:
    def test_a_role_that_may_not_log_in_is_refused(self, database: Database, refused: Refused) -> None:
        role = database.role("NOLOGIN")
        refused(
            database.as_role(role),
            message=f'{database.at(role)}: role "{role}" is not permitted to log in',
            hint=f"let an administrator run: ALTER ROLE {role} LOGIN",
        )

    def test_a_role_with_too_many_connections_is_refused(self, database: Database, refused: Refused) -> None:
        role = database.role("LOGIN CONNECTION LIMIT 0")
        refused(
            database.as_role(role),
            kind="store_unavailable",
            message=f'{database.at(role)}: too many connections for role "{role}"',
            hint="end idle clients, raise that limit, or put PgBouncer in between",
        )

    def test_a_role_without_the_right_to_connect_is_refused(
        self, database: Database, refused: Refused
    ) -> None:
        role, closed = database.role(), database.database()
        database.run(f"REVOKE CONNECT ON DATABASE {closed} FROM PUBLIC")
        refused(
            database.as_role(role, database=closed),
            message=f'{database.at(role, closed)}: permission denied for database "{closed}"',
            hint=f"let its owner run: GRANT CONNECT ON DATABASE {closed} TO {role}",
        )


class TestReadOnly:
    HINT = "connect to the primary, or as a role and to a database for which it is off"

    def test_a_read_only_role_is_refused(self, database: Database, refused: Refused) -> None:
        role = database.role()
        database.run(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        said = f"{database.at(role)} is read-only: default_transaction_read_only = on"
        refused(database.as_role(role), message=said, hint=self.HINT)

    def test_a_read_only_database_is_refused(self, database: Database, refused: Refused) -> None:
        name = database.database()
        database.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        said = f"{database.at(database=name)} is read-only: default_transaction_read_only = on"
        refused(database.url(database=name), message=said, hint=self.HINT)

    @pytest.mark.parametrize("words", [("status",), ("enqueue", "true"), ("worker", "start", "--drain")])
    def test_a_replica_is_refused(
        self, database: Database, replica: int, refused: Refused, words: tuple[str, ...]
    ) -> None:
        refused(
            database.url(port=replica),
            *words,
            message=f"{database.at(port=replica)} is a read-only replica",
            hint="connect to the primary",
        )

    def test_of_a_replica_and_its_primary_the_primary_is_used(
        self, queuectl: CommandLine, database: Database, replica: int
    ) -> None:
        hosts = f"127.0.0.1:{replica},127.0.0.1:{database.server.port}"
        url = database.url().replace(f"127.0.0.1:{database.server.port}", hosts)
        assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"


@pytest.fixture(scope="module")
def replica(postgres_server: PostgresServer) -> Iterator[int]:
    """The port of a hot standby of the server."""
    if not isinstance(postgres_server, PostgresServer):
        pytest.skip("the server of QUEUECTL_TEST_POSTGRES is not ours to copy")
    daemon, port = Daemon("replica", ended_by=signal.SIGQUIT), free_port()
    data, url = daemon.directory / "data", postgres_server.url()
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
        binaries = Path(str(row[0]) if row else "")
    try:
        copy = ("-D", data, "-d", url, "--checkpoint=fast", "--write-recovery-conf", "--no-sync")
        assert daemon.run(binaries / "pg_basebackup", *copy).returncode == 0, daemon.log_text()
        settings = {
            "port": port,
            "unix_socket_directories": daemon.directory,
            "listen_addresses": "127.0.0.1",
            "max_connections": 200,  # no fewer than its primary
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = (binaries / "postgres", "-D", data, *words)
        daemon.start(*command, ready=lambda: _lets_in(postgres_server.url(port=port)))
        yield port
    finally:
        daemon.close()


def _lets_in(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
        return True
    return False


class TestRights:
    def test_a_role_that_cannot_create_the_schema_is_refused(
        self, database: Database, refused: Refused
    ) -> None:
        role, name = database.role(), database.database()
        refused(
            database.as_role(role, database=name),
            message=f"{database.at(role, name)}: permission denied for database {name}",
            hint=f"let an owner of the database run: CREATE SCHEMA {database.schema} AUTHORIZATION {role}",
        )

    def test_the_hint_for_a_missing_schema_works(self, queuectl: CommandLine, database: Database) -> None:
        role, name = database.role(), database.database()
        url = database.as_role(role, database=name)
        hint = queuectl.json("--store", url, "enqueue", "x", code=5)["error"]["hint"]
        with psycopg.connect(database.server.url(name), autocommit=True) as owner:
            owner.execute(hint.partition(": ")[2])
        assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"

    def test_names_in_the_hint_are_quoted(self, queuectl: CommandLine, database: Database) -> None:
        role, name = "Ada-1", database.database()
        database.run(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{PASSWORD}'")
        url = database.as_role(role, database=name, schema="Jobs")
        try:
            hint = queuectl.json("--store", url, "enqueue", "x", code=5)["error"]["hint"]
        finally:
            database.run(f'DROP ROLE "{role}"')
        assert hint.endswith('CREATE SCHEMA "Jobs" AUTHORIZATION "Ada-1"')

    def test_an_empty_schema_of_another_role_is_refused(
        self, queuectl: CommandLine, database: Database
    ) -> None:
        role = database.role()
        database.run(f"CREATE SCHEMA {database.schema}")
        url = database.as_role(role)
        error = queuectl.json("--store", url, "enqueue", "x", code=5)["error"]
        assert error["message"] == f"{database.at(role)}: permission denied for schema {database.schema}"
        grant = f"GRANT USAGE, CREATE ON SCHEMA {database.schema} TO {role}"
        assert error["hint"] == f"let the schema's owner run: {grant}"
        database.run(grant)
        assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"

    @pytest.mark.parametrize("words", [("status",), ("enqueue", "x"), ("doctor",), ("worker", "start")])
    def test_a_queue_of_another_role_is_refused(
        self, queuectl: CommandLine, database: Database, refused: Refused, words: tuple[str, ...]
    ) -> None:
        role = database.role()
        queuectl("--store", database.url(), "enqueue", "true")
        refused(
            database.as_role(role),
            *words,
            message=f"{database.at(role)}: permission denied for schema {database.schema}",
            hint=self.owner(database),
        )

    def test_a_role_with_select_only_can_only_read_the_queue(
        self, queuectl: CommandLine, database: Database, refused: Refused
    ) -> None:
        role = database.role()
        queuectl("--store", database.url(), "enqueue", "--id", "a", "true")
        database.run(f"GRANT USAGE ON SCHEMA {database.schema} TO {role}")
        database.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA {database.schema} TO {role}")
        assert "pending:    1" in queuectl("--store", database.as_role(role), "status")
        refused(
            database.as_role(role),
            "enqueue",
            "true",
            message=f"{database.at(role)}: permission denied for table body",
            hint=self.owner(database),
        )

    def test_a_member_of_the_owner_has_the_rights_of_the_owner(
        self, queuectl: CommandLine, database: Database
    ) -> None:
        owner, role = database.role(), database.role()
        database.run(f"CREATE SCHEMA {database.schema} AUTHORIZATION {owner}")
        queuectl("--store", database.as_role(owner), "enqueue", "--id", "a", "true")
        queuectl("--store", database.as_role(role), "status", code=5)
        database.run(f"GRANT {owner} TO {role}")
        assert queuectl("--store", database.as_role(role), "enqueue", "--id", "b", "true") == "b\n"

    @staticmethod
    def owner(database: Database) -> str:
        """The hint. The owner is a superuser here, and no hint may grant membership of a superuser."""
        return f"connect as postgres, the owner of schema {database.schema}"


class TestSchema:
    def test_a_newer_schema_is_refused_with_both_versions(
        self, queuectl: CommandLine, database: Database, refused: Refused
    ) -> None:
        queuectl("--store", database.url(), "enqueue", "true")
        database.run(f"INSERT INTO {database.schema}.migration (version) VALUES (99)")
        refused(
            database.url(),
            message=f"{database.at()} has schema 99, and this program knows schemas up to {known()}",
            hint="a newer queuectl has used it: upgrade this one",
        )

    @pytest.mark.parametrize(
        "table", ["migration (id integer)", "migration (version text)", "body (id integer)"]
    )
    def test_tables_of_another_program_are_not_changed(
        self, database: Database, refused: Refused, table: str
    ) -> None:
        database.run(f"CREATE SCHEMA {database.schema}")
        database.run(f"CREATE TABLE {database.schema}.{table}")
        refused(
            database.url(),
            message=f"{database.at()}: schema {database.schema} contains tables of another program",
            hint="name a schema for the queue alone in the URL: ?schema=NAME",
        )
        tables = f"SELECT count(*) FROM pg_tables WHERE schemaname = '{database.schema}'"
        assert database.value(tables) == 1

    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    def test_a_database_with_another_encoding_is_refused(
        self, database: Database, refused: Refused, encoding: str
    ) -> None:
        name = database.database(f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'")
        refused(
            database.url(database=name),
            message=f"{database.at(database=name)} stores text as {encoding}, which cannot hold every command",
            hint="create another database, for example: "
            "CREATE DATABASE jobs ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0",
        )

    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    def test_the_variable_pgclientencoding_has_no_effect(
        self, queuectl: CommandLine, database: Database, monkeypatch: pytest.MonkeyPatch, encoding: str
    ) -> None:
        monkeypatch.setenv("PGCLIENTENCODING", encoding)
        queuectl("--store", database.url(), "enqueue", "--id", "a", "echo '☃'")
        assert queuectl.json("--store", database.url(), "show", "a")["job"]["command"] == "echo '☃'"


class TestDurability:
    """Guarantee G1: the real durability is read from the server, and less durability than requested is refused."""

    def test_a_role_without_synchronous_commit_is_refused(self, database: Database, refused: Refused) -> None:
        role = database.role("LOGIN SUPERUSER")
        database.run(f"ALTER ROLE {role} SET synchronous_commit = off")
        refused(
            database.as_role(role),
            message=f"{database.at(role)} would lose acknowledged jobs at a power failure: synchronous_commit = off",
            hint="turn it on for the server, the database and the role, or accept it with --durability fast",
        )

    @pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
    def test_a_server_that_does_not_write_to_disk_is_refused(
        self, queuectl: CommandLine, database: Database, refused: Refused, setting: str
    ) -> None:
        with self.off(database, setting):
            refused(
                database.url(),
                message=f"{database.at()} would lose acknowledged jobs at a power failure: {setting} = off",
                hint="turn it on for the server, or accept it with --durability fast",
            )
            self.accepted(queuectl, database.url(), setting)
        assert queuectl.json("--store", database.url(), "status")["store"]["durability"] == "power-safe"

    def test_less_durability_can_be_accepted(self, queuectl: CommandLine, database: Database) -> None:
        role = database.role("LOGIN SUPERUSER")
        database.run(f"ALTER ROLE {role} SET synchronous_commit = off")
        self.accepted(queuectl, database.as_role(role), "synchronous_commit")

    def test_the_requested_durability_of_a_safe_server_is_shown(
        self, queuectl: CommandLine, database: Database
    ) -> None:
        self.accepted(queuectl, database.url(), "synchronous_commit")

    def accepted(self, queuectl: CommandLine, url: str, setting: str) -> None:
        """Check that the durability is accepted and reported."""
        given = ("--store", url, "--durability", "fast")
        assert queuectl.json(*given, "status")["store"]["durability"] == "memory-safe"
        assert "(memory-safe)" in queuectl(*given, "status")
        assert queuectl(*given, "enqueue", "--id", "a", "true") == "a\n"
        checks = {c["name"]: c for c in queuectl.json(*given, "doctor", code=1)["checks"]}
        assert (checks["durability"]["detail"], checks[setting]["detail"]) == ("memory-safe", "off")
        assert f"{setting} = off" in checks["store fault"]["detail"]

    @contextlib.contextmanager
    def off(self, database: Database, setting: str) -> Iterator[None]:
        """While this lasts, it is off for the server."""
        try:
            self.turn(database, f"SET {setting} = off", setting, "off")
            yield
        finally:
            self.turn(database, f"RESET {setting}", setting, "on")

    def turn(self, database: Database, how: str, setting: str, wanted: str) -> None:
        """Change the server's configuration; back when it holds."""
        database.run(f"ALTER SYSTEM {how}")
        database.run("SELECT pg_reload_conf()")
        eventually(lambda: database.value(f"SHOW {setting}") == wanted, what=f"{setting} = {wanted}")
