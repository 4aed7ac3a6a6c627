"""The pool of the tests shares its connections as PgBouncer's transaction mode does."""

import select
from contextlib import ExitStack, closing

import psycopg
import pytest

from facts import eventually
from servers.bouncer import Bouncer
from servers.postgres import PostgresServer

BACKEND = "SELECT pg_backend_pid()"


def backend(connection: psycopg.Connection) -> int:
    """The server's process that answers this time."""
    return connection.execute(BACKEND).fetchone()[0]


def readable(connection: psycopg.Connection, *, within: float) -> bool:
    """Whether there is an answer, or comes in time."""
    return bool(select.select([connection.pgconn.socket], [], [], within)[0])


def ask(bouncer: Bouncer) -> int:
    """Connect, and have a backend answer."""
    with psycopg.connect(bouncer.url(), autocommit=True) as connection:
        return backend(connection)


def answered(bouncer: Bouncer) -> int | None:
    """The answer, or None."""
    try:
        return ask(bouncer)
    except psycopg.OperationalError:
        return None


def test_one_client_is_served_by_different_backends(bouncer: Bouncer) -> None:
    with (
        psycopg.connect(bouncer.url(), autocommit=True) as ours,
        psycopg.connect(bouncer.url()) as other,
    ):
        taken = backend(other)
        first = backend(ours)
        other.commit()
        seen = {backend(ours) for _ in range(3)}
    assert first != taken
    assert len(seen) > 1


def test_more_clients_than_connections_take_turns(bouncer: Bouncer) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(psycopg.connect(bouncer.url()))) for _ in range(4)]
        backends = {backend(client) for client in clients[:3]}
        assert len(backends) == 3
        clients[3].pgconn.send_query(BACKEND.encode())
        clients[3].pgconn.flush()
        assert not readable(clients[3], within=0.05)
        clients[0].commit()
        assert readable(clients[3], within=10)


def test_a_wrong_password_is_refused(bouncer: Bouncer) -> None:
    with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
        psycopg.connect(bouncer.url(password="open/barley"))


def test_the_pool_can_be_stopped_and_started(bouncer: Bouncer) -> None:
    bouncer.stop()
    with pytest.raises(psycopg.OperationalError):
        ask(bouncer)
    bouncer.start()
    assert ask(bouncer)


def test_the_pool_reconnects_after_a_restart_of_the_server(
    bouncer: Bouncer, own_postgres: PostgresServer
) -> None:
    ask(bouncer)
    own_postgres.restart("immediate")
    assert eventually(lambda: answered(bouncer), what="an answer through the pool")
