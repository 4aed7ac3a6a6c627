"""Reads the statements in the `.sql` files of this package, and inserts the column lists of the codec."""

import os

from queuectl.store.driver import sql as files
from queuectl.store.driver.codec import CHANGING, COLUMNS

FOLDER = os.path.dirname(__file__)
_LISTS = {
    "columns": ", ".join(COLUMNS),
    "changing": ", ".join(CHANGING),
    "changing_marks": ", ".join("?" * len(CHANGING)),
    "changing_set": ", ".join(f"{column} = ?" for column in CHANGING),
}


def statements(file: str) -> dict[str, str]:
    """The statements of `queries/<file>.sql` by name."""
    return files.read(FOLDER, file, _LISTS)


def fill(sql: str) -> str:
    """Replace the names of column lists by the lists of the codec."""
    return files.fill(sql, _LISTS)
