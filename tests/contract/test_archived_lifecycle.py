"""The table of a job's states between queue and archive describes the scripts."""

import re
from pathlib import Path

import pytest

from contract.test_redis_scripts import FILES, LIBRARIES, code
from queuectl.store.redis_archive.lifecycle import ARROWS, ENDED, STATES, Arrow

KEYS = {"archive", "arrivals", "arriving", "gone", "leaving", "past", "past_counts", "stream"}
KEYS |= {f"{name}:past_counts" for name in ("recount", "recounting", "touched")}
ENTRIES = ("archive_done", "drop_entries", "keep_live")
"""Scripts that remove entries of the stream."""


def functions(path: Path) -> dict[str, str]:
    """The functions of a library with their code."""
    parts = re.split(r"^local function (\w+)", code(path.read_text()), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


LIBRARY = {name: body for path in LIBRARIES.values() for name, body in functions(path).items()}


def keys_of(script: str) -> set[str]:
    """The keys of the archive that a script names, itself or in the functions that it calls."""
    seen, open_ends, found = set[str](), [code(FILES[script].read_text())], set[str]()
    while open_ends:
        lua = open_ends.pop()
        found |= set(re.findall(r"P \.\. '([^']+)'", lua)) | set(re.findall(r"add_to\('([^']+)'", lua))
        called = {name for name in re.findall(r"\b(\w+)\(", lua) if name in LIBRARY} - seen
        seen |= called
        open_ends += [LIBRARY[name] for name in called]
    return found & KEYS


@pytest.mark.parametrize("arrow", ARROWS, ids=lambda arrow: f"{arrow.source}-{arrow.target}-{arrow.script}")
def test_a_transition_names_the_keys_of_its_script(arrow: Arrow) -> None:
    assert arrow.keys == keys_of(arrow.script)
    assert arrow.repair


def test_each_state_has_transitions_in_and_out() -> None:
    assert {arrow.source for arrow in ARROWS} == STATES.keys()
    assert {arrow.target for arrow in ARROWS} == STATES.keys()


def test_each_script_that_moves_a_job_is_a_transition() -> None:
    """A script that moves a job changes `past`, a note of a restore or deletion, or the stream."""
    moves = re.compile(r"'(?:ZADD|ZREM|HSET|HDEL|XADD)', P \.\. '(?:past|arriving|leaving)'")
    moving = {script for script, path in FILES.items() if moves.search(code(path.read_text()))}
    assert moving | {"archive_ended", "keep_live", "purge"} == {arrow.script for arrow in ARROWS}
    removing = {script for script, path in FILES.items() if "'XDEL'" in path.read_text()}
    assert removing == set(ENTRIES)


def test_the_scripts_that_end_a_job_add_the_job_to_the_stream() -> None:
    sends = re.compile(r"\b(send_to_archive|add_job)\(")
    sending = {script for script, path in FILES.items() if sends.search(path.read_text())}
    assert sending == {*ENDED, "archive_ended"}
