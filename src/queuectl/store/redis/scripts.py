"""Loads Lua scripts. A script is a file of `scripts/`, preceded by the libraries that its head names.

`-- uses: clock, job` in the head of a script names `lib/clock.lua` and `lib/job.lua`; a library may name others. A
server identifies a script by the digest of its text, so the text is sent once for each start of the server.
"""

import os
import re
from functools import cache
from hashlib import sha1

from msgspec import Struct

FOLDER = os.path.join(os.path.dirname(__file__), "scripts")
PREFIX = "prefix"
"""The library that precedes each script."""
_USES, _READS = re.compile(r"^-- uses: (.+)$", re.MULTILINE), "\n-- Changes nothing.\n"


class Script(Struct, frozen=True):
    """One script: its text, the digest by which a server identifies it, and whether it changes nothing."""

    text: str
    digest: str
    reads: bool


@cache
def script(name: str, folder: str = FOLDER) -> Script:
    """The script with this name in a folder."""
    body = _read(folder, name)
    libraries = {PREFIX: _read(FOLDER, "lib", PREFIX)}
    _add_libraries(libraries, body, folder)
    text = "\n".join([*libraries.values(), body])
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest(), _READS in body)


def uses(text: str) -> list[str]:
    """The libraries that a script or a library names."""
    found = _USES.search(text)
    return found[1].split(", ") if found else []


def _add_libraries(known: dict[str, str], text: str, folder: str) -> None:
    """Add the libraries that a text names, each after the libraries that it needs itself."""
    for name in uses(text):
        if name not in known:
            own = os.path.exists(os.path.join(folder, "lib", f"{name}.lua"))
            library = _read(folder if own else FOLDER, "lib", name)
            _add_libraries(known, library, folder)
            known[name] = library


def _read(*path: str) -> str:
    with open(f"{os.path.join(*path)}.lua", encoding="utf-8") as file:
        return file.read()
