"""The choice and the creation of a store: commands that only read never create a store, and a new store is reported."""

import json
import os
from pathlib import Path

import pytest

from cli.conftest import CommandLine
from cli.doors import ABSENT, direct

pytestmark = direct(ABSENT)

LOOKING = [
    ("status",),
    ("list",),
    ("show", "1"),
    ("logs", "1"),
    ("wait", "1"),
    ("wait", "--all"),
    ("cancel", "1"),
    ("cancel", "--all", "--yes"),
    ("retry", "1"),
    ("edit", "1", "--priority", "1"),
    ("delete", "1"),
    ("dlq", "list"),
    ("purge", "--older-than", "1d"),
    ("worker", "list"),
    ("worker", "stop"),
    ("queue", "list"),
    ("queue", "pause", "default"),
    ("queue", "limit", "default", "1"),
    ("config", "list"),
    ("config", "get", "lease"),
    ("config", "unset", "lease"),
    ("explain", "1"),
    ("doctor",),
    ("enqueue", "--dry-run", "true"),
]
CREATING = [("enqueue", "true"), ("config", "set", "lease", "1m"), ("doctor", "--create")]


def everything(root: Path) -> set[Path]:
    return {path.relative_to(root) for path in root.rglob("*") if "work" not in path.parts}


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
class TestReading:
    def test_reading_creates_nothing_if_the_default_store_is_missing(
        self, queuectl: CommandLine, tmp_path: Path, words: tuple[str, ...]
    ) -> None:
        before = everything(tmp_path)
        done = queuectl.process(*words)
        assert done.returncode in (0, 3, 5, 125), done
        assert b"Traceback" not in done.stderr
        assert everything(tmp_path) == before

    def test_a_missing_named_store_is_an_error(
        self, queuectl: CommandLine, tmp_path: Path, words: tuple[str, ...]
    ) -> None:
        url = f"sqlite:///{tmp_path}/typo/queue.db"
        done = queuectl.process("--store", url, *words)
        assert not (tmp_path / "typo").exists()
        if "--dry-run" in words:
            assert done.returncode == 0
        elif words[0] == "wait":
            assert done.returncode in (5, 125)
        else:
            assert done.returncode == 5, done
            assert b"is not there" in done.stderr
            assert f"queuectl --store {url} doctor --create".encode() in done.stderr


class TestMissingDefaultStore:
    def test_a_missing_default_store_is_shown_as_empty_with_a_message(self, queuectl: CommandLine) -> None:
        found = queuectl.json("status")
        assert found["jobs"]["total"] == 0
        assert found["store"]["url"].endswith("/data/queuectl/queue.db")
        assert queuectl.err == ""
        assert queuectl.json("list")["jobs"] == []
        queuectl("status")
        assert "there is no store yet; the first enqueue creates sqlite:////" in queuectl.err

    def test_a_job_in_a_missing_store_is_not_found(self, queuectl: CommandLine) -> None:
        queuectl("show", "1", code=3)

    def test_a_change_in_a_missing_store_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("queue", "pause", "default", code=5)
        assert "there is no store yet" in queuectl.err
        assert "queuectl doctor --create" in queuectl.err


@pytest.mark.parametrize("words", CREATING, ids=" ".join)
class TestCreating:
    def test_the_creation_of_a_store_is_reported_once(
        self, queuectl: CommandLine, tmp_path: Path, words: tuple[str, ...]
    ) -> None:
        queuectl(*words)
        assert f"queuectl: created store sqlite:///{tmp_path}/data/queuectl/queue.db\n" in queuectl.err
        queuectl(*words)
        assert "created" not in queuectl.err

    def test_the_creation_is_not_reported_with_quiet(
        self, queuectl: CommandLine, words: tuple[str, ...]
    ) -> None:
        queuectl("-q", *words)
        assert queuectl.err == ""


