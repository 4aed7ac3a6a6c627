"""The network proxy of the tests: each disturbance of a connection is observed at both ends."""

import select
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from facts import eventually
from servers.postgres import PostgresServer
from servers.proxy import Proxy


@pytest.fixture
def url(postgres_server: PostgresServer, proxy: Proxy) -> str:
    """The server, through the network."""
    return postgres_server.url(host=proxy.host, port=proxy.port)


@pytest.fixture
def direct(postgres_server: PostgresServer) -> Iterator[psycopg.Connection]:
    """A connection that passes the network by, with an empty table `noted`."""
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE noted (word text)")
        yield connection
        connection.execute("DROP TABLE noted")


@pytest.fixture
def through(url: str, direct: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection through the network."""
    with closing(psycopg.connect(url, autocommit=True, prepare_threshold=None)) as connection:
        yield connection


@pytest.fixture
def echo() -> Iterator[Proxy]:
    """The proxy before a server that echoes its input; the proxy does not know the protocol."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        with closing(Proxy(*server.server_address)) as proxy:
            yield proxy
        server.shutdown()


class Echo(socketserver.BaseRequestHandler):
    """Echoes its input."""

    def handle(self) -> None:
        """Read until the end of the stream."""
        while data := self.request.recv(100):
            self.request.sendall(data)


def words(connection: psycopg.Connection) -> list[str]:
    """The stored words."""
    return [word for (word,) in connection.execute("SELECT word FROM noted ORDER BY word")]


def note(connection: psycopg.Connection, word: str) -> None:
    """Store a word."""
    connection.execute("INSERT INTO noted VALUES (%s)", [word])


def send_note(connection: psycopg.Connection, word: str) -> None:
    """Ask for a word to be noted, and wait for nothing."""
    connection.pgconn.send_query(f"INSERT INTO noted VALUES ('{word}')".encode())
    connection.pgconn.flush()


def has_answer(connection: psycopg.Connection) -> bool:
    """Whether the answer has come in full. (To wait for it inside libpq would stop our network's thread.)"""
    readable, _, _ = select.select([connection.pgconn.socket], [], [], 0)
    if readable:
        connection.pgconn.consume_input()
    return not connection.pgconn.is_busy()


def backend_lives(direct: psycopg.Connection, pid: int) -> bool:
    """Whether the server still serves a connection."""
    return direct.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() == (1,)


def test_the_proxy_passes_data_through(through: psycopg.Connection, direct: psycopg.Connection) -> None:
    note(through, "a" * 5_000_000)
    assert through.execute("SELECT word FROM noted").fetchone() == ("a" * 5_000_000,)


def test_the_connection_of_a_client_that_disconnects_is_removed(url: str, proxy: Proxy) -> None:
    psycopg.connect(url).close()
    eventually(lambda: proxy.connections == 0, what="no connection")


def test_a_reset_breaks_connections_and_allows_new_ones(
    through: psycopg.Connection, url: str, proxy: Proxy, direct: psycopg.Connection
) -> None:
    pid = through.info.backend_pid
    proxy.reset()
    with pytest.raises(psycopg.OperationalError):
        through.execute("SELECT 1")
    eventually(lambda: not backend_lives(direct, pid), what="the backend gone")
    psycopg.connect(url).close()


def test_a_reset_sends_a_tcp_reset(proxy: Proxy) -> None:
    with socket.create_connection((proxy.host, proxy.port)) as client:
        eventually(lambda: proxy.connections == 1)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_the_proxy_refuses_connections_until_it_passes_data_through(
    through: psycopg.Connection, url: str, proxy: Proxy
) -> None:
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError):
        through.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="Connection refused"):
        psycopg.connect(url)
    proxy.pass_through()
    psycopg.connect(url).close()


def test_a_black_hole_delays_requests_until_it_ends(
    through: psycopg.Connection, proxy: Proxy, direct: psycopg.Connection
) -> None:
    proxy.black_hole()
    send_note(through, "late")
    eventually(lambda: proxy.held > 0, what="the request in the hole")
    assert words(direct) == []
    proxy.pass_through()
    eventually(lambda: has_answer(through), what="the answer")
    assert words(direct) == ["late"]


def test_a_black_hole_delays_answers_until_it_ends(
    through: psycopg.Connection, proxy: Proxy, direct: psycopg.Connection
) -> None:
    direct.execute("BEGIN; LOCK TABLE noted")
    send_note(through, "locked out")
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'noted'::regclass AND NOT granted"
    eventually(lambda: direct.execute(waiting).fetchone() == (1,), what="the request at the server")
    proxy.black_hole()
    direct.execute("COMMIT")
    eventually(lambda: proxy.held > 0, what="the answer in the hole")
    assert words(direct) == ["locked out"]
    assert not select.select([through.pgconn.socket], [], [], 0)[0]


def test_a_black_hole_accepts_new_connections_without_an_answer(proxy: Proxy) -> None:
    proxy.black_hole()
    with socket.create_connection((proxy.host, proxy.port)) as client:
        client.sendall(b"anybody?")
        eventually(lambda: proxy.held == len(b"anybody?"), what="the question in the hole")
        assert not select.select([client], [], [], 0)[0]


