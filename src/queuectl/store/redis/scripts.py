"""Lua scripts, by name: each file of a folder behind the library that all of them begin with."""

import os
from functools import cache
from hashlib import sha1

from msgspec import Struct

FOLDER = os.path.join(os.path.dirname(__file__), "scripts")
READS = frozenset({"attempt_runs", "counts", "due", "fetch", "lapsed", "locate", "page", "printed"})
"""The scripts that change nothing."""


class Script(Struct, frozen=True):
    """One script: its text, the digest by which a server knows it, and whether it changes nothing."""

    text: str
    digest: str
    reads: bool


@cache
def script(name: str, folder: str = FOLDER) -> Script:
    """The script with this name in a folder."""
    text = f"{_read(FOLDER, 'common')}\n{_read(folder, name)}"
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest(), name in READS)


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, f"{name}.lua"), encoding="utf-8") as file:
        return file.read()
