"""Output of a command for a terminal: colours are kept; all other control sequences are shown as text."""

import codecs
import re
from typing import Literal

from queuectl.terminal import safe

Sgr = Literal["kept", "shown", "dropped"]
"""How to treat the sequences that set colours (SGR)."""

_SGR = re.compile(r"(\x1b\[[0-9;:]*m)")
_OPEN = re.compile(r"\x1b(\[[0-9;:]*)?\Z")
"""An incomplete control sequence at the end of a chunk. The next chunk may complete it."""
RESET = "\x1b[0m"
AGAIN = "\r\x1b[K"


class EyeText:
    """Converts the bytes of one stream to text. A character, sequence or line end may be split between two chunks.

    If a line was rewritten by carriage returns, its last text is shown. An unfinished line is kept back until its
    end; with `live` it is shown at once and rewritten in place.
    """

    def __init__(self, sgr: Sgr, *, live: bool = False) -> None:
        self._sgr, self._live = sgr, live
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._begun = False
        self._coloured = False

    def feed(self, data: bytes, final: bool = False) -> str:
        """Add bytes; return the text that can be shown now."""
        text = self._held + self._decoder.decode(data, final)
        *lines, self._held = text.split("\n")
        shown = "".join(self._line(line) + "\n" for line in lines)
        if final:
            rest, self._held = self._held, ""
            shown += self._line(rest)
            return shown + (RESET if self._coloured else "")
        return shown + (self._unfinished() if self._live else "")

    def _line(self, line: str) -> str:
        """A complete line, or the part of it that was not shown yet."""
        begun, self._begun = self._begun, False
        again = AGAIN if begun and "\r" in line.rstrip("\r") else ""
        return again + self._harmless(last_text(line))

    def _unfinished(self) -> str:
        """The new text of an unfinished line, or the whole line if it was rewritten."""
        cut = _OPEN.search(self._held)
        end = cut.start() if cut else len(self._held.rstrip("\r"))
        line, self._held = self._held[:end], self._held[end:]
        if not line:
            return ""
        again = AGAIN if self._begun and "\r" in line else ""
        self._begun = True
        return again + self._harmless(last_text(line))

    def _harmless(self, text: str) -> str:
        if "\x1b" not in text:
            return _shown(text)
        parts = _SGR.split(text)  # every second part is a sequence
        if self._sgr == "shown":
            return _shown(text)
        if self._sgr == "dropped":
            return "".join(map(_shown, parts[::2]))
        self._coloured = self._coloured or len(parts) > 1
        return "".join(part if at % 2 else _shown(part) for at, part in enumerate(parts))


def last_text(line: str) -> str:
    """The last text of a rewritten line, in the colour that was set before this text."""
    if "\r" not in line:
        return line
    texts = [text for text in line.split("\r") if text]
    if not texts:
        return ""
    colours = [found for text in texts[:-1] for found in _SGR.findall(text)[-1:]]
    return "".join(colours[-1:]) + texts[-1]


def _shown(text: str) -> str:
    """The text with control characters and bidirectional marks made visible. Tabs are unchanged."""
    return (
        text if text.isprintable() else "".join(c if c.isprintable() or c == "\t" else safe(c) for c in text)
    )
