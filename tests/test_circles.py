"""The three circles keep what CONTRIBUTING.md promises of them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

import pytest

import circles

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (G\d+) \| .*? \| (.*) \|$", re.MULTILINE)
"""A row of the table in CONTRIBUTING.md: a guarantee, what it says, and the tests that show it."""


@pytest.fixture(scope="module")
def collected() -> Callable[[str, str], frozenset[str]]:
    """The tests of a folder that a circle runs: folder, name of the file, class, function and parameters."""

    @cache
    def collect(circle: str, folder: str) -> frozenset[str]:
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, "--circle", circle, f"tests/{folder}"],
            cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "KIND": "redis"},
        )  # fmt: skip
        return frozenset(line.removeprefix("tests/") for line in done.stdout.splitlines() if "::" in line)

    return collect


def kinds(tests: frozenset[str], named: str) -> set[str]:
    """The kinds of store on which a test runs that is named without its parameters."""
    found = [test.partition("[")[2].rstrip("]").split("-") for test in tests if test.startswith(named)]
    return {word for words in found for word in words}


def test_each_guarantee_is_shown_on_sqlite_and_on_a_server(
    collected: Callable[[str, str], frozenset[str]],
) -> None:
    promised = re.findall(
        r"^- \*\*(G\d+)\*\*", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )
    rows = dict(ROW.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    assert [*rows] == [guarantee for guarantee in promised if guarantee != "G9"]  # nothing is scheduled yet
    tests = collected("test", "e2e")
    for guarantee, cell in rows.items():
        named = re.findall(r"`(.*?)`", cell)
        assert [name for name in named if not kinds(tests, name)] == [], guarantee
        assert set().union(*(kinds(tests, name) for name in named)) >= {"sqlite", "redis"}, guarantee


def test_each_file_of_the_contract_runs_on_the_doubles_too(
    collected: Callable[[str, str], frozenset[str]],
) -> None:
    def files(circle: str, kind: str) -> set[str]:
        return {test.partition("::")[0] for test in collected(circle, "contract") if f"[{kind}" in test}

    on_every_store = files("proof", "pooled")
    assert len(on_every_store) > 10
    for kind in ("pooled", "replicas", "valkey", "cluster"):
        assert on_every_store - files("test", kind) == set(), kind


def test_the_date_chooses_a_server_and_kind_forces_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIND", "")
    today = date.today()
    assert circles.chosen_server() == circles.SERVERS[today.toordinal() % 4]
    monkeypatch.setenv("KIND", "archived")
    assert circles.chosen_server() == "archived"
    monkeypatch.setenv("KIND", "oracle")
    with pytest.raises(pytest.UsageError, match="oracle"):
        circles.chosen_server()
