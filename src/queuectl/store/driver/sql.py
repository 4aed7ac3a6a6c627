"""Reads statements from `.sql` files. Each statement has a name and one line about its purpose.

A statement begins with a line `-- name: purpose`. Names in braces, such as `{columns}`, are replaced by lists.
"""

import os
from collections.abc import Mapping

from queuectl.store.protocol import Swap


def read(folder: str, file: str, lists: Mapping[str, str]) -> dict[str, str]:
    """The statements of `<folder>/queries/<file>.sql` by name. Names in braces are replaced by the lists."""
    found: dict[str, str] = {}
    with open(os.path.join(folder, "queries", f"{file}.sql"), encoding="utf-8") as source:
        text = source.read()
    for block in f"\n{text}".split("\n-- ")[1:]:
        heading, _, body = block.partition("\n")
        found[heading.partition(":")[0]] = fill(body.strip().rstrip(";"), lists)
    return found


def swapping(swap: Swap) -> str:
    """The name of the statement that writes, replaces or removes the entry of a shared table."""
    if swap.value is None:
        return "delete_entry"
    return "update_entry" if swap.version else "insert_entry"


def fill(sql: str, lists: Mapping[str, str]) -> str:
    """The statement, with each name in braces replaced by its list."""
    for name, items in lists.items():
        sql = sql.replace(f"{{{name}}}", items)
    return sql
