"""The only module that imports every driver. It opens the store that a URL names, and finds the directory with the
files of its workers."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from queuectl import config
from queuectl.errors import InvalidInput, QueuectlError, StoreAbsent, StoreError, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from queuectl.config import Settings
    from queuectl.service.local_queue import LocalQueue
    from queuectl.service.queue import Queue
    from queuectl.service.settings import Sources
    from queuectl.store.protocol import Store
    from queuectl.store.redis_archive.archive import Archive

POSTGRES = ("postgresql", "postgres")
MONGODB = ("mongodb", "mongodb+srv")
REDIS = ("redis", "rediss")
SCHEMES = ("sqlite", *POSTGRES, *MONGODB, *REDIS)
_SECRETIVE = ("password", "secret", "token", "properties")
"""An option of a URL whose name contains one of these words may contain a secret: `sslpassword`, for example."""
DRIVERS = {"postgres": "psycopg[binary]>=3.2", "mongodb": "pymongo>=4.9", "redis": "redis[hiredis]>=6"}
"""The requirements of each extra in pyproject.toml."""
SERVERS = ("http", "https", "http+unix")
"""Schemes of a `queuectl serve`, which is a queue, not a store."""


def default_url() -> str:
    """The URL of the default store: `sqlite:///$XDG_DATA_HOME/queuectl/queue.db`."""
    base = _user_directory("XDG_DATA_HOME", ".local/share")
    return f"sqlite:///{os.path.join(base, 'queuectl', 'queue.db')}"


def store_url(sources: "Sources") -> str:
    """The URL of the store that these settings name, absolute."""
    given = sources.given_url
    return default_url() if given is None else absolute(given)


def open_queue(
    sources: "Sources",
    missing: Literal["create", "empty", "raise"],
    *,
    patience: float = 10.0,
    created: Callable[[str], None] = lambda url: None,
    token: str | None = None,
    insecure_http: bool = False,
    via: str | None = None,
) -> "Queue":
    """The queue in the store that these settings name, or behind the server that they name.

    A server has created its store when it started. For a store see `open_local`. `token` is the token for the server;
    None: the one that is found as `credentials.find` says. `insecure_http` as for `open_remote`.
    """
    url = store_url(sources)
    if is_server(url):
        return open_remote(
            url, sources, patience=(patience, patience), token=token, insecure_http=insecure_http
        )
    if token is not None:
        raise InvalidInput("token: a store takes no token", "a token is for a server, https://…")
    return open_local(sources, missing, patience=patience, created=created, via=via)


def open_local(
    sources: "Sources",
    missing: Literal["create", "empty", "raise"],
    *,
    patience: float = 10.0,
    created: Callable[[str], None] = lambda url: None,
    via: str | None = None,
) -> "LocalQueue":
    """The queue in the store that these settings name.

    `missing` decides what happens if there is no store. `create`: reads find nothing, and the first enqueue creates
    the store and calls `created` with its URL. `empty`: reads find nothing. `raise`: the first call raises
    StoreAbsent. A queue with an archive is created in any case, because the archive may have jobs to show. `via` is the
    door that the events of this queue name.
    """
    from queuectl.service.local_queue import LocalQueue

    url = store_url(sources)
    store = open_store(url, sources.local, patience=patience, create=has_archive(url))
    if missing == "raise":
        return LocalQueue(store, sources, via=via)
    try:
        return LocalQueue(store, sources, entries=store.read_table("settings"), via=via)
    except StoreAbsent as absence:
        store.close()
        empty = empty_store(url, sources.local, absence)
    except StoreError:
        store.close()
        raise

    def create() -> "Store":
        made = open_store(url, sources.local, patience=patience)
        try:
            made.migrate()
        except QueuectlError:
            made.close()
            raise
        created(url)
        return made

    may = create if missing == "create" else None
    return LocalQueue(
        empty,
        sources,
        create=may,
        absent=True,
        own_clock=may is None or is_local(url),
        via=via,
    )


def join_transaction(
    sources: "Sources", connection: object, wait: "Callable[[Coroutine[Any, Any, Any]], Any] | None" = None
) -> "LocalQueue":
    """The queue inside the transaction of the caller's connection; its jobs are there when the caller commits.

    `wait` runs a coroutine for an asynchronous connection. Raises InvalidInput for a store without such transactions.
    """
    from typing import cast

    from queuectl.service.local_queue import LocalQueue

    url = store_url(sources)
    scheme = url.partition(":")[0]
    if scheme in POSTGRES:
        with _extra("postgres", "psycopg"):
            from queuectl.store.postgres import joined as in_postgres
        return LocalQueue(cast("Store", in_postgres.store(connection, url, wait)), sources, via="python")
    if scheme == "sqlite" and wait is None:
        from queuectl.store.sqlite import joined as in_sqlite

        return LocalQueue(cast("Store", in_sqlite.store(connection, sqlite_path(url))), sources, via="python")
    if scheme == "sqlite":
        raise InvalidInput(
            "connection: AsyncQueue takes none for a SQLite file",
            "use Queue, in the thread of the connection",
        )
    product = "a server" if scheme in SERVERS else "MongoDB" if scheme in MONGODB else "Redis"
    raise InvalidInput(
        f"connection: a job cannot join a transaction of {product}",
        "enqueue after the commit, with an id made of the key of the row",
    )


def open_remote(
    url: str,
    sources: "Sources",
    *,
    patience: tuple[float, float],
    token: str | None = None,
    insecure_http: bool = False,
    notice: Callable[[str], None] = lambda text: None,
) -> "Queue":
    """The queue behind the server with this URL. Nothing is sent before the first call.

    `patience` is how many seconds a call that reads, and one that changes something, tries to get an answer. `notice`
    gets a sentence when output that is followed breaks off. `insecure_http`: send the token to another host in clear.
    """
    from queuectl.http.client.address import address_of
    from queuectl.http.client.channel import Patience
    from queuectl.http.client.remote_queue import RemoteQueue

    return RemoteQueue(
        address_of(url),
        sources,
        patience=Patience(*patience),
        token=token,
        insecure_http=insecure_http,
        notice=notice,
    )


def is_server(url: str) -> bool:
    """Whether the URL is that of a `queuectl serve`."""
    return url.partition(":")[0] in SERVERS


def _user_directory(variable: str, below_home: str) -> str:
    base = config.user_directory(variable, below_home)
    if base is not None:
        return base
    wrong = variable if os.environ.get(variable) else "HOME"
    what = f"is {os.environ[wrong]!r}" if wrong in os.environ else "is not set"
    raise InvalidInput(
        f"{wrong} {what}, so there is no directory for your own files",
        f"set {variable} to an absolute path, or QUEUECTL_STORE to sqlite:////path/to/queue.db",
    )


def open_store(
    url: str, settings: "Settings | None" = None, patience: float = 10.0, *, create: bool = True
) -> "Store":
    """The store behind a URL, created at its first verb. Raises InvalidInput for an unknown scheme, otherwise
    StoreError.

    `patience` is how many seconds one call may wait for a busy store before it gives up. Without `create`, a store
    that does not exist is unavailable.
    """
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        return _sqlite(url, settings, patience, create)
    if scheme in POSTGRES:
        return _postgres(url, settings, patience, create)
    if scheme in MONGODB:
        return _mongo(url, settings, patience, create)
    if scheme in REDIS:
        return _redis(url, settings, patience, create)
    if scheme in SERVERS:
        raise InvalidInput(f"{scheme}://… is a server, not a store", f"a store is {', '.join(SCHEMES)}")
    known = f"known: {', '.join((*SCHEMES, *SERVERS))}; for instance sqlite:///queue.db"
    if not scheme.replace("+", "").isalnum():  # for example key=value pairs of libpq, with a password
        raise InvalidInput("the store is not a URL: it must begin with a scheme", known)
    raise InvalidInput(f"unknown store scheme {scheme!r}", known)


def empty_store(url: str, settings: "Settings", absence: StoreAbsent) -> "Store":
    """A store object in place of a store that does not exist yet. It is empty and refuses writes."""
    from queuectl.store.memory import EmptyStore
    from queuectl.store.protocol import Description, Durability

    if isinstance(absence.description, Description):
        return EmptyStore(absence.description)
    durability: Durability = "memory-safe" if settings.durability == "fast" else "power-safe"
    return EmptyStore(Description(url=shown(url), durability=durability, schema=0, details={}))


def shown(url: str) -> str:
    """A URL without its password. URLs are printed only in this form."""
    scheme = url.partition(":")[0]
    if scheme in POSTGRES:
        from queuectl.store.postgres import address as of_postgres

        return of_postgres.parse(url).shown
    if scheme in MONGODB:
        from queuectl.store.mongo import address as of_mongo

        return of_mongo.parse(url).shown
    if scheme in REDIS:
        from queuectl.store.redis import address as of_redis

        return of_redis.parse(url).shown
    if scheme in SERVERS:
        from queuectl.http.client.address import address_of

        return address_of(url).url
    return url


def _sqlite(url: str, settings: "Settings | None", patience: float, create: bool) -> "Store":
    from queuectl.store.sqlite import SqliteStore

    if settings is None:
        return SqliteStore(sqlite_path(url), patience=patience, create=create)
    interval = settings.save_interval_ms / 1000
    mode = settings.durability
    return SqliteStore(
        sqlite_path(url), durability=mode, save_interval=interval, patience=patience, create=create
    )


def _postgres(url: str, settings: "Settings | None", patience: float, create: bool) -> "Store":
    with _extra("postgres", "psycopg"):
        from queuectl.store.postgres import PostgresStore
    mode = settings.durability if settings else "power-safe"
    return PostgresStore(url, durability=mode, patience=patience, create=create)


def _mongo(url: str, settings: "Settings | None", patience: float, create: bool) -> "Store":
    with _extra("mongodb", "pymongo"):
        from queuectl.store.mongo import MongoStore
    mode = settings.durability if settings else "power-safe"
    return MongoStore(url, durability=mode, patience=patience, create=create)


def _redis(url: str, settings: "Settings | None", patience: float, create: bool) -> "Store":
    with _extra("redis", "redis"):
        from queuectl.store.redis import RedisStore
        from queuectl.store.redis import address as of_redis
    mode = settings.durability if settings else "power-safe"
    archive = of_redis.parse(url).archive
    if archive is None:
        return RedisStore(url, durability=mode, patience=patience, create=create)
    return _archived(url, archive, patience, durability=mode, create=create)


def _archived(url: str, archive: str, patience: float, **options: Any) -> "Store":
    """A queue with an archive. The archive is opened at its first use, because most commands do not need its driver."""
    from importlib.util import find_spec

    from queuectl.store.mongo import address as of_mongo
    from queuectl.store.redis_archive import ArchivedStore

    with _extra("mongodb", "pymongo"):
        if find_spec("pymongo") is None:
            raise ImportError("No module named 'pymongo'", name="pymongo")
    try:
        of_mongo.parse(archive)
    except InvalidInput as error:
        raise InvalidInput(f"archive=: {error.message}", error.hint) from error

    def open_archive() -> "Archive":
        from queuectl.store.redis_archive.archive import Archive

        return Archive(archive, patience)

    return ArchivedStore(url, open_archive, patience=patience, **options)


@contextmanager
def _extra(name: str, library: str) -> Iterator[None]:
    """Translate a failed import into an error of ours, because the libraries of network stores are optional."""
    try:
        yield
    except ImportError as error:
        if not (error.name or library).startswith(library):
            raise
        why = str(error).partition("\n")[0]
        raise StoreUnusable(
            f"this store needs {library}, which cannot be loaded: {why}", f"run: {_installs(name)}"
        ) from error


def _installs(name: str) -> str:
    """The command that installs the library of a store. It names the library: PyPI's `queuectl` is another project."""
    from shlex import quote

    return f"{quote(sys.executable)} -m pip install '{DRIVERS[name]}'"


