"""Checks that the indexes of a queue in Redis agree with its jobs: all indexes are computed again and compared.

Each change of a queue is one script, so they agree at every moment, also after a server has lost the end of its log.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec

INDEXES = frozenset(
    (
        "counts", "created", "delayed", "ended", "heads", "ids", "keys", "leased", "lines", "names", "next", "ready",
        "state", "updated", "by", "waits", "outputs",
    )
)  # fmt: skip
READ: dict[bytes, tuple[Any, ...]] = {
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"hash": ("HGETALL",),
    b"set": ("SMEMBERS",),
}
ENDED = ("completed", "dead", "cancelled")
Content = dict[str, Any]


class Keys:
    """All keys of a queue. `call` sends a command to the server."""

    def __init__(self, call: Callable[..., Any], tag: str) -> None:
        self._call, self._tag = call, tag

    def names(self) -> list[str]:
        """The part of the names after the tag."""
        found = self._call("KEYS", f"{self._tag}:*")
        return sorted(key.decode().removeprefix(f"{self._tag}:") for key in found)

    def content(self, name: str) -> Content:
        """Members with their scores or values."""
        kind = self._call("TYPE", f"{self._tag}:{name}")
        if kind not in READ:
            return {}
        verb, *words = READ[kind]
        found = [word.decode(errors="replace") for word in self._call(verb, f"{self._tag}:{name}", *words)]
        return dict.fromkeys(found, "") if kind == b"set" else dict(zip(found[::2], found[1::2], strict=True))

    def packed(self, number: str, field: str) -> list[str]:
        """The texts in a packed field of a job."""
        text = self._call("HGET", f"{self._tag}:job:{number}", field)
        return msgspec.msgpack.decode(text) if text else []

    def indexes(self) -> dict[str, Content]:
        """The indexes as the jobs require them."""
        names = [name for name in self.names() if name.partition(":")[0] in INDEXES]
        return {name: self.content(name) for name in names}


def faults(call: Callable[..., Any], tag: str) -> dict[str, int]:
    """The indexes that differ from the computed ones, with the number of different entries."""
    keys = Keys(call, tag)
    found, wanted = keys.indexes(), _wanted(keys)
    wrong = {
        name: _difference(found.get(name, {}), wanted.get(name, {})) for name in found.keys() | wanted.keys()
    }
    return {name: count for name, count in wrong.items() if count}


def _difference(found: Content, wanted: Content) -> int:
    return sum(
        member not in found or member not in wanted or not _same(found[member], wanted[member])
        for member in found.keys() | wanted.keys()
    )


def _same(found: str, wanted: str) -> bool:
    try:
        return float(found) == float(wanted)
    except ValueError:
        return found == wanted


def _wanted(keys: Keys) -> dict[str, Content]:
    """The indexes, computed from the jobs."""
    wanted: dict[str, Content] = defaultdict(dict)
    names = keys.names()
    numbers = [name.removeprefix("job:") for name in names if name.startswith("job:")]
    delayed, restoring = keys.content("delayed"), keys.content("arriving")
    for number in numbers:
        _enter(wanted, keys, number, delayed, restoring)
    for name in [name for name in wanted if name.startswith("ready:")]:
        _enter_head(wanted, name)
    for name in names:
        if name.startswith("output:"):
            _enter_output(wanted, keys, name)
    return wanted


def _enter(wanted: dict[str, Content], keys: Keys, number: str, delayed: Content, restoring: Content) -> None:
    job = keys.content(f"job:{number}")
    state, queue = job["state"], job["queue"]
    for name, score in (("created", number), ("updated", job["updated_at"]), ("next", job["sort_key"])):
        wanted[name][number] = score
    wanted[f"state:{state}"][number] = number
    wanted["ids"][job["id"]], wanted["names"][job["id"]] = number, "0"
    sums = wanted["counts"]
    sums[f"{state} {queue}"] = str(int(sums.get(f"{state} {queue}", "0")) + 1)
    for mark in keys.packed(number, "marks"):
        wanted[f"by:{mark}"][number] = number
    for parent in keys.packed(number, "waits"):
        wanted[f"waits:{parent}"][number] = ""
    if "key" in job and state not in ENDED:
        wanted["keys"][job["key"]] = number
    if state == "processing":
        wanted["leased"][number] = job["lease_until"]
    elif state in ENDED:
        wanted[f"ended:{state}"][number] = job["finished_at"]
    elif state in ("pending", "failed") and number in delayed:
        wanted["delayed"][number] = job["run_at"]
    elif state in ("pending", "failed") and number not in restoring:
        wanted[f"ready:{queue}"][number] = job["sort_key"]


def _enter_head(wanted: dict[str, Content], name: str) -> None:
    score, number = min((float(score), number) for number, score in wanted[name].items())
    queue = name.removeprefix("ready:")
    wanted["lines"][f"{number} {queue}"] = str(score)
    wanted["heads"][queue] = f"{number} {queue}"


def _enter_output(wanted: dict[str, Content], keys: Keys, name: str) -> None:
    """The job's id is in each chunk."""
    chunk = next(iter(keys.content(name)))
    number = wanted["ids"].get(chunk.split(" ")[1], "of no job")
    wanted[f"outputs:{number}"][name.removeprefix("output:")] = ""
