"""The functions of this driver, with the names by which `DriverStore` calls them."""

from queuectl.store.postgres.claim import claim, due_since, expired_leases, renew, set_aside
from queuectl.store.postgres.find import counts, find, get
from queuectl.store.postgres.output import read as read_output
from queuectl.store.postgres.output import write as write_output
from queuectl.store.postgres.purge import discard, purge
from queuectl.store.postgres.registry import (
    delete_entry,
    forget,
    heartbeat,
    insert_entry,
    instruct,
    pending_instruction,
    read_table,
    update_entry,
    workers,
)
from queuectl.store.postgres.write import add, save

__all__ = [
    "add",
    "claim",
    "counts",
    "delete_entry",
    "discard",
    "due_since",
    "expired_leases",
    "find",
    "forget",
    "get",
    "heartbeat",
    "insert_entry",
    "instruct",
    "pending_instruction",
    "purge",
    "read_output",
    "read_table",
    "renew",
    "save",
    "set_aside",
    "update_entry",
    "workers",
    "write_output",
]
