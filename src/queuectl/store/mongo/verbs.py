"""The functions of this driver, with the names by which `DriverStore` calls them."""

from queuectl.store.mongo.claim import claim, expired_leases, renew, set_aside
from queuectl.store.mongo.find import counts, find, get
from queuectl.store.mongo.output import read as read_output
from queuectl.store.mongo.output import write as write_output
from queuectl.store.mongo.purge import discard, purge
from queuectl.store.mongo.ready_index import due_since
from queuectl.store.mongo.registry import (
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
from queuectl.store.mongo.write import add, save

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
