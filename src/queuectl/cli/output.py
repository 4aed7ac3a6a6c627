"""The two streams of a command. If data (stdout) cannot be written the command fails; talk (stderr) may be lost.

A character that the encoding of the stream lacks is written as its number (`\\u2013`).
"""

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from queuectl.errors import CommandFailed

UTF_8 = frozenset(("utf-8", "utf8"))


class OutputLost(CommandFailed):
    """The data of a command could not be written. The hint says what the command had done by then."""

    def __init__(self, error: OSError | None) -> None:
        reason = "stdout is closed" if error is None else error.strerror or str(error)
        super().__init__(f"the output could not be written: {reason}")


class Data:
    """stdout. A write that fails raises OutputLost; a reader that has gone is a BrokenPipeError."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.encoding = (getattr(stream, "encoding", None) or "utf-8").lower()

    def write(self, text: str) -> None:
        """Text, what the encoding lacks as numbers."""
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
        """Several texts; they bring their line ends."""
        for line in lines:
            self.write(line)

    def write_bytes(self, data: bytes) -> None:
        """The bytes as they are, after the text that was written before."""
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
        """Hand everything to the system: only now is it known whether a file or a pipe took it."""
        if self.stream is None:
            return
        try:
            self.stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLost(error) from error

    def isatty(self) -> bool:
        """Whether a person reads."""
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        """The descriptor, for questions about the terminal; -1 where there is none."""
        try:
            return -1 if self.stream is None else self.stream.fileno()
        except ValueError:
            return -1

    def takes(self, text: str) -> bool:
        """Whether the encoding has all these characters."""
        return _has(text, self.encoding)


class Talk(Data):
    """stderr. What cannot be written is lost: a full disk or a closed stderr does not stop the work."""

    def write(self, text: str) -> None:
        """Text, as far as somebody takes it."""
        try:
            super().write(text)
        except (OSError, OutputLost):
            self.stream = None

    def flush(self) -> None:
        """The same for what is buffered."""
        try:
            super().flush()
        except (OSError, OutputLost):
            self.stream = None


def encodable(text: str, stream: TextIO) -> str:
    """The text with every character that the stream's encoding lacks, or that is half of a pair, as its number."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if text.isascii() or _has(text, encoding):
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)


def as_json_for(encoding: str, text: str) -> str:
    """A JSON document for a stream: JSON is UTF-8, so on a stream of another encoding it has to be ASCII."""
    if encoding in UTF_8 or text.isascii():
        return text
    return "".join(c if c.isascii() else _escape(c) for c in text)


def take_standard_streams() -> None:
    """Occupy descriptors 0, 1 and 2 where they are closed, else the database would get such a number.

    Python has then set `sys.stdin`, `sys.stdout` or `sys.stderr` to None. Reading from a closed stdin finds nothing.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  for the rest of the process


def abandon_stdout() -> None:
    """Give up stdout: what is still buffered goes nowhere, and no later flush fails once more."""
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
