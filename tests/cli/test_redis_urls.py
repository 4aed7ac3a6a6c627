"""Which Redis is meant, and which archive: URLs, words, variables, extras; and never a password in what is printed."""

import os
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from cli.conftest import CommandLine
from cli.postgres import secret_of
from cli.redis import ArchivedPlace, RedisPlace
from cli.test_postgres_urls import LOOKING, WITHOUT
from e2e.databases import RIGHTS
from queuectl.bootstrap import DRIVERS
from queuectl.cli import session

UNFIT = (
    "redis://ada:s3cret@h:port/0", "redis://ada:s3cret@h:99999/0", "redis://ada:s3cret@h:0/0",
    "redis://ada:s3cret#x@h/0", "redis://ada:x@s3cret@h/0", "redis://ada:s3cret/x@h/0", "redis://ada:x?s3cret@h/0",
    "redis://ada:s3cret[@h/0", "redis:/ada:s3cret@h/0", "redis:ada:s3cret@h/0", "redis:", "redis://ada:s3cret@h/jobs",
    "redis://ada:s3cret@h/-1", "redis://ada:s3cret@h/0/1", "redis://ada:s3cret@h/0?listen",
    "redis://ada:s3cret@h/0?listen=yes", "redis://ada:s3cret@h/0?name=a%20b", "redis://ada:s3cret@h/0?name={x}",
    "redis://ada:s3cret@h/0?name=", "redis://ada:s3cret@h/0?durability=slow",
    "redis://ada@h/0?arhive=mongodb://u:s3cret@h/past", "redis://ada@h/0?arhive=mongodb%3A%2F%2Fu%3As3cret%40h%2Fpast",
    "redis://ada@h/0?password=s3cret", "redis://ada@h/0?listen=mongodb%3A%2F%2Fu%3As3cret%40h",
)  # fmt: skip

UNFIT_ARCHIVES = (
    "postgresql://u:s3cret@h/past", "redis://u:s3cret@h/0", "s3cret", "", "mongodb:u:s3cret@h", "mongodb://u:s3/cret@h/past",
    "mongodb://u:s3cret@h:x/past", "mongodb://u:s3cret@h/admin", "mongodb://u:s3cret@h/past?w=1",
)  # fmt: skip