def test_a_delay_applies_in_both_directions(through: psycopg.Connection, proxy: Proxy) -> None:
    proxy.delay(0.1)
    began = time.monotonic()
    through.execute("SELECT 1")
    assert time.monotonic() - began >= 0.2
    proxy.pass_through()


def test_a_half_open_connection_ends_for_the_server_alone(
    through: psycopg.Connection, proxy: Proxy, direct: psycopg.Connection, url: str
) -> None:
    pid = through.info.backend_pid
    proxy.half_open()
    eventually(lambda: not backend_lives(direct, pid), what="the backend gone")
    send_note(through, "to nobody")
    assert not select.select([through.pgconn.socket], [], [], 0.05)[0]
    psycopg.connect(url).close()


def test_a_reply_is_lost_after_the_work_is_done(
    through: psycopg.Connection, proxy: Proxy, direct: psycopg.Connection
) -> None:
    proxy.lose_reply(b"precious")
    note(through, "ordinary")
    assert not proxy.lost.is_set()
    with pytest.raises(psycopg.OperationalError):
        note(through, "precious")
    assert proxy.lost.is_set()
    assert words(direct) == ["ordinary", "precious"]


def test_the_reply_to_a_request_in_pieces_is_lost_after_the_last_piece(
    through: psycopg.Connection, proxy: Proxy, direct: psycopg.Connection
) -> None:
    word = "at its beginning" + "." * 10_000_000
    proxy.lose_reply(b"at its beginning")
    with pytest.raises(psycopg.OperationalError):
        through.execute(f"INSERT INTO noted VALUES ('{word}')")
    assert words(direct) == [word]


def test_the_reply_to_a_commit_can_be_lost(url: str, proxy: Proxy, direct: psycopg.Connection) -> None:
    with closing(psycopg.connect(url)) as connection:
        note(connection, "committed")
        proxy.lose_reply(b"COMMIT")
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    assert words(direct) == ["committed"]


def test_the_proxy_waits_for_a_slow_reply_before_it_is_lost(
    through: psycopg.Connection, proxy: Proxy, direct: psycopg.Connection
) -> None:
    proxy.lose_reply(b"in the end")
    with pytest.raises(psycopg.OperationalError), through.pipeline():
        note(through, "first")
        through.execute("SELECT pg_sleep(0.2)")
        note(through, "in the end")
    assert proxy.lost.is_set()
    assert words(direct) == ["first", "in the end"]


def test_a_client_waiting_inside_a_pipeline_is_disconnected(
    through: psycopg.Connection, proxy: Proxy, direct: psycopg.Connection
) -> None:
    proxy.lose_reply(b"so far")
    with pytest.raises(psycopg.OperationalError), through.pipeline():
        through.execute("INSERT INTO noted VALUES ('so far') RETURNING word").fetchone()
    assert proxy.lost.is_set()
    assert words(direct) == []


def test_only_one_reply_is_lost(url: str, proxy: Proxy, direct: psycopg.Connection) -> None:
    proxy.lose_reply(b"twice")
    with closing(psycopg.connect(url, autocommit=True)) as first, pytest.raises(psycopg.OperationalError):
        note(first, "twice")
    with closing(psycopg.connect(url, autocommit=True)) as second:
        note(second, "twice")
    assert words(direct) == ["twice", "twice"]


def test_a_reply_can_be_lost_without_a_disconnection(
    through: psycopg.Connection, proxy: Proxy, direct: psycopg.Connection, url: str
) -> None:
    proxy.black_hole_reply(b"unheard")
    send_note(through, "unheard")
    assert proxy.lost.wait(10)
    assert words(direct) == ["unheard"]
    assert not select.select([through.pgconn.socket], [], [], 0.05)[0]
    psycopg.connect(url).close()


def test_a_match_may_come_in_two_pieces(echo: Proxy) -> None:
    with socket.create_connection((echo.host, echo.port)) as client:
        client.sendall(b"hal")
        assert client.recv(3) == b"hal"
        echo.lose_reply(b"halves")
        client.sendall(b"ves")
        with pytest.raises(ConnectionResetError):
            client.recv(3)
    assert echo.lost.is_set()


def test_data_sent_before_the_call_does_not_match(echo: Proxy) -> None:
    with socket.create_connection((echo.host, echo.port)) as client:
        client.sendall(b"whole")
        assert client.recv(5) == b"whole"
        echo.lose_reply(b"whole")
        client.sendall(b"other")
        assert client.recv(5) == b"other"


def test_a_stopped_server_breaks_the_connection(own_postgres: PostgresServer, url: str) -> None:
    own_postgres.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    own_postgres.start()
    psycopg.connect(url).close()


def test_an_unknown_protocol_counts_as_answered_when_it_is_silent(echo: Proxy) -> None:
    with socket.create_connection((echo.host, echo.port)) as client:
        echo.black_hole_reply(b"anybody?")
        client.sendall(b"anybody?")
        assert echo.lost.wait(10)
        assert not select.select([client], [], [], 0)[0]
