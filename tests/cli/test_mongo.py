"""MongoDB and what goes wrong with it: one line that says what to do, and the right exit code."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cli.conftest import CommandLine, Refused
from cli.mongo import MongoPlace, Pretender, nameserver
from cli.test_stores import COMMANDS
from facts import eventually
from queuectl import bootstrap
from queuectl.store.mongo import connect, schema
from servers.endpoint import free_port
from servers.mongo import MongoServer, fail_command
from servers.replica_set import NAME, ReplicaSet

LOGIN = (
    'look at user, password and authSource ("{}" is asked); in the URL, special characters are written as %XX'
)
RUNS = "does MongoDB run there? look at host and port"
WAY = "is that host up, and does its firewall let this one in? look at host and port"
TLS = "does the server speak TLS? look at tls, tlsCAFile and tlsCertificateKeyFile in the URL"
HOST = "look at the name of the host"
LATER = "try again later"


FIRST_LOOK = connect.FIRST_LOOK


@pytest.fixture(autouse=True)
def soon_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who refuses is not asked for a whole second."""
    monkeypatch.setattr(connect, "FIRST_LOOK", 0.1)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits has little patience."""
    real = bootstrap.open_store
    monkeypatch.setattr(
        bootstrap, "open_store", lambda *given, **options: real(*given, patience=1.2, **options)
    )


@pytest.fixture
def pretend() -> Iterator[Any]:
    """Servers that say this of themselves; their URL."""
    begun: list[Pretender] = []

    def start(version: str = "0", **hello: Any) -> str:
        begun.append(Pretender(hello, version))
        return f"mongodb://127.0.0.1:{begun[-1].port}/jobs"

    yield start
    for server in begun:
        server.close()


class TestNoConnection:
    def test_who_refuses_is_not_waited_for_with_all_patience(
        self, place: MongoPlace, turned_away: Refused, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connect, "FIRST_LOOK", FIRST_LOOK)
        port, begun = free_port(), time.monotonic()
        said = f"{place.at(port=port)} cannot be reached: Connection refused"
        turned_away(place.url(port=port), kind="store_unavailable", message=said, hint=RUNS)
        assert time.monotonic() - begun < 6, "patience is ten seconds"

    @pytest.mark.parametrize("words", COMMANDS[::3], ids=[" ".join(words) for words in COMMANDS[::3]])
    def test_it_is_five_for_commands_of_every_kind(
        self, queuectl: CommandLine, place: MongoPlace, words: tuple[str, ...]
    ) -> None:
        assert queuectl("--store", place.url(port=free_port()), *words, code=5) == ""
        assert "Connection refused" in queuectl.err
        assert queuectl.err.count("\n") == 1

    def test_an_unknown_host(self, queuectl: CommandLine, place: MongoPlace) -> None:
        error = queuectl.json("--store", place.url(host="db.invalid"), "status", code=5)["error"]
        assert error["message"].startswith(f"{place.at(host='db.invalid')} cannot be reached: ")
        assert (error["code"], error["hint"]) == ("store_unavailable", HOST)
        assert queuectl.err.count("\n") == 1

    @pytest.mark.usefixtures("hasty")
    def test_no_name_server(
        self, place: MongoPlace, turned_away: Refused, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nobody(*_words: object, **_options: object) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        said = f"{place.at(host='db')} cannot be reached: Temporary failure in name resolution"
        with monkeypatch.context() as network:
            network.setattr(socket, "getaddrinfo", nobody)
            turned_away(place.url(host="db"), kind="store_unavailable", message=said, hint=HOST)

    @pytest.mark.usefixtures("hasty")
    def test_what_listens_there_says_nothing(self, queuectl: CommandLine, place: MongoPlace) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = place.url(port=silent.getsockname()[1])
            error = queuectl.json("--store", url, "status", code=5)["error"]
        assert (error["code"], error["hint"]) == ("store_unavailable", WAY)
        assert queuectl.err.count("\n") == 1

    @pytest.mark.usefixtures("hasty")
    def test_nothing_comes_back_from_there(self, queuectl: CommandLine, place: MongoPlace) -> None:
        full = socket.create_server(
            ("127.0.0.1", 0), backlog=0
        )  # whoever comes as the second is not answered
        with full, socket.create_connection(full.getsockname()):
            url = place.url(port=full.getsockname()[1])
            error = queuectl.json("--store", url, "status", code=5)["error"]
        assert (error["code"], error["hint"]) == ("store_unavailable", WAY)

    def test_what_listens_there_is_something_else(self, turned_away: Refused) -> None:
        with _web() as port:
            at = f"mongodb://127.0.0.1:{port}/jobs"
            said = f"{at} is no MongoDB, whatever it is"
            turned_away(at, kind="store_unavailable", message=said, hint=RUNS)

    def test_there_is_no_such_socket(self, turned_away: Refused, tmp_path: Path) -> None:
        at = f"mongodb://{str(tmp_path).replace('/', '%2F')}%2Fmongodb-27017.sock/jobs"
        said = f"{at} cannot be reached: No such file or directory"
        hint = "does MongoDB run here? look at the path of its socket"
        turned_away(at, kind="store_unavailable", message=said, hint=hint)

    def test_encryption_that_the_server_does_not_have(self, queuectl: CommandLine, place: MongoPlace) -> None:
        error = queuectl.json("--store", place.url(tls="true"), "status", code=5)["error"]
        assert (error["code"], error["hint"]) == ("store_unusable", TLS)
        assert "_ssl.c" not in error["message"]

    def test_a_cluster_that_no_name_server_knows(self, turned_away: Refused) -> None:
        url = "mongodb+srv://ada:s3cret@cluster.example.net/jobs"
        said = "cannot be reached: The DNS query name does not exist: _mongodb._tcp.cluster.example.net"
        with nameserver():
            message = f"mongodb+srv://ada@cluster.example.net/jobs {said}"
            turned_away(url, kind="store_unavailable", message=message, hint=HOST)

    @pytest.mark.usefixtures("hasty")
    def test_a_cluster_and_no_name_server(self, queuectl: CommandLine) -> None:
        with nameserver(silent=True):
            url = "mongodb+srv://ada:s3cret@cluster.example.net/jobs"
            error = queuectl.json("--store", url, "status", code=5)["error"]
        assert (error["code"], error["hint"]) == ("store_unavailable", HOST)
        assert "s3cret" not in queuectl.err


class Web(BaseHTTPRequestHandler):
    """A server of another kind."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def _web() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class TestLogin:
    def test_a_wrong_password(self, place: MongoPlace, turned_away: Refused) -> None:
        said = f"{place.at()}: Authentication failed"
        turned_away(place.url(password="s3cret"), message=said, hint=LOGIN.format("admin"))

    def test_an_unknown_user(self, place: MongoPlace, turned_away: Refused) -> None:
        said = f"{place.at('nobody')}: Authentication failed"
        turned_away(place.url(user="nobody"), message=said, hint=LOGIN.format("admin"))

    def test_a_database_that_does_not_know_the_user(self, place: MongoPlace, turned_away: Refused) -> None:
        said = f"{place.at()}: Authentication failed"
        turned_away(place.url(authSource="elsewhere"), message=said, hint=LOGIN.format("elsewhere"))
        url = place.url().partition("?")[0]
        turned_away(url, message=said, hint=LOGIN.format(place.name))

    def test_nobody_at_all(self, place: MongoPlace, turned_away: Refused) -> None:
        at = place.at().replace("root@", "")
        hint = "name a user and a password in the URL: mongodb://user:password@host/database"
        turned_away(at, message=f"{at}: command find requires authentication", hint=hint)

    def test_a_mechanism_that_the_server_does_not_have(self, place: MongoPlace, turned_away: Refused) -> None:
        said = f"{place.at()}: Received authentication for mechanism PLAIN which is not enabled"
        url = place.url(authMechanism="PLAIN", authSource="$external")
        turned_away(url, message=said, hint="look at authMechanism in the URL")


