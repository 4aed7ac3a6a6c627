"""One rule for the names that people give: of jobs (ids), queues, tags, batches and workers.

A name that fits stands in a URL, a file name and a shell word as it is. Only what makes a new name is checked: names
that are stored already, from before this rule, can still be read, selected and edited.
"""

from queuectl.errors import InvalidInput

LONGEST = 128
RULE = f"a letter or digit, then letters, digits and . _ : -, at most {LONGEST} characters"
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | frozenset("._:-")


def is_name(text: str) -> bool:
    """Whether a text is a name by this rule."""
    return 0 < len(text) <= LONGEST and text[0] in _FIRST and _REST.issuperset(text)


def check_name(what: str, name: str) -> str:
    """The name itself, if it is one; `what` says whose: `queue`. Raises InvalidInput."""
    if is_name(name):
        return name
    shown = name if len(name) <= 40 else name[:40] + "…"
    raise InvalidInput(f"{what} {shown!r} is not allowed", RULE)