def sqlite_path(url: str) -> str:
    """The file that a `sqlite:` URL names. `sqlite:////a/b` is an absolute path, `sqlite:///a/b` a relative one.

    `sqlite:///tmp/q.db` is often written for /tmp/q.db, so it means that file if only that directory exists.
    """
    if not url.startswith("sqlite:///") or url.endswith("/"):
        raise InvalidInput(f"{url!r} names no file", "write sqlite:///path/to/queue.db")
    path, question, _ = url.removeprefix("sqlite:///").partition("?")
    if question:
        raise InvalidInput(
            f"{url!r} has options after ?", "use flags or variables instead, such as --durability"
        )
    path = _expanded(path)
    rooted = "/" + path
    if not os.path.isabs(path) and not _has_directory(path) and _has_directory(rooted):
        path = rooted
    return os.path.abspath(path)


def _expanded(path: str) -> str:
    """The path with a leading `~` or `~user` replaced by the home directory."""
    if not path.startswith("~"):
        return path
    whose, _, rest = path.partition("/")
    home = config.user_directory("", "") if whose == "~" else os.path.expanduser(whose)
    if home is None or home == whose:
        raise InvalidInput(
            f"{whose} in the URL of the store is no home directory", "write sqlite:////path/to/queue.db"
        )
    return os.path.join(home, rest)


