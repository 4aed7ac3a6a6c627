"""Which MongoDB is meant: malformed URLs, the word, the missing extra; and never a password in what is printed."""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import CommandLine, Refused
from cli.mongo import MongoPlace
from cli.postgres import secret_of
from cli.test_postgres_urls import LOOKING, WITHOUT
from queuectl.store.mongo import connect
from servers.endpoint import free_port
from servers.mongo import MongoServer

URL_HINT = "mongodb://user:password@host:27017/database; in a password, # is written %23, @ %40, / %2F, % %25"
AFTER = "look at what stands after the ? of the URL"
IPV6 = "an address with : in it stands in brackets: [::1]"
XX = "a character in it has to be written as %XX"
PORT = "its port is no number from 1 to 65535"
NO_USER = "it names no user before its @"

MALFORMED = [
    ("mongodb://ada:s3cret@h:port/jobs", PORT),
    ("mongodb://ada:s3cret@h:99999/jobs", PORT),
    ("mongodb://ada:s3cret@h:0/jobs", PORT),
    ("mongodb://ada:s3cret@h:/jobs", PORT),
    ("mongodb://ada:s3cret@h,g:x/jobs", PORT),
    ("mongodb+srv://ada:s3cret@h.example.net:27017/jobs", "with mongodb+srv no port is given"),
    ("mongodb://ada:s3cret#x@h/jobs", "there is a # in it"),
    ("mongodb://ada:x@s3cret@h/jobs", "there is more than one @ in it"),
    ("mongodb://ada:s3cret/x@h/jobs", "there is a / before its @"),
    ("mongodb://ada:12/s3cret@h/jobs", "there is a / before its @"),
    ("mongodb://ada:12?s3cret=x@h/jobs", "there is a ? before its @"),
    ("mongodb://ada:x?s3cret@h/jobs", "there is a ? before its @"),
    ("mongodb://ada:x:s3cret@h/jobs", "there is more than one : before its @"),
    ("mongodb://ada:s3cret%x@h/jobs", XX),
    ("mongodb://ada:s3cret%@h/jobs", XX),
    ("mongodb://ada:s3cret%00@h/jobs", XX),
    ("mongodb://ada:s3cret x@h/jobs", XX),
    ("mongodb://:s3cret@h/jobs", NO_USER),
    ("mongodb://@h/jobs", NO_USER),
    ("mongodb://ada:s3cret@/jobs", "it names no host"),
    ("mongodb://ada:s3cret@h,,g/jobs", "it names no host"),
    ("mongodb:///jobs", "it names no host"),
    ("mongodb://", "it names no host"),
    ("mongodb://ada:s3cret@::1/jobs", IPV6),
    ("mongodb://ada:s3cret@[::1/jobs", IPV6),
    ("mongodb:/ada:s3cret@h/jobs", "// is missing after its scheme"),
    ("mongodb:ada:s3cret@h/jobs", "// is missing after its scheme"),
    ("mongodb:", "// is missing after its scheme"),
    ("mongodb://ada:s3cret@h/jobs?tls", "what stands after its ? is not name=value&name=value"),
    ("mongodb://ada:s3cret@h/jobs?tls=true&TLS=false", "an option stands in it twice"),
]

WEAKER = [
    ("w=1", "w=majority"),
    ("w=0", "w=majority"),
    ("W=2", "W=majority"),
    ("journal=false", "journal=true"),
    ("j=0", "j=true"),
    ("J=False", "J=true"),
    ("readPreference=secondary", "readPreference=primary"),
    ("readpreference=primaryPreferred", "readpreference=primary"),
    ("retryWrites=false", "retryWrites=true"),
    ("RETRYREADS=false", "RETRYREADS=true"),
]

NOT_YOURS = (
    "timeoutMS=1", "TIMEOUTMS=1", "socketTimeoutMS=1", "connectTimeoutMS=1", "serverSelectionTimeoutMS=1",
    "wTimeoutMS=1", "fsync=true", "readConcernLevel=snapshot", "datetime_conversion=datetime_ms",
)  # fmt: skip

