"""The errors of MongoDB and of the network, as rows for the translator."""

import json
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from bson.errors import BSONError
from pymongo import errors

from queuectl.errors import Conflict, InvalidInput, QueuectlError, StoreUnavailable, StoreUnusable
from queuectl.store.driver.faults import (
    ADDRESS,
    HOST,
    LATER,
    NETWORK,
    REPORT,
    ROUTE,
    UNREACHABLE,
    Row,
    Translator,
)
from queuectl.store.mongo.address import Address

DUPLICATE, MISSING_RIGHT = 11000, 13
_NOT_DONE = frozenset(
    (13, 18, 20, 72, 73, 2, 9, 14, 26, 40, 48, 66, 67, 85, 86, 96, 8000, 10334, 11000, 14031, 10107, 13435)
)
"""Error codes of a server that has refused a command without changing anything."""


def duplicates(error: errors.BulkWriteError) -> dict[int, Any]:
    """The positions in a batch that a unique index refused, with the server's answer for each.

    Raises OperationFailure for any other refusal, and where the outcome of the batch is unknown.
    """
    details: Any = error.details
    for concern in details.get("writeConcernErrors", ()):
        raise errors.WriteConcernError(str(concern.get("errmsg")), concern.get("code"), concern)
    for refused in details.get("writeErrors", ()):
        if refused["code"] != DUPLICATE:
            raise errors.OperationFailure(str(refused.get("errmsg")), refused["code"], refused)
    return {refused["index"]: refused for refused in details.get("writeErrors", ())}


class MongoTranslator(Translator):
    """Translates errors of pymongo for one store."""

    def __init__(self, address: Address) -> None:
        self._user = address.user
        quoted = {"user": address.user, "database": address.database, "source": address.source}
        tls = "does the server speak TLS? look at tls, tlsCAFile and tlsCertificateKeyFile in the URL"
        names = {name: json.dumps(word) for name, word in quoted.items()}
        python = shlex.quote(sys.executable)
        super().__init__(address.shown, {"product": "MongoDB", "tls": tls, "python": python, **names})

    def translate(
        self, error: Exception, refusals: Sequence[Exception], *, wrote: bool, changed: bool
    ) -> QueuectlError:
        """Translate an error that ended a verb.

        `wrote`: a write was sent. `changed`: the server confirmed a write, so something was changed before the error.
        `refusals`: why each known server cannot be used.
        """
        if changed:
            return self.lost(writing=True)
        if isinstance(error, errors.ServerSelectionTimeoutError) and not wrote:
            return self.no_server(error, refusals)
        if isinstance(error, errors.OperationFailure) and not isinstance(error, errors.WriteConcernError):
            return self._refused(error, wrote=wrote)
        if isinstance(error, BSONError | OverflowError | UnicodeEncodeError | errors.InvalidName):
            return InvalidInput(f"{self.shown}: {_sentence(error)}")
        if isinstance(error, errors.ConfigurationError | errors.InvalidURI | errors.InvalidOperation):
            return self.lost(writing=True) if wrote else self._misconfigured(error)
        return self.lost(writing=wrote)

    def unreadable(self, error: Exception) -> QueuectlError:
        """The error if the database contains a document that queuectl did not write."""
        return StoreUnusable(
            f"{self.shown} contains a document that queuectl cannot read: {_sentence(error)}",
            "it was edited by hand or by another program; queuectl doctor may say more",
        )

    def no_server(self, error: Exception, refusals: Sequence[Exception]) -> QueuectlError:
        """The error if no usable server was found, so that nothing was sent."""
        text = str(error)
        known = self.find(TOGETHER, error, text, self.reason(error))
        for refusal in refusals:
            known = known or self.find(SERVER, refusal, str(refusal), self.reason(refusal))
        return known or super().unreachable(refusals[0] if refusals else error)

    def is_final(self, error: Exception, refusals: Sequence[Exception]) -> bool:
        """Whether waiting cannot help, because each server refuses or its name does not exist."""
        if _NO_PRIMARY in str(error):
            return False
        if _NOT_IN_SET in str(error):
            return True
        final = [any(words in str(refusal) for words in _FINAL) for refusal in refusals]
        return bool(final) and all(final)

    def reason(self, error: Exception) -> str:
        """The relevant sentence of pymongo's text about a server."""
        text = str(error)
        for addition in (", full error:", " (configured timeouts:", ", Timeout:"):
            text = text.partition(addition)[0]
        head, colon, rest = text.partition(": ")
        if colon and " " not in head:
            text = rest
        text = text.rpartition("] ")[2].partition(" (_ssl.c:")[0]
        return text.strip() or "no reason"

    def _refused(self, error: errors.OperationFailure, *, wrote: bool) -> QueuectlError:
        if wrote and (error.code or 0) not in _NOT_DONE:
            return self.lost(writing=True)
        sentence = _sentence(error)
        if not self._user and error.code == MISSING_RIGHT:
            return StoreUnusable(
                f"{self.shown}: {sentence}",
                "name a user and a password in the URL: mongodb://user:password@host/database",
            )
        known = self.find(ANSWERS, error, sentence, sentence)
        return known or StoreUnavailable(f"{self.shown}: {sentence}", LATER)

    def _misconfigured(self, error: Exception) -> QueuectlError:
        # pymongo adds advice for Python programmers.
        sentence = _sentence(error).partition(". Did you mean")[0]
        known = self.find(OPTIONS, error, sentence, sentence)
        return known or InvalidInput(
            f"{self.shown}: {sentence}", "look at the options after the ? of the URL"
        )


