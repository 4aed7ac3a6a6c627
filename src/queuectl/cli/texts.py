"""Reads text from files and stdin. Limits the size, and removes byte order marks and Windows line ends."""

import sys

from queuectl.errors import InvalidInput
from queuectl.service.request.checks import COMMAND_LIMIT

MARK = "\ufeff"
MARK_BYTES = MARK.encode()


def read(path: str, what: str, *, limit: int = COMMAND_LIMIT) -> bytes:
    """The bytes of a file, or of stdin for `-`. Raises InvalidInput for more than `limit` bytes.

    what  the option, as it is written: `--script`; empty for an argument
    """
    named = f"{what}: " if what else ""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(limit + 1)
    except OSError as error:
        raise InvalidInput(f"{named}cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        where = "stdin" if path == "-" else path
        raise InvalidInput(
            f"{named}{where} has more than {limit} bytes", "let the command read a file of its own"
        )
    return data


def read_text(path: str, what: str) -> str:
    """The text of a file. Bytes that are not UTF-8 become lone surrogates; some fields allow them."""
    text = read(path, what).removeprefix(MARK_BYTES).decode("utf-8", "surrogateescape")
    first = text.partition("\n")[0]
    return text.replace("\r\n", "\n") if first.endswith("\r") else text


def begins_json(text: str | bytes) -> bool:
    """Whether a text begins with a JSON object. `{ echo a; }` does not: it is a shell command."""
    head = text.lstrip()[:1024] if isinstance(text, str) else text.lstrip()[:1024].decode("latin-1")
    return head.startswith("{") and head[1:].lstrip()[:1] in ('"', "}")
