"""A replica set of MongoDB: one server that keeps a log for others, or three of which any may fail."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from facts import eventually
from servers.daemon import SLOWEST
from servers.endpoint import url_of
from servers.mongo import MongoServer, connect

NAME = "tests"
SETTINGS = {
    # Ten times faster than usual: after so long a silence of the primary the others elect another.
    "electionTimeoutMillis": 1000,
    "heartbeatIntervalMillis": 300,
    # A secondary that tries another one whose log is even younger shuns it for a minute, though it be the next primary.
    "chainingAllowed": False,
}

FOR_LONG = 3600
"""The seconds for which a member cannot be elected, unless this is cancelled."""


class Member(MongoServer):
    """One server of a set. `key` is the secret by which the members know each other."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.arguments = ("--replSet", NAME, "--keyFile", str(self._file(key)))

    def _settle(self) -> None:
        """Do nothing: only a primary can store data, and no primary is elected yet."""

    def _file(self, key: str) -> Path:
        file = self.directory / "key"
        file.write_text(key)
        file.chmod(0o400)  # MongoDB refuses a key file with other rights
        self._daemon.hand_over(file)
        return file


class ReplicaSet:
    """A set of our own, of one member or of three."""

    def __init__(self, members: int) -> None:
        key = secrets.token_hex(32)
        self.members = [Member(key) for _ in range(members)]
        self._is_new = True

    @property
    def primary(self) -> Member:
        """The member that is primary now. Where there is none, one is waited for."""
        return eventually(self._primary, within=SLOWEST, what="a primary")

    def url(self, database: str = "test", **params: Any) -> str:
        """The URL of a database that names all members. Each member has its own URL."""
        first = self.members[0]
        places = [(member.host, member.port) for member in self.members]
        known = {"authSource": "admin", "replicaSet": NAME}
        return url_of(first.scheme, (first.user, first.password), places, database, {**known, **params})

    def start(self) -> None:
        """Start, and bring back who is dead or paused; back when all are there, and one of them is primary."""
        for member in self.members:
            member.resume()
            if not member.running:
                member.start()
        if self._is_new:
            self._initiate()
            self._is_new = False
        eventually(self._is_whole, within=SLOWEST, what="all members back")

    def step_down(self) -> Member:
        """Have the primary step down, by force. The next primary: another one, or the same where it is alone."""
        former = self.primary
        with _out_of_office(former):
            if len(self.members) > 1:
                eventually(
                    lambda: self._primary() not in (None, former), within=SLOWEST, what="another primary"
                )
        return self.primary

    @contextmanager
    def without_primary(self) -> Iterator[None]:
        """Have no primary until the block ends; back when there is one again."""
        former = self.primary
        with ExitStack() as stack:
            for member in sorted(
                self.members, key=lambda member: member is former
            ):  # first the members that could be elected
                stack.enter_context(_out_of_office(member))
            yield
        eventually(self._is_whole, within=SLOWEST, what="a primary again")

    def kill_primary(self) -> Member:
        """Kill the primary, and wait for another if there can be one. Who was killed: `restart` brings it back."""
        killed = self.primary
        killed.kill()
        if len(self.members) > 1:
            assert self.primary
        return killed

    def pause(self, member: Member) -> None:
        """Let a member be silent; if it is the primary, `primary` waits for the next."""
        member.pause()

    def resume(self, member: Member) -> None:
        """Continue a paused member, and wait until it is primary or secondary again."""
        member.resume()
        eventually(self._is_whole, within=SLOWEST, what="all members back")

    def restart(self, member: Member) -> None:
        """Stop and start a member, or only start it; returns when the member is primary or secondary again."""
        member.restart()
        eventually(self._is_whole, within=SLOWEST, what="all members back")

    def close(self) -> None:
        """End all and leave nothing behind. Twice is harmless."""
        for member in self.members:
            member.close()

    def _initiate(self) -> None:
        hosts = enumerate(f"{member.host}:{member.port}" for member in self.members)
        members = [{"_id": number, "host": host} for number, host in hosts]
        with self.members[0].stranger() as client:
            client.admin.command("replSetInitiate", {"_id": NAME, "members": members, "settings": SETTINGS})
        self.primary.make_administrator()

    def _primary(self) -> Member | None:
        """The member that reports to be primary; of two, the one that was elected later."""
        claims = [
            (hello["electionId"], member) for member, hello in self._hellos() if hello["isWritablePrimary"]
        ]
        return max(claims, key=lambda claim: claim[0])[1] if claims else None

    def _is_whole(self) -> bool:
        hellos = [hello for _, hello in self._hellos()]
        primaries = [hello for hello in hellos if hello["isWritablePrimary"]]
        secondaries = [hello for hello in hellos if hello["secondary"]]
        return len(primaries) == 1 and len(secondaries) == len(self.members) - 1

    def _hellos(self) -> list[tuple[Member, dict[str, Any]]]:
        """The state that each answering member reports."""
        return [(member, hello) for member in self.members if member.awake and (hello := _hello(member))]


def _hello(member: Member) -> dict[str, Any] | None:
    with suppress(PyMongoError), member.stranger() as client:
        return client.admin.command("hello")
    return None


@contextmanager
def _out_of_office(member: Member) -> Iterator[None]:
    """Have a member be no primary until the block ends."""
    with connect(member) as client:
        if client.admin.command("hello")["isWritablePrimary"]:
            options = {"force": True, "secondaryCatchUpPeriodSecs": 0}
            client.admin.command("replSetStepDown", FOR_LONG, **options)
        else:
            client.admin.command("replSetFreeze", FOR_LONG)
        try:
            yield
        finally:
            client.admin.command("replSetFreeze", 0)
