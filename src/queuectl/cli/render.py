"""Prints tables and lists of values: laid out for a terminal, or as lines for programs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from queuectl.terminal import cells, cut, pad, paint, safe

if TYPE_CHECKING:
    from queuectl.cli.session import Session

STATE_COLOURS = {
    "pending": "cyan",
    "processing": "yellow",
    "completed": "green",
    "failed": "magenta",
    "dead": "red",
    "cancelled": "dim",
    "blocked": "blue",
    "held": "blue",
}


FLEXIBLE = {"command": 24, "error": 16, "queue": 8, "tags": 8, "batch": 8, "queues": 8, "name": 8, "id": 26}
"""Columns that may be cut, and their minimum widths. Another column is shown completely or omitted."""
TO_THE_RIGHT = frozenset(
    ("number", "took", "attempt", "code", "cpu", "max rss", "output", "duration", "priority")
)
GAP = 2


def table(
    session: "Session", columns: Sequence[str], rows: Sequence[Sequence[str]], dispensable: Sequence[str] = ()
) -> None:
    """Print rows: as a table on a terminal; otherwise one line per row with tabs, without heading and cutting.

    On a narrow terminal dispensable columns are omitted, in the given order.
    """
    if not session.on_terminal:
        session.out.writelines("\t".join(map(safe, row)) + "\n" for row in rows)
        return
    session.out.writelines(line + "\n" for line in lay_out(session, columns, rows, dispensable))


def lay_out(
    session: "Session", columns: Sequence[str], rows: Sequence[Sequence[str]], dispensable: Sequence[str] = ()
) -> Iterator[str]:
    """The lines of a table with a heading, none wider than the terminal (unless --wide or -v is given)."""
    rows = [[safe(cell) for cell in row] for row in rows]
    natural = [max([len(name), *(cells(row[at]) for row in rows)]) for at, name in enumerate(columns)]
    if getattr(session.args, "wide", False) or session.args.verbose:
        widths = dict(enumerate(natural))
    else:
        widths = fit(columns, natural, session.width, dispensable)
    yield _line(session, columns, widths, {at: columns[at].upper() for at in widths}, heading=True)
    for row in rows:
        yield _line(session, columns, widths, {at: row[at] for at in widths})


def fit(
    columns: Sequence[str], natural: Sequence[int], width: int, dispensable: Sequence[str] = ()
) -> dict[int, int]:
    """The columns to show, with their widths: first omit the least important, then cut the flexible ones."""
    least = [min(n, FLEXIBLE.get(name, n)) for name, n in zip(columns, natural, strict=True)]
    shown = list(range(len(columns)))
    for column in dispensable:
        if sum(least[at] + GAP for at in shown) - GAP <= width:
            break
        shown = [at for at in shown if columns[at] != column]
    widths = {at: least[at] for at in shown}
    spare = max(width - sum(widths.values()) - GAP * (len(shown) - 1), 0)
    wanting = [at for at in shown if widths[at] < natural[at]]
    while spare and wanting:  # give the cut columns equal parts of the spare width
        part = max(spare // len(wanting), 1)
        for at in wanting:
            more = min(part, natural[at] - widths[at], spare)
            widths[at] += more
            spare -= more
        wanting = [at for at in wanting if widths[at] < natural[at]]
    if (over := sum(widths.values()) + GAP * (len(shown) - 1) - width) > 0:  # the minimum widths do not fit
        last = max(shown, key=lambda at: (columns[at] in FLEXIBLE, widths[at]))
        widths[last] = max(widths[last] - over, 1)
    return widths


def _line(
    session: "Session",
    columns: Sequence[str],
    widths: Mapping[int, int],
    texts: Mapping[int, str],
    heading: bool = False,
) -> str:
    parts, last = [], max(widths)
    for at, width in widths.items():
        text = cut(texts[at], width, session.ellipsis)
        right = columns[at] in TO_THE_RIGHT
        padded = text if at == last and not right else pad(text, width, right=right)
        colour = "bold" if heading else _colour_of(columns[at], texts[at])
        parts.append(paint(padded, colour) if session.in_colour and colour else padded)
    return (" " * GAP).join(parts).rstrip()


def _colour_of(column: str, text: str) -> str:
    return STATE_COLOURS.get(text, "") if column in ("state", "is") else "red" if column == "error" else ""


def fields(session: "Session", pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair per line. The values are aligned."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        session.print(f"{name + ':':<{width + 2}}{value}" if value else f"{name}:")


def wrapped(text: str, width: int, *, whole_words: bool = False) -> list[str]:
    """The text in lines of at most `width` columns. `whole_words`: do not break a longer word, such as a path."""
    from textwrap import wrap  # imported here, because only a terminal needs it

    return wrap(text, max(width, 10), break_on_hyphens=False, break_long_words=not whole_words)
