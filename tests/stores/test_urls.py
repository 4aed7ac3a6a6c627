"""URLs of every driver: how they are parsed, which are refused and why, and that no part of a password is printed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, SHUT_RDWR, SHUT_WR, create_connection, socket
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from cli.conftest import CommandLine
from cli.mongo import MongoPlace
from queuectl import bootstrap
from queuectl.domain.query import Filter
from queuectl.errors import InvalidInput, StoreUnavailable
from queuectl.store.mongo.address import identity as identity_of_mongo
from queuectl.store.postgres.address import identity as identity_of_postgres
from queuectl.store.postgres.address import parse as parse_postgres
from queuectl.store.redis.address import identity as identity_of_redis
from queuectl.store.redis.address import parse as parse_redis
from servers.endpoint import free_port
from servers.mongo import MongoServer
from stores.conftest import WORDS, Site
from stores.rows import DRIVERS, ENCODE, MIXED, PORT, SCHEME, each, refusal, told

SECRETS = ("s3cret", "secret", "sesame", "cret@")
IN_PASSWORD = "; in a password, # is written %23, @ %40, / %2F, % %25"
HINTS = {
    "postgres": f"write postgresql://user:password@host:5432/database{IN_PASSWORD}",
    "mongodb": f"write mongodb://user:password@host:27017/database{IN_PASSWORD}",
    "redis": f"write redis://user:password@host:6379/0{IN_PASSWORD}",
}
SLASH, HASH, TWICE = "it contains a / before the @", "it contains a #", "it contains more than one @"
PAIRS, AGAIN = "the part after the ? must be name=value&name=value", "an option is given twice"
QUESTION, IPV6 = "it contains a ? before the @", "an address that contains : must stand in brackets: [::1]"
NO_USER, NO_HOST = "it names no user before the @", "it names no host"
DATABASE = "the path must be the number of a database"

MALFORMED: dict[str, list[tuple[str, str]]] = {
    "postgres": [
        ("postgresql://ada:s3cret@h:port/jobs", PORT),
        ("postgresql://ada:s3cret@h:99999/jobs", PORT),
        ("postgresql://ada:s3cret@h/jobs?port=x", PORT),
        ("postgresql://ada:s3cret#x@h/jobs", HASH),
        ("postgresql://ada:x@s3cret@h/jobs", TWICE),
        ("postgresql://ada:s3cret/x@h/jobs", SLASH),
        ("postgresql://ada:12/s3cret@h/jobs", SLASH),
        ("postgresql://ada:12?s3cret=x@h/jobs", MIXED),
        ("postgresql://ada:x?s3cret@h/jobs", MIXED),
        ("postgresql://ada:s3cret%x@h/jobs", ENCODE),
        ("postgresql://ada:s3cret%00@h/jobs", ENCODE),
        ("postgresql://ada:s3cret[@h/jobs", ENCODE),
        ("postgresql://ada:s3cret℀@h/jobs", ENCODE),
        ("postgresql:/ada:s3cret@h/jobs", SCHEME),
        ("postgresql:ada:s3cret@h/jobs", SCHEME),
        ("postgresql:", SCHEME),
        ("postgresql://u:secret@[h/d", ENCODE),
        ("postgresql://u:secret@h/d?x", PAIRS),
    ],
    "mongodb": [
        ("mongodb://ada:s3cret@h:port/jobs", PORT),
        ("mongodb://ada:s3cret@h:99999/jobs", PORT),
        ("mongodb://ada:s3cret@h:0/jobs", PORT),
        ("mongodb://ada:s3cret@h:/jobs", PORT),
        ("mongodb://ada:s3cret@h,g:x/jobs", PORT),
        ("mongodb+srv://ada:s3cret@h.example.net:27017/jobs", "mongodb+srv takes no port"),
        ("mongodb://ada:s3cret#x@h/jobs", HASH),
        ("mongodb://ada:x@s3cret@h/jobs", TWICE),
        ("mongodb://ada:s3cret/x@h/jobs", SLASH),
        ("mongodb://ada:12/s3cret@h/jobs", SLASH),
        ("mongodb://ada:12?s3cret=x@h/jobs", MIXED),
        ("mongodb://ada:x?s3cret@h/jobs", MIXED),
        ("mongodb://ada:x:s3cret@h/jobs", "it contains more than one : before the @"),
        ("mongodb://ada:s3cret%x@h/jobs", ENCODE),
        ("mongodb://ada:s3cret%@h/jobs", ENCODE),
        ("mongodb://ada:s3cret%00@h/jobs", ENCODE),
        ("mongodb://ada:s3cret x@h/jobs", ENCODE),
        ("mongodb://:s3cret@h/jobs", NO_USER),
        ("mongodb://@h/jobs", NO_USER),
        ("mongodb://ada:s3cret@/jobs", NO_HOST),
        ("mongodb://ada:s3cret@h,,g/jobs", NO_HOST),
        ("mongodb:///jobs", NO_HOST),
        ("mongodb://", NO_HOST),
        ("mongodb://ada:s3cret@::1/jobs", IPV6),
        ("mongodb://ada:s3cret@[::1/jobs", IPV6),
        ("mongodb:/ada:s3cret@h/jobs", SCHEME),
        ("mongodb:ada:s3cret@h/jobs", SCHEME),
        ("mongodb:", SCHEME),
        ("mongodb://ada:s3cret@h/jobs?tls", PAIRS),
        ("mongodb://ada:s3cret@h/jobs?tls=true&TLS=false", AGAIN),
        ("mongodb://u:x/d?w=secret@h/d", QUESTION),
        ("mongodb://u:x/d?listen=secret@h/d", QUESTION),
        ("mongodb://u:x/d?timeoutMS=secret@h", QUESTION),
        ("mongodb://u:secret@secret@h/d", TWICE),
    ],
    "redis": [
        ("redis:h", SCHEME),
        ("redis:", SCHEME),
        ("redis:/ada:s3cret@h/0", SCHEME),
        ("redis:ada:s3cret@h/0", SCHEME),
        ("redis://:open#sesame@h", HASH),
        ("redis://:open@sesame@h", TWICE),
        ("redis://:open/sesame@h", SLASH),
        ("redis://:open?sesame=x@h", MIXED),
        ("redis://:open?sesame@h", MIXED),
        ("redis://:open%sesame@h", ENCODE),
        ("redis://:open sesame@h", ENCODE),
        ("redis://:open\nsesame@h", ENCODE),
        ("redis://:open[sesame@h", ENCODE),
        ("redis://%2Ftmp%2Fsesame", "its host contains a %"),
        ("redis://h:sesame", PORT),
        ("redis://h:0", PORT),
        ("redis://h:65536", PORT),
        ("redis://h/sesame", DATABASE),
        ("redis://h/-1", DATABASE),
        ("redis://h/0/1", DATABASE),
        (f"redis://h/{'9' * 5000}", DATABASE),
        ("redis://h/0?listen", PAIRS),
        ("redis://h/0?listen=no&listen=auto", AGAIN),
        ("redis://h/0?name=a&name=a", AGAIN),
        *((f"redis://ada:s3cret@h{rest}", why) for rest, why in (
            (":port/0", PORT), (":99999/0", PORT), (":0/0", PORT), ("/jobs", DATABASE), ("/-1", DATABASE),
            ("/0/1", DATABASE), ("/0?listen", PAIRS),
        )),
        ("redis://ada:s3cret#x@h/0", HASH),
        ("redis://ada:x@s3cret@h/0", TWICE),
        ("redis://ada:s3cret/x@h/0", SLASH),
        ("redis://ada:x?s3cret@h/0", MIXED),
        ("redis://ada:s3cret[@h/0", ENCODE),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "url", "why"), each(MALFORMED))
def test_a_malformed_url_is_refused_with_the_reason(kind: str, url: str, why: str) -> None:
    error = refusal(url, InvalidInput)
    assert (error.message, error.hint) == (f"the store's URL cannot be read: {why}", HINTS[kind])
    assert not [word for word in SECRETS if word in told(error)]


ONE_OF_EACH = {kind: rows[:1] for kind, rows in MALFORMED.items()}


@pytest.mark.parametrize(("kind", "url", "why"), each(ONE_OF_EACH))
def test_the_command_line_ends_with_2_and_one_line(
    queuectl: CommandLine, kind: str, url: str, why: str
) -> None:
    url = url.replace("redis:h", "redis:s3cret@h")
    message = f"the store's URL cannot be read: {why}"
    error = queuectl.json("--store", url, "-v", "status", code=2)["error"]
    assert error == {"code": "invalid_input", "message": message, "hint": HINTS[kind]}
    assert "s3cret" not in queuectl.err
    assert queuectl("--store", url, "status", code=2) == ""
    assert queuectl.err == f"queuectl: {message} ({HINTS[kind]})\n"


NO_NAME = "the name in the store's URL cannot be the name of a queue"
NAMES = "use letters, digits, _, - and ., at most 63, and begin with a letter or a digit"
SCHEMAS = "use letters, digits and _, at most 50, not a digit first, and not pg_ first"
DATABASES = "use letters, digits, _ and -, at most 38"
KNOWN = "known: name, listen, durability, archive"
LISTEN, LISTENS = "the value of listen in the store's URL is unknown", "write listen=auto or listen=no"
AFTER = "look at the options after the ? of the URL"
NO_MONGO, BEGIN = "the archive in the store's URL is not a MongoDB URL", "it must begin with mongodb://"


def unknown(name: str = "") -> str:
    """The message about an option that does not exist; without a name, the one that does not repeat it."""
    return f"{f'the option {name!r}' if name else 'an option'} in the store's URL is unknown"


def schema(name: str) -> tuple[str, str, str]:
    return (
        f"postgresql://ada:s3cret@h/d?schema={quote(name)}",
        f"{name!r} cannot be the name of a schema",
        SCHEMAS,
    )


def mongo_database(name: str, shown: str = "") -> tuple[str, str, str]:
    said = f"{shown or name!r} cannot be the name of the queue's database"
    return f"mongodb://ada:s3cret@h/{name.replace(' ', '%20')}", said, DATABASES


def reserved(name: str) -> tuple[str, str, str]:
    hint = f"name another database; if {name} knows the user: mongodb://…/jobs?authSource={name}"
    return (
        f"mongodb://ada:s3cret@h/{name}",
        f"{name!r} is MongoDB's own database and cannot hold a queue",
        hint,
    )


def weaker(option: str, meant: str) -> tuple[str, str, str]:
    said = f"{option} in the store's URL would weaken queuectl's guarantees"
    return (
        f"mongodb://ada:s3cret@h/jobs?appName=x&{option}",
        said,
        f"leave it out: queuectl always uses {meant}",
    )


def fixed(option: str) -> tuple[str, str, str]:
    said = f"{option.partition('=')[0]} in the store's URL cannot be set"
    return f"mongodb://ada:s3cret@h/jobs?{option}", said, "leave it out: queuectl sets it for each call"


def senseless(option: str, said: str) -> tuple[str, str, str]:
    return f"mongodb://ada:s3cret@h/jobs?{option}", f"mongodb://ada@h/jobs: {said}", AFTER


def libpq(option: str, said: str) -> tuple[str, str, str]:
    return (
        f"postgresql://ada:s3cret@127.0.0.1:1/jobs?{option}",
        f"postgresql://ada@127.0.0.1:1/jobs: {said}",
        AFTER,
    )


UNFIT: dict[str, list[tuple[str, str, str]]] = {
    "postgres": [
        ("postgresql://ada:s3cret@h/jobs?sslmood=require", unknown("sslmood"), "did you mean sslmode?"),
        ("postgresql://ada:x/y?s3cret=%40h", unknown(), "did you mean sslcert?"),
        ("postgresql://u:secret@h/d?listen=maybe", LISTEN, LISTENS),
        *map(schema, ["a-b", "a b", "pg_mine", "1st", "", 'a"b', "s" * 51, "schéma"]),
        libpq("sslmode=sure", 'invalid sslmode value: "sure"'),
        libpq("connect_timeout=soon", "bad value for connect_timeout: 'soon'"),
        libpq("keepalives_idle=x", 'invalid integer value "x" for connection option "keepalives_idle"'),
    ],
    "mongodb": [
        *(weaker(*row) for row in (
            ("w=1", "w=majority"), ("w=0", "w=majority"), ("W=2", "W=majority"), ("journal=false", "journal=true"),
            ("j=0", "j=true"), ("J=False", "J=true"), ("j=false", "j=true"),
            ("readPreference=secondary", "readPreference=primary"),
            ("READPREFERENCE=nearest", "READPREFERENCE=primary"),
            ("readpreference=primaryPreferred", "readpreference=primary"),
            ("retryWrites=false", "retryWrites=true"), ("RETRYREADS=false", "RETRYREADS=true"),
        )),
        *map(fixed, [
            "timeoutMS=1", "TIMEOUTMS=1", "timeoutMS=5", "socketTimeoutMS=1", "connectTimeoutMS=1",
            "serverSelectionTimeoutMS=1", "wTimeoutMS=1", "fsync=true", "readConcernLevel=snapshot",
            "datetime_conversion=datetime_ms",
        ]),
        *(senseless(*row) for row in (
            ("foo=1", "Unknown option: foo"),
            ("replicaset_=x", "Unknown option: replicaset_"),
            ("tls=maybe", "The value of tls must be 'true' or 'false'"),
            ("heartbeatFrequencyMS=1", "heartbeatFrequencyMS cannot be less than 500.0"),
            ("tlsCAFile=/nowhere.pem&tls=true", "[Errno 2] No such file or directory: '/nowhere.pem'"),
            ("tls=true&ssl=false", "Can not specify conflicting values for URI options ssl and tls"),
        )),
        ("mongodb://g,h/jobs?directConnection=true",
         "mongodb://g,h/jobs: Cannot specify multiple hosts with directConnection=true", AFTER),
        *map(mongo_database, ["a b", "a.b", "a$b", "jöbs", "x" * 39, "d" * 39]),
        mongo_database("a%2Fb", "a/b"),
        *map(reserved, ["admin", "local", "config", "Admin"]),
        *((f"mongodb://u:secret@h/jobs?listen={value}", LISTEN, LISTENS) for value in ("yes", "", "never", "maybe")),
    ],
    "redis": [
        ("redis://h/0?arhive=mongodb", unknown("arhive"), "did you mean archive?"),
        ("redis://h/0?arhive=mongodb://u:s3cret@m", unknown(), "did you mean archive?"),
        ("redis://ada@h/0?arhive=mongodb%3A%2F%2Fu%3As3cret%40h%2Fpast", unknown(), "did you mean archive?"),
        ("redis://u:1/2?s3cret=3@h", unknown(), KNOWN),
        ("redis://:word@h/0?nome=x", unknown("nome"), "did you mean name?"),
        ("redis://ada@h/0?password=s3cret", unknown("password"), KNOWN),
        ("redis://h?db=3", unknown("db"), "the number of a database is the path: redis://host/3"),
        ("redis://h/0?Durability=fast", unknown("Durability"), "did you mean durability?"),
        ("redis://h/0?ssl_cert_reqs=none", unknown("ssl_cert_reqs"), KNOWN),
        ("redis://h/0?durability=s3cret", "the value of durability in the store's URL is unknown",
         "write durability=power-safe or durability=fast"),
        ("redis://ada:s3cret@h/0?durability=slow", "the value of durability in the store's URL is unknown",
         "write durability=power-safe or durability=fast"),
        ("redis://h/0?listen=s3cret", LISTEN, LISTENS),
        ("redis://ada@h/0?listen=mongodb%3A%2F%2Fu%3As3cret%40h", LISTEN, LISTENS),
        ("redis://h/0?archive=postgres://u:s3cret@m", NO_MONGO, BEGIN),
        ("redis://h/0?archive=", NO_MONGO, BEGIN),
        ("redis://h/0?archive=mongodb://u:word&s3cret=rd%40h/a", unknown(), KNOWN),
        ("redis://h/0?s3cret=x&archive=mongodb://m", unknown(), KNOWN),
        ("redis://h/0?nome=a&s3cret=rd%40h", unknown(), "did you mean name?"),
        ("redis://h/0?name=a%20b", NO_NAME, NAMES),
        ("redis://ada:s3cret@h/0?name={x}", NO_NAME, NAMES),
        ("redis://h/0?name=", NO_NAME, NAMES),
        ("redis://h/0?name=-a", NO_NAME, NAMES),
        ("redis://ada:s3cret@h/0?name=a%20b", NO_NAME, NAMES),
        ("redis://ada:s3cret@h/0?name=", NO_NAME, NAMES),
        ("redis://ada:s3cret@h/0?listen=yes", LISTEN, LISTENS),
        ("redis://ada@h/0?arhive=mongodb://u:s3cret@h/past", unknown(), "did you mean archive?"),
        ("redis://h/0?name=s3cret@host", NO_NAME, NAMES),
        (f"redis://h/0?name={'n' * 64}", NO_NAME, NAMES),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "url", "message", "hint"), each(UNFIT))
def test_an_invalid_option_or_name_is_refused(
    kind: str, url: str, message: str, hint: str, recwarn: pytest.WarningsRecorder
) -> None:
    error = refusal(url, InvalidInput)
    assert (error.message, error.hint) == (message, hint)
    assert not [word for word in SECRETS if word in told(error)]
    assert not recwarn.list


UNFIT_ARCHIVES = (
    "postgresql://u:s3cret@h/past", "redis://u:s3cret@h/0", "s3cret", "", "mongodb:u:s3cret@h", "mongodb://u:s3/cret@h/past",
    "mongodb://u:s3cret@h:x/past", "mongodb://u:s3cret@h/admin", "mongodb://u:s3cret@h/past?w=1",
)  # fmt: skip


@pytest.mark.parametrize("archive", UNFIT_ARCHIVES)
def test_an_invalid_archive_is_refused(queuectl: CommandLine, archive: str) -> None:
    is_two(queuectl, f"redis://ada@h/0?archive={quote(archive, safe='')}")
    assert "archive" in queuectl.err


def test_an_archive_with_an_unencoded_ampersand_is_refused(queuectl: CommandLine) -> None:
    is_two(queuectl, "redis://h/0?archive=mongodb://u:s3cret@h/past?authSource=admin&tls=true")


def is_two(queuectl: CommandLine, url: str) -> None:
    """The command line refuses the URL with a hint and without a secret."""
    error = queuectl.json("--store", url, "-v", "status", code=2)["error"]
    assert (error["code"], bool(error["hint"])) == ("invalid_input", True)
    said = queuectl.err
    assert queuectl("--store", url, "status", code=2) == ""
    assert queuectl.err == f"queuectl: {error['message']} ({error['hint']})\n"
    assert [word for word in ("s3cret", "cret@") if word in said + queuectl.err] == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("host=h user=ada password=s3cret", "the store is not a URL: it must begin with a scheme"),
        ("//ada:s3cret@h/jobs", "the store is not a URL: it must begin with a scheme"),
        ("ada:s3cret@h/jobs", "unknown store scheme 'ada'"),
        ("mysql://ada:s3cret@h/jobs", "unknown store scheme 'mysql'"),
        ("POSTGRESQL://ada:s3cret@h/jobs", "unknown store scheme 'POSTGRESQL'"),
    ],
)
def test_a_url_with_an_unknown_scheme_is_refused(url: str, message: str) -> None:
    error = refusal(url, InvalidInput)
    assert error.message == message
    assert "s3cret" not in told(error)


SHOWN: dict[str, list[tuple[str, str]]] = {
    "postgres": [
        ("postgresql://u:secret@h:5433/d", "postgresql://u@h:5433/d"),
        ("postgres://u:secret@h/d", "postgresql://u@h/d"),
        ("postgresql://h/d?schema=other", "postgresql://h/d?schema=other"),
        ("postgresql://h/d?schema=queuectl", "postgresql://h/d"),
        ("postgresql:///d?host=/run/postgresql&user=u&password=secret", "postgresql://u@/run/postgresql/d"),
        ("postgresql://u:secret@h1:1,h2:2/d?sslmode=require", "postgresql://u@h1:1,h2:2/d"),
        ("postgresql://u:%2Fs%40crét@[::1]/d", "postgresql://u@[::1]/d"),
        ("postgresql://postgres.ref:secret@pool.example.com:6543/postgres?pgbouncer=true",
         "postgresql://postgres.ref@pool.example.com:6543/postgres"),
    ],
    "mongodb": [
        ("mongodb://u:secret@h:27018/d", "mongodb://u@h:27018/d"),
        ("mongodb://u:secret@h/d", "mongodb://u@h/d"),
        ("mongodb://h", "mongodb://h/queuectl"),
        ("mongodb://h/?replicaSet=rs", "mongodb://h/queuectl"),
        ("mongodb://u:secret@a:1,b:27017,c/d?tls=true", "mongodb://u@a:1,b,c/d"),
        ("mongodb+srv://u:s%2Fe%40cret@cluster.example.net/d", "mongodb+srv://u@cluster.example.net/d"),
        ("mongodb://u:secret@[::1]:27018/d", "mongodb://u@[::1]:27018/d"),
        ("mongodb://h/d?w=majority&journal=true&listen=no", "mongodb://h/d"),
        ("mongodb://[::1]:27018,[::2],h/jobs", "mongodb://[::1]:27018,[::2],h/jobs"),
        ("mongodb://ada:s3cret@[fe80::1%25eth0]:27017/jobs", "mongodb://ada@[fe80::1%25eth0]/jobs"),
        ("mongodb://ada:s3cret@g:27017,h:1/?replicaSet=x", "mongodb://ada@g,h:1/queuectl"),
        ("mongodb://ada:s3cret@h?replicaSet=x", "mongodb://ada@h/queuectl"),
        ("mongodb://a%40b:s3cret@h", "mongodb://a%40b@h/queuectl"),
        ("mongodb+srv://ada:s3cret@c.example.net/jobs", "mongodb+srv://ada@c.example.net/jobs"),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock/jobs", "mongodb://%2Ftmp%2Fmongodb-27017.sock/jobs"),
    ],
    "redis": [
        *((url, "redis://h/0") for url in (
            "redis://h", "redis://h/", "redis://h:6379/0", "redis://h/00", "redis://h/0?listen=auto",
        )),
        ("redis://a%40b:p%2F%40%3A%23%25%3F@h/0", "redis://a%40b@h/0"),
        ("redis://:sesame@[::1]/1", "redis://[::1]/1"),
        ("redis://:sesame@[::1]:7000/1", "redis://[::1]:7000/1"),
        ("redis://:sesame@[fe80::1%25eth0]/1", "redis://[fe80::1%eth0]/1"),
        ("redis://h/2?name=n&archive=mongodb://m", "redis://h/2?name=n&archive=mongodb://m/queuectl"),
        *((f"redis://:sesame@h/0?archive={quote(archive, safe='')}", f"redis://h/0?archive={shown}")
          for archive, shown in (
            ("mongodb://m/past", "mongodb://m/past"),
            ("mongodb://m", "mongodb://m/queuectl"),
            ("mongodb://ada:sesame@m:1,n:2/past?replicaSet=rs", "mongodb://ada@m:1,n:2/past"),
            ("mongodb+srv://ada:sesame@m/past", "mongodb+srv://ada@m/past"),
            ("mongodb://ada:sesame/x@m/past", "mongodb:…"),
            ("mongodb://ada:x@sesame@m/past", "mongodb:…"),
            ("mongodb://ada:x?sesame@m/past", "mongodb:…"),
            ("mongodb://ada:x#sesame@m/past", "mongodb:…"),
        )),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "url", "shown"), each(SHOWN))
def test_the_shown_url_names_the_queue_and_no_password(kind: str, url: str, shown: str) -> None:
    assert bootstrap.shown(url) == shown
    assert not [word for word in SECRETS if word in shown]


IDENTITIES = {"postgres": identity_of_postgres, "mongodb": identity_of_mongo, "redis": identity_of_redis}
PLACES: dict[str, list[tuple[list[str], list[str]]]] = {
    "postgres": [
        (["postgresql://a:x@h:1/d", "postgres://b:y@h:1/d?listen=no&sslmode=disable"],
         [f"postgresql://{place}" for place in ("h:1/e", "h:2/d", "g:1/d", "h:1/d?schema=s", "?service=one",
                                                "?service=two", "ada@h:1/", "eve@h:1/")]),
    ],
    "mongodb": [
        (["mongodb://a:x@h:27017,G/d", "mongodb://b:y@g,h/d?listen=no&tls=true"],
         [f"mongodb://{place}" for place in ("h,g/e", "h:2,g/d", "h/d", "h,g")]),
    ],
    "redis": [
        (["redis://h/0", "rediss://ada:word@H:6379?listen=no&durability=fast&archive=mongodb://m/a", "redis://h",
          "redis://h/", "redis://h:6379/0", "redis://h/00", "redis://h/0?listen=auto", "redis://h/0?name=queuectl"],
         ["redis://i/0", "redis://h/1", "redis://h:6380/0", "redis://h/0?name=nightly"]),
        (["redis://[::1]/0", "redis://[::1]:6379"], ["redis://h"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "same", "others"), each(PLACES))
def test_two_urls_of_one_queue_have_one_identity(kind: str, same: list[str], others: list[str]) -> None:
    identity = IDENTITIES[kind]
    one = {identity(url) for url in same}
    assert len(one) == 1
    assert len({identity(url) for url in others} | one) == len(others) + 1


def test_the_variables_of_libpq_are_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "h")
    monkeypatch.setenv("PGPORT", "1")
    assert identity_of_postgres("postgresql:///d") == identity_of_postgres("postgresql://h:1/d")


def test_options_of_queuectl_are_not_passed_to_libpq() -> None:
    address = parse_postgres("postgresql://u:p%23@h/d?schema=s1&listen=no&sslmode=require&connection_limit=1")
    assert (address.schema, address.listens) == ("s1", False)
    parts = {"user": "u", "password": "p#", "host": "h", "dbname": "d", "sslmode": "require"}
    assert address.parts == parts


class TestRedisAddress:
    def test_the_shortest_url_has_all_defaults(self) -> None:
        address = parse_redis("redis://")
        assert (address.host, address.port, address.database, address.name) == (
            "localhost",
            6379,
            0,
            "queuectl",
        )
        assert (address.user, address.password, address.tls) == (None, None, False)
        assert (address.listens, address.fast, address.archive) == (True, False, None)
        assert address.tag == "{queuectl}"

    def test_every_part_of_a_url_is_parsed(self) -> None:
        own = "name=nightly&listen=no&durability=fast&archive=mongodb%3A%2F%2Fh%2Fa"
        address = parse_redis(f"rediss://ada:open-sesame@db.example:7000/3?{own}")
        assert (address.host, address.port, address.database, address.name) == (
            "db.example",
            7000,
            3,
            "nightly",
        )
        assert (address.user, address.password, address.tls) == ("ada", "open-sesame", True)
        assert (address.listens, address.fast, address.archive) == (False, True, "mongodb://h/a")

    def test_encoded_characters_are_decoded(self) -> None:
        address = parse_redis("redis://a%40b:p%2F%40%3A%23%25%3F@h/0")
        assert (address.user, address.password) == ("a@b", "p/@:#%?")
        assert parse_redis("redis://:a:b@h").password == "a:b"

    @pytest.mark.parametrize(
        ("host", "meant"), [("[::1]", "::1"), ("[::1]:7000", "::1"), ("[fe80::1%25eth0]", "fe80::1%eth0")]
    )
    def test_an_ipv6_address_is_written_in_brackets(self, host: str, meant: str) -> None:
        assert parse_redis(f"redis://:open-sesame@{host}/1").host == meant

    def test_an_archive_without_options_needs_no_encoding(self) -> None:
        archive = "mongodb://ada:word@m/past"
        assert parse_redis(f"redis://h/0?archive={archive}").archive == archive
        assert parse_redis(f"redis://h/0?archive={quote(archive, safe='')}").archive == archive

    def test_an_archive_is_shown_without_loading_its_library(self) -> None:
        script = (
            "import sys; from queuectl.store.redis.address import parse;"
            "parse('redis://h/0?archive=mongodb://m').shown; assert 'pymongo' not in sys.modules"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


class TestMongoHosts:
    @pytest.mark.parametrize(
        "option",
        ["listen=no", "Listen=NO", "retryWrites=true&w=majority", "RETRYWRITES=true&W=majority&J=true",
         "appName=Cluster0", "minPoolSize=100", "maxPoolSize=1", "compressors=snappy,zlib", "readPreference=primary"],
    )  # fmt: skip
    def test_a_harmless_option_is_accepted(
        self, place: MongoPlace, recwarn: pytest.WarningsRecorder, option: str
    ) -> None:
        with closing(bootstrap.open_store(f"{place.url()}&{option}")) as store:
            assert store.counts(Filter()).total() == 0
        assert not recwarn.list

    def test_two_ipv6_hosts_are_tried(self) -> None:
        at = f"mongodb://[::1]:{free_port()},[::1]:{free_port()}/jobs"
        assert refusal(at, StoreUnavailable).message.startswith(f"{at} cannot be reached: ")

    def test_a_socket_leads_to_the_server(self, place: MongoPlace, queuectl: CommandLine) -> None:
        path = f"/tmp/queuectl-{place.name}.sock"  # the name of a socket must be short
        with _leading(path, place.server):
            url = place.url(host=path).replace(f":{place.server.port}", "")
            assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"
        assert queuectl("--store", place.url(), "show", "a")


@contextmanager
def _leading(path: str, server: MongoServer) -> Iterator[None]:
    """A socket in the file system that leads to a server: those of the tests have none of their own."""
    with socket(AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        Thread(target=_lead, args=(listener, server), daemon=True).start()
        try:
            yield
        finally:
            os.unlink(path)
            listener.shutdown(SHUT_RDWR)


def _lead(listener: socket, server: MongoServer) -> None:
    with suppress(OSError):
        while True:
            client = listener.accept()[0]
            other = create_connection((server.host, server.port))
            for pair in ((client, other), (other, client)):
                Thread(target=_pour, args=pair, daemon=True).start()


def _pour(source: socket, sink: socket) -> None:
    with suppress(OSError), source:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(SHUT_WR)


# Names of kinds of stores


BEGINS = {"postgres": "postgresql://", "mongodb": "mongodb://", "redis": "redis://"}
OTHERS: dict[str, list[str]] = {
    "postgres": ["mysql://ada:s3cret@h/jobs", "sqlite:///s3cret.db", '"postgresql://ada:s3cret@h/jobs"'],
    "mongodb": ["mysql://ada:s3cret@h/jobs", "sqlite:///s3cret.db", '"mongodb://ada:s3cret@h/jobs"'],
    "redis": ["http://ada:s3cret@h", "mongodb://ada:s3cret@h", "sqlite:///s3cret.db", '"redis://:s3cret@h"'],
}


@pytest.mark.parametrize(("kind", "url"), each(OTHERS))
def test_a_variable_with_the_url_of_another_store_is_refused(
    queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, kind: str, url: str
) -> None:
    monkeypatch.setenv(WORDS[kind], url)
    queuectl("--store", kind, "status", code=2)
    said = f"the store is {kind!r}, but {WORDS[kind]} holds the URL of another"
    assert queuectl.err == f"queuectl: {said} (it has to begin with {BEGINS[kind]})\n"
    assert not Path("s3cret.db").exists()


def test_an_archive_variable_with_the_url_of_another_store_is_refused(
    queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", "postgresql://ada:s3cret@h/past")
    queuectl("--store", "redis", "status", code=2)
    said = "the archive is 'mongodb', but MONGODB_URI holds the URL of another"
    assert queuectl.err == f"queuectl: {said} (it has to begin with mongodb://)\n"


def test_postgres_without_its_variable_is_refused(queuectl: CommandLine) -> None:
    queuectl("--store", "postgres", "status", code=2)
    said = "the store is 'postgres', but DATABASE_URL is not set (set DATABASE_URL to its URL)"
    assert queuectl.err == f"queuectl: {said}\n"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs of the stores that would be opened."""
    urls: list[str] = []

    def open_store(url: str, *_words: object, **_options: object) -> None:
        urls.append(url)
        raise InvalidInput("seen")

    monkeypatch.setattr("queuectl.bootstrap.open_store", open_store)
    return urls


