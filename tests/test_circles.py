"""The three circles run the tests that CONTRIBUTING.md promises."""

import importlib
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import circles

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (G\d+) \| .*? \| (.*) \|$", re.MULTILINE)
"""A row of the table in CONTRIBUTING.md: a guarantee, its description, and its tests."""


LISTING = """
import sys, pytest
sys.path.insert(0, "tests")
from circles import circle_of

class Listing:
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        print(*(f"proof {item.nodeid}" for item in items), sep="\\n")

    def pytest_deselected(self, items):
        print(*(f"later {item.nodeid}" for item in items if circle_of(item) != "proof"), sep="\\n")

    def pytest_collection_finish(self, session):
        print(*(f"test {item.nodeid}" for item in session.items), sep="\\n")

options = ["--collect-only", "-qqq", "-p", "no:cacheprovider", "--circle", "test"]
sys.exit(pytest.main([*options, "tests/contract", "tests/e2e"], plugins=[Listing()]))
"""
"""Lists the tests of two folders: all of them, which is what `proof` runs, those that `test` runs today, and those that
it runs on other days or other servers."""


@pytest.fixture(scope="module")
def collected() -> dict[str, frozenset[str]]:
    """The tests that a circle runs: folder, name of the file, class, function and parameters."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING],
        cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "KIND": "redis"},
    )  # fmt: skip
    lines = [line.split(" ", 1) for line in done.stdout.splitlines() if "::" in line]
    return {
        circle: frozenset(id.removeprefix("tests/") for name, id in lines if name == circle)
        for circle in ("test", "later", "proof")
    }


def kinds(tests: frozenset[str], named: str) -> set[str]:
    """The kinds of store on which a test runs that is named without its parameters."""
    found = [test.partition("[")[2].rstrip("]").split("-") for test in tests if test.startswith(named)]
    return {word for words in found for word in words}


def test_each_guarantee_is_tested_on_sqlite_and_on_a_server(
    collected: dict[str, frozenset[str]],
) -> None:
    promised = re.findall(
        r"^- \*\*(G\d+)\*\*", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )
    rows = dict(ROW.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    assert [*rows] == [*promised]
    tests = collected["test"]
    for guarantee, cell in rows.items():
        named = re.findall(r"`(.*?)`", cell)
        assert [name for name in named if not kinds(tests, name)] == [], guarantee
        assert set().union(*(kinds(tests, name) for name in named)) >= {"sqlite", "redis"}, guarantee


def test_each_file_of_the_contract_also_runs_on_the_doubles(
    collected: dict[str, frozenset[str]],
) -> None:
    def files(circle: str, kind: str) -> set[str]:
        return {
            test.partition("::")[0] for test in collected[circle] if re.match(rf"contract/.*\[{kind}", test)
        }

    on_every_store = files("proof", "pooled")
    assert len(on_every_store) > 10
    for kind in ("pooled", "replicas", "valkey", "cluster"):
        assert on_every_store - files("test", kind) - files("later", kind) == set(), kind
    assert sum(bool(files("test", kind) & on_every_store) for kind in circles.ROTATING) == 1, (
        "another one each day"
    )


def test_the_date_chooses_a_server_and_the_variable_kind_forces_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIND", "")
    today = date.today()
    assert circles.chosen_server() == circles.SERVERS[today.toordinal() % 4]
    monkeypatch.setenv("KIND", "archived")
    assert circles.chosen_server() == "archived"
    monkeypatch.setenv("KIND", "oracle")
    with pytest.raises(pytest.UsageError, match="oracle"):
        circles.chosen_server()


def test_each_case_of_turns_comes_on_one_of_the_days(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = list[str]()
    for day in range(3):
        monkeypatch.setenv(circles.DAY, str(day))
        chosen += [case.values[0] for case in circles.turns("abcdefg", 3) if not case.marks]
    assert sorted(chosen) == list("abcdefg")


HANGING = """
import threading

def wait_for_ever(event):
    event.wait(30)

def test_hanging():
    event = threading.Event()
    threading.Thread(target=wait_for_ever, args=[event], daemon=True).start()
    event.wait(30)

def test_next():
    pass
"""


def test_a_test_that_hangs_fails_with_the_stacks_of_all_threads(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    assert pytestconfig.getoption("timeout") > 0, "each run has a limit"
    (tmp_path / "test_it.py").write_text(HANGING)
    run = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, "-p", "no:schemathesis"]
    done = subprocess.run([*run, "--timeout", "0.5"], cwd=tmp_path, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout
    assert "Failed: Timeout (>0.5s)" in done.stdout
    assert "in wait_for_ever" in done.stdout


def test_generated_cases_do_not_depend_on_the_loaded_modules(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pytestconfig.getoption("circle") == "proof":
        pytest.skip("other cases in each run")

    def generated() -> list[int]:
        found = list[int]()
        settings(max_examples=200, database=None)(given(some.integers())(lambda n: found.append(n)))()
        return found

    before = generated()
    (tmp_path / "numbers_of_test_circles.py").write_text(f"NUMBERS = {list(range(70_001, 70_200))}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("numbers_of_test_circles")
    after = generated()
    del sys.modules["numbers_of_test_circles"]
    assert after == before
