"""Formats text for a terminal: its width, cuts and colours. Standard library only.

No background colour is assumed: colours are the terminal's own, and each colour only repeats what a word says.
"""

import os
import unicodedata

COLOURS = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36",
}  # fmt: skip
ELLIPSIS, PLAIN_ELLIPSIS = "…", "~"
"""The mark at the end of a cut text, one cell wide. The second is for encodings without the first."""
DEFAULT_WIDTH = 80


def safe(text: str) -> str:
    """The text on one line, with control characters and bidirectional marks escaped."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in text
    )


def cells(text: str) -> int:
    """The columns that a text takes: East Asian wide characters take two, combining marks none."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def cut(text: str, width: int, ellipsis: str = ELLIPSIS) -> str:
    """The text, cut to `width` columns. A cut text ends with `ellipsis`."""
    if len(text) <= width and text.isascii():
        return text
    if cells(text) <= width:
        return text
    kept, spare = 0, width - 1
    for character in text:
        spare -= _cells_of(character)
        if spare < 0:
            break
        kept += 1
    return text[:kept] + ellipsis if width > 0 else ""


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text, padded with blanks to a width, on the right or on the left."""
    blanks = " " * (width - cells(text))
    return blanks + text if right else text + blanks


def paint(text: str, *colours: str) -> str:
    """The text in these colours."""
    codes = ";".join(COLOURS[colour] for colour in colours if colour)
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def width_of(descriptor: int) -> int:
    """The width of the terminal at a descriptor. The variable `COLUMNS` has precedence."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given[:6]) > 0:
        return int(given[:6])
    try:
        return os.get_terminal_size(descriptor).columns or DEFAULT_WIDTH
    except (OSError, ValueError):
        return DEFAULT_WIDTH


def height_of(descriptor: int) -> int:
    """The height of the terminal at a descriptor. The variable `LINES` has precedence."""
    given = os.environ.get("LINES", "")
    if given.isdecimal() and int(given[:6]) > 0:
        return int(given[:6])
    try:
        return os.get_terminal_size(descriptor).lines or 24
    except (OSError, ValueError):
        return 24


def _cells_of(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