class TestUrls:
    @pytest.mark.parametrize("url", UNFIT)
    def test_one_that_is_unfit_is_two_and_nothing_secret_of_it_is_repeated(
        self, queuectl: CommandLine, url: str
    ) -> None:
        self.is_two(queuectl, url)

    @pytest.mark.parametrize("archive", UNFIT_ARCHIVES)
    def test_so_is_one_whose_archive_is_unfit(self, queuectl: CommandLine, archive: str) -> None:
        self.is_two(queuectl, f"redis://ada@h/0?archive={quote(archive, safe='')}")
        assert "archive" in queuectl.err

    def test_an_archive_whose_and_was_not_written_as_a_number(self, queuectl: CommandLine) -> None:
        self.is_two(queuectl, "redis://h/0?archive=mongodb://u:s3cret@h/past?authSource=admin&tls=true")

    @staticmethod
    def is_two(queuectl: CommandLine, url: str) -> None:
        error = queuectl.json("--store", url, "-v", "status", code=2)["error"]
        assert error["code"] == "invalid_input"
        assert error["hint"]
        said = queuectl.err
        assert queuectl("--store", url, "status", code=2) == ""
        assert queuectl.err == f"queuectl: {error['message']} ({error['hint']})\n"
        assert [word for word in ("s3cret", "cret@") if word in said + queuectl.err] == []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs of the stores that would be opened."""
    urls: list[str] = []

    def open_store(url: str, *_words: object, **_options: object) -> None:
        urls.append(url)
        raise session.InvalidInput("seen")

    monkeypatch.setattr("queuectl.bootstrap.open_store", open_store)
    return urls


class TestWord:
    @pytest.mark.parametrize(
        ("redis", "mongodb", "meant"),
        [
            ("", "", "redis://localhost:6379"),
            ("redis://h/1", "", "redis://h/1"),
            ("", "mongodb://m/past", "redis://localhost:6379?archive=mongodb%3A%2F%2Fm%2Fpast"),
            ("rediss://h/1?name=x", "mongodb+srv://m/p?tls=true&w=majority",
             "rediss://h/1?name=x&archive=mongodb%2Bsrv%3A%2F%2Fm%2Fp%3Ftls%3Dtrue%26w%3Dmajority"),
            ("redis://h/1?archive=mongodb://own/p", "mongodb://m/past", "redis://h/1?archive=mongodb://own/p"),
            ("redis://:archive%3D@h/1", "mongodb://m/p", "redis://:archive%3D@h/1?archive=mongodb%3A%2F%2Fm%2Fp"),
            ("redis://:archive=@h/1", "mongodb://m/p", "redis://:archive=@h/1?archive=mongodb%3A%2F%2Fm%2Fp"),
        ],
    )  # fmt: skip
    def test_it_takes_both_urls_from_their_variables(
        self,
        queuectl: CommandLine,
        monkeypatch: pytest.MonkeyPatch,
        opened: list[str],
        redis: str,
        mongodb: str,
        meant: str,
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis)
        monkeypatch.setenv("MONGODB_URI", mongodb)
        queuectl("--store", "redis", "status", code=2)
        assert opened == [meant]

    def test_they_may_stand_in_a_file(self, queuectl: CommandLine, archived: ArchivedPlace) -> None:
        lines = f"QUEUECTL_STORE=redis\nREDIS_URL='{archived.live()}'\nMONGODB_URI='{archived.archive}'\n"
        Path(".env").write_text(lines)
        queuectl("enqueue", "--id", "a", "true")
        queuectl("cancel", "a")
        assert queuectl.json("--store", archived.url(), "show", "a")["job"]["state"] == "cancelled"
        found = queuectl.json("doctor")["checks"]
        assert [check["detail"] for check in found if check["name"] == "to_archive"] == ["1"]

    @pytest.mark.parametrize(
        "url", ["http://ada:s3cret@h", "mongodb://ada:s3cret@h", "sqlite:///s3cret.db", '"redis://:s3cret@h"']
    )
    def test_a_redis_url_that_is_something_else_is_two(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("REDIS_URL", url)
        queuectl("--store", "redis", "status", code=2)
        said = "the store is 'redis', but REDIS_URL holds the URL of another (it has to begin with redis://)"
        assert queuectl.err == f"queuectl: {said}\n"

    def test_so_is_a_mongodb_uri_that_is(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MONGODB_URI", "postgresql://ada:s3cret@h/past")
        queuectl("--store", "redis", "status", code=2)
        said = "the archive is 'mongodb', but MONGODB_URI holds the URL of another"
        assert queuectl.err == f"queuectl: {said} (it has to begin with mongodb://)\n"

    @pytest.mark.parametrize(
        ("url", "library"),
        [("redis://h/0", "redis"), ("redis://h/0?archive=mongodb%3A%2F%2Fm%2Fpast", "pymongo")],
    )
    def test_the_extra_is_named_where_it_is_missing(
        self, queuectl: CommandLine, tmp_path: Path, url: str, library: str
    ) -> None:
        (tmp_path / "sitecustomize.py").write_text(WITHOUT.format(library=library))
        path = os.pathsep.join((str(tmp_path), *sys.path))
        done = queuectl.process("--store", url, "status", PYTHONPATH=path)
        wanted = DRIVERS[{"redis": "redis", "pymongo": "mongodb"}[library]]
        why = f"which cannot be loaded: No module named '{library}'"
        said = f"this store needs {library}, {why} (run: {sys.executable} -m pip install '{wanted}')"
        assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (5, "", f"queuectl: {said}\n")


class TestSecrets:
    """A password is where it was given, and nowhere else: neither Redis' nor the archive's."""

    @pytest.mark.parametrize("words", LOOKING, ids=[" ".join(words) for words in LOOKING])
    @pytest.mark.parametrize("how", ["flag", "variable", "file", "word"])
    def test_no_command_shows_it(
        self,
        queuectl: CommandLine,
        archived: ArchivedPlace,
        monkeypatch: pytest.MonkeyPatch,
        how: str,
        words: tuple[str, ...],
    ) -> None:
        user = archived.user(*RIGHTS)
        url, flag = archived.as_user(user), ()
        if how == "flag":
            flag = ("--store", url)
        elif how == "variable":
            monkeypatch.setenv("QUEUECTL_STORE", url)
        elif how == "file":
            Path("queuectl.toml").write_text(f'store = "{url}"\n')
        else:
            flag = ("--store", "redis")
            monkeypatch.setenv("REDIS_URL", RedisPlace.as_user(archived, user).partition("&archive=")[0])
            monkeypatch.setenv("MONGODB_URI", archived.archive)
        for form in ((), ("--json",), ("-v",)):
            shown = queuectl(*flag, *words, *form)
            assert secret_of(url, shown + queuectl.err, archived) is None
            assert archived.at(user) in shown

    def test_config_shows_the_store_as_status_does(
        self, queuectl: CommandLine, archived: ArchivedPlace
    ) -> None:
        given = ("--store", archived.url())
        shown = queuectl.json(*given, "status")["store"]["url"]
        assert shown.startswith(archived.at())
        assert queuectl(*given, "config", "get", "store") == f"{shown}\n"
        assert queuectl.json(*given, "config", "get", "store")["setting"]["value"] == shown
        assert f"store = {shown}" in queuectl.lines(*given, "config", "list")

    @pytest.mark.parametrize("form", ["plain", "json"])
    def test_a_worker_does_not_say_it(
        self, queuectl: CommandLine, archived: ArchivedPlace, form: str
    ) -> None:
        user = archived.user(*RIGHTS)
        url = archived.as_user(user)
        queuectl("--store", url, "enqueue", "env; cat /proc/$PPID/cmdline")
        done = queuectl.process("--store", url, "worker", "start", "--drain", "--log-format", form)
        said = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0, said
        assert f"queuectl: store {archived.at(user)}" in said
        output = queuectl("--store", url, "logs", "1")
        assert "QUEUECTL_JOB_ID" in output
        assert [secret_of(url, text, archived) for text in (said, output)] == [None, None]
