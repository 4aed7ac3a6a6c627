"""Original messages of servers, poolers and networks, and the errors of queuectl for these messages."""

from typing import Any

import psycopg
import pytest
from pymongo import errors as mongo
from redis._parsers.base import BaseParser

from queuectl.errors import (
    Conflict,
    InvalidInput,
    OutcomeUnknown,
    QueuectlError,
    StoreUnavailable,
    StoreUnusable,
)  # fmt: skip
from queuectl.store.mongo import address as mongo_address
from queuectl.store.mongo.faults import MongoTranslator
from queuectl.store.postgres.faults import ConnectionLost, PostgresTranslator
from queuectl.store.redis import address as redis_address
from queuectl.store.redis.faults import RIGHTS, RedisTranslator
from stores.rows import DRIVERS, each

LATER = "try again later"
PASSWORD = "look at user and password; in the URL, special characters are written as %XX"
ROUTE = "is that host up, and does its firewall let this one in? look at host and port"
FAR = "this host has no route to that network; an address that contains : needs IPv6"
RESET = f"the server or a firewall closed the connection; {LATER}"
AWAY = "cannot be reached: "

AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '
RUNS = "\n\tIs the server running on that host and accepting TCP/IP connections?"
NO_ENTRY = 'no pg_hba.conf entry for host "10.0.0.2", user "ada", database "jobs", '
CLIENTS = "end idle clients, raise that limit, or put PgBouncer in between"

GRANT = "let an administrator run: ACL SETUSER ada"
COMMANDS, KEYS, CHANNELS = f"{GRANT} {RIGHTS}", f"{GRANT} '~{{jobs}}*'", f"{GRANT} '&{{jobs}}*'"
REPLICA = (
    "the server has become a read-only replica: try again later; if it stays one, connect to the primary"
)
MEMORY = "raise maxmemory, or delete jobs: queuectl purge --older-than 1d"
MIGRATING = "the queue moves to another node of the cluster; try again later"
IN_SCRIPT = "Error running script (call to f_d32b27d5cef39335eae387): @user_script:1: @user_script: 1: "

RIGHT = 'let an administrator run: db.getSiblingDB("admin").grantRolesToUser("ada", [{role: "readWrite", db: "jobs"}])'