def _sentence(error: Exception) -> str:
    """The server's sentence, without the reply that pymongo adds, and without the command, which contains jobs."""
    text = str(error).partition(", full error:")[0]
    return re.sub(r"(to execute command) \{ (\w+):.*", r"\1 \2", text, flags=re.DOTALL).strip().rstrip(".")


_OTHER_PROTOCOL = ("Got response id", "Got opcode", "Message length")
"""The beginnings of pymongo's text for a reply that is not in MongoDB's protocol."""
_FINAL = (
    "refused", "Name or service not known", "nodename nor servname", "No address associated", "not known", "SSL",
    "certificate", "No such file or directory", *_OTHER_PROTOCOL,
)  # fmt: skip
_NOT_IN_SET = "available for replica set name"
_NO_PRIMARY = "No primary available"
TOGETHER = (
    Row((_NO_PRIMARY,), StoreUnavailable, f"an election may be going on: {LATER}", "{shown} has no primary now"),
    Row((_NOT_IN_SET,), StoreUnusable, "look at replicaSet in the URL", "{shown} is not in a replica set of that name"),
    Row(("found yet",), StoreUnavailable, ROUTE, "{shown} does not answer"),
    Row(("Could not reach any servers in",), StoreUnavailable,
        "this host must be able to connect to the members by the names that rs.conf() shows",
        "{shown} names members of its replica set that cannot be reached"),
    Row(_OTHER_PROTOCOL, StoreUnavailable, ADDRESS, "{shown} does not speak MongoDB's protocol"),
)  # fmt: skip
"""Errors of pymongo about all servers together."""

SERVER = (
    *NETWORK,
    Row(
        ("connection closed",),
        StoreUnavailable,
        f"it may require tls=true in the URL; {ADDRESS}",
        UNREACHABLE,
    ),
)
"""Errors of pymongo about one server."""

ANSWERS = (
    Row((18, 8000), StoreUnusable, "look at user, password and authSource (now {source}); "
        "in the URL, special characters are written as %XX"),
    Row((MISSING_RIGHT,), StoreUnusable, "let an administrator run: db.getSiblingDB({source})"
        '.grantRolesToUser({user}, [{{role: "readWrite", db: {database}}}])'),
    Row((10107, 13435), StoreUnusable, "connect to the primary: name the replica set's members and replicaSet=NAME"),
    Row((10334,), InvalidInput, "make the job smaller: with its history it must fit into 16 MiB"),
    Row((14031,), StoreUnavailable, "free some space on the server and try again"),
    Row((72, 2), StoreUnusable, "look at the server's settings"),
    Row((DUPLICATE,), Conflict, REPORT),
    Row((334,), StoreUnusable, "look at authMechanism in the URL"),
    Row((13297,), StoreUnusable, "look at the name of the database: its case matters"),
    Row((85, 86, 166), StoreUnusable,
        "the database contains collections of another program: name another database in the URL"),
    Row((50, 262), StoreUnavailable, f"the server is busy; {LATER}"),
)  # fmt: skip
"""Errors that a server returns for a command, by code."""

OPTIONS = (
    Row(("only supports up to",), StoreUnusable, "run: {python} -m pip install --upgrade pymongo",
        "{shown} is too new for this pymongo"),
    Row(("wire version",), StoreUnusable, "MongoDB 5.0 or later is needed", "{shown} is too old"),
    Row(("after close",), StoreUnavailable, "", "{shown} was closed already"),
    Row(("DNS", "does not exist", "nameserver"), StoreUnavailable, HOST, UNREACHABLE),
)  # fmt: skip
"""Errors of pymongo before it sends anything."""
