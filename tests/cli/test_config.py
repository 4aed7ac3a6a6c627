"""`queuectl config` lists, reads, sets and unsets settings; other sources of options may override a setting."""

import os
from pathlib import Path

import pytest

from cli.conftest import CommandLine
from cli.doors import CHOICE, direct
from queuectl import trust
from queuectl.config import OPTIONS

ENTRY = {"key", "value", "origin", "help"}


class TestList:
    def test_every_setting_has_a_line(self, queuectl: CommandLine) -> None:
        lines = queuectl.lines("config", "list")
        assert [line.split(" = ")[0] for line in lines] == list(OPTIONS)
        assert "max_retries = 3" in lines

    def test_the_document_has_the_documented_keys(self, queuectl: CommandLine) -> None:
        document = queuectl.json("config", "list")
        assert document.keys() == {"schema", "settings"}
        assert all(entry.keys() == ENTRY for entry in document["settings"])
        assert [entry["key"] for entry in document["settings"]] == list(OPTIONS)

    def test_the_option_origin_prints_the_winning_source(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queuectl("config", "set", "jitter", "0.5")
        Path("queuectl.toml").write_text('kill_grace = "3s"\n')
        monkeypatch.setenv("QUEUECTL_TIMEOUT", "5m")
        lines = queuectl.lines("config", "list", "--origin", "--color", "never")
        for line in (
            "jitter = 0.5  # the store's settings",
            "kill_grace = 3s  # queuectl.toml",
            "timeout = 5m  # QUEUECTL_TIMEOUT",
            "color = never  # --color",
            "lease = 30s  # default",
        ):
            assert line in lines


class TestSet:
    def test_dashes_and_underscores_are_the_same_key(self, queuectl: CommandLine) -> None:
        assert queuectl("config", "set", "max-retries", "5") == "max_retries = 5\n"
        assert queuectl("config", "get", "max_retries") == "5\n"

    def test_a_new_value_applies_to_jobs_enqueued_afterwards(self, queuectl: CommandLine) -> None:
        before = queuectl.enqueue("x")
        queuectl("config", "set", "backoff_base", "3")
        assert queuectl.job(before)["backoff"]["base"] == 2
        assert queuectl.job(queuectl.enqueue("x"))["backoff"]["base"] == 3

    def test_the_document_contains_the_effective_value(self, queuectl: CommandLine) -> None:
        document = queuectl.json("config", "set", "lease", "1m")
        assert document.keys() == {"schema", "setting"}
        assert document["setting"].keys() == ENTRY
        assert (document["setting"]["value"], document["setting"]["origin"]) == ("1m", "the store's settings")

    @pytest.mark.parametrize(
        ("key", "value", "code"),
        [
            ("lease", "14s", 2), ("heartbeat_interval", "11s", 2), ("jitter", "2", 2), ("nope", "1", 3),
            ("color", "always", 2),
        ],
    )  # fmt: skip
    def test_a_bad_value_changes_nothing(
        self, queuectl: CommandLine, key: str, value: str, code: int
    ) -> None:
        before = queuectl("config", "list")
        queuectl("config", "set", key, value, code=code)
        assert queuectl("config", "list") == before

    def test_a_local_source_that_overrides_the_new_value_is_reported(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUEUECTL_MAX_RETRIES", "9")
        assert queuectl("config", "set", "max_retries", "5") == "max_retries = 9\n"
        assert "QUEUECTL_MAX_RETRIES overrides" in queuectl.err

    def test_a_size_without_a_unit_can_be_used(self, queuectl: CommandLine) -> None:
        queuectl("config", "set", "output_limit", "1500000")
        assert queuectl.job(queuectl.enqueue("x"))["output_limit"] == 1_500_000


class TestUnset:
    def test_an_unset_setting_has_its_default_again(self, queuectl: CommandLine) -> None:
        queuectl("config", "set", "max_retries", "5")
        assert queuectl("config", "unset", "max-retries") == "max_retries = 3\n"
        assert queuectl("config", "unset", "max-retries") == "max_retries = 3\n"

    def test_an_unset_that_contradicts_another_setting_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("config", "set", "lease", "10m")
        queuectl("config", "set", "heartbeat_interval", "1m")
        queuectl("config", "unset", "lease", code=2)
        assert queuectl("config", "get", "lease") == "10m\n"


class TestGet:
    @direct(CHOICE)
    def test_the_default_store_is_printed_as_a_url(self, queuectl: CommandLine) -> None:
        url = queuectl("config", "get", "store").strip()
        assert url.startswith("sqlite:///")
        assert queuectl.json("config", "get", "store")["setting"]["value"] == url

    def test_a_number_is_a_number_in_the_document(self, queuectl: CommandLine) -> None:
        assert queuectl.json("config", "get", "max_retries")["setting"]["value"] == 3
        entries = {entry["key"]: entry["value"] for entry in queuectl.json("config", "list")["settings"]}
        assert (entries["backoff_base"], entries["lease"], entries["timeout"]) == (2.0, "30s", "none")


class TestSources:
    def test_the_option_config_names_a_file(self, queuectl: CommandLine) -> None:
        Path("mine.toml").write_text("max-retries = 7\n")
        assert queuectl("--config", "mine.toml", "config", "get", "max_retries") == "7\n"
        assert queuectl("config", "get", "max_retries") == "3\n"

    def test_the_error_for_a_bad_file_is_one_line_with_its_name(self, queuectl: CommandLine) -> None:
        Path("queuectl.toml").write_text("max_retry = 7\n")
        queuectl("status", code=2)
        assert queuectl.err.startswith("queuectl: queuectl.toml: there is no setting 'max_retry'")
        assert "did you mean max_retries?" in queuectl.err

    def test_all_errors_are_reported_together(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("queuectl.toml").write_text('jitter = 3\nlease = "soon"\n')
        monkeypatch.setenv("QUEUECTL_TIMEOUT", "never")
        queuectl("status", code=2)
        for words in ("jitter", "lease", "timeout"):
            assert words in queuectl.err

    @direct(CHOICE)
    def test_only_connection_variables_are_read_from_dotenv(self, queuectl: CommandLine) -> None:
        Path(".env").write_text("QUEUECTL_STORE=sqlite:///here.db\nQUEUECTL_MAX_RETRIES=9\n")
        queuectl("enqueue", "true")
        assert queuectl("config", "get", "store") == f"sqlite:///{Path.cwd()}/here.db\n"
        assert queuectl("config", "get", "max_retries") == "3\n"
        assert Path("here.db").exists()

    def test_the_environment_wins_over_dotenv(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path(".env").write_text("QUEUECTL_STORE=sqlite:///here.db\n")
        monkeypatch.setenv("QUEUECTL_STORE", "sqlite:///there.db")
        assert queuectl("config", "get", "store") == f"sqlite:///{Path.cwd()}/there.db\n"

    def test_a_dotenv_that_is_not_text_is_reported_in_one_line(self, queuectl: CommandLine) -> None:
        Path(".env").write_bytes(b"\xff\xfe")
        queuectl("status", code=2)
        assert queuectl.err.startswith("queuectl: cannot read .env")
        assert queuectl.err.count("\n") == 1


STRANGER = 65534
FILES = {"queuectl.toml": 'store = "sqlite:///theirs.db"\n', ".env": "QUEUECTL_STORE=sqlite:///theirs.db\n"}


@direct(CHOICE)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("name", FILES)
class TestFilesOfOthers:
    """Files that another user can change are ignored: one warning names the file and the reason."""

    def planted(self, name: str) -> Path:
        path = Path(name)
        path.write_text(FILES[name])
        return path

    def ignored(self, queuectl: CommandLine, name: str, why: str, *words: str) -> None:
        """An enqueue goes into the user's own store; one line warns."""
        queuectl("enqueue", "--quiet", *words, "true")
        [line] = [line for line in queuectl.err.splitlines() if "ignored" in line]
        assert line.startswith(f"queuectl: {name} is ignored: ")
        assert why in line
        assert not Path("theirs.db").exists()
        assert len(queuectl.ids()) == 1

    def test_a_file_of_another_user_is_ignored(self, queuectl: CommandLine, name: str) -> None:
        os.chown(self.planted(name), STRANGER, STRANGER)
        self.ignored(queuectl, name, "it belongs to nobody (uid 65534)")

    @pytest.mark.parametrize("bits", [0o666, 0o646])
    def test_a_file_that_others_may_write_is_ignored(
        self, queuectl: CommandLine, name: str, bits: int
    ) -> None:
        self.planted(name).chmod(bits)
        self.ignored(queuectl, name, f"others may write to it (mode {bits:o})")

    def test_a_file_that_a_foreign_group_may_write_is_ignored(self, queuectl: CommandLine, name: str) -> None:
        path = self.planted(name)
        os.chown(path, 0, STRANGER)
        path.chmod(0o664)
        self.ignored(queuectl, name, "others may write to it (mode 664)")

    def test_a_file_in_a_directory_that_others_may_write_is_ignored(
        self, queuectl: CommandLine, name: str
    ) -> None:
        self.planted(name)
        Path().chmod(0o777)
        self.ignored(queuectl, name, "may be written by others")

    def test_a_file_in_the_directory_of_another_user_is_ignored(
        self, queuectl: CommandLine, name: str
    ) -> None:
        self.planted(name)
        os.chown(".", STRANGER, STRANGER)
        self.ignored(queuectl, name, "belongs to nobody (uid 65534), who could exchange")

    def test_the_users_own_file_is_used_through_a_link_and_if_group_writable(
        self, queuectl: CommandLine, name: str
    ) -> None:
        path = self.planted(name)
        path.rename("kept")
        path.symlink_to("kept")
        Path("kept").chmod(0o660)
        queuectl("enqueue", "true")
        assert "ignored" not in queuectl.err
        assert Path("theirs.db").exists()


@direct(CHOICE)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_named_on_the_command_line_is_used_for_any_owner(queuectl: CommandLine) -> None:
    Path("theirs.toml").write_text(FILES["queuectl.toml"])
    os.chown("theirs.toml", STRANGER, STRANGER)
    queuectl("--config", "theirs.toml", "enqueue", "true")
    assert Path("theirs.db").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_foreign_dotenv_without_our_variables_causes_no_warning(queuectl: CommandLine) -> None:
    Path(".env").write_text("DEBUG=1\n")
    os.chown(".env", STRANGER, STRANGER)
    queuectl("enqueue", "true")
    assert "ignored" not in queuectl.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_foreign_dotenv_that_is_not_text_is_ignored(queuectl: CommandLine) -> None:
    Path(".env").write_bytes(b"\xff\xfe")
    os.chown(".env", STRANGER, STRANGER)
    queuectl("enqueue", "true")
    assert ".env" not in queuectl.err


@pytest.mark.parametrize("name", FILES)
def test_a_file_deleted_before_its_check_counts_as_absent(
    queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def judged_late(path: str) -> object:
        Path(path).unlink()
        return refusal(path)

    refusal = trust.refusal
    Path(name).write_text(FILES[name])
    monkeypatch.setattr(trust, "refusal", judged_late)
    queuectl("enqueue", "true")
    assert not Path("theirs.db").exists()