class TestRights:
    def test_a_user_who_may_do_nothing_here(self, place: MongoPlace, turned_away: Refused) -> None:
        user = place.user()
        said = f"{place.at(user)}: not authorized on {place.name} to execute command find"
        turned_away(place.as_user(user), message=said, hint=self.grant(place, user))

    def test_what_that_hint_says_helps(self, queuectl: CommandLine, place: MongoPlace) -> None:
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

    def test_a_user_who_may_only_read_and_there_is_no_queue(
        self, place: MongoPlace, turned_away: Refused
    ) -> None:
        user = place.user("read")
        said = f"{place.at(user)}: not authorized on {place.name} to execute command create"
        turned_away(place.as_user(user), message=said, hint=self.grant(place, user))

    def test_a_user_who_may_only_read_sees_the_queue(
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
        """What is to be done."""
        role = f'[{{role: "readWrite", db: "{place.name}"}}]'
        return f'let an administrator run: db.getSiblingDB("admin").grantRolesToUser("{user}", {role})'


class TestSchema:
    FOREIGN = "name a database for the queue alone: mongodb://host/NAME"

    def test_a_newer_one_is_refused_with_both_versions(
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
    def test_collections_of_another_program_are_left_alone(
        self, place: MongoPlace, turned_away: Refused, collection: str, document: dict[str, Any]
    ) -> None:
        place.here[collection].insert_one(document)
        said = f"{place.at()} holds collections of another program"
        turned_away(place.url(), message=said, hint=self.FOREIGN)
        assert place.here.list_collection_names() == [collection]

    def test_a_view_by_one_of_our_names_is_left_alone(self, place: MongoPlace, turned_away: Refused) -> None:
        place.here.create_collection("jobs", viewOn="people", pipeline=[])
        said = f"{place.at()}: Namespace {place.name}.jobs is a view, not a collection"
        hint = "it holds collections of another program: name another database in the URL"
        turned_away(place.url(), message=said, hint=hint)

    def test_a_database_whose_name_differs_in_capitals_only(
        self, place: MongoPlace, queuectl: CommandLine
    ) -> None:
        queuectl("--store", place.url(), "enqueue", "true")
        error = queuectl.json("--store", place.url(place.name.upper()), "enqueue", "x", code=5)["error"]
        assert error["code"] == "store_unusable"
        assert error["hint"] == "look at the name of the database: capital letters count"

    def test_a_disk_that_is_full(
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
    """Servers on which no queue can be kept, and members of sets that are not the one to ask."""

    OLD = "5.0 or later is needed"

    def test_one_that_the_driver_finds_too_old(self, pretend: Any, turned_away: Refused) -> None:
        url = pretend(maxWireVersion=6)
        turned_away(url, message=f"{url} is too old", hint=f"MongoDB {self.OLD}")

    def test_one_that_we_find_too_old(self, pretend: Any, turned_away: Refused) -> None:
        url = pretend(maxWireVersion=9, version="4.4.29")
        turned_away(url, message=f"{url} is MongoDB 4.4.29", hint=f"version {self.OLD}")

    def test_one_that_is_too_new_for_the_driver(self, pretend: Any, turned_away: Refused) -> None:
        url = pretend(minWireVersion=990, maxWireVersion=999)
        hint = f"run: {sys.executable} -m pip install --upgrade pymongo"
        turned_away(url, message=f"{url} is too new for this pymongo", hint=hint)

    @pytest.mark.usefixtures("hasty")
    def test_a_set_whose_members_have_names_that_mean_nothing_here(
        self, pretend: Any, turned_away: Refused
    ) -> None:
        url = pretend(setName="rs", me="db.invalid:27017", hosts=["db.invalid:27017"])
        said = f"{url} names members of its replica set that cannot be reached"
        hint = "this host has to reach them by the names that rs.conf() shows"
        turned_away(url, kind="store_unavailable", message=said, hint=hint)

    def test_a_set_of_another_name(self, place: MongoPlace, turned_away: Refused) -> None:
        said = f"{place.at()} is in no replica set of that name"
        turned_away(place.url(replicaSet="foo"), message=said, hint="look at replicaSet in the URL")

    @pytest.mark.usefixtures("hasty")
    def test_a_set_without_a_primary(self, mongo_set: ReplicaSet, queuectl: CommandLine) -> None:
        with mongo_set.without_primary():
            error = queuectl.json("--store", mongo_set.url("jobs"), "status", code=5)["error"]
        assert error["code"] == "store_unavailable"
        assert error["message"].endswith("/jobs has no primary now")
        assert error["hint"] == f"an election may be going on: {LATER}"

    def test_an_election_is_waited_for_though_another_member_is_down(
        self, mongo_trio: ReplicaSet, queuectl: CommandLine
    ) -> None:
        url = mongo_trio.url("jobs")
        mongo_trio.primary.kill()
        assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"

    @pytest.mark.parametrize("words", [("status",), ("enqueue", "true"), ("worker", "start", "--drain")])
    def test_a_secondary(self, mongo_trio: ReplicaSet, turned_away: Refused, words: tuple[str, ...]) -> None:
        other = next(member for member in mongo_trio.members if member is not mongo_trio.primary)
        at = f"mongodb://root@{other.host}:{other.port}/jobs is not the primary of its replica set"
        hint = "name the members of the set, or replicaSet=NAME, and leave out directConnection"
        turned_away(other.url("jobs", directConnection="true"), *words, message=at, hint=hint)

    def test_a_secondary_leads_to_its_primary(self, mongo_trio: ReplicaSet, queuectl: CommandLine) -> None:
        other = next(member for member in mongo_trio.members if member is not mongo_trio.primary)
        given = ("--store", other.url("jobs", replicaSet=NAME))
        assert queuectl(*given, "enqueue", "--id", "b", "true") == "b\n"


class TestDoctor:
    def test_a_server_that_stands_alone(self, place: MongoPlace, queuectl: CommandLine) -> None:
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

    def test_a_set_of_one(self, mongo_set: ReplicaSet, queuectl: CommandLine) -> None:
        found = self.checks(queuectl, mongo_set.url("jobs"))
        assert (found["durability"], found["topology"]) == ("power-safe", f"replica set {NAME}")
        assert found["wake_up"] == "change stream"
        assert found["members"] == f"127.0.0.1:{mongo_set.primary.port} primary"

    def test_a_set_of_three(self, mongo_trio: ReplicaSet, queuectl: CommandLine) -> None:
        url = mongo_trio.url("doctor")

        def states() -> list[str]:
            members = self.checks(queuectl, url)["members"]
            return sorted(member.split()[1] for member in members.split(", "))

        queuectl("--store", url, "enqueue", "--hold", "true")
        assert self.checks(queuectl, url)["durability"] == "failover-safe"
        eventually(lambda: states() == ["primary", "secondary", "secondary"], what="all are well")

    def test_fast_is_memory_safe_and_a_fault(self, place: MongoPlace, queuectl: CommandLine) -> None:
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
