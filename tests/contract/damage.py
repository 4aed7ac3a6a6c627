"""Damage by hand or by a bad disk: for each kind of store, edits that leave undecodable data."""

import json
from collections.abc import Callable
from typing import Any

import apsw

from contract.grounds import ArchivedGround, PostgresGround, RedisGround, SqliteGround
from factories import NOW
from queuectl.store.redis import rows

Edit = Callable[[Any, str], None]
"""Damages the job with this id, behind the store's back."""

TEXTS = {
    "no JSON": "[",
    "no attempts": '[{"attempt": "x"}]',
    "JSON of something else": '{"a": 1}',
    "nested without end": "[" * 100_000,
}
SPECS = {"no JSON": "{", "no command": "{}", "empty": "", "other types": '{"command": 1}'}


def sqlite(statement: str, *values: Any) -> Edit:
    """Run a statement on the row with `:id`, without constraints."""

    def edit(ground: SqliteGround, id: str) -> None:
        # The module `sqlite3` is not used: another copy of the library in this process would drop the locks of the
        # store's.
        connection = apsw.Connection(str(ground.path))
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, int("waiting_for" not in statement))
        connection.pragma("ignore_check_constraints", 1)
        connection.execute(statement, {"id": id, **{f"v{at}": value for at, value in enumerate(values)}})
        assert connection.changes() == 1
        connection.close()

    return edit


def _sqlite_column(column: str, value: Any) -> Edit:
    return sqlite(f"UPDATE job SET {column} = :v0 WHERE id = :id", value)


_SPEC = "UPDATE spec SET spec = :v0 WHERE number = (SELECT number FROM job WHERE id = :id)"
SQLITE: dict[str, Edit] = {
    **{f"history: {name}": _sqlite_column("history", text) for name, text in TEXTS.items()},
    **{f"spec: {name}": sqlite(_SPEC, text) for name, text in SPECS.items()},
    "spec: gone": sqlite("DELETE FROM spec WHERE number = (SELECT number FROM job WHERE id = :id)"),
    "run_at: beyond the calendar": _sqlite_column("run_at", 10**18),
    "run_at: before it": _sqlite_column("run_at", -(2**63)),
    "updated_at: beyond the calendar": _sqlite_column("updated_at", 2**63 - 1),
    "cancel_requested: no JSON": _sqlite_column("cancel_requested", "now!"),
    "cancel_requested: no request": _sqlite_column("cancel_requested", "{}"),
    "waiting_for: no JSON": sqlite("UPDATE job SET waiting_for = '[' WHERE id = :id"),
    "waiting_for: no names": _sqlite_column("waiting_for", "[1]"),
    "version: no room": _sqlite_column("version", 2**63 - 1),
    "attempts: no room": _sqlite_column("attempts", 2**63 - 1),
    "attempts: negative": _sqlite_column("attempts", -1),
    "last_error: no UTF-8": sqlite("UPDATE job SET last_error = CAST(x'ff00fe' AS TEXT) WHERE id = :id"),
    "state: none": _sqlite_column("state", "asleep"),
}


def postgres(statement: str, *values: Any) -> Edit:
    """One statement of an administrator, for the rows with `%(id)s`."""

    def edit(ground: PostgresGround, id: str) -> None:
        named = statement.replace("{s}", ground.schema)
        changed = 0
        for each in named.split(";"):
            changed += ground.admin.execute(
                each, {"id": id, **{f"v{at}": v for at, v in enumerate(values)}}
            ).rowcount
        assert changed == 1

    return edit


def _postgres_column(column: str, value: Any) -> Edit:
    one = f"UPDATE {{s}}.{{t}} SET {column} = %(v0)s WHERE number = (SELECT number FROM {{s}}.body WHERE id = %(id)s)"
    return postgres(";".join(one.replace("{t}", table) for table in ("live", "ended")), value)


_POSTGRES_SPEC = "UPDATE {s}.body SET spec = %(v0)s WHERE id = %(id)s"
POSTGRES: dict[str, Edit] = {
    **{f"history: {name}": _postgres_column("history", text) for name, text in TEXTS.items()},
    **{f"spec: {name}": postgres(_POSTGRES_SPEC, text) for name, text in SPECS.items()},
    "run_at: beyond the calendar": _postgres_column("run_at", 253402300799999999),
    "started_at: before the calendar": _postgres_column("started_at", -(2**63)),
    "cancel_requested: no JSON": _postgres_column("cancel_requested", "now!"),
    "cancel_requested: no request": _postgres_column("cancel_requested", "{}"),
    "waiting_for: no names": _postgres_column("waiting_for", "[1]"),
    "waiting_for: no list": _postgres_column("waiting_for", '{"a": 1}'),
    "history_dropped: negative": _postgres_column("history_dropped", -1),
}


def mongo(**values: Any) -> Edit:
    """Set these fields of a document; None removes a field."""
    kept = {name: value for name, value in values.items() if value is not None}
    gone = {name: "" for name, value in values.items() if value is None}

    def edit(ground: Any, id: str) -> None:
        base = ground.past.base if isinstance(ground, ArchivedGround) else ground.base
        change = {word: fields for word, fields in (("$set", kept), ("$unset", gone)) if fields}
        assert base["jobs"].update_one({"id": id}, change).matched_count == 1

    return edit


