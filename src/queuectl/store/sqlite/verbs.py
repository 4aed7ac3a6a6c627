"""The functions of this driver, with the names by which `DriverStore` calls them."""

from queuectl.store.sqlite.claim import claim, due_since, expired_leases, renew, set_aside
from queuectl.store.sqlite.find import counts, find, get
from queuectl.store.sqlite.output import read as read_output
from queuectl.store.sqlite.output import write as write_output
from queuectl.store.sqlite.purge import discard, purge
from queuectl.store.sqlite.registry import (
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
from queuectl.store.sqlite.write import add, save

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
