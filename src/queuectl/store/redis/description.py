"""Reads the settings, versions, sizes and faults of a server."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from redis.exceptions import ResponseError

from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.protocol import Description, Durability
from queuectl.store.redis.connect import Line

OLDEST = (6, 2)
FULL = 0.9
"""The used part of maxmemory above which `doctor` reports a fault."""
_LEAST = 7
"""Minimum number of bytes that the creation of a key adds to the server's log."""
_ACCEPT = "or accept it with ?durability=fast"


class Server(Struct, frozen=True, kw_only=True):
    """The properties of a server that decide whether it is suitable for a queue.

    loading    whether it still reads its data from disk: until then its information about the log is wrong
    history    the server and its replication history: different whenever acknowledged writes may have been lost
    first_log  whether the log was switched on and is not complete yet: until then a crash loses everything
    fsync      the setting appendfsync; None if this user may not read it
    lazy       whether `appendfsync` pauses while the log is rewritten; None if this user may not read it
    """

    product: str
    version: tuple[int, ...]
    role: str
    primary: str | None
    mode: str
    loading: bool
    history: str
    log: bool
    first_log: bool
    fsync: str | None
    lazy: str | None
    eviction: str
    memory: int
    maxmemory: int
    replicas: int

    @property
    def durability(self) -> Durability:
        """The kind of failure that an acknowledged write survives."""
        return "memory-safe" if self.first_log or unsafe(self) else "power-safe"

    @property
    def cli(self) -> str:
        """The name of the server's command line program."""
        return f"{self.product.lower()}-cli"


def server(line: Line) -> Server:
    """Read the properties of the server of this connection."""
    return _server(_info(line), _settings(line, "*appendfsync*"))


def _server(info: dict[str, str], settings: dict[str, str]) -> Server:
    valkey = "valkey_version" in info
    version = info["valkey_version"] if valkey else info["redis_version"]
    return Server(
        product="Valkey" if valkey else "Redis",
        version=tuple(int(part) for part in version.split(".") if part.isdecimal()),
        role=info.get("role", "master"),
        primary=f"{info['master_host']}:{info['master_port']}" if "master_host" in info else None,
        mode=info.get("redis_mode") or info.get("server_mode", "standalone"),
        loading=info.get("loading") == "1",
        history=f"{info.get('run_id', '')} {info.get('master_replid', '')}",
        log=info.get("aof_enabled") == "1",
        first_log=_is_first_log(info),
        fsync=settings.get("appendfsync"),
        lazy=settings.get("no-appendfsync-on-rewrite"),
        eviction=info.get("maxmemory_policy", "noeviction"),
        memory=int(info.get("used_memory", 0)),
        maxmemory=int(info.get("maxmemory", 0)),
        replicas=int(info.get("connected_slaves", 0)),
    )


def _is_first_log(info: dict[str, str]) -> bool:
    """Whether the server is writing its first log, and not a rewrite of a complete log.

    No field of INFO shows that. Until the first log is complete, Redis 6.2 counts no byte as logged, and later
    versions count only the bytes that were written meanwhile: fewer than creating the existing keys needs. With more
    bytes the two cases cannot be distinguished, and the log counts as a rewrite.
    """
    writing = "1" in (info.get("aof_rewrite_in_progress"), info.get("aof_rewrite_scheduled"))
    sizes = int(info.get("aof_base_size", 0)), int(info.get("aof_current_size", 0))
    keys = sum(int(value.split(",")[0][5:]) for value in info.values() if value.startswith("keys="))
    return info.get("aof_enabled") == "1" and writing and sizes[0] == 0 and sizes[1] <= _LEAST * keys


def refuse_unfit(found: Server, shown: str, user: str | None, *, fast: bool) -> None:
    """Refuse a server that is not suitable for a queue, or not as safe as requested (guarantee G1).

    `user` is the name in the URL; None stands for the default user.
    """
    if found.mode == "sentinel":
        raise StoreUnusable(
            f"{shown} is a Sentinel, which keeps no data", "name the server itself; its port is usually 6379"
        )
    if found.loading:
        raise StoreUnavailable(f"{shown} still reads its data from disk", "try again later")
    if found.version < OLDEST:
        version = ".".join(map(str, found.version))
        raise StoreUnusable(
            f"{shown} is {found.product} {version}", "Redis 6.2 or later, or Valkey, is needed"
        )
    if found.role != "master":
        at = f": {found.primary}" if found.primary else ""
        raise StoreUnusable(f"{shown} is a read-only replica", f"connect to the primary{at}")
    if found.eviction != "noeviction":
        raise StoreUnusable(
            f"{shown} would delete jobs when its memory is full: maxmemory-policy = {found.eviction}",
            _change(found, "maxmemory-policy noeviction"),
        )
    if not fast:
        _refuse_unsafe(found, shown, user or "default")


