"""What servers, poolers and networks say of a connection that does not come about, and what people are told."""

import psycopg
import pytest

from queuectl.errors import InvalidInput, StoreUnavailable, StoreUnusable
from queuectl.store.postgres.faults import Place

SHOWN = "postgresql://ada@db/jobs"
AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '
RUNS = "\n\tIs the server running on that host and accepting TCP/IP connections?"
NO_ENTRY = 'no pg_hba.conf entry for host "10.0.0.2", user "ada", database "jobs", '
ROOM = "end idle clients, raise that limit, or put PgBouncer in between"
WAY = "is that host up, and does its firewall let this one in? look at host and port"

SAID = [
    (f"{AT}FATAL:  {NO_ENTRY}SSL encryption\n{AT}FATAL:  {NO_ENTRY}no encryption", StoreUnusable,
     f"{NO_ENTRY}SSL encryption",
     "the server's pg_hba.conf has to let ada in from this host; it may want sslmode=require in the URL"),
    (f"{AT}FATAL:  sorry, too many clients already", StoreUnavailable, "sorry, too many clients already", ROOM),
    (f"{AT}FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", StoreUnavailable,
     "remaining connection slots are reserved for roles with the SUPERUSER attribute", ROOM),
    (f'{AT}FATAL:  too many connections for database "jobs"', StoreUnavailable,
     'too many connections for database "jobs"', ROOM),
    (f"{AT}FATAL:  no more connections allowed (max_client_conn)", StoreUnavailable,
     "no more connections allowed (max_client_conn)", ROOM),
    (f"{AT}FATAL:  MaxClientsInSessionMode: max clients reached", StoreUnavailable,
     "MaxClientsInSessionMode: max clients reached", ROOM),
    (f"{AT}FATAL:  Tenant or user not found", StoreUnusable, "Tenant or user not found",
     "look at the user (for a pooler: user.project) and the host"),
    (f'{AT}FATAL:  role "ada" does not exist', StoreUnusable, 'role "ada" does not exist',
     "look at the user, or let an administrator make it, for example: CREATE ROLE ada LOGIN PASSWORD 'secret'"),
    (f'{AT}FATAL:  database "jobs" is not currently accepting connections', StoreUnusable,
     'database "jobs" is not currently accepting connections',
     "let an administrator run: ALTER DATABASE jobs ALLOW_CONNECTIONS true"),
    (f'{AT}root certificate file "/root.crt" does not exist\nEither provide it, or change sslmode.', StoreUnusable,
     'root certificate file "/root.crt" does not exist', "add sslrootcert=FILE to the URL, or sslrootcert=system"),
    (f"{AT}SSL error: certificate verify failed", StoreUnusable, "SSL error: certificate verify failed",
     "look at sslmode in the URL"),
    (f"{AT}Connection timed out{RUNS}", StoreUnavailable, "Connection timed out", WAY),
    (f"{AT}No route to host{RUNS}", StoreUnavailable, "No route to host", WAY),
    (f"{AT}Network is unreachable{RUNS}", StoreUnavailable, "Network is unreachable",
     "this host has no way there; an address with : in it needs IPv6"),
    ("connection timeout expired\nMultiple connection attempts failed. All failures were:\n- host: 'a': …",
     StoreUnavailable, "connection timeout expired", WAY),
    ('connection is bad: invalid gssencmode value: "x"', InvalidInput, 'invalid gssencmode value: "x"',
     "look at what stands after the ? of the URL"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "said", "hint"), SAID, ids=[said for _, _, said, _ in SAID])
def test_what_is_said_names_the_reason_and_what_to_do(text: str, kind: type, said: str, hint: str) -> None:
    error = Place(SHOWN, "ada", "queuectl").unreachable(psycopg.OperationalError(text))
    assert (type(error), error.message, error.hint) == (kind, f"{SHOWN}: {said}", hint)


@pytest.mark.parametrize(
    "said", ["the database system is starting up", "server closed the connection unexpectedly", ""]
)
def test_what_will_pass_is_to_be_tried_again(said: str) -> None:
    error = Place(SHOWN, "ada", "queuectl").unreachable(psycopg.OperationalError(f"{AT}FATAL:  {said}"))
    assert type(error) is StoreUnavailable
    assert error.message.startswith(f"{SHOWN} cannot be reached: {said}")
    assert error.hint == "try again later"
