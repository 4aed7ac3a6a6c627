"""Errors of Redis and of the way there, in this product's words. The cause is kept by who raises."""

import re

from redis import exceptions

from queuectl.errors import InvalidInput, OutcomeUnknown, QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.redis.address import Address

SPOKEN = (exceptions.BusyLoadingError, exceptions.AuthenticationError)
"""The library takes these for a broken connection, but the server has answered, and done nothing."""
BROKEN = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""A connection that broke, stayed silent, or did not come about."""
RIGHTS = (
    "+@string +@hash +@stream +exists +type +unlink +rename +scan +pexpire "
    "+sadd +srem +sismember +smembers +sunion +sscan "
    "+zadd +zrem +zremrangebyscore +zcard +zcount +zlexcount +zmscore +zrange +zrangebylex +zrangebyscore "
    "+zrevrangebyscore +zrank +zscore +zscan "
    "+eval +evalsha +publish +subscribe +ping +time +info +config|get +client|setname +cluster|slots +select"
)
"""The commands a user needs, as docs/redis.md lists them. Only additions: a hint must not take from a user what another
queue or program needs. @set and @sortedset are not in it, because they include SORT, which reads keys of others."""

_REPEAT = "repeating the same command is safe"
_LATER = "try again later"


_ELSEWHERE = ("READONLY", "read only replica", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED")


def is_doubtful(error: Exception) -> bool:
    """Whether the server may be another one from now on, or have other data: over other connections, too."""
    return isinstance(error, BROKEN) or any(word in _text(error) for word in _ELSEWHERE)


_DIALLED = re.compile(r"^Error \d+ connecting to \S+\. ")


class Place:
    """Says what went wrong with one store."""

    def __init__(self, address: Address) -> None:
        self._shown = address.shown
        # One kind of right at a time: Redis refuses a pattern of keys for a user who may use all keys, and one of
        # channels likewise, and a user cannot ask what it has.
        grant = f"let an administrator run: ACL SETUSER {address.user or 'default'}"
        self._own = {
            _GRANT: f"{grant} {RIGHTS}",
            _KEYS: f"{grant} '~{address.tag}*'",
            _CHANNELS: f"{grant} '&{address.tag}*'",
        }
        if address.tls:
            self._own[_WAY] = f"{_WAY}; or does it not speak TLS?"

    def unreachable(self, error: Exception) -> QueuectlError:
        """No connection came about: nothing was sent."""
        text = _text(error)
        away = f"{self._shown} cannot be reached: {_reason(text)}"
        return (
            self._known(text, _SAID)
            or next(
                (kind(away, self._own.get(hint, hint)) for words, kind, hint in _REFUSALS if words in text),
                None,
            )
            or StoreUnavailable(away, _LATER)
        )

    def lost(self, *, writing: bool) -> QueuectlError:
        """The connection broke, or stayed silent, after something was sent."""
        if writing:
            return OutcomeUnknown(f"{self._shown} did not answer: whether it was done is not known", _REPEAT)
        return StoreUnavailable(f"{self._shown} does not answer", _LATER)

    def said(self, error: Exception) -> QueuectlError:
        """The server answered, and refused: nothing was changed."""
        text = _text(error)
        if isinstance(error, exceptions.DataError):
            return InvalidInput(f"{self._shown}: {text}")
        return self._known(text, _SAID) or StoreUnusable(f"{self._shown}: Redis says: {_reason(text)}")

    def partly(self, refusal: QueuectlError) -> QueuectlError:
        """The server refused, but it had done a part of what was asked before."""
        return OutcomeUnknown(f"{refusal.message}; a part was done before", refusal.hint or _REPEAT)

    def _known(self, text: str, sayings: "tuple[_Saying, ...]") -> QueuectlError | None:
        for words, kind, hint in sayings:
            if words in text:
                return kind(f"{self._shown}: {_reason(text)}", self._own.get(hint, hint))
        return None


def _text(error: Exception) -> str:
    """All of it: the library takes the first word away where it knows it."""
    code = getattr(error, "status_code", None)
    text = str(error)
    return f"{code} {text}" if code and code != "ERR" and not text.startswith(code) else text


def _reason(text: str) -> str:
    """The sentence that matters: not where in a script it was, nor once more where it led."""
    line = _DIALLED.sub("", text.splitlines()[0]) if text else "no reason"
    head, at, inner = line.partition("@user_script: ")
    if head.startswith("Error running script") and at:
        line = inner.partition(": ")[2].removeprefix("-")
    return line.partition(" script: on ")[0].removeprefix("Error ").strip().removesuffix(".")


_Kind = type[StoreUnavailable] | type[StoreUnusable]
_Saying = tuple[str, _Kind, str]
_GRANT, _KEYS, _CHANNELS = "the commands of this user", "the keys of this user", "the channels of this user"
_PASSWORD = "look at user and password; in the URL, special characters are written as %XX"  # noqa: S105  advice
_PLACE = "does Redis run there? look at host and port"
_NAME = "look at the name of the host"
_WAY = "is that host up, and does its firewall let this one in? look at host and port"
_ROOM = "raise maxmemory, or delete jobs: queuectl purge --older-than 1d"
_READS = f"it reads its data from disk; {_LATER}"
_MOVES = f"it moves to another node of the cluster; {_LATER}"
_REPLICA = f"it has become a read-only replica: {_LATER}, and if it stays one, connect to the primary"
_BUSY = f"another script runs there; {_LATER}, and if it never ends, run: redis-cli SCRIPT KILL"

_REFUSALS: tuple[_Saying, ...] = (
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

_SAID: tuple[_Saying, ...] = (
    ("WRONGPASS", StoreUnusable, _PASSWORD),
    ("invalid username-password", StoreUnusable, _PASSWORD),
    ("invalid password", StoreUnusable, _PASSWORD),
    ("without any password configured", StoreUnusable, "leave the password out of the URL"),
    ("Authentication required", StoreUnusable, _PASSWORD),
    ("NOAUTH", StoreUnusable, _PASSWORD),
    # Redis 6.2, later ones, and what either says of a script.
    ("one of the channels", StoreUnusable, _CHANNELS),
    ("to access a channel", StoreUnusable, _CHANNELS),
    ("can't publish to the channel", StoreUnusable, _CHANNELS),
    ("one of the keys", StoreUnusable, _KEYS),
    ("to access a key", StoreUnusable, _KEYS),
    ("NOPERM", StoreUnusable, _GRANT),
    ("ACL failure in script", StoreUnusable, _GRANT),
    ("The user executing the script can't", StoreUnusable, _GRANT),
    ("DENIED", StoreUnusable, "give the server a password, or say which hosts it may listen to (bind)"),
    ("SELECT is not allowed in cluster", StoreUnusable, "a cluster has only the database 0: end the URL with /0"),
    ("DB index is out of range", StoreUnusable, "look at the number after the / of the URL; a cluster has only /0"),
    ("OOM", StoreUnavailable, _ROOM),
    ("READONLY", StoreUnavailable, _REPLICA),
    ("read only replica", StoreUnavailable, _REPLICA),
    ("NOREPLICAS", StoreUnavailable, f"fewer replicas are there than min-replicas-to-write asks for; {_LATER}"),
    ("LOADING", StoreUnavailable, _READS),
    ("MISCONF", StoreUnavailable, "the server cannot write to its disk: look at the room there, and at its log"),
    ("busy running", StoreUnavailable, _BUSY),
    ("Script killed", StoreUnavailable, _LATER),
    ("MASTERDOWN", StoreUnavailable, _REPLICA),
    ("CLUSTERDOWN", StoreUnavailable,
     f"a node of the cluster is away: redis-cli CLUSTER NODES tells which; {_LATER}"),
    ("ASK ", StoreUnavailable, _MOVES),
    ("TRYAGAIN", StoreUnavailable, _MOVES),
    ("MOVED", StoreUnavailable, f"the nodes of the cluster do not agree where it is; {_LATER}"),
    ("max number of clients", StoreUnavailable, "end idle clients, or raise maxclients"),
    ("unknown command", StoreUnusable, _PLACE),
    ("Protocol Error", StoreUnusable, _PLACE),
    ("Protocol error", StoreUnusable, _PLACE),
)  # fmt: skip
