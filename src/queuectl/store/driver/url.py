"""Checks the URL of a store on a server, so that a part of a password is never used as another part of the URL.

A password may contain `/`, `@`, `?` or `#`, and people forget to write such a character as `%XX`. The URL then splits
at the wrong place, and what looks like a host, a path or an option is a part of the password. Every such URL is
refused, and the error repeats no part of it and keeps no cause, because any part of the URL may be secret. Shown by
`tests/stores/test_urls.py` and `test_secrets.py`.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import SplitResult, parse_qsl, urlsplit

from queuectl.errors import InvalidInput

HIGHEST_PORT, LONGEST_PORT = 65535, 9
ENCODE = "a character in it must be written as %XX"
UNFIT = re.compile(r"[\s\x00-\x1f]|%(?![0-9A-Fa-f]{2})|%00")
"""Characters that must be escaped in every part of a URL."""

Options = list[tuple[str, str]]


class UrlFormat:
    """The format of the URLs of one driver. Errors show `example`."""

    def __init__(self, example: str) -> None:
        self._example = example

    def refusal(self, why: str) -> InvalidInput:
        """The error for a URL that may have been split at the wrong place."""
        return InvalidInput(
            f"the store's URL cannot be read: {why}",
            f"write {self._example}; in a password, # is written %23, @ %40, / %2F, % %25",
        )

    def split(self, url: str) -> SplitResult:
        """Split a URL with one host into its parts."""
        try:
            split = urlsplit(url)
        except ValueError:
            raise self.refusal(ENCODE) from None
        self.require([(url.startswith(f"{split.scheme}://"), "// is missing after the scheme")])
        return split

    def check(self, url: str, split: SplitResult) -> None:
        """Refuse a URL whose password contains a raw `#`, `@`, `/` or `?`."""
        self.require(
            [
                ("#" not in url, "it contains a #"),
                (split.netloc.count("@") < 2, "it contains more than one @"),
                ("@" not in split.path, "it contains a / before the @"),
                ("@" not in split.query or split.path, "it contains a ? before the @, or no / before the ?"),
            ]
        )

    def require(self, rules: Iterable[tuple[object, str]]) -> None:
        """Refuse the URL if it breaks one of these rules."""
        for holds, why in rules:
            if not holds:
                raise self.refusal(why)

    def options(self, query: str) -> Options:
        """The options after the `?`, in order."""
        try:
            return parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise self.refusal("the part after the ? must be name=value&name=value") from None

    def port(self, text: str) -> int:
        """Convert the text of a port to a number."""
        if len(text) > LONGEST_PORT or not text.isdecimal() or not 0 < int(text) <= HIGHEST_PORT:
            raise self.refusal(f"the port must be a number from 1 to {HIGHEST_PORT}")
        return int(text)


def choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an invalid value of an option. The error does not repeat it, because it may be a part of a password."""
    if value not in allowed:
        hint = " or ".join(f"{name}={word}" for word in allowed)
        raise InvalidInput(f"the value of {name} in the store's URL is unknown", f"write {hint}")


def unknown_option(name: str, known: Collection[str], *, secret: bool) -> InvalidInput:
    """The error for an option that does not exist, with the nearest name.

    `secret`: not even the name is repeated, because what looks like an option may be a part of a password.
    """
    import difflib  # imported here, because only an error needs it

    which = "an option" if secret else f"the option {name!r}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return InvalidInput(f"{which} in the store's URL is unknown", hint)
