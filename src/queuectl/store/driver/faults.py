"""Translates the errors of client libraries into our own errors, with tables.

A client library raises errors in its own words. A user needs the store's name, the reason, and what to do next. Each
driver has a table of rows, and a `Translator` searches it for an error. The first row that fits is used, so a row with
a specific sentence comes before a row with a word that other sentences contain too. The rows about the network are the
same for every server, so they are here. The caller raises the result `from` the error, which keeps the cause.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from queuectl.errors import OutcomeUnknown, QueuectlError, StoreUnavailable, StoreUnusable

REPEAT = "repeating the same command is safe"
LATER = "try again later"
PASSWORD = "look at user and password; in the URL, special characters are written as %XX"  # noqa: S105  advice
HOST = "look at the name of the host"
ADDRESS = "does {product} run there? look at host and port"
ROUTE = "is that host up, and does its firewall let this one in? look at host and port"
REPORT = "this is a fault of queuectl; please report it"

ANSWERED = "{shown}: {reason}"
UNREACHABLE = "{shown} cannot be reached: {reason}"


class Row(NamedTuple):
    """One known fault.

    when     the row fits if any of these matches: words in the library's text, classes of its errors, server codes
    kind     the queuectl error to raise
    hint     what the user can do; the translator replaces names in braces
    message  what happened, with `{shown}` (the store without its password) and `{reason}` (the library's sentence)
    """

    when: tuple[str | int | type[Exception], ...]
    kind: type[QueuectlError]
    hint: str
    message: str = ANSWERED

    def fits(self, error: Exception, text: str) -> bool:
        """Whether the row describes this error with this full text."""
        for one in self.when:
            if isinstance(one, str):
                found = one in text
            elif isinstance(one, int):
                found = getattr(error, "code", None) == one
            else:
                found = isinstance(error, one)
            if found:
                return True
        return False


NETWORK = (
    Row(("SSL", "certificate"), StoreUnusable, "{tls}", UNREACHABLE),
    Row(("Connection refused",), StoreUnavailable, ADDRESS, UNREACHABLE),
    Row(("Name or service not known", "nodename nor servname", "No address associated", "name resolution",
         "resolve host", "translate host name"), StoreUnavailable, HOST, UNREACHABLE),
    Row(("No such file or directory",), StoreUnavailable, "does {product} run here? look at the path of its socket",
        UNREACHABLE),
    Row(("Network is unreachable",), StoreUnavailable,
        "this host has no route to that network; an address that contains : needs IPv6", UNREACHABLE),
    Row(("No route to host", "imed out", "timeout expired", "Timeout "), StoreUnavailable, ROUTE, UNREACHABLE),
    Row(("Connection reset",), StoreUnavailable, f"the server or a firewall closed the connection; {LATER}",
        UNREACHABLE),
)  # fmt: skip
"""Faults of the network, for every server: TLS, no listener, unknown name, no route, no answer, a reset."""


class Translator:
    """Translates the errors of one store's client library. A driver subclasses it and adds its rows.

    `names` are the values for the braces in hints: at least `product`, and `tls` (what to do about a failed handshake).
    """

    connecting: Sequence[Row] = NETWORK

    def __init__(self, shown: str, names: Mapping[str, str]) -> None:
        self.shown = shown
        self._names = {"shown": shown, **names}

    def find(
        self, rows: Sequence[Row], error: Exception, text: str, reason: str, **names: str
    ) -> QueuectlError | None:
        """Our error for the first row that fits the error or its text, or None if no row fits."""
        for row in rows:
            if row.fits(error, text):
                values = {**self._names, "reason": reason, **names}
                return row.kind(row.message.format_map(values), row.hint.format_map(values) or None)
        return None

    def unreachable(self, error: Exception) -> QueuectlError:
        """The error if no connection was made, so that nothing was sent."""
        text, reason = self.text(error), self.reason(error)
        known = self.find(self.connecting, error, text, reason)
        return known or StoreUnavailable(f"{self.shown} cannot be reached: {reason}", LATER)

    def lost(self, *, writing: bool) -> QueuectlError:
        """The error if the connection broke, or the server did not answer, after something was sent."""
        if writing:
            return OutcomeUnknown(
                f"{self.shown} did not answer: it is unknown whether the change was made", REPEAT
            )
        return StoreUnavailable(f"{self.shown} does not answer", LATER)

    def text(self, error: Exception) -> str:
        """The full text of the error. The words of the rows are searched in this text."""
        return str(error)

    def reason(self, error: Exception) -> str:
        """The sentence of the error that a user needs."""
        return str(error)
