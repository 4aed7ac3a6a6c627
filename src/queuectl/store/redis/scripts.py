"""The scripts, by name: each file of `scripts/` behind what all of them begin with."""

import os
from functools import cache
from hashlib import sha1

from msgspec import Struct

FOLDER = os.path.join(os.path.dirname(__file__), "scripts")
LOOKS = frozenset({"counts", "due", "fetch", "lapsed", "page", "printed", "runs", "where"})
"""Those that change nothing: who has run them has done nothing yet."""


class Script(Struct, frozen=True):
    """One script: its text, and the digest by which a server knows it."""

    text: str
    digest: str


@cache
def script(name: str) -> Script:
    """The script of a name."""
    text = f"{_read('common')}\n{_read(name)}"
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    with open(os.path.join(FOLDER, f"{name}.lua"), encoding="utf-8") as file:
        return file.read()
