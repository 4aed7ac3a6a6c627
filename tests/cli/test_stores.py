"""The choice of the store, and unusable stores: exit code 5, one line, and no change."""

from pathlib import Path

import pytest

from cli.conftest import CommandLine
from cli.doors import CHOICE, direct
from queuectl.bootstrap import sqlite_path
from queuectl.errors import InvalidInput

pytestmark = direct(CHOICE)


class TestUrls:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "sub").mkdir()

    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("sqlite:////abs/olute/q.db", "/abs/olute/q.db"),
            ("sqlite:///q.db", "{here}/q.db"),
            ("sqlite:///sub/q.db", "{here}/sub/q.db"),
            ("sqlite:///./sub/../q.db", "{here}/q.db"),
            ("sqlite:///nowhere/q.db", "{here}/nowhere/q.db"),
            ("sqlite:///~/q.db", "{here}/home/q.db"),
            ("sqlite:///tmp/q.db", "/tmp/q.db"),
            ("sqlite:///with space and ü.db", "{here}/with space and ü.db"),
        ],
    )
    def test_a_url_is_resolved_to_its_file(self, tmp_path: Path, url: str, path: str) -> None:
        assert sqlite_path(url) == path.format(here=tmp_path)

    def test_a_relative_directory_wins_over_one_at_the_root(self, tmp_path: Path) -> None:
        (tmp_path / "tmp").mkdir()
        assert sqlite_path("sqlite:///tmp/q.db") == f"{tmp_path}/tmp/q.db"

    @pytest.mark.parametrize(
        "url", ["sqlite:", "sqlite://", "sqlite:///", "sqlite:///dir/", "sqlite:q.db", "sqlite://host/q.db"]
    )
    def test_a_url_without_a_file_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidInput, match="names no file"):
            sqlite_path(url)


class TestChoice:
    def test_the_flag_wins_over_the_variable_and_the_default(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queuectl("enqueue", "--id", "default", "x")
        monkeypatch.setenv("QUEUECTL_STORE", "sqlite:///variable.db")
        queuectl("enqueue", "--id", "variable", "x")
        queuectl("enqueue", "--store", "sqlite:///flag.db", "--id", "flag", "x")
        assert queuectl.ids() == {"variable"}
        assert [j["id"] for j in queuectl.json("list", "--store", "sqlite:///flag.db")["jobs"]] == ["flag"]

    def test_the_default_store_is_created_with_private_permissions(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "true")
        file = queuectl.root / "data" / "queuectl" / "queue.db"
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700

    def test_status_names_the_store(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "true", "--store", "sqlite:///q.db")
        assert queuectl.json("status", "--store", "sqlite:///q.db")["store"]["url"].endswith("work/q.db")

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("postgres", "DATABASE_URL is not set"),
            ("http://ada:pw@h:1", "a URL of a server has no user and no password"),
            ("http+unix://run/q.sock", "names no socket"),
            ("nonsense", "unknown store scheme 'nonsense'"),
            ("SQLITE:///q.db", "unknown store scheme"),
        ],
    )
    def test_unknown_kinds_of_stores_are_refused_by_name(
        self, queuectl: CommandLine, url: str, said: str
    ) -> None:
        queuectl("--store", url, "status", code=2)
        assert said in queuectl.err


COMMANDS = (
    ("status",), ("list",), ("show", "1"), ("enqueue", "x"), ("cancel", "1"), ("logs", "1"), ("wait", "1"), ("doctor",),
    ("config", "list"), ("config", "set", "lease", "1m"), ("queue", "pause", "q"), ("dlq", "list"), ("worker", "list"),
    ("purge", "--older-than", "1d"), ("explain", "1"),
)  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_a_store_that_is_not_a_database_gives_exit_code_5(
    queuectl: CommandLine, words: tuple[str, ...]
) -> None:
    Path("q.db").write_bytes(b"this is not a database, " * 100)
    before = Path("q.db").read_bytes()
    document = queuectl.json("--store", "sqlite:///q.db", *words, code=5)
    assert document["error"]["code"] == "store_unusable"
    assert queuectl.err.count("\n") == 1
    assert Path("q.db").read_bytes() == before


def test_a_directory_that_cannot_be_created_gives_exit_code_5(queuectl: CommandLine) -> None:
    Path("file").touch()
    queuectl("--store", "sqlite:///file/q.db", "status", code=5)
    assert queuectl.err.count("\n") == 1


def test_a_locked_store_gives_exit_code_5_after_a_limited_wait(
    queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apsw  # not sqlite3: two libraries in one process do not see each other's locks

    from queuectl import bootstrap

    queuectl("enqueue", "--id", "a", "x")
    real = bootstrap.open_store
    monkeypatch.setattr(
        bootstrap, "open_store", lambda *given, **options: real(*given, **options | {"patience": 0.05})
    )
    other = apsw.Connection(str(queuectl.root / "data" / "queuectl" / "queue.db"))
    other.execute("BEGIN IMMEDIATE")
    try:
        document = queuectl.json("enqueue", "--id", "b", "x", code=5)
        assert document["error"]["code"] == "store_unavailable"
    finally:
        other.close()
    assert queuectl.ids() == {"a"}