SAID: dict[str, list[tuple[Any, type[QueuectlError], str | None, str | None]]] = {
    "postgres": [
        (f"{AT}FATAL:  {NO_ENTRY}SSL encryption\n{AT}FATAL:  {NO_ENTRY}no encryption", StoreUnusable,
         f"{NO_ENTRY}SSL encryption",
         "the server's pg_hba.conf must let ada in from this host; it may require sslmode=require in the URL"),
        (f"{AT}FATAL:  sorry, too many clients already", StoreUnavailable, "sorry, too many clients already", CLIENTS),
        (f"{AT}FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
         StoreUnavailable,
         "remaining connection slots are reserved for roles with the SUPERUSER attribute", CLIENTS),
        (f'{AT}FATAL:  too many connections for database "jobs"', StoreUnavailable,
         'too many connections for database "jobs"', CLIENTS),
        (f"{AT}FATAL:  no more connections allowed (max_client_conn)", StoreUnavailable,
         "no more connections allowed (max_client_conn)", CLIENTS),
        (f"{AT}FATAL:  MaxClientsInSessionMode: max clients reached", StoreUnavailable,
         "MaxClientsInSessionMode: max clients reached", CLIENTS),
        (f"{AT}FATAL:  Tenant or user not found", StoreUnusable, "Tenant or user not found",
         "look at the user (for a pooler: user.project) and the host"),
        (f'{AT}FATAL:  role "ada" does not exist', StoreUnusable, 'role "ada" does not exist',
         "look at the user, or let an administrator create it, for example: CREATE ROLE ada LOGIN PASSWORD 'secret'"),
        (f'{AT}FATAL:  database "jobs" is not currently accepting connections', StoreUnusable,
         'database "jobs" is not currently accepting connections',
         "let an administrator run: ALTER DATABASE jobs ALLOW_CONNECTIONS true"),
        (f'{AT}root certificate file "/root.crt" does not exist\nEither provide it, or change sslmode.', StoreUnusable,
         'root certificate file "/root.crt" does not exist', "add sslrootcert=FILE to the URL, or sslrootcert=system"),
        (f"{AT}SSL error: certificate verify failed", StoreUnusable,
         "cannot be reached: SSL error: certificate verify failed", "look at sslmode in the URL"),
        (f"{AT}Connection timed out{RUNS}", StoreUnavailable, "cannot be reached: Connection timed out", ROUTE),
        (f"{AT}No route to host{RUNS}", StoreUnavailable, "cannot be reached: No route to host", ROUTE),
        (f"{AT}Network is unreachable{RUNS}", StoreUnavailable, "cannot be reached: Network is unreachable",
         FAR),
        ("connection timeout expired\nMultiple connection attempts failed. All failures were:\n- host: 'a': …",
         StoreUnavailable, "cannot be reached: connection timeout expired", ROUTE),
        ('connection is bad: invalid gssencmode value: "x"', InvalidInput, 'invalid gssencmode value: "x"',
         "look at the options after the ? of the URL"),
        *(
            (f"{AT}FATAL:  {said}", StoreUnavailable, f"cannot be reached: {said}", LATER)
            for said in ("the database system is starting up", "server closed the connection unexpectedly", "")
        ),
        ('connection failed: connection to server at "10.0.0.1", port 5432 failed: Connection reset by peer',
         StoreUnavailable, "cannot be reached: Connection reset by peer", RESET),
    ],
    "mongodb": [
        (mongo.OperationFailure("Authentication failed.", 18), StoreUnusable, "Authentication failed",
         f'look at user, password and authSource (now "admin"); {PASSWORD.partition("; ")[2]}'),
        (mongo.OperationFailure("not authorized on jobs to execute command { find: \"s3cret\" }", 13), StoreUnusable,
         "not authorized on jobs to execute command find", RIGHT),
        (mongo.OperationFailure("not primary", 10107), StoreUnusable, "not primary",
         "connect to the primary: name the replica set's members and replicaSet=NAME"),
        (mongo.OperationFailure("BSONObj size is too large", 10334), InvalidInput, "BSONObj size is too large",
         "make the job smaller: with its history it must fit into 16 MiB"),
        (mongo.OperationFailure("out of disk", 14031), StoreUnavailable, "out of disk",
         "free some space on the server and try again"),
        (mongo.OperationFailure("bad option", 72), StoreUnusable, "bad option", "look at the server's settings"),
        (mongo.OperationFailure("E11000", 11000), Conflict, "E11000", "this is a fault of queuectl; please report it"),
        (mongo.OperationFailure("mechanism PLAIN", 334), StoreUnusable, "mechanism PLAIN",
         "look at authMechanism in the URL"),
        (mongo.OperationFailure("db exists as Jobs", 13297), StoreUnusable, "db exists as Jobs",
         "look at the name of the database: its case matters"),
        (mongo.OperationFailure("is a view", 166), StoreUnusable, "is a view",
         "the database contains collections of another program: name another database in the URL"),
        (mongo.OperationFailure("exceeded time limit", 50), StoreUnavailable, "exceeded time limit",
         "the server is busy; try again later"),
        (mongo.OperationFailure("something new", 99999), StoreUnavailable, "something new", LATER),
        (mongo.ConfigurationError("Server at h reports wire version 6, but this version of PyMongo requires 13"),
         StoreUnusable, None, "MongoDB 5.0 or later is needed"),
        (mongo.InvalidURI("bad. Did you mean one of (x)"), InvalidInput, "bad",
         "look at the options after the ? of the URL"),
        (mongo.InvalidOperation("Cannot use MongoClient after close"), StoreUnavailable, None, None),
        *((mongo.ServerSelectionTimeoutError(f"h:1: [Errno 1] {said} (configured timeouts: connectTimeoutMS: 1ms)"),
           StoreUnavailable, f"{AWAY}{said}", hint) for said, hint in (
            ("No route to host", ROUTE), ("Network is unreachable", FAR), ("Connection reset by peer", RESET),
            ("Nobody knows", LATER),
        )),
    ],
    "redis": [
        ("WRONGPASS invalid username-password pair or user is disabled.", StoreUnusable,
         "WRONGPASS invalid username-password pair or user is disabled", PASSWORD),
        ("NOAUTH Authentication required.", StoreUnusable, "NOAUTH Authentication required", PASSWORD),
        ("ERR AUTH <password> called without any password configured for the default user. Are you sure your "
         "configuration is correct?", StoreUnusable, None, "leave the password out of the URL"),
        ("NOPERM this user has no permissions to run the 'eval' command or its subcommand", StoreUnusable,
         "NOPERM this user has no permissions to run the 'eval' command or its subcommand", COMMANDS),
        ("NOPERM No permissions to access a key", StoreUnusable, "NOPERM No permissions to access a key", KEYS),
        ("NOPERM this user has no permissions to access one of the keys used as arguments", StoreUnusable, None, KEYS),
        ("NOPERM this user has no permissions to access one of the channels used as arguments", StoreUnusable, None,
         CHANNELS),
        ("ERR ACL failure in script: No permissions to access a channel script: on @user_script:1.", StoreUnusable,
         "ERR ACL failure in script: No permissions to access a channel", CHANNELS),
        (f"ERR {IN_SCRIPT}The user executing the script can't publish to the channel mentioned in the command",
         StoreUnusable, None, CHANNELS),
        ("DENIED Redis is running in protected mode because protected mode is enabled", StoreUnusable, None,
         "give the server a password, or set the hosts it may listen to (bind)"),
        ("ERR SELECT is not allowed in cluster mode", StoreUnusable, "ERR SELECT is not allowed in cluster mode",
         "a cluster has only the database 0: end the URL with /0"),
        ("ERR DB index is out of range", StoreUnusable, "ERR DB index is out of range",
         "look at the number after the / of the URL; a cluster has only /0"),
        (f"ERR {IN_SCRIPT}-OOM command not allowed when used memory > 'maxmemory'.", StoreUnavailable,
         "OOM command not allowed when used memory > 'maxmemory'", MEMORY),
        ("OOM command not allowed when used memory > 'maxmemory'. script: on @user_script:1.", StoreUnavailable,
         "OOM command not allowed when used memory > 'maxmemory'", MEMORY),
        ("READONLY You can't write against a read only replica.", StoreUnavailable,
         "READONLY You can't write against a read only replica", REPLICA),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", StoreUnavailable,
         "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'", REPLICA),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable,
         "NOREPLICAS Not enough good replicas to write",
         "fewer replicas are connected than min-replicas-to-write requires; try again later"),
        ("LOADING Redis is loading the dataset in memory", StoreUnavailable,
         "LOADING Redis is loading the dataset in memory", "the server reads its data from disk; try again later"),
        ("MISCONF Errors writing to the AOF file: No space left on device", StoreUnavailable,
         "MISCONF Errors writing to the AOF file: No space left on device",
         "the server cannot write to its disk: look at its free space and its log"),
        ("BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", StoreUnavailable,
         None, "another script runs there; try again later; if that script never ends, run: redis-cli SCRIPT KILL"),
        ("ERR Error running script (call to f_1): @user_script:1: Script killed by user with SCRIPT KILL...",
         StoreUnavailable, None, LATER),
        ("CLUSTERDOWN Hash slot not served", StoreUnavailable, "CLUSTERDOWN Hash slot not served",
         "a node of the cluster is down; find it with: redis-cli CLUSTER NODES; try again later"),
        ("ASK 3999 127.0.0.1:6381", StoreUnavailable, "ASK 3999 127.0.0.1:6381", MIGRATING),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable,
         "TRYAGAIN Multiple keys request during rehashing of slot", MIGRATING),
        ("MOVED 3999 127.0.0.1:6381", StoreUnavailable, "MOVED 3999 127.0.0.1:6381",
         "the nodes of the cluster disagree about where the queue is; try again later"),
        ("ERR max number of clients reached", StoreUnavailable, None, "end idle clients, or raise maxclients"),
        ("ERR unknown command `EVALSHA`, with args beginning with: `a`, ", StoreUnusable, None,
         "does Redis run there? look at host and port"),
        *((f"Error 1 connecting to h:1. {said}.", StoreUnavailable, f"{AWAY}{said}", hint) for said, hint in (
            ("No route to host", ROUTE), ("Network is unreachable", FAR), ("Connection reset by peer", RESET),
        )),
    ],
}  # fmt: skip

