"""The two streams of a command. If stdout (`Data`) cannot be written, the command fails; stderr (`Talk`) may be lost.

A character that is not in the encoding of the stream is written as its number (`\\u2013`).
"""

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from queuectl.errors import CommandFailed

UTF_8 = frozenset(("utf-8", "utf8"))


class OutputLost(CommandFailed):
    """The data of a command could not be written. The hint names the changes that the command has already made."""

    def __init__(self, error: OSError | None) -> None:
        reason = "stdout is closed" if error is None else error.strerror or str(error)
        super().__init__(f"the output could not be written: {reason}")


class Data:
    """Writes to stdout. A failed write raises OutputLost, a closed pipe BrokenPipeError."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.encoding = (getattr(stream, "encoding", None) or "utf-8").lower()

    def write(self, text: str) -> None:
        """Write text. A character that is not in the encoding is written as its number."""
        if not text:
            return
        if self.stream is None:
            raise OutputLost(None)
        try:
            self.stream.write(encodable(text, self.stream))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLost(error) from error

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts. They contain their line ends."""
        for line in lines:
            self.write(line)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes unchanged, after all earlier text."""
        self.flush()
        if self.stream is None:
            raise OutputLost(None)
        try:
            self.stream.buffer.write(data)
            self.stream.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLost(error) from error

    def flush(self) -> None:
        """Write all buffered text. Only this call detects that a file or a pipe does not accept it."""
        if self.stream is None:
            return
        try:
            self.stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLost(error) from error

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        """The descriptor, for queries about the terminal. Returns -1 if the stream has none."""
        try:
            return -1 if self.stream is None else self.stream.fileno()
        except ValueError:
            return -1

    def takes(self, text: str) -> bool:
        """Whether the encoding of the stream has all characters of this text."""
        return _has(text, self.encoding)


class Talk(Data):
    """Writes to stderr. Text that cannot be written is lost: a full disk or a closed stderr does not stop a command."""

    def write(self, text: str) -> None:
        """Write text. Ignores an error of the stream."""
        try:
            super().write(text)
        except (OSError, OutputLost):
            self.stream = None

    def flush(self) -> None:
        """Write the buffered text. Ignores an error of the stream."""
        try:
            super().flush()
        except (OSError, OutputLost):
            self.stream = None


def encodable(text: str, stream: TextIO) -> str:
    """The text, with lone surrogates and characters that are not in the stream's encoding written as numbers."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if text.isascii() or _has(text, encoding):
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)


def as_json_for(encoding: str, text: str) -> str:
    """A JSON document for a stream: ASCII if the stream's encoding is not UTF-8, because JSON is UTF-8."""
    if encoding in UTF_8 or text.isascii():
        return text
    return "".join(c if c.isascii() else _escape(c) for c in text)


def take_standard_streams() -> None:
    """Open descriptors 0, 1 and 2 if they are closed. Otherwise the database would get one of these numbers.

    In this case Python has set `sys.stdin`, `sys.stdout` or `sys.stderr` to None. A closed stdin then reads as empty.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  for the rest of the process


def abandon_stdout() -> None:
    """Discard the buffered text of stdout, so that no later flush fails again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _has(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape(character: str) -> str:
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