def absolute(url: str) -> str:
    """The URL of the same store for a process with another working directory."""
    return f"sqlite:///{sqlite_path(url)}" if is_local(url) else url


def carries_secret(url: str) -> bool:
    """Whether a URL has a password or a token, or may have one, so that it must not be shown needlessly."""
    if is_local(url):
        return False
    import re  # imported here, because short commands do not need it
    from urllib.parse import unquote

    text = unquote(unquote(url))  # unquoted twice, because the URL of an archive is quoted inside another URL
    plain_logins = re.findall(r"//[\w.+-]+@", text)
    options = text.partition("?")[2].lower()
    return len(plain_logins) != text.count("@") or any(word in options for word in _SECRETIVE)


def has_archive(url: str) -> bool:
    """Whether the store has an archive. An archive may contain jobs even if the queue does not exist yet."""
    return url.partition(":")[0] in REDIS and "archive=" in url.partition("?")[2]


def is_local(url: str) -> bool:
    """Whether the store is a file, so that all its workers are on this host."""
    return url.startswith("sqlite:")


def file_of(url: str) -> str | None:
    """The file of the store, or None for a server."""
    return os.path.realpath(sqlite_path(url)) if is_local(url) else None


def refuse_shared(url: str) -> None:
    """Raise StoreUnusable for a file that other users may write to, because a worker runs the commands in it."""
    if is_local(url):
        from queuectl.store.sqlite import directory

        directory.refuse_shared(os.path.realpath(sqlite_path(url)))


def worker_directory(url: str) -> str:
    """The directory with the slot files of this host's workers. All workers of a store on this host use the same one.

    For a database file the directory is beside the file, after links are resolved. For a server it is under
    `$XDG_STATE_HOME/queuectl`, named by the server's address. Workers of different users, or with two addresses of one
    server, use different directories, so they rely on the leases.
    """
    if is_local(url):
        return os.path.realpath(sqlite_path(url)) + "-workers"
    import hashlib  # imported here, because short commands do not need it

    base = _user_directory("XDG_STATE_HOME", ".local/state")
    name = hashlib.sha256(_identity(url).encode()).hexdigest()[:16]
    return os.path.join(base, "queuectl", f"workers-{name}")


def _identity(url: str) -> str:
    if url.partition(":")[0] in MONGODB:
        from queuectl.store.mongo import address as of_mongo

        return of_mongo.identity(url)
    if url.partition(":")[0] in REDIS:
        from queuectl.store.redis import address as of_redis

        return of_redis.identity(url)
    from queuectl.store.postgres import address as of_postgres

    return of_postgres.identity(url)


def _has_directory(path: str) -> bool:
    return os.path.isdir(os.path.dirname(path) or ".")
