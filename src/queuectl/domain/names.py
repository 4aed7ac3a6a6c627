"""One rule for the names that people choose: for jobs (ids), queues, tags, batches and workers.

A valid name needs no quoting in a URL, a file name or a shell word. Only new names are checked: names that were
stored before this rule can still be read, selected and edited.
"""

from queuectl.errors import InvalidInput

LONGEST = 128
RULE = f"a letter or digit, then letters, digits and . _ : -, at most {LONGEST} characters"
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | frozenset("._:-")


def is_name(text: str) -> bool:
    """Whether a text is a valid name."""
    return 0 < len(text) <= LONGEST and text[0] in _FIRST and _REST.issuperset(text)


def check_name(what: str, name: str) -> str:
    """Return the name if it is valid, otherwise raise InvalidInput. `what`: the word for it in the error."""
    if is_name(name):
        return name
    shown = name if len(name) <= 40 else name[:40] + "…"
    raise InvalidInput(f"{what} {shown!r} is not allowed", RULE)
