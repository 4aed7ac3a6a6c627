"""Rights, schemas, kinds of servers and durability of MongoDB: each error is one line with a hint and an exit code."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cli.conftest import CommandLine, Refused
from cli.doors import OTHER_STORE, direct
from cli.mongo import MongoPlace, Pretender
from facts import eventually
from queuectl import bootstrap
from queuectl.store.mongo import connect, schema
from servers.mongo import MongoServer, fail_command
from servers.replica_set import NAME, ReplicaSet

pytestmark = direct(OTHER_STORE)

LATER = "try again later"


@pytest.fixture(autouse=True)
def soon_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusing server is not called for a whole second."""
    monkeypatch.setattr(connect, "FIRST_LOOK", 0.1)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores have a short timeout."""
    real = bootstrap.open_store
    monkeypatch.setattr(
        bootstrap, "open_store", lambda *given, **options: real(*given, **{**options, "patience": 1.2})
    )


@pytest.fixture
def pretend() -> Iterator[Any]:
    """The URL of a server that reports these properties."""
    begun: list[Pretender] = []

    def start(version: str = "0", **hello: Any) -> str:
        begun.append(Pretender(hello, version))
        return f"mongodb://127.0.0.1:{begun[-1].port}/jobs"

    yield start
    for server in begun:
        server.close()


class TestRights:
    def test_a_user_without_rights_is_refused(self, place: MongoPlace, turned_away: Refused) -> None:
        user = place.user()
        said = f"{place.at(user)}: not authorized on {place.name} to execute command find"
        turned_away(place.as_user(user), message=said, hint=self.grant(place, user))

    def test_the_hint_for_a_user_without_rights_works(self, queuectl: CommandLine, place: MongoPlace) -> None:
        user = place.user()
        url = place.as_user(user)
        assert (
            self.grant(place, user)
            in queuectl.json("--store", url, "enqueue", "true", code=5)["error"]["hint"]
        )
        roles = [{"role": "readWrite", "db": place.name}]
        place.admin["admin"].command("grantRolesToUser", user, roles=roles)
        assert queuectl("--store", url, "enqueue", "--hold", "--id", "a", "true") == "a\n"
        assert queuectl("--store", url, "doctor").count("unseen: this user may not look") == 1

    def test_a_read_only_user_cannot_create_the_queue(self, place: MongoPlace, turned_away: Refused) -> None:
        user = place.user("read")
        said = f"{place.at(user)}: not authorized on {place.name} to execute command create"
        turned_away(place.as_user(user), message=said, hint=self.grant(place, user))

    def test_a_read_only_user_can_read_an_existing_queue(
        self, queuectl: CommandLine, place: MongoPlace, turned_away: Refused
    ) -> None:
        user = place.user("read")
        queuectl("--store", place.url(), "enqueue", "--id", "a", "true")
        assert "pending:    1" in queuectl("--store", place.as_user(user), "status")
        said = f"{place.at(user)}: not authorized on {place.name} to execute command findAndModify"
        words = ("enqueue", "--env", "TOKEN=t0k3n", "true")
        turned_away(place.as_user(user), *words, message=said, hint=self.grant(place, user))
        assert "t0k3n" not in queuectl.err

    @staticmethod
    def grant(place: MongoPlace, user: str) -> str:
        """The hint that grants the rights."""
        role = f'[{{role: "readWrite", db: "{place.name}"}}]'
        return f'let an administrator run: db.getSiblingDB("admin").grantRolesToUser("{user}", {role})'


class TestSchema:
    FOREIGN = "name a database for the queue alone: mongodb://host/NAME"

    def test_a_newer_schema_is_refused_with_both_versions(
        self, queuectl: CommandLine, place: MongoPlace, turned_away: Refused
    ) -> None:
        queuectl("--store", place.url(), "enqueue", "true")
        place.here["counters"].update_one({"_id": "schema"}, {"$set": {"n": 99}})
        said = f"{place.at()} has schema 99, and this program knows schemas up to {schema.NEWEST}"
        hint = "a newer queuectl has used it: upgrade this one"
        turned_away(place.url(), message=said, hint=hint)

    @pytest.mark.parametrize(
        ("collection", "document"),
        [
            ("jobs", {"title": "cook"}),
            ("workers", {"title": "cook"}),
            ("output", {"n": 1}),
            ("counters", {"_id": "schema", "n": "one"}),
        ],
    )
    def test_collections_of_another_program_are_not_changed(
        self, place: MongoPlace, turned_away: Refused, collection: str, document: dict[str, Any]
    ) -> None:
        place.here[collection].insert_one(document)
        said = f"{place.at()} contains collections of another program"
        turned_away(place.url(), message=said, hint=self.FOREIGN)
        assert place.here.list_collection_names() == [collection]

    def test_a_view_with_the_name_of_a_collection_is_not_changed(
        self, place: MongoPlace, turned_away: Refused
    ) -> None:
        place.here.create_collection("jobs", viewOn="people", pipeline=[])
        said = f"{place.at()}: Namespace {place.name}.jobs is a view, not a collection"
        hint = "the database contains collections of another program: name another database in the URL"
        turned_away(place.url(), message=said, hint=hint)

    def test_a_database_name_that_differs_only_in_case_is_refused(
        self, place: MongoPlace, queuectl: CommandLine
    ) -> None:
        queuectl("--store", place.url(), "enqueue", "true")
        error = queuectl.json("--store", place.url(place.name.upper()), "enqueue", "x", code=5)["error"]
        assert error["code"] == "store_unusable"
        assert error["hint"] == "look at the name of the database: its case matters"

    def test_a_full_disk_is_reported_with_a_hint(
        self, queuectl: CommandLine, own_mongo: MongoServer, place: MongoPlace, turned_away: Refused
    ) -> None:
        queuectl("--store", place.url(), "doctor", "--create")
        with fail_command(own_mongo, "insert", errorCode=14031, namespace=f"{place.name}.jobs"):
            said = f"{place.at()}: Failing command via 'failCommand' failpoint"
            hint = "free some space on the server and try again"
            words = ("enqueue", "--id", "a", "true")
            turned_away(place.url(), *words, kind="store_unavailable", message=said, hint=hint)
        queuectl("--store", place.url(), "show", "a", code=3)


class TestKinds:
    """Servers that cannot store a queue, and members of replica sets that are not the primary."""

    OLD = "5.0 or later is needed"

    def test_a_server_too_old_for_the_driver_is_refused(self, pretend: Any, turned_away: Refused) -> None:
        url = pretend(maxWireVersion=6)
        turned_away(url, message=f"{url} is too old", hint=f"MongoDB {self.OLD}")

    def test_a_server_too_old_for_queuectl_is_refused(self, pretend: Any, turned_away: Refused) -> None:
        url = pretend(maxWireVersion=9, version="4.4.29")
        turned_away(url, message=f"{url} is MongoDB 4.4.29", hint=f"version {self.OLD}")

    def test_a_server_too_new_for_the_driver_is_refused(self, pretend: Any, turned_away: Refused) -> None:
        url = pretend(minWireVersion=990, maxWireVersion=999)
        hint = f"run: {sys.executable} -m pip install --upgrade pymongo"
        turned_away(url, message=f"{url} is too new for this pymongo", hint=hint)

    @pytest.mark.usefixtures("hasty")
    def test_a_set_with_unreachable_member_names_is_refused(self, pretend: Any, turned_away: Refused) -> None:
        url = pretend(setName="rs", me="db.invalid:27017", hosts=["db.invalid:27017"])
        said = f"{url} names members of its replica set that cannot be reached"
        hint = "this host must be able to connect to the members by the names that rs.conf() shows"
        turned_away(url, kind="store_unavailable", message=said, hint=hint)

    def test_a_set_with_another_name_is_refused(self, place: MongoPlace, turned_away: Refused) -> None:
        said = f"{place.at()} is not in a replica set of that name"
        turned_away(place.url(replicaSet="foo"), message=said, hint="look at replicaSet in the URL")

    @pytest.mark.usefixtures("hasty")
    def test_a_set_without_a_primary_is_unavailable(
        self, mongo_set: ReplicaSet, queuectl: CommandLine
    ) -> None:
        with mongo_set.without_primary():
            error = queuectl.json("--store", mongo_set.url("jobs"), "status", code=5)["error"]
        assert error["code"] == "store_unavailable"
        assert error["message"].endswith("/jobs has no primary now")
        assert error["hint"] == f"an election may be going on: {LATER}"

    def test_a_command_waits_for_the_election_of_a_new_primary(
        self, mongo_trio: ReplicaSet, queuectl: CommandLine
    ) -> None:
        url = mongo_trio.url("jobs")
        mongo_trio.primary.kill()
        assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"

    @pytest.mark.parametrize("words", [("status",), ("enqueue", "true"), ("worker", "start", "--drain")])
    def test_a_secondary_is_refused_with_a_hint(
        self, mongo_trio: ReplicaSet, turned_away: Refused, words: tuple[str, ...]
    ) -> None:
        other = next(member for member in mongo_trio.members if member is not mongo_trio.primary)
        at = f"mongodb://root@{other.host}:{other.port}/jobs is not the primary of its replica set"
        hint = "name the members of the set, or replicaSet=NAME, and leave out directConnection"
        turned_away(other.url("jobs", directConnection="true"), *words, message=at, hint=hint)

    def test_a_secondary_with_the_name_of_its_set_leads_to_the_primary(
        self, mongo_trio: ReplicaSet, queuectl: CommandLine
    ) -> None:
        other = next(member for member in mongo_trio.members if member is not mongo_trio.primary)
        given = ("--store", other.url("jobs", replicaSet=NAME))
        assert queuectl(*given, "enqueue", "--id", "b", "true") == "b\n"


class TestDoctor:
    def test_the_checks_of_a_standalone_server_are_shown(
        self, place: MongoPlace, queuectl: CommandLine
    ) -> None:
        queuectl("--store", place.url(), "doctor", "--create")
        found = self.checks(queuectl, place.url())
        assert found["store"] == place.at()
        assert (found["durability"], found["topology"]) == ("power-safe", "standalone")
        assert found["write_concern"] == "w: majority, j: true"
        assert found["journal"] == "waited for with every write"
        assert found["wake_up"] == "capped collection"
        assert found["storage_engine"] == "wiredTiger"
        assert "members" not in found
        assert self.checks(queuectl, place.url(listen="no"))["wake_up"] == "polling"

    def test_the_checks_of_a_set_with_one_member_are_shown(
        self, mongo_set: ReplicaSet, queuectl: CommandLine
    ) -> None:
        found = self.checks(queuectl, mongo_set.url("jobs"))
        assert (found["durability"], found["topology"]) == ("power-safe", f"replica set {NAME}")
        assert found["wake_up"] == "change stream"
        assert found["members"] == f"127.0.0.1:{mongo_set.primary.port} primary"

    def test_the_checks_of_a_set_with_three_members_are_shown(
        self, mongo_trio: ReplicaSet, queuectl: CommandLine
    ) -> None:
        url = mongo_trio.url("doctor")

        def states() -> list[str]:
            members = self.checks(queuectl, url)["members"]
            return sorted(member.split()[1] for member in members.split(", "))

        queuectl("--store", url, "enqueue", "--hold", "true")
        assert self.checks(queuectl, url)["durability"] == "failover-safe"
        eventually(lambda: states() == ["primary", "secondary", "secondary"], what="all are well")

    def test_the_durability_fast_is_shown_as_memory_safe(
        self, place: MongoPlace, queuectl: CommandLine
    ) -> None:
        given = ("--store", place.url(), "--durability", "fast")
        assert queuectl.json(*given, "status")["store"]["durability"] == "memory-safe"
        assert "(memory-safe)" in queuectl(*given, "status")
        found = self.checks(queuectl, *given[1:], code=1)
        assert (found["durability"], found["write_concern"]) == ("memory-safe", "w: 1, j: false")
        assert found["journal"] == "not waited for"
        assert "--durability fast" in found["store fault"]
        assert "FAULT" in queuectl(*given, "doctor", code=1)

    @staticmethod
    def checks(queuectl: CommandLine, *given: str, code: int = 0) -> dict[str, str]:
        document = queuectl.json("--store", *given, "doctor", code=code)
        assert document["ok"] is (code == 0)
        return {check["name"]: check["detail"] for check in document["checks"]}
