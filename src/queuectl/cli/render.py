"""Values as text: JSON, tables, ages. Nothing here prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from queuectl.cli.session import Session

_encode = msgspec.json.Encoder().encode

STATE_COLOURS = {
    "pending": "cyan",
    "processing": "yellow",
    "completed": "green",
    "failed": "magenta",
    "dead": "red",
    "cancelled": "bright_black",
    "blocked": "blue",
    "held": "blue",
}


def to_json(document: Any) -> str:
    """One line of JSON."""
    return _encode(document).decode()


def to_pretty_json(document: Any) -> str:
    """Indented JSON, for documents that people read."""
    return msgspec.json.format(_encode(document), indent=2).decode()


def safe(text: str) -> str:
    """Text on one line that a terminal cannot mistake for an order: controls and bidi marks are escaped."""
    return "".join(
        c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in text
    )


def shorten(text: str, width: int) -> str:
    """At most `width` characters, the end cut off visibly."""
    return text if len(text) <= width else text[: width - 1] + "…"


GIVES_WAY = frozenset(("command", "error", "queue", "tags", "batch", "queues", "name"))
"""Columns that are cut where there is no room; the others tell things apart and are shown whole or not at all."""
NARROWEST = 10


def table(
    session: "Session", columns: Sequence[str], rows: Sequence[Sequence[str]], dispensable: Sequence[str] = ()
) -> None:
    """Rows for eyes on a terminal; elsewhere one line each, tabs between, no heading, nothing cut.

    On a narrow terminal the dispensable columns are left out, the first of them first.
    """
    if not session.on_terminal:
        session.out.writelines("\t".join(map(safe, row)) + "\n" for row in rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        file=session.out, no_color=not session.in_colour, force_terminal=session.in_colour, highlight=False
    )
    shown = _fitting(columns, rows, dispensable, console.width)
    sheet = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for at in shown:
        sheet.add_column(
            columns[at].upper(), no_wrap=True, overflow="ellipsis", min_width=_least(columns, rows, at)
        )
    for row in rows:
        sheet.add_row(*(Text(safe(row[at]), style=STATE_COLOURS.get(row[at], "")) for at in shown))
    console.print(sheet)


def _fitting(
    columns: Sequence[str], rows: Sequence[Sequence[str]], dispensable: Sequence[str], width: int
) -> list[int]:
    shown = list(range(len(columns)))
    for column in dispensable:
        if sum(_least(columns, rows, at) + 3 for at in shown) <= width:
            break
        shown = [at for at in shown if columns[at] != column]
    return shown


def _least(columns: Sequence[str], rows: Sequence[Sequence[str]], at: int) -> int:
    """The width below which a column says nothing any more."""
    longest = max([len(columns[at]), *(len(row[at]) for row in rows)])
    return min(longest, NARROWEST) if columns[at] in GIVES_WAY else longest


def fields(session: "Session", pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line, the values in one column."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        session.print(f"{name + ':':<{width + 2}}{value}" if value else f"{name}:")