SENSELESS = [
    ("foo=1", "Unknown option: foo"),
    ("replicaset_=x", "Unknown option: replicaset_"),
    ("tls=maybe", "The value of tls must be 'true' or 'false'"),
    ("heartbeatFrequencyMS=1", "heartbeatFrequencyMS cannot be less than 500.0"),
    ("tlsCAFile=/nowhere.pem&tls=true", "[Errno 2] No such file or directory: '/nowhere.pem'"),
    ("tls=true&ssl=false", "Can not specify conflicting values for URI options ssl and tls"),
]


class TestUrls:
    @pytest.mark.parametrize(("url", "why"), MALFORMED, ids=[url for url, _ in MALFORMED])
    def test_one_that_is_malformed_is_two_and_not_repeated(
        self, queuectl: CommandLine, url: str, why: str
    ) -> None:
        message = f"the URL of the store is not understood: {why}"
        error = queuectl.json("--store", url, "-v", "status", code=2)["error"]
        assert error == {"code": "invalid_input", "message": message, "hint": URL_HINT}
        assert "s3cret" not in queuectl.err
        assert queuectl("--store", url, "status", code=2) == ""
        assert queuectl.err == f"queuectl: {message} ({URL_HINT})\n"

    @pytest.mark.parametrize(("option", "meant"), WEAKER)
    def test_what_would_weaken_a_promise_is_two(self, turned_away: Refused, option: str, meant: str) -> None:
        message = f"{option} in the store's URL would weaken what queuectl promises"
        hint = f"leave it out: {meant} is always meant"
        url = f"mongodb://ada:s3cret@h/jobs?appName=x&{option}"
        turned_away(url, code=2, kind="invalid_input", message=message, hint=hint)

    @pytest.mark.parametrize("option", NOT_YOURS)
    def test_what_queuectl_decides_is_two(self, turned_away: Refused, option: str) -> None:
        message = f"{option.partition('=')[0]} in the store's URL is not for you to set"
        hint = "leave it out: queuectl sets it for each call"
        url = f"mongodb://ada:s3cret@h/jobs?{option}"
        turned_away(url, code=2, kind="invalid_input", message=message, hint=hint)

    @pytest.mark.parametrize(("option", "said"), SENSELESS)
    def test_an_option_that_makes_no_sense_is_two(
        self, turned_away: Refused, recwarn: pytest.WarningsRecorder, option: str, said: str
    ) -> None:
        url = f"mongodb://ada:s3cret@h/jobs?{option}"
        message = f"mongodb://ada@h/jobs: {said}"
        turned_away(url, code=2, kind="invalid_input", message=message, hint=AFTER)
        assert not recwarn.list

    def test_several_hosts_and_one_of_them_alone_is_two(self, turned_away: Refused) -> None:
        message = "mongodb://g,h/jobs: Cannot specify multiple hosts with directConnection=true"
        url = "mongodb://g,h/jobs?directConnection=true"
        turned_away(url, code=2, kind="invalid_input", message=message, hint=AFTER)

    @pytest.mark.parametrize("name", ["a b", "a.b", "a$b", "a%2Fb", "jöbs", "x" * 39])
    def test_what_is_no_name_of_a_database_is_two(self, queuectl: CommandLine, name: str) -> None:
        queuectl("--store", f"mongodb://h/{name.replace(' ', '%20')}", "status", code=2)
        shown = name.replace("%2F", "/")
        said = f"{shown!r} is no name for the queue's database (letters, digits, _ and -, at most 38)"
        assert queuectl.err == f"queuectl: {said}\n"

    @pytest.mark.parametrize("name", ["admin", "local", "config", "Admin"])
    def test_a_database_of_mongodbs_own_is_two(self, queuectl: CommandLine, name: str) -> None:
        queuectl("--store", f"mongodb://ada:s3cret@h/{name}", "status", code=2)
        said = f"{name!r} is a database of MongoDB's own, and cannot be the queue's"
        hint = f"name another; if it knows the user: mongodb://…/jobs?authSource={name}"
        assert queuectl.err == f"queuectl: {said} ({hint})\n"

    @pytest.mark.parametrize("value", ["yes", "", "never"])
    def test_listen_is_no_or_nothing(self, queuectl: CommandLine, value: str) -> None:
        queuectl("--store", f"mongodb://h/jobs?listen={value}", "status", code=2)
        assert f"listen={value} in the store's URL is not understood" in queuectl.err

    @pytest.mark.parametrize(
        "option",
        ["listen=no", "Listen=NO", "retryWrites=true&w=majority", "RETRYWRITES=true&W=majority&J=true",
         "appName=Cluster0", "minPoolSize=100", "maxPoolSize=1", "compressors=snappy,zlib", "readPreference=primary"],
    )  # fmt: skip
    def test_what_changes_nothing_that_matters_is_taken(
        self, place: MongoPlace, queuectl: CommandLine, recwarn: pytest.WarningsRecorder, option: str
    ) -> None:
        assert "jobs:       0" in queuectl("--store", f"{place.url()}&{option}", "status")
        assert not recwarn.list

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("mongodb://[::1]:27018,[::2],h/jobs", "mongodb://[::1]:27018,[::2],h/jobs"),
            ("mongodb://ada:s3cret@[fe80::1%25eth0]:27017/jobs", "mongodb://ada@[fe80::1%25eth0]/jobs"),
            ("mongodb://ada:s3cret@g:27017,h:1/?replicaSet=x", "mongodb://ada@g,h:1/queuectl"),
            ("mongodb://ada:s3cret@h?replicaSet=x", "mongodb://ada@h/queuectl"),
            ("mongodb://a%40b:s3cret@h", "mongodb://a%40b@h/queuectl"),
            ("mongodb+srv://ada:s3cret@c.example.net/jobs", "mongodb+srv://ada@c.example.net/jobs"),
            ("mongodb://%2Ftmp%2Fmongodb-27017.sock/jobs", "mongodb://%2Ftmp%2Fmongodb-27017.sock/jobs"),
        ],
    )
    def test_what_it_names_is_shown(self, url: str, shown: str) -> None:
        from queuectl import bootstrap

        assert bootstrap.shown(url) == shown

    def test_an_ipv6_host_and_a_second_one_that_is_the_set(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connect, "FIRST_LOOK", 0.1)
        at = f"mongodb://[::1]:{free_port()},[::1]:{free_port()}/jobs"
        assert queuectl("--store", at, "status", code=5) == ""
        assert queuectl.err.startswith(f"queuectl: {at} cannot be reached: ")

    def test_a_socket(self, place: MongoPlace, queuectl: CommandLine) -> None:
        path = f"/tmp/queuectl-{place.name}.sock"  # not in a directory of the test's: the name of a socket is short
        with _leading(path, place.server):
            url = place.url(host=path).replace(f":{place.server.port}", "")
            assert queuectl("--store", url, "enqueue", "--id", "a", "true") == "a\n"
        assert queuectl("--store", place.url(), "show", "a")


