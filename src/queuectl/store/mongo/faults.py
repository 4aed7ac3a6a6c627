"""Errors of MongoDB and of the way there, in this product's words. The cause is kept by who raises."""

import json
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from bson.errors import BSONError
from pymongo import errors

from queuectl.errors import (
    Conflict,
    InvalidInput,
    OutcomeUnknown,
    QueuectlError,
    StoreUnavailable,
    StoreUnusable,
)
from queuectl.store.mongo.address import Address

DUPLICATE = 11000
_NOT_DONE = frozenset(
    (13, 18, 20, 72, 73, 2, 9, 14, 26, 40, 48, 66, 67, 85, 86, 96, 8000, 10334, 11000, 14031, 10107, 13435)
)
"""Codes with which a server refuses a command before it has changed anything."""

_REPEAT = "repeating the same command is safe"
_LATER = "try again later"


def duplicates(error: errors.BulkWriteError) -> dict[int, Any]:
    """The places of a batch that a unique index refused, with what the server says of each.

    Raises OperationFailure for any other refusal, and where nobody knows what became of the batch.
    """
    details: Any = error.details
    for concern in details.get("writeConcernErrors", ()):
        raise errors.WriteConcernError(str(concern.get("errmsg")), concern.get("code"), concern)
    for refused in details.get("writeErrors", ()):
        if refused["code"] != DUPLICATE:
            raise errors.OperationFailure(str(refused.get("errmsg")), refused["code"], refused)
    return {refused["index"]: refused for refused in details.get("writeErrors", ())}


class Place:
    """Says what went wrong with one store."""

    def __init__(self, address: Address) -> None:
        self._shown, self._database = address.shown, address.database
        self._user, self._source = address.user, address.source

    def said(
        self, error: Exception, refusals: Sequence[Exception], *, wrote: bool, changed: bool
    ) -> QueuectlError:
        """What an error of the driver means to who called.

        `wrote`: a write had been sent. `changed`: one was answered, so whatever came afterwards, not nothing was done.
        """
        if changed:
            return self._lost(wrote=True)
        if isinstance(error, errors.ServerSelectionTimeoutError) and not wrote:
            return self.unreachable(error, refusals)
        if isinstance(error, errors.OperationFailure) and not isinstance(error, errors.WriteConcernError):
            return self._answered(error, wrote=wrote)
        if isinstance(error, BSONError | OverflowError | UnicodeEncodeError | errors.InvalidName):
            return InvalidInput(f"{self._shown}: {_sentence(error)}")
        if isinstance(error, errors.ConfigurationError | errors.InvalidURI | errors.InvalidOperation):
            return self._lost(wrote=True) if wrote else self._misconfigured(error)
        return self._lost(wrote=wrote)

    def unreadable(self, error: Exception) -> QueuectlError:
        """Something in the database is not what this program writes."""
        return StoreUnusable(
            f"{self._shown} holds something that queuectl cannot read: {_sentence(error)}",
            "it was edited by hand or by another program; queuectl doctor may say more",
        )

    def unreachable(self, error: Exception, refusals: Sequence[Exception]) -> QueuectlError:
        """No server that can be used was found: nothing was sent."""
        for words, kind, what, hint in _TOGETHER:
            if words in str(error):
                return kind(f"{self._shown} {what}", hint)
        for refusal in refusals:
            text = str(refusal)
            for words, kind, hint in _REFUSALS:
                if words in text:
                    return kind(f"{self._shown} cannot be reached: {_reason(text)}", hint)
        if refusals:
            return StoreUnavailable(f"{self._shown} cannot be reached: {_reason(str(refusals[0]))}", _LATER)
        return StoreUnavailable(f"{self._shown} cannot be reached: {_reason(str(error))}", _LATER)

    def is_plain(self, error: Exception, refusals: Sequence[Exception]) -> bool:
        """Whether waiting longer is in vain: whoever could answer refuses, or has no address."""
        if _VOTERS in str(error):
            return False
        if _STRANGERS in str(error):
            return True
        plain = [any(words in str(refusal) for words in _PLAIN) for refusal in refusals]
        return bool(plain) and all(plain)

    def _answered(self, error: errors.OperationFailure, *, wrote: bool) -> QueuectlError:
        code = error.code or 0
        if wrote and code not in _NOT_DONE:
            return self._lost(wrote=True)
        text = _sentence(error)
        for codes, kind, hint in _ANSWERS:
            if code in codes:
                return kind(f"{self._shown}: {text}", self._what_to_do(hint))
        return StoreUnavailable(f"{self._shown}: {text}", _LATER)

    def _what_to_do(self, hint: str) -> str:
        """A hint, with names where it has places for them."""
        if hint is _RIGHTS and not self._user:
            return _NOBODY
        words = {"user": self._user, "database": self._database, "source": self._source}
        return hint.format(**{name: json.dumps(word) for name, word in words.items()})

    def _misconfigured(self, error: Exception) -> QueuectlError:
        text = _sentence(error)
        if "only supports up to" in text:
            return StoreUnusable(
                f"{self._shown} is too new for this pymongo",
                f"run: {shlex.quote(sys.executable)} -m pip install --upgrade pymongo",
            )
        if "wire version" in text:
            return StoreUnusable(f"{self._shown} is too old", "MongoDB 5.0 or later is needed")
        if "after close" in text:
            return StoreUnavailable(f"{self._shown} was closed already")
        if any(words in text for words in _NO_DNS):
            return StoreUnavailable(f"{self._shown} cannot be reached: {_reason(text)}", _NAME)
        text = text.partition(". Did you mean")[0]  # what it goes on with is for who writes Python
        return InvalidInput(f"{self._shown}: {text}", "look at what stands after the ? of the URL")

    def _lost(self, *, wrote: bool) -> QueuectlError:
        """The connection broke, or stayed silent."""
        if wrote:
            return OutcomeUnknown(f"{self._shown} did not answer: whether it was done is not known", _REPEAT)
        return StoreUnavailable(f"{self._shown} does not answer", _LATER)