def test_the_hint_for_a_missing_store_works_unchanged(queuectl: CommandLine, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a dir/queue.db"
    queuectl("--store", url, "status", code=5)
    hint = queuectl.err.partition("to create it: ")[2].rstrip(")\n")
    assert queuectl.process(shell=hint.replace("queuectl", "$Q")).returncode == 0
    queuectl("--store", url, "status")


class TestRelativeAddress:
    @pytest.mark.parametrize("place", ["flag", "variable", "dotenv", "file"])
    def test_a_relative_path_is_resolved_where_the_address_is_read(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        words: tuple[str, ...] = ()
        if place == "flag":
            words = ("--store", "sqlite:///mine.db")
        elif place == "variable":
            monkeypatch.setenv("QUEUECTL_STORE", "sqlite:///mine.db")
        elif place == "dotenv":
            Path(".env").write_text("QUEUECTL_STORE=sqlite:///mine.db\n")
        else:
            Path("queuectl.toml").write_text('store = "sqlite:///mine.db"\n')
        queuectl(*words, "enqueue", "true")
        here = Path.cwd() / "mine.db"
        assert (
            f"created store sqlite:///{here} (sqlite:///mine.db is relative to the working directory)"
            in queuectl.err
        )
        assert queuectl(*words, "config", "get", "store") == f"sqlite:///{here}\n"
        assert here.exists()


class TestUnusableHome:
    @pytest.mark.parametrize("home", ["", "relative", "/"])
    def test_an_unusable_home_is_refused_with_a_hint(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, home: str
    ) -> None:
        monkeypatch.delenv("XDG_DATA_HOME")
        monkeypatch.setenv("HOME", home)
        for words in (("enqueue", "true"), ("status",), ("--store", "sqlite:///~/q.db", "enqueue", "true")):
            queuectl(*words, code=2)
            assert "sqlite:////path/to/queue.db" in queuectl.err
        assert os.listdir() == []

    def test_a_relative_data_directory_is_refused(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", "data")
        queuectl("enqueue", "true", code=2)
        assert "XDG_DATA_HOME is 'data'" in queuectl.err

    def test_an_unusable_home_is_accepted_with_a_named_store(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", "/")
        queuectl("--store", f"sqlite:///{tmp_path}/q.db", "enqueue", "true")


POSTGRES, MONGODB, REDIS = "postgres://h/x", "mongodb://h", "redis://h"
SUPABASE = {"SUPABASE_URL": "https://x.supabase.co", "SUPABASE_SERVICE_ROLE_KEY": "key"}


class TestUnusedVariables:
    @pytest.mark.parametrize(
        ("variables", "said"),
        [
            (
                {"DATABASE_URL": POSTGRES},
                "DATABASE_URL is set and not used; to use it: export QUEUECTL_STORE=postgres",
            ),
            (
                {"REDIS_URL": REDIS, "MONGODB_URI": MONGODB},
                "MONGODB_URI and REDIS_URL are set and not used; to use them: export QUEUECTL_STORE=redis",
            ),
            (
                {"MONGODB_URI": MONGODB},
                "MONGODB_URI is set and not used; to use it: export QUEUECTL_STORE=mongodb",
            ),
            (
                {"DATABASE_URL": POSTGRES, "REDIS_URL": REDIS},
                "DATABASE_URL and REDIS_URL are set and not used; "
                "to use one: export QUEUECTL_STORE=postgres or export QUEUECTL_STORE=redis",
            ),
            (
                SUPABASE,
                "SUPABASE_URL is set and not used; it leads to an HTTP API: set DATABASE_URL to the project's "
                "connection string (Connect, Session pooler), and: export QUEUECTL_STORE=postgres",
            ),
            (SUPABASE | {"DATABASE_URL": POSTGRES}, "DATABASE_URL is set and not used"),
            ({"DATABASE_URL": "mysql://h/x"}, None),
            ({"DATABASE_URL": ""}, None),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
    )
    @pytest.mark.parametrize("place", ["environment", "dotenv"])
    def test_unused_variables_are_named_with_a_command_that_uses_them(
        self,
        queuectl: CommandLine,
        monkeypatch: pytest.MonkeyPatch,
        variables: dict[str, str],
        said: str | None,
        place: str,
    ) -> None:
        if place == "dotenv":
            Path(".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        else:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
        queuectl("enqueue", "true")
        for words in (("enqueue", "true"), ("status",), ("status", "--json")):
            queuectl(*words)
            lines = [line for line in queuectl.err.splitlines() if "not used" in line]
            assert len(lines) == (1 if said else 0), queuectl.err
            assert said is None or lines[0].startswith(f"queuectl: {said}")
            queuectl("-q", *words)
            assert "not used" not in queuectl.err

    def test_unused_variables_are_not_reported_if_a_store_is_named(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", POSTGRES)
        queuectl("enqueue", "true")
        assert "not used" in queuectl.err
        url = queuectl("config", "get", "store").strip()
        monkeypatch.setenv("QUEUECTL_STORE", url)
        queuectl("enqueue", "true")
        assert queuectl.err == ""

    def test_the_worker_also_reports_unused_variables(self, queuectl: CommandLine) -> None:
        done = queuectl.process("worker", "start", "--drain", DATABASE_URL=POSTGRES)
        assert b"DATABASE_URL is set and not used" in done.stderr
        assert json.loads(queuectl("status", "--json"))["jobs"]["total"] == 0