SHOWN = {
    "postgres": "postgresql://ada@db/jobs",
    "mongodb": "mongodb://ada@db/jobs",
    "redis": "redis://ada@db/0?name=jobs",
}


def translations(kind: str, said: Any) -> list[QueuectlError]:
    """Our errors for what a library raises: where it can come up in two places, both."""
    if kind == "postgres":
        translator = PostgresTranslator(SHOWN[kind], "ada", "queuectl")
        return [translator.unreachable(psycopg.OperationalError(said))]
    if kind == "mongodb":
        address = mongo_address.parse("mongodb://ada:word@db/jobs?authSource=admin")
        return [MongoTranslator(address).translate(said, [], wrote=False, changed=False)]
    redis = RedisTranslator(redis_address.parse("redis://ada:word@db/0?name=jobs"))
    error = BaseParser.parse_error(said)
    away = AWAY in f"{redis.unreachable(error).message}"
    return [redis.unreachable(error), *([] if away else [redis.refused(error)])]


@pytest.mark.parametrize(("kind", "said", "error", "reason", "hint"), each(SAID))
def test_the_error_names_the_store_the_reason_and_a_hint(
    kind: str, said: Any, error: type[QueuectlError], reason: str | None, hint: str | None
) -> None:
    for found in translations(kind, said):
        assert (type(found), found.hint) == (error, hint)
        if reason is not None:
            between = " " if reason.startswith(AWAY) else ": "
            assert found.message == f"{SHOWN[kind]}{between}{reason.removeprefix('ERR ')}"


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("writing", [True, False])
def test_a_lost_connection_is_unknown_after_a_write_and_repeatable_after_a_read(
    kind: str, writing: bool
) -> None:
    translator: Any = {
        "postgres": PostgresTranslator(SHOWN["postgres"], "ada", "queuectl"),
        "mongodb": MongoTranslator(mongo_address.parse("mongodb://ada:word@db/jobs")),
        "redis": RedisTranslator(redis_address.parse("redis://ada:word@db/0?name=jobs")),
    }[kind]
    found = translator.lost(writing=writing)
    if writing:
        said = f"{SHOWN[kind]} did not answer: it is unknown whether the change was made"
        assert (type(found), found.message, found.hint) == (
            OutcomeUnknown, said, "repeating the same command is safe",
        )  # fmt: skip
    else:
        error = ConnectionLost if kind == "postgres" else StoreUnavailable
        assert (type(found), found.message, found.hint) == (error, f"{SHOWN[kind]} does not answer", LATER)


def test_an_unknown_error_of_redis_is_shown_unchanged() -> None:
    text = "WRONGTYPE Operation against a key holding the wrong kind of value"
    found = RedisTranslator(redis_address.parse("redis://h")).refused(BaseParser.parse_error(text))
    assert (type(found), found.message) == (StoreUnusable, f"redis://h/0: Redis says: {text}")
