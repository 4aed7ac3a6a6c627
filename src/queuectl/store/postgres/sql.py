"""Reads the statements in the `.sql` files of this package. `{schema}` is replaced when a statement is run."""

import os
import re

from queuectl.store.driver import sql as files
from queuectl.store.driver.codec import CHANGING, COLUMNS

FOLDER = os.path.dirname(__file__)
SAFELY = "SET search_path = pg_catalog, pg_temp"
"""Makes a function use only the server's own functions, and no function of a user of the database."""
_READ = {"waiting_for": "waiting_for::text"}
_HERE = tuple(column for column in CHANGING if column != "progress")
"""The changing columns of `live` and `ended`. The progress is in `body`, which all reading statements join."""
_FIRST = tuple(column for column in _HERE if column != "cause")
"""The changing columns of the first schema, whose functions older workers still call."""
LISTS = {
    "columns_1": ", ".join(
        _READ.get(column, column) for column in COLUMNS if column not in ("cause", "progress")
    ),
    "changing_1": ", ".join(_FIRST),
    "changing_set_1": ", ".join(f"{column} = current.{column}" for column in _FIRST),
    "columns_3": ", ".join(_READ.get(column, column) for column in COLUMNS if column != "progress"),
    "columns": ", ".join(_READ.get(column, column) for column in COLUMNS),
    "changing": ", ".join(_HERE),
    "changing_set": ", ".join(f"{column} = current.{column}" for column in _HERE),
    "safely": SAFELY,
    "by_index": f"{SAFELY} SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off",
}


def statements(file: str) -> dict[str, str]:
    """The statements of `queries/<file>.sql` by name."""
    return files.read(FOLDER, file, LISTS)


def fill(sql: str) -> str:
    """Replace the names of column lists by the lists of the codec."""
    return files.fill(sql, LISTS)


def identifier(name: str) -> str:
    """A name in the form of SQL, quoted where that is needed."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name, re.ASCII)
    return name if plain else '"' + name.replace('"', '""') + '"'