def _sentence(error: Exception) -> str:
    """What the server said, without the reply that the driver adds, and without the command: jobs stand in it."""
    text = str(error).partition(", full error:")[0]
    return re.sub(r"(to execute command) \{ (\w+):.*", r"\1 \2", text, flags=re.DOTALL).strip().rstrip(".")


def _reason(text: str) -> str:
    """The sentence that matters of what the driver knows of a server."""
    for addition in (", full error:", " (configured timeouts:", ", Timeout:"):
        text = text.partition(addition)[0]
    head, colon, rest = text.partition(": ")
    if colon and " " not in head:
        text = rest
    text = text.rpartition("] ")[2].partition(" (_ssl.c:")[0]
    return text.strip() or "no reason"


_GIBBERISH = ("Got response id", "Got opcode", "Message length")
_PLAIN = (
    "refused",
    "Name or service not known",
    "nodename nor servname",
    "No address associated",
    "not known",
    "SSL",
    "certificate",
    "No such file or directory",
    *_GIBBERISH,
)
_NAME = "look at the name of the host"
_PLACE = "does MongoDB run there? look at host and port"
_WAY = "is that host up, and does its firewall let this one in? look at host and port"
_TLS = "does the server speak TLS? look at tls, tlsCAFile and tlsCertificateKeyFile in the URL"
_Kind = type[StoreUnavailable] | type[StoreUnusable] | type[InvalidInput] | type[Conflict]

# The first that stands in the text counts.
_REFUSALS: tuple[tuple[str, _Kind, str], ...] = (
    ("Connection refused", StoreUnavailable, _PLACE),
    ("Name or service not known", StoreUnavailable, _NAME),
    ("nodename nor servname", StoreUnavailable, _NAME),
    ("No address associated", StoreUnavailable, _NAME),
    ("Temporary failure in name resolution", StoreUnavailable, _NAME),
    ("No such file or directory", StoreUnavailable, "does MongoDB run here? look at the path of its socket"),
    ("SSL", StoreUnusable, _TLS),
    ("certificate", StoreUnusable, _TLS),
    ("No route to host", StoreUnavailable, _WAY),
    ("timed out", StoreUnavailable, _WAY),
    ("connection closed", StoreUnavailable, "it may want tls=true in the URL; " + _PLACE),
)

_STRANGERS = "available for replica set name"
_VOTERS = "No primary available"

# What the driver says of all servers together, and what is said of them here.
_TOGETHER: tuple[tuple[str, _Kind, str, str], ...] = (
    (_VOTERS, StoreUnavailable, "has no primary now", "an election may be going on: " + _LATER),
    (_STRANGERS, StoreUnusable, "is in no replica set of that name", "look at replicaSet in the URL"),
    ("found yet", StoreUnavailable, "does not answer", _WAY),
    (
        "Could not reach any servers in",
        StoreUnavailable,
        "names members of its replica set that cannot be reached",
        "this host has to reach them by the names that rs.conf() shows",
    ),
    *((words, StoreUnavailable, "is no MongoDB, whatever it is", _PLACE) for words in _GIBBERISH),
)

_NO_DNS = ("DNS", "does not exist", "nameserver")

_LOGIN = "look at user, password and authSource ({source} is asked); in the URL, special characters are written as %XX"
_NOBODY = "name a user and a password in the URL: mongodb://user:password@host/database"
_RIGHTS = (
    "let an administrator run: db.getSiblingDB({source})"
    '.grantRolesToUser({user}, [{{role: "readWrite", db: {database}}}])'
)

_ANSWERS: tuple[tuple[tuple[int, ...], _Kind, str], ...] = (
    ((18, 8000), StoreUnusable, _LOGIN),
    ((13,), StoreUnusable, _RIGHTS),
    (
        (10107, 13435),
        StoreUnusable,
        "connect to the primary: name the replica set's members and replicaSet=NAME",
    ),
    ((10334,), InvalidInput, "a job with all that belongs to it has to fit into 16 MiB"),
    ((14031,), StoreUnavailable, "free some space on the server and try again"),
    ((72, 2), StoreUnusable, "look at the server's settings"),
    ((DUPLICATE,), Conflict, "this is a fault of queuectl; please report it"),
    ((334,), StoreUnusable, "look at authMechanism in the URL"),
    ((13297,), StoreUnusable, "look at the name of the database: capital letters count"),
    (
        (85, 86, 166),
        StoreUnusable,
        "it holds collections of another program: name another database in the URL",
    ),
    ((50, 262), StoreUnavailable, "the server is busy; " + _LATER),
)
