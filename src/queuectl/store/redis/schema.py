"""The number of what is written where: a program refuses a newer one. Nothing has to be made in Redis beforehand."""

from queuectl.errors import StoreUnavailable, StoreUnusable
from queuectl.store.redis.connections import Line

NEWEST = 1


def version(line: Line) -> int:
    """The schema of the queue; 0 where there is none."""
    return int(line.call("GET", line.key("schema")) or 0)


def bring_up_to_date(line: Line, shown: str, *, create: bool) -> None:
    """Refuse a newer schema; enter ours where there is none. Without `create` it has to be there."""
    found = version(line)
    if found > NEWEST:
        raise StoreUnusable(
            f"{shown} has schema {found}, and this program knows schemas up to {NEWEST}",
            "a newer queuectl has used it: upgrade this one",
        )
    if not found and not create:
        raise StoreUnavailable(f"{shown}: there is no queue", "it was there before: look at the URL")
    if not found:
        line.call("SET", line.key("schema"), NEWEST, "NX")