MONGO: dict[str, Edit] = {
    **{f"history: {name}": mongo(history=text) for name, text in TEXTS.items()},
    "history: a number": mongo(history=7),
    **{f"spec: {name}": mongo(spec=text) for name, text in SPECS.items()},
    "spec: gone": mongo(spec=None),
    "spec: bytes": mongo(spec=b"\xff"),
    "run_at: in words": mongo(run_at="soon"),
    "run_at: gone": mongo(run_at=None),
    "run_at: a fraction": mongo(run_at=1.5),
    "run_at: beyond the calendar": mongo(run_at=10**18),
    "created_at: a date": mongo(created_at=NOW),
    "cancel_requested: no JSON": mongo(cancel_requested="now!"),
    "waiting_for: no names": mongo(waiting_for=[1]),
    "waiting_for: a name": mongo(waiting_for="parent"),
    "version: in words": mongo(version="two"),
    "version: gone": mongo(version=None),
    "version: a fraction": mongo(version=1.5),
    "version: no room": mongo(version=2**63 - 1),
    "attempts: in words": mongo(attempts="two"),
    "attempts: gone": mongo(attempts=None),
    "attempts: negative": mongo(attempts=-7),
    "losses: in words": mongo(losses="two"),
    "priority: a fraction": mongo(priority=0.5),
    "sort_key: in words": mongo(sort_key="first"),
    "sort_key: gone": mongo(sort_key=None),
    "output_tail: a list": mongo(output_tail=["a"]),
}


def redis(field: str, value: str | bytes | None) -> Edit:
    """One field of a hash; None takes it away."""

    def edit(ground: RedisGround, id: str) -> None:
        job = _hash_of(ground, id)
        assert job is not None
        call = ground.server.call
        assert call("HDEL", job, field) == 1 if value is None else call("HSET", job, field, value) == 0

    return edit


def redis_delayed(edit: Edit) -> Edit:
    """Of a job that waits: among the delayed ones whose time has come."""

    def delay(ground: RedisGround, id: str) -> None:
        call, tag = ground.server.call, ground.tag
        number = call("HGET", f"{tag}:ids", id).decode()
        queue = call("HGET", f"{tag}:job:{number}", "queue").decode()
        if call("ZREM", f"{tag}:ready:{queue}", number):
            assert call("ZADD", f"{tag}:delayed", 1, number) == 1
        edit(ground, id)

    return delay


def redis_rest(**values: Any) -> Edit:
    """Some of what is kept in one text."""

    def edit(ground: RedisGround, id: str) -> None:
        job = _hash_of(ground, id)
        assert job is not None
        rest = json.loads(ground.server.call("HGET", job, "rest"))
        for name, value in values.items():
            rest[rows._REST.index(name)] = value
        ground.server.call("HSET", job, "rest", json.dumps(rest))

    return edit


def _hash_of(ground: RedisGround, id: str) -> str | None:
    number = ground.server.call("HGET", f"{ground.tag}:ids", id)
    return f"{ground.tag}:job:{number.decode()}" if number else None


REDIS: dict[str, Edit] = {
    **{f"history: {name}": redis_rest(history=text) for name, text in TEXTS.items()},
    **{f"spec: {name}": redis("spec", text) for name, text in SPECS.items()},
    "spec: gone": redis("spec", None),
    "spec: no UTF-8": redis("spec", b'{"command":"\xff\xfe'),
    "rest: gone": redis("rest", None),
    "rest: no JSON": redis("rest", "{"),
    "rest: too short": redis("rest", "[1]"),
    "failures: in words": redis_rest(failures="two"),
    "losses: gone": redis_rest(losses=None),
    "priority: a fraction": redis_rest(priority=0.5),
    "cancel_requested: no JSON": redis_rest(cancel_requested="now!"),
    "waiting_for: no names": redis_rest(waiting_for="[1]"),
    "run_at: in words": redis("run_at", "soon"),
    "run_at: beyond the calendar": redis("run_at", str(10**18)),
    "run_at: gone": redis("run_at", None),
    "created_at: before the calendar": redis("created_at", "-5"),
    "version: in words": redis("version", "two"),
    "version: a fraction": redis("version", "1.5"),
    "version: gone": redis("version", None),
    "version: no room": redis("version", str(2**63 - 1)),
    "version: beyond all numbers": redis("version", "9" * 19),
    "attempts: no room at all": redis("attempts", str(2**63 - 1)),
    "attempts: a power": redis("attempts", "1e3"),
    "attempts: negative": redis("attempts", "-7"),
    "attempts: no room": redis("attempts", str(2**63 - 2)),
    "sort_key: in words": redis("sort_key", "first"),
    "created_at: in words": redis("created_at", "noon"),
    "delayed, sort_key: in words": redis_delayed(redis("sort_key", "first")),
    "delayed, sort_key: gone": redis_delayed(redis("sort_key", None)),
    "delayed, spec: no JSON": redis_delayed(redis("spec", "{")),
}


def _archived(here: Edit, there: Edit) -> Edit:
    """Wherever the job is: in the queue, or in the archive once it has ended."""

    def edit(ground: ArchivedGround, id: str) -> None:
        (there if _hash_of(ground, id) is None else here)(ground, id)

    return edit


ARCHIVED = {name: _archived(REDIS[name], MONGO[name]) for name in REDIS if name in MONGO}
EDITS: dict[str, dict[str, Edit]] = {
    "sqlite": SQLITE,
    "postgres": POSTGRES,
    "mongodb": MONGO,
    "redis": REDIS,
    "archived": ARCHIVED,
}