@contextlib.contextmanager
def _leading(path: str, server: MongoServer) -> Iterator[None]:
    """A socket in the file system that leads to a server: those of the tests have none of their own."""
    with socket.socket(socket.AF_UNIX) as ear:
        ear.bind(path)
        ear.listen()
        threading.Thread(target=_lead, args=(ear, server), daemon=True).start()
        try:
            yield
        finally:
            os.unlink(path)
            ear.shutdown(socket.SHUT_RDWR)


def _lead(ear: socket.socket, server: MongoServer) -> None:
    with contextlib.suppress(OSError):
        while True:
            client = ear.accept()[0]
            other = socket.create_connection((server.host, server.port))
            for pair in ((client, other), (other, client)):
                threading.Thread(target=_pour, args=pair, daemon=True).start()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError), source:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class TestWord:
    def test_it_takes_the_url_from_its_variable(
        self, queuectl: CommandLine, place: MongoPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUEUECTL_STORE", "mongodb")
        monkeypatch.setenv("MONGODB_URI", place.url())
        queuectl("enqueue", "--id", "a", "true")
        assert queuectl.json("--store", place.url(), "show", "a")["job"]["id"] == "a"

    def test_that_may_stand_in_a_file(self, queuectl: CommandLine, place: MongoPlace) -> None:
        Path(".env").write_text(f"QUEUECTL_STORE=mongodb\nMONGODB_URI='{place.url()}'\n")
        queuectl("enqueue", "--id", "a", "true")
        assert queuectl.json("--store", place.url(), "show", "a")["job"]["id"] == "a"

    def test_without_it_this_host_is_meant(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from queuectl.cli import session

        opened: list[str] = []

        def open_store(url: str, *_words: object, **_options: object) -> None:
            opened.append(url)
            raise session.InvalidInput("seen")

        monkeypatch.setattr("queuectl.bootstrap.open_store", open_store)
        queuectl("--store", "mongodb", "status", code=2)
        assert opened == ["mongodb://localhost:27017"]

    @pytest.mark.parametrize(
        "url", ["mysql://ada:s3cret@h/jobs", "sqlite:///s3cret.db", '"mongodb://ada:s3cret@h/jobs"']
    )
    def test_a_variable_that_holds_something_else_is_two(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("MONGODB_URI", url)
        queuectl("--store", "mongodb", "status", code=2)
        said = "the store is 'mongodb', but MONGODB_URI holds the URL of another"
        assert queuectl.err == f"queuectl: {said} (it has to begin with mongodb://)\n"
        assert not Path("s3cret.db").exists()

    def test_the_extra_is_named_where_it_is_missing(self, queuectl: CommandLine, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text(WITHOUT.format(library="pymongo"))
        path = os.pathsep.join((str(tmp_path), *sys.path))
        done = queuectl.process("--store", "mongodb://h/d", "status", PYTHONPATH=path)
        hint = f"run: {sys.executable} -m pip install 'pymongo>=4.9'"
        said = f"this store needs pymongo, which cannot be loaded: No module named 'pymongo' ({hint})"
        assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (5, "", f"queuectl: {said}\n")


class TestSecrets:
    """A password is where it was given, and nowhere else."""

    @pytest.mark.parametrize("words", LOOKING, ids=[" ".join(words) for words in LOOKING])
    @pytest.mark.parametrize("how", ["flag", "variable", "file", "word"])
    def test_no_command_shows_it(
        self,
        queuectl: CommandLine,
        place: MongoPlace,
        monkeypatch: pytest.MonkeyPatch,
        how: str,
        words: tuple[str, ...],
    ) -> None:
        url, flag = place.as_user(place.user("readWrite")), ()
        if how == "flag":
            flag = ("--store", url)
        elif how == "variable":
            monkeypatch.setenv("QUEUECTL_STORE", url)
        elif how == "file":
            Path("queuectl.toml").write_text(f'store = "{url}"\n')
        else:
            flag = ("--store", "mongodb")
            monkeypatch.setenv("MONGODB_URI", url)
        for form in ((), ("--json",)):
            shown = queuectl(*flag, *words, *form)
            assert secret_of(url, shown + queuectl.err, place) is None
            assert f"@{place.server.host}:{place.server.port}/{place.name}" in shown

    def test_config_shows_the_store_as_status_does(
        self, queuectl: CommandLine, place: MongoPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MONGODB_URI", place.url())
        for given in (("--store", place.url()), ("--store", "mongodb")):
            assert queuectl(*given, "config", "get", "store") == f"{place.at()}\n"
            assert queuectl.json(*given, "config", "get", "store")["setting"]["value"] == place.at()
            assert f"store = {place.at()}" in queuectl.lines(*given, "config", "list")
            assert queuectl.json(*given, "status")["store"]["url"] == place.at()

    @pytest.mark.parametrize("form", ["plain", "json"])
    def test_a_worker_does_not_say_it(self, queuectl: CommandLine, place: MongoPlace, form: str) -> None:
        user = place.user("readWrite")
        url = place.as_user(user)
        queuectl("--store", url, "enqueue", "env; cat /proc/$PPID/cmdline")
        done = queuectl.process("--store", url, "worker", "start", "--drain", "--log-format", form)
        said = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0, said
        assert f"queuectl: store {place.at(user)} (power-safe)\n" in said
        output = queuectl("--store", url, "logs", "1")
        assert "QUEUECTL_JOB_ID" in output
        assert [secret_of(url, text, place) for text in (said, output)] == [None, None]
