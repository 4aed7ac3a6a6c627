"""The statements out of the `.sql` files beside this one. `{schema}` stays in them until they are run."""

import os

from queuectl.store import statements as files
from queuectl.store.codec import CHANGING, COLUMNS

FOLDER = os.path.dirname(__file__)
_READ = {"waiting_for": "waiting_for::text"}
LISTS = {
    "columns": ", ".join(_READ.get(column, column) for column in COLUMNS),
    "changing": ", ".join(CHANGING),
    "changing_set": ", ".join(f"{column} = current.{column}" for column in CHANGING),
    "by_index": " ".join(
        f"SET {name} = off" for name in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
    ),
}


def statements(file: str) -> dict[str, str]:
    """The statements of `queries/<file>.sql` by name."""
    return files.read(FOLDER, file, LISTS)


def fill(sql: str) -> str:
    """With the column lists of the codec in place of their names."""
    return files.fill(sql, LISTS)
