"""Programs of Debian that `make proof` unpacks into the virtual environment."""

import os
import shutil
import sys

import pytest

UNPACKED = f"{sys.prefix}/debian"
PLACES = os.pathsep.join(
    (os.environ.get("PATH", os.defpath), "/usr/sbin", f"{UNPACKED}/usr/bin", f"{UNPACKED}/usr/sbin")
)


def program(name: str) -> str:
    """The path of the program. The test is skipped if the program is on no path."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        pytest.skip(f"there is no {name} here: tests/servers/fetch-programs gets it from Debian")
    return found