PAST = "archive=mongodb%3A%2F%2Fm%2Fpast"


@pytest.mark.parametrize(
    ("word", "redis", "mongodb", "meant"),
    [
        ("mongodb", "", "", "mongodb://localhost:27017"),
        ("redis", "", "", "redis://localhost:6379"),
        ("redis", "redis://h/1", "", "redis://h/1"),
        ("redis", "", "mongodb://m/past", f"redis://localhost:6379?{PAST}"),
        ("redis", "rediss://h/1?name=x", "mongodb+srv://m/p?tls=true&w=majority",
         "rediss://h/1?name=x&archive=mongodb%2Bsrv%3A%2F%2Fm%2Fp%3Ftls%3Dtrue%26w%3Dmajority"),
        ("redis", "redis://h/1?archive=mongodb://own/p", "mongodb://m/past", "redis://h/1?archive=mongodb://own/p"),
        ("redis", "redis://:archive%3D@h/1", "mongodb://m/past", f"redis://:archive%3D@h/1?{PAST}"),
        ("redis", "redis://:archive=@h/1", "mongodb://m/past", f"redis://:archive=@h/1?{PAST}"),
    ],
)  # fmt: skip
def test_the_name_of_a_store_stands_for_the_urls_in_its_variables(
    queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, opened: list[str], word: str, redis: str, mongodb: str,
    meant: str,
) -> None:  # fmt: skip
    for variable, url in (("REDIS_URL", redis), ("MONGODB_URI", mongodb)):
        if url or word == "redis":
            monkeypatch.setenv(variable, url)
    queuectl("--store", word, "status", code=2)
    assert opened == [meant]


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("how", ["variables", "file"])
def test_the_urls_of_a_store_name_are_read_from_variables_or_dotenv(
    queuectl: CommandLine, site: Site, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    found = {"QUEUECTL_STORE": site.kind, **site.found}
    if how == "file":
        Path(".env").write_text("".join(f"{name}='{url}'\n" for name, url in found.items()))
    else:
        for name, url in found.items():
            monkeypatch.setenv(name, url)
    queuectl("enqueue", "--id", "a", "true")
    queuectl("cancel", "a")
    assert queuectl.json("--store", site.url, "show", "a")["job"]["state"] == "cancelled"
    checks: list[Any] = queuectl.json("doctor")["checks"]
    waiting = [check["detail"] for check in checks if check["name"] == "to_archive"]
    assert waiting == (["1"] if site.kind == "redis" else [])


# The library that is missing


WITHOUT = """
import sys
class Without:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "{library}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without)
"""
BINARY = "couldn't import requested psycopg 'binary' implementation: No module named 'psycopg_binary'"
LIBRARIES: dict[str, list[tuple[str, str, str]]] = {
    "postgres": [
        ("postgresql://h/d", "psycopg", "No module named 'psycopg'"),
        ("postgresql://h/d", "psycopg_binary", BINARY),
    ],
    "mongodb": [
        ("mongodb://h/d", "pymongo", "No module named 'pymongo'"),
        ("redis://h/0?archive=mongodb%3A%2F%2Fm%2Fpast", "pymongo", "No module named 'pymongo'"),
    ],
    "redis": [("redis://h/0", "redis", "No module named 'redis'")],
}


@pytest.mark.parametrize(("kind", "url", "library", "why"), each(LIBRARIES))
def test_the_error_for_a_missing_library_has_the_command_to_install_it(
    queuectl: CommandLine, tmp_path: Path, kind: str, url: str, library: str, why: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT.format(library=library))
    path = os.pathsep.join((str(tmp_path), *sys.path))
    done = queuectl.process("--store", url, "status", PYTHONPATH=path, PSYCOPG_IMPL="binary")
    needed = library.partition("_")[0]
    hint = f"run: {sys.executable} -m pip install '{bootstrap.DRIVERS[kind]}'"
    said = f"this store needs {needed}, which cannot be loaded: {why} ({hint})"
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (5, "", f"queuectl: {said}\n")
