"""What the server says of itself, read back and not assumed."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from redis.exceptions import ResponseError

from queuectl.errors import StoreUnusable
from queuectl.store.protocol import Description, Durability
from queuectl.store.redis import caretaker, repair
from queuectl.store.redis.connections import Line

OLDEST = (6, 2)
WAITS_SINCE = (7, 2)
"""The version that can be asked to wait until its log is on disk."""
SCHEMA = 1


class Server(Struct, frozen=True):
    """What a connection leads to. `fsync` is None where this user may not read it."""

    product: str
    version: tuple[int, ...]
    role: str
    mode: str
    log: bool
    fsync: str | None
    eviction: str
    replicas: int
    history: str

    @property
    def waits(self) -> bool:
        """Whether each write has to be waited for, because the log is written once a second."""
        return self.log and self.fsync == "everysec" and self.version >= WAITS_SINCE

    def durability(self, *, fast: bool) -> Durability:
        """What an acknowledged write survives."""
        safe = self.log and (self.fsync == "always" or (self.waits and not fast))
        return "power-safe" if safe else "memory-safe"


def server(line: Line) -> Server:
    """The server at the other end, as it is now."""
    info = _info(line)
    valkey = info.get("server_name") == "valkey"
    version = info["valkey_version"] if valkey else info["redis_version"]
    return Server(
        product="Valkey" if valkey else "Redis",
        version=tuple(int(part) for part in version.split(".") if part.isdecimal()),
        role=info["role"],
        mode=info.get("redis_mode", info.get("server_mode", "standalone")),
        log=info.get("aof_enabled") == "1",
        fsync=_setting(line, "appendfsync"),
        eviction=info.get("maxmemory_policy", "noeviction"),
        replicas=int(info.get("connected_slaves", "0")),
        history=f"{info['run_id']} {info['master_replid']}",
    )


def refuse_unfit(found: Server, shown: str, *, fast: bool) -> None:
    """A server on which nothing can be kept, or nothing as safely as was asked for (guarantee G1)."""
    if found.version < OLDEST:
        version = ".".join(map(str, found.version))
        raise StoreUnusable(
            f"{shown} is {found.product} {version}", "Redis 6.2 or later, or Valkey, is needed"
        )
    if found.role != "master":
        raise StoreUnusable(f"{shown} is a read-only replica", "connect to the primary")
    if found.eviction != "noeviction":
        raise StoreUnusable(
            f"{shown} would delete jobs when its memory is full: maxmemory-policy = {found.eviction}",
            "run: redis-cli CONFIG SET maxmemory-policy noeviction, and write it into redis.conf",
        )
    if found.durability(fast=fast) == "memory-safe" and not fast:
        raise StoreUnusable(
            f"{shown} would lose acknowledged jobs with its power: {unsafe(found)}", _remedy(found)
        )


def unsafe(found: Server) -> str:
    """The setting that loses what was acknowledged."""
    if not found.log:
        return "appendonly = no"
    return f"appendfsync = {found.fsync}" if found.fsync else "appendfsync cannot be read"


def _remedy(found: Server) -> str:
    if found.log and found.fsync is None:
        return "let this user read it (ACL SETUSER NAME +config|get), or accept it with ?durability=fast"
    what = "appendonly yes" if not found.log else "appendfsync always"
    return (
        f"run: redis-cli CONFIG SET {what}, and write it into redis.conf; or accept it with ?durability=fast"
    )


def describe(line: Line, shown: str, listening: str, *, fast: bool) -> Description:
    """Settings, versions and sizes."""
    found, info = server(line), _info(line)
    details: dict[str, Any] = {
        found.product.lower(): ".".join(map(str, found.version)),
        "mode": found.mode,
        "appendonly": "yes" if found.log else "no",
        "appendfsync": found.fsync or "unseen: this user may not look",
        "waits_for_disk": "yes, with every write" if found.waits and not fast else "no",
        "maxmemory_policy": found.eviction,
        "maxmemory": info.get("maxmemory", "0"),
        "replicas": found.replicas,
        "wake_up": listening,
        "bytes": info["used_memory"],
        "jobs": line.call("ZCARD", line.key("created")),
        "workers": line.call("HLEN", line.key("workers")),
    }
    faults = []
    if found.durability(fast=fast) == "memory-safe":
        faults.append(f"an acknowledged job may be lost with the server's power: {unsafe(found)}")
    if info.get("aof_last_write_status", "ok") != "ok":
        faults.append("the server's last write to its log failed: look at its disk")
    return Description(
        url=shown,
        durability=found.durability(fast=fast),
        schema=SCHEMA,
        details={name: str(value) for name, value in details.items()},
        faults=tuple(faults),
    )


def with_damage(line: Line, found: Description, now: str) -> Description:
    """With what a look at all jobs finds, and what was mended last."""
    wrong = [
        f"{count} {what}: workers mend them" for what, count in repair.heal(line, now, really=False).items()
    ]
    last = caretaker.mended(line)
    details = found.details
    if last is not None:
        when, kinds = last
        what = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        details = {**details, "mended": f"{what}, at {when:%Y-%m-%dT%H:%M:%SZ}"}
    return replace(found, details=details, faults=(*found.faults, *wrong))


def _info(line: Line) -> dict[str, str]:
    text = line.call("INFO").decode()
    pairs = (entry.partition(":") for entry in text.splitlines() if ":" in entry)
    return {name: value for name, _, value in pairs}


def _setting(line: Line, name: str) -> str | None:
    try:
        found = line.call("CONFIG", "GET", name)
    except ResponseError:  # a managed server, or a user with few rights
        return None
    return found[1].decode() if found else None
