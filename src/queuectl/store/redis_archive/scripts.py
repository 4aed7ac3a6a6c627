"""Loads the scripts of the archive: each file of `scripts/`, preceded by its libraries."""

import os
from typing import Any

from queuectl.store.redis.connect import Line, Word
from queuectl.store.redis.scripts import script

FOLDER = os.path.join(os.path.dirname(__file__), "scripts")


def run(line: Line, name: str, *values: Word) -> Any:
    """Run a script and return its answer."""
    return line.execute(script(name, FOLDER), *values)
