"""Errors of Redis and of the way there, in this product's words. The cause is kept by who raises."""

from redis import exceptions
from redis.exceptions import RedisError

from queuectl.errors import InvalidInput, OutcomeUnknown, QueuectlError, StoreUnavailable, StoreUnusable

_REPEAT = "repeating the same command is safe"
_LATER = "try again later"


class Place:
    """Says what went wrong with one store."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def unreachable(self, error: Exception) -> QueuectlError:
        """No connection came about: nothing was sent."""
        text = str(error)
        for words, kind, hint in (*_SAID, *_REFUSALS):
            if words in text:
                return kind(f"{self._shown}: {_reason(text)}", hint)
        return StoreUnavailable(f"{self._shown} cannot be reached: {_reason(text)}", _LATER)

    def lost(self, *, writing: bool) -> QueuectlError:
        """The connection broke, or stayed silent, after something was sent."""
        if writing:
            return OutcomeUnknown(f"{self._shown} did not answer: whether it was done is not known", _REPEAT)
        return StoreUnavailable(f"{self._shown} does not answer", _LATER)

    def said(self, error: RedisError) -> QueuectlError:
        """The server answered, and refused: nothing was changed."""
        text = str(error)
        if isinstance(error, exceptions.DataError):
            return InvalidInput(f"{self._shown}: {text}")
        for words, kind, hint in _SAID:
            if words in text:
                return kind(f"{self._shown}: {_reason(text)}", hint)
        return StoreUnusable(f"{self._shown}: Redis says: {_reason(text)}")


def _reason(text: str) -> str:
    """The sentence that matters."""
    line = text.splitlines()[0] if text else "no reason"
    return line.partition(". script:")[0].removeprefix("Error ").strip()


_Kind = type[StoreUnavailable] | type[StoreUnusable]
_PASSWORD = "look at user and password; in the URL, special characters are written as %XX"  # noqa: S105  advice
_PLACE = "does Redis run there? look at host and port"
_NAME = "look at the name of the host"
_WAY = "is that host up, and does its firewall let this one in? look at host and port"

_REFUSALS: tuple[tuple[str, _Kind, str], ...] = (
    ("Connection refused", StoreUnavailable, _PLACE),
    ("Name or service not known", StoreUnavailable, _NAME),
    ("nodename nor servname", StoreUnavailable, _NAME),
    ("No address associated", StoreUnavailable, _NAME),
    ("name resolution", StoreUnavailable, _NAME),
    ("SSL", StoreUnusable, "does the server speak TLS? rediss: asks for it, redis: does not"),
    ("No route to host", StoreUnavailable, _WAY),
    ("imed out", StoreUnavailable, _WAY),
    ("imeout", StoreUnavailable, _WAY),
)

_SAID: tuple[tuple[str, _Kind, str], ...] = (
    ("WRONGPASS", StoreUnusable, _PASSWORD),
    ("invalid username-password", StoreUnusable, _PASSWORD),
    ("invalid password", StoreUnusable, _PASSWORD),
    ("without any password configured", StoreUnusable, "leave the password out of the URL"),
    ("Authentication required", StoreUnusable, _PASSWORD),
    ("NOAUTH", StoreUnusable, _PASSWORD),
    ("NOPERM", StoreUnusable, "let an administrator run: ACL SETUSER NAME ~{queuectl}* &{queuectl}* +@all"),
    (
        "no permissions",
        StoreUnusable,
        "let an administrator run: ACL SETUSER NAME ~{queuectl}* &{queuectl}* +@all",
    ),
    ("DB index is out of range", StoreUnusable, "look at the number after the / of the URL"),
    ("OOM", StoreUnavailable, "raise maxmemory, or delete jobs: queuectl purge"),
    ("maxmemory", StoreUnavailable, "raise maxmemory, or delete jobs: queuectl purge"),
    ("read only replica", StoreUnusable, "connect to the primary"),
    ("READONLY", StoreUnusable, "connect to the primary"),
    ("LOADING", StoreUnavailable, "it reads its data from disk; " + _LATER),
    ("loading the dataset", StoreUnavailable, "it reads its data from disk; " + _LATER),
    ("MISCONF", StoreUnavailable, "the server cannot write to its disk: look at its log"),
    ("BUSY", StoreUnavailable, "another script runs; " + _LATER),
    ("CLUSTERDOWN", StoreUnavailable, _LATER),
    ("max number of clients", StoreUnavailable, "end idle clients, or raise maxclients"),
)
