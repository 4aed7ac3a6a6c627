"""The archive's scripts, by name: each file of `scripts/`, preceded by libraries."""

import os
from typing import Any

from queuectl.store.redis.connect import Line, Word
from queuectl.store.redis.scripts import script

FOLDER = os.path.join(os.path.dirname(__file__), "scripts")


def run(line: Line, name: str, *values: Word) -> Any:
    """The answer of a script."""
    return line.execute(script(name, FOLDER), *values)
