"""The source follows the glossary in `docs/words.md`: the named modules exist, and no name uses a forbidden word."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "queuectl"
GLOSSARY = (ROOT / "docs" / "words.md").read_text("utf-8")
ROWS = re.findall(r"^\| (?!term|---)(.+?) \| (.+?) \| (.+?) \|$", GLOSSARY, re.MULTILINE)
FORBIDDEN = frozenset(re.findall(r"`(\w+)`", GLOSSARY.rpartition("## Words that are not used")[2]))


def names() -> Iterator[tuple[str, str]]:
    """Each name of a module, class or function, with its file."""
    for path in sorted(SOURCE.rglob("*.py")):
        where = str(path.relative_to(SOURCE))
        yield where, path.stem
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield f"{where}:{node.lineno}", node.name


def words(name: str) -> list[str]:
    """The words of a name: `ClaimPolicy` and `claim_policy` are `claim` and `policy`."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)]


def test_the_glossary_has_enough_terms() -> None:
    assert len(ROWS) >= 40
    assert len(FORBIDDEN) >= 20


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_module_of_each_term_exists(row: tuple[str, str, str]) -> None:
    for place in re.findall(r"`([\w./]+)`", row[2]):
        assert (SOURCE / place).exists(), f"{row[0]}: there is no {place}"


def test_no_term_has_two_rows() -> None:
    terms = [term for row in ROWS for term in row[0].split(", ")]
    assert sorted(terms) == sorted(set(terms))


def test_no_name_uses_a_forbidden_word() -> None:
    assert not [(where, name) for where, name in names() if FORBIDDEN.intersection(words(name))]


def test_each_module_of_the_walk_through_the_code_exists() -> None:
    walk = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    stops = re.findall(r"`([a-z_]+(?:/[a-z_]+)*/[a-z_]+\.py)", walk)
    assert len(set(stops)) > 25
    assert not [stop for stop in stops if not (SOURCE / stop).exists() and not (ROOT / stop).exists()]