def _refuse_unsafe(found: Server, shown: str, user: str) -> None:
    if unsafe(found):
        raise StoreUnusable(
            f"{shown} would lose acknowledged jobs at a power failure: {unsafe(found)}", _remedy(found, user)
        )
    if found.first_log:
        raise StoreUnavailable(
            f"{shown} has just switched its log (appendonly) on, and is still writing the first",
            f"try again when it is complete, {_ACCEPT}",
        )


def unsafe(found: Server) -> str | None:
    """The setting that makes the server lose acknowledged jobs, or None."""
    if not found.log:
        return "appendonly = no"
    if found.fsync is None:
        return "appendfsync cannot be read"
    if found.fsync != "always":
        return f"appendfsync = {found.fsync}"
    return "no-appendfsync-on-rewrite = yes" if found.lazy == "yes" else None


def _remedy(found: Server, user: str) -> str:
    if found.log and found.fsync is None:
        return f"let an administrator run: ACL SETUSER {user} +config|get; {_ACCEPT}"
    if not found.log:
        return f"{_change(found, 'appendonly yes')}; {_ACCEPT}"
    lazy = found.fsync == "always"
    return f"{_change(found, 'no-appendfsync-on-rewrite no' if lazy else 'appendfsync always')}; {_ACCEPT}"


def _change(found: Server, setting: str) -> str:
    return f"run: {found.cli} CONFIG SET {setting}; write it into {found.product.lower()}.conf as well"


def describe(line: Line, shown: str, listening: str) -> Description:
    """The description without a scan: settings, versions and sizes."""
    info = _info(line)
    found = _server(info, _settings(line, "*appendfsync*"))
    unseen = "unseen: this user may not look"
    details: dict[str, Any] = {
        found.product.lower(): ".".join(map(str, found.version)),
        "mode": found.mode,
        "replicas": found.replicas,
        "appendonly": "yes" if found.log else "no",
        "appendfsync": found.fsync or unseen,
        "no_appendfsync_on_rewrite": found.lazy or unseen,
        "maxmemory_policy": found.eviction,
        "maxmemory": found.maxmemory or "none",
        "wake_up": listening,
        "bytes": found.memory,
        "jobs": line.call("ZCARD", line.key("created")),
        "workers": line.call("HLEN", line.key("workers")),
    }
    return Description(
        url=shown,
        durability=found.durability,
        schema=int(line.call("GET", line.key("schema")) or 0),
        details={name: str(value) for name, value in details.items()},
        faults=tuple(_faults(found, info)),
    )


def _faults(found: Server, info: dict[str, str]) -> list[str]:
    faults = []
    if why := unsafe(found):
        faults.append(f"an acknowledged job may be lost at a power failure of the server: {why}")
    elif found.first_log:
        faults.append(
            "an acknowledged job may be lost at a power failure of the server: its first log is incomplete"
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        faults.append("the server's last write to its log failed: look at its disk")
    if found.maxmemory and found.memory > FULL * found.maxmemory:
        used = f"{found.memory / found.maxmemory:.0%}"
        faults.append(
            f"{used} of maxmemory is used: raise it, or delete jobs: queuectl purge --older-than 1d"
        )
    return faults


def with_index_faults(line: Line, found: Description) -> Description:
    """The description with the inconsistencies between indexes."""
    wrong = [
        f"the index {name.decode()} has {size} entries, not {wanted}: keys were changed by hand; restore a backup"
        for name, size, wanted in line.run("check")
    ]
    return replace(found, faults=(*found.faults, *wrong))


def _info(line: Line) -> dict[str, str]:
    text = line.call("INFO").decode()
    pairs = (entry.partition(":") for entry in text.splitlines() if ":" in entry)
    return {name: value for name, _, value in pairs}


def _settings(line: Line, pattern: str) -> dict[str, str]:
    """The settings that match a pattern. Empty if the user may not read them, as on a managed server."""
    try:
        flat = [word.decode() for word in line.call("CONFIG", "GET", pattern)]
    except ResponseError:
        return {}
    return dict(zip(flat[::2], flat[1::2], strict=True))
