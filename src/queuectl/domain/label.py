"""The label of a job: the program that it runs, unless the request names a label.

Figures are counted per label, so the label must not contain what differs from job to job, such as a file name.
"""

import re
from functools import lru_cache
from itertools import islice

from queuectl.domain.job import LONGEST_LABEL, Spec

FIRST, WORDS = 200, 20
"""Characters of the first word, and number of words of a command, among which the program is searched."""

UNKNOWN = "unknown"
"""The label of a command in which no program can be found."""

_WRAPPERS = {
    "sudo": frozenset("ugCDhprtTUR"),
    "env": frozenset("uCS"),
    "nice": frozenset("n"),
    "time": frozenset("fo"),
}
"""Programs that run another program, and their options that have a value."""
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_PLAIN = re.compile(r"(?:[\w.+-]*/)*([\w.+-]{1,64})", re.ASCII)
"""The first word of a command that begins with a program, as usual."""
_WORD = re.compile(r"""(?:[^\s'"\\]|'[^']*'|"(?:\\.|[^"\\])*"|\\.)+""", re.DOTALL)
_QUOTES = re.compile(r"""["'\\]""")
_CONTROL = re.compile(r"[;|&<>()`].*", re.DOTALL)


def label_of(spec: Spec) -> str:
    """The label of a job with this spec. A worker calls this for every attempt that ends."""
    if spec.label is not None:
        return spec.label
    if spec.command is None:
        return _program(spec.argv or ())
    first = spec.command[:FIRST].split(None, 1)
    if first and (name := _plain(first[0])) is not None:
        return name
    words = [_bare(word) for word in _words(spec.command)]
    return _program(tuple(filter(None, words)))


@lru_cache(1000)  # a worker runs the same programs again and again
def _plain(word: str) -> str | None:
    """The base name of a word that can only be a program; else None."""
    found = _PLAIN.fullmatch(word)
    return found[1] if found and found[1] not in _WRAPPERS and len(word) < FIRST else None


def _words(command: str) -> list[str]:
    """The first words of a shell command, with their quotes."""
    return [found[0] for found in islice(_WORD.finditer(command), WORDS)]


def _bare(word: str) -> str:
    """A word without its quotes, or up to the first character that has a meaning for the shell."""
    return _QUOTES.sub("", word) if _QUOTES.search(word) else _CONTROL.sub("", word.lstrip("({!"))


def _program(words: tuple[str, ...]) -> str:
    """The base name of the first word that is neither an assignment nor a wrapper with its options."""
    wrapper, has_value = "", False
    for word in words:
        if has_value:
            has_value = False
        elif wrapper and word.startswith("-"):
            has_value = len(word) == 2 and word[1] in _WRAPPERS[wrapper]
        elif not _ASSIGNMENT.match(word):
            name = word.rstrip("/").rpartition("/")[2]
            if name not in _WRAPPERS:
                return name[:LONGEST_LABEL] or UNKNOWN
            wrapper = name
    return wrapper or UNKNOWN
