"""The statements, out of the `.sql` files beside this one: each has a name and one line of purpose.

A statement begins with a line `-- name: purpose`. `{columns}` and its like stand for the column lists of the
codec, so that those are written once.
"""

import os

from queuectl.store.codec import CHANGING, COLUMNS

_LISTS = {
    "{columns}": ", ".join(COLUMNS),
    "{changing}": ", ".join(CHANGING),
    "{changing_marks}": ", ".join("?" * len(CHANGING)),
    "{changing_set}": ", ".join(f"{column} = ?" for column in CHANGING),
}
FOLDER = os.path.dirname(__file__)


def statements(file: str) -> dict[str, str]:
    """The statements of `queries/<file>.sql` by name."""
    found: dict[str, str] = {}
    with open(os.path.join(FOLDER, "queries", f"{file}.sql"), encoding="utf-8") as source:
        text = source.read()
    for block in f"\n{text}".split("\n-- ")[1:]:
        heading, _, body = block.partition("\n")
        found[heading.partition(":")[0]] = fill(body.strip().rstrip(";"))
    return found


def fill(sql: str) -> str:
    """With the column lists of the codec in place of their names."""
    for name, columns in _LISTS.items():
        sql = sql.replace(name, columns)
    return sql
