"""Checks the schema and the archive of the queue at the start of each connection.

A program refuses a newer schema. Nothing has to be created in Redis beforehand.
"""

from queuectl.clock import random_bytes
from queuectl.errors import StoreAbsent, StoreUnusable
from queuectl.store.redis.connect import Line

NEWEST = 1


def begin(line: Line, shown: str, history: str, *, create: bool, archives: bool) -> None:
    """Refuse a newer schema, and a queue with an archive if the URL names none. Without `create` the queue must exist.

    `history` changes whenever the server may have lost acknowledged writes.
    """
    name = random_bytes(8).hex() if archives else ""
    found, archive = line.run("open_queue", history, NEWEST if create else "", name)
    if int(found) > NEWEST:
        raise StoreUnusable(
            f"{shown} has schema {int(found)}, and this program knows schemas up to {NEWEST}",
            "a newer queuectl has used it: upgrade this one",
        )
    if int(found) == 0:
        raise StoreAbsent(f"{shown}: there is no queue", "the queue existed before: check the URL")
    if archive is not None and not archives:
        where = archive.decode() or "mongodb://…"
        raise StoreUnusable(
            f"{shown} has an archive, and the URL does not name it",
            f"add it: ?archive={where}, with its password; or use the word redis, with MONGODB_URI set",
        )
