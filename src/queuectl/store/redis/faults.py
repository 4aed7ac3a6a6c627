"""The errors of Redis and of the network, as rows for the translator."""

import re

from redis import exceptions

from queuectl.errors import InvalidInput, OutcomeUnknown, QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.driver.faults import (
    ADDRESS,
    LATER,
    NETWORK,
    PASSWORD,
    REPEAT,
    ROUTE,
    UNREACHABLE,
    Row,
    Translator,
)
from queuectl.store.redis.address import Address

SPOKEN = (exceptions.BusyLoadingError, exceptions.AuthenticationError)
"""Errors that the library treats as a broken connection although the server has answered and changed nothing."""
BROKEN = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""Errors of a connection that broke, got no answer, or was not made."""
RIGHTS = (
    "+@string +@hash +@stream +exists +unlink +rename +pexpire "
    "+sadd +srem +sismember +smembers +sunion "
    "+zadd +zrem +zremrangebyscore +zcard +zcount +zlexcount +zrange +zrangebylex +zrangebyscore "
    "+zrevrangebyscore +zrank +zscore +zscan "
    "+eval +evalsha +publish +subscribe +ping +time +info +config|get +client|setname +cluster|slots +select"
)
"""The commands a user needs, as docs/redis.md lists them. Only additions: a hint must not take rights away that another
queue or program needs. @set and @sortedset are missing because they include SORT, which reads other keys."""

_ANOTHER_SERVER = ("READONLY", "read only replica", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED")


def is_doubtful(error: Exception) -> bool:
    """Whether after this error the address may lead to another server or to other data, on every connection."""
    return isinstance(error, BROKEN) or any(word in _text(error) for word in _ANOTHER_SERVER)


class RedisTranslator(Translator):
    """Translates errors of redis-py for one store."""

    def __init__(self, address: Address) -> None:
        # The hints grant one kind of right at a time: Redis refuses a key pattern for a user who may use all keys, and
        # a channel pattern likewise, and a user cannot ask which of them it has.
        grant = f"let an administrator run: ACL SETUSER {address.user or 'default'}"
        super().__init__(
            address.shown,
            {
                "product": "Redis",
                "tls": "does the server speak TLS? rediss: uses it, redis: does not",
                "commands": f"{grant} {RIGHTS}",
                "keys": f"{grant} '~{address.tag}*'",
                "channels": f"{grant} '&{address.tag}*'",
            },
        )
        self.connecting = (*ANSWERS, *(_TLS_SILENCE if address.tls else ()), *NETWORK)

    def refused(self, error: Exception) -> QueuectlError:
        """The error if the server answered with an error and changed nothing."""
        if isinstance(error, exceptions.DataError):
            return InvalidInput(f"{self.shown}: {self.text(error)}")
        reason = self.reason(error)
        known = self.find(ANSWERS, error, self.text(error), reason)
        return known or StoreUnusable(f"{self.shown}: Redis says: {reason}")

    def partly(self, refusal: QueuectlError) -> QueuectlError:
        """The error for a refusal after a part of the verb was done."""
        return OutcomeUnknown(f"{refusal.message}; a part was done before", refusal.hint or REPEAT)

    def text(self, error: Exception) -> str:
        """The full text of the error. The library removes the first word of some errors."""
        return _text(error)

    def reason(self, error: Exception) -> str:
        """The relevant sentence, without the line number of a script and without the address."""
        text = _text(error)
        line = _DIALLED.sub("", text.splitlines()[0]) if text else "no reason"
        head, at, inner = line.partition("@user_script: ")
        if head.startswith("Error running script") and at:
            line = inner.partition(": ")[2].removeprefix("-")
        return line.partition(" script: on ")[0].removeprefix("Error ").strip().removesuffix(".")


def _text(error: Exception) -> str:
    code = getattr(error, "status_code", None)
    text = str(error)
    return f"{code} {text}" if code and code != "ERR" and not text.startswith(code) else text


_DIALLED = re.compile(r"^Error \d+ connecting to \S+\. ")
_TLS_SILENCE = (
    Row(("imed out", "Timeout "), StoreUnavailable, f"{ROUTE}; or does it not speak TLS?", UNREACHABLE),
)
"""The row for a server without TLS, which does not answer the handshake."""

ANSWERS = (
    Row(("WRONGPASS", "invalid username-password", "invalid password", "Authentication required", "NOAUTH"),
        StoreUnusable, PASSWORD),
    Row(("without any password configured",), StoreUnusable, "leave the password out of the URL"),
    # The texts of Redis 6.2, of later versions, and of both in a script.
    Row(("one of the channels", "to access a channel", "can't publish to the channel"), StoreUnusable, "{channels}"),
    Row(("one of the keys", "to access a key"), StoreUnusable, "{keys}"),
    Row(("NOPERM", "ACL failure in script", "The user executing the script can't"), StoreUnusable, "{commands}"),
    Row(("DENIED",), StoreUnusable, "give the server a password, or set the hosts it may listen to (bind)"),
    Row(("SELECT is not allowed in cluster",), StoreUnusable,
        "a cluster has only the database 0: end the URL with /0"),
    Row(("DB index is out of range",), StoreUnusable,
        "look at the number after the / of the URL; a cluster has only /0"),
    Row(("OOM",), StoreUnavailable, "raise maxmemory, or delete jobs: queuectl purge --older-than 1d"),
    Row(("NOREPLICAS",), StoreUnavailable,
        f"fewer replicas are connected than min-replicas-to-write requires; {LATER}"),
    Row(("LOADING",), StoreUnavailable, f"the server reads its data from disk; {LATER}"),
    Row(("MISCONF",), StoreUnavailable, "the server cannot write to its disk: look at its free space and its log"),
    Row(("busy running",), StoreUnavailable,
        f"another script runs there; {LATER}; if that script never ends, run: redis-cli SCRIPT KILL"),
    Row(("Script killed",), StoreUnavailable, LATER),
    Row(("READONLY", "read only replica", "MASTERDOWN"), StoreUnavailable,
        f"the server has become a read-only replica: {LATER}; if it stays one, connect to the primary"),
    Row(("CLUSTERDOWN",), StoreUnavailable,
        f"a node of the cluster is down; find it with: redis-cli CLUSTER NODES; {LATER}"),
    Row(("ASK ", "TRYAGAIN"), StoreUnavailable, f"the queue moves to another node of the cluster; {LATER}"),
    Row(("MOVED",), StoreUnavailable, f"the nodes of the cluster disagree about where the queue is; {LATER}"),
    Row(("max number of clients",), StoreUnavailable, "end idle clients, or raise maxclients"),
    Row(("unknown command", "Protocol Error", "Protocol error"), StoreUnusable, ADDRESS),
)  # fmt: skip
"""Errors that the server returns for a command."""
