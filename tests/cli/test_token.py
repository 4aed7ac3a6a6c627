"""`queuectl token`, `login` and `logout`: their output, the stored files and the permissions of the files."""

import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from cli.conftest import CommandLine
from cli.doors import ABSENT, NO_STORE, direct
from cli.terminals import Terminal
from facts import eventually
from queuectl.domain.token import secret_id
from queuectl.errors import CommandFailed, InvalidInput
from queuectl.http import local_token
from queuectl.http.client import credentials, local_file
from queuectl.http.client.local_file import LocalServer
from queuectl.service.shapes import tokens as shapes

TOKEN = "qctl_abcdefgh_" + "x" * 43
OTHER = "qctl_bcdefghi_" + "y" * 43


@pytest.fixture(autouse=True)
def directories(queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directories of the user are those of the test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(queuectl.root / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(queuectl.root / "state"))
    (queuectl.root / "run").mkdir()


class TestTokens:
    def test_create_prints_the_secret_alone_on_stdout(self, queuectl: CommandLine) -> None:
        [line] = queuectl.lines("token", "create", "wall", "--scope", "view")

        assert secret_id(line) is not None
        assert "wall" in queuectl.err
        assert line not in queuectl.err

    @direct(ABSENT)
    def test_token_create_creates_a_missing_store_unless_it_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("token", "create", "a", "--scope", "root", code=2)
        assert not (queuectl.root / "data").exists()
        queuectl("token", "create", "a", "--scope", "view")
        assert queuectl.json("token", "list")["tokens"][0]["name"] == "a"

    def test_the_documents_have_the_documented_keys(self, queuectl: CommandLine, door: str) -> None:
        words = (
            "token",
            "create",
            "mail",
            "--scope",
            "enqueue,operate",
            "--queue",
            "mail",
            "--queue",
            "post,b",
        )
        made = queuectl.json(*words)
        assert made.keys() == {"schema", "token", "secret"}
        [token] = queuectl.json("token", "list")["tokens"]
        assert token == made["token"]
        assert shapes.token(shapes.token_of(token)) == token
        assert " ".join(token) == (
            "name scopes queues created_by created_at issued_at expires_at last_used secret_ids"
        )
        assert token["scopes"] == ["operate", "enqueue"]
        assert token["queues"] == ["mail", "post", "b"]
        assert token["secret_ids"] == [{"id": made["secret"][5:13], "until": None}]
        assert ("@" if door == "sqlite" else "local:tester") in token["created_by"]

    def test_the_list_shows_no_secret(self, queuectl: CommandLine) -> None:
        secret = queuectl("token", "create", "a", "--scope", "admin", "--expires", "none").strip()
        queuectl("token", "create", "b", "--scope", "view", "--expires", "36h")
        first, second = queuectl.lines("token", "list")
        assert first.split("\t")[:3] == ["a", "admin", "all"]
        assert first.split("\t")[4:6] == ["never", "never"]
        assert second.split("\t")[4] in ("in 35h", "in 1d")
        shown = queuectl("token", "list", "--json")
        assert secret[14:] not in shown
        assert "digest" not in shown

    def test_a_narrow_list_shows_the_whole_names(self, queuectl: CommandLine) -> None:
        queuectl("token", "create", "prometheus", "--scope", "view")
        queuectl("token", "create", "deploy", "--scope", "enqueue,operate")
        variables = {"PYTHONPATH": os.pathsep.join(sys.path)}
        terminal = Terminal([sys.executable, "-m", "queuectl", "token", "list"], columns=40, **variables)
        assert terminal.wait() == 0
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.text).splitlines()
        terminal.close()
        assert [line.split()[0] for line in lines] == ["NAME", "deploy", "prometheus"]
        assert max(map(len, lines)) <= 40

    def test_an_unknown_scope_is_refused_with_the_scopes(self, queuectl: CommandLine) -> None:
        queuectl("token", "create", "a", "--scope", "viw", code=2)
        assert "there is no scope 'viw' (the scopes are view, operate, enqueue, admin)" in queuectl.err

    def test_an_existing_name_is_a_conflict(self, queuectl: CommandLine) -> None:
        queuectl("token", "create", "a", "--scope", "view")
        queuectl("token", "create", "a", "--scope", "view", code=4)
        assert "queuectl token rotate a" in queuectl.err

    @pytest.mark.parametrize(
        "words",
        [("a",), ("a", "--scope", ""), ("a b", "--scope", "view"), ("a", "--scope", "view", "--expires", "0"),
         ("a", "--scope", "view", "--expires", "soon"), ("a", "--scope", "admin", "--queue", "q"),
         ("a", "--scope", "view", "--queue", "q")],
        ids=" ".join,
    )  # fmt: skip
    def test_invalid_arguments_are_refused(self, queuectl: CommandLine, words: tuple[str, ...]) -> None:
        queuectl("token", "create", *words, code=2)
        assert queuectl.json("token", "list")["tokens"] == []

    def test_revoke_deletes_all_or_none(self, queuectl: CommandLine) -> None:
        for name in ("a", "b"):
            queuectl("token", "create", name, "--scope", "view")
        queuectl("token", "revoke", "a", "nobody", code=3)
        assert len(queuectl.json("token", "list")["tokens"]) == 2
        assert queuectl("token", "revoke", "a", "b") == "token a revoked\ntoken b revoked\n"
        queuectl("token", "revoke", "a", code=3)
        assert queuectl.json("token", "list")["tokens"] == []

    def test_rotate_prints_another_secret(self, queuectl: CommandLine) -> None:
        first = queuectl("token", "create", "a", "--scope", "view").strip()
        second = queuectl("token", "rotate", "a").strip()
        assert second != first
        [token] = queuectl.json("token", "list")["tokens"]
        assert [each["id"] for each in token["secret_ids"]] == [second[5:13], first[5:13]]
        assert queuectl.json("token", "rotate", "a", "--keep", "0")["token"]["secret_ids"][1:] == []
        queuectl("token", "rotate", "b", code=3)

    def test_the_store_has_no_secret(self, queuectl: CommandLine) -> None:
        secret = queuectl("token", "create", "a", "--scope", "view").strip()
        files = [path for path in (queuectl.root / "data").rglob("*") if path.is_file()]
        assert files
        assert not [path for path in files if secret[14:].encode() in path.read_bytes()]


@direct(NO_STORE)
class TestLocalToken:
    def test_the_file_is_private_and_removed_at_the_end(self, queuectl: CommandLine) -> None:
        made = local_token.create("http", ["127.0.0.1"], 7733)
        assert made.path == str(queuectl.root / "run" / "queuectl" / "serve-7733.json")
        found = os.stat(made.path)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(made.path)).st_mode) == 0o700
        assert queuectl("token", "local").strip() == made.secret
        assert queuectl("token", "local", "7733").strip() == made.secret
        assert queuectl.json("token", "local")["url"] == "http://127.0.0.1:7733"
        made.remove()
        assert os.listdir(os.path.dirname(made.path)) == []
        queuectl("token", "local", code=3)

    def test_without_a_runtime_directory_the_state_directory_is_used(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert local_token.create("http", ["127.0.0.1"], 1).path == str(
            queuectl.root / "state/queuectl/serve-1.json"
        )
        assert local_file.at_port(1) is not None

    def test_the_port_of_the_store_chooses_the_server(self, queuectl: CommandLine) -> None:
        first, second = (
            local_token.create("http", ["127.0.0.1"], 7001),
            local_token.create("http", ["127.0.0.1"], 7002),
        )
        assert first.secret != second.secret
        queuectl("token", "local", code=2)
        assert "7001, 7002" in queuectl.err
        assert queuectl("--store", "http://127.0.0.1:7002", "token", "local").strip() == second.secret
        queuectl("token", "local", "7003", code=3)
        for port in ("0", "x", "65536", "\u0667001", "007001", "7" * 5000):
            queuectl("token", "local", port, code=2)
            assert "is not a port from 1 to 65535" in queuectl.err

    @pytest.mark.parametrize("host", ["ops.example.org", "10.0.0.1", "127.example.org"])
    def test_the_local_token_is_not_printed_for_another_host(self, queuectl: CommandLine, host: str) -> None:
        made = local_token.create("http", ["127.0.0.1"], 7001)
        assert queuectl("--store", f"http://{host}:7001", "token", "local", code=3) == ""
        assert host in queuectl.err
        assert queuectl("--store", f"http://{host}:7001", "token", "local", "7001").strip() == made.secret

    def test_a_later_server_keeps_its_file_when_the_earlier_one_ends(self, queuectl: CommandLine) -> None:
        first = local_token.create("http", ["127.0.0.1"], 7733)
        second = local_token.create("http", ["127.0.0.1"], 7733)
        first.remove()
        assert queuectl("token", "local").strip() == second.secret

    def test_the_file_of_a_killed_server_is_not_used(self, queuectl: CommandLine) -> None:
        script = (
            "from queuectl.http.local_token import create; print(create('http', ['::1'], 7).path, flush=True)"
        )
        script += "; input()"
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            path = server.stdout.readline().strip()
            queuectl("token", "local")
            server.kill()
        assert os.path.exists(path)
        queuectl("token", "local", code=3)

    def test_a_process_with_a_reused_pid_is_not_the_server(self, queuectl: CommandLine) -> None:
        path = Path(local_token.create("http", ["127.0.0.1"], 7733).path)
        server = msgspec.json.decode(path.read_bytes(), type=LocalServer)
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(server, start=server.start + 1)))
        queuectl("token", "local", code=3)

    @pytest.mark.parametrize("damage", ["open", "link", "text", "fifo"])
    def test_a_file_that_another_user_may_have_made_is_not_used(
        self, queuectl: CommandLine, damage: str
    ) -> None:
        path = Path(local_token.create("http", ["127.0.0.1"], 7733).path)
        if damage == "open":
            path.chmod(0o644)
        elif damage == "text":
            path.write_text("{")
        elif damage == "link":
            path.symlink_to(path.rename(path.with_name("elsewhere")))
        else:
            path.unlink()
            os.mkfifo(path, 0o600)
        queuectl("token", "local", code=3)

    def test_a_directory_that_others_may_write_is_refused(self, queuectl: CommandLine) -> None:
        (queuectl.root / "run" / "queuectl").mkdir(mode=0o777)
        (queuectl.root / "run" / "queuectl").chmod(0o777)
        with pytest.raises(CommandFailed, match="open to others"):
            local_token.create("http", ["127.0.0.1"], 7733)


class TestLogin:
    def test_the_token_is_kept_by_origin_in_a_private_file(self, queuectl: CommandLine) -> None:
        assert queuectl("login", "https://ops.example.org/queue", input=f"{TOKEN}\n") == ""
        assert TOKEN not in queuectl.err
        queuectl("login", "http://[::1]:7733", input=OTHER)
        path = queuectl.root / "config" / "queuectl" / "tokens.toml"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        expected = {"https://ops.example.org:443": TOKEN, "http://[::1]:7733": OTHER}
        assert tomllib.loads(path.read_text()) == expected
        assert credentials.find("https://OPS.example.org:443/x", {}) == (TOKEN, str(path), None)
        assert credentials.find("https://ops.example.org:444", {}) is None
        assert queuectl.json("logout", "https://ops.example.org") == {
            "schema": 1,
            "server": "https://ops.example.org:443",
        }
        assert credentials.find("https://ops.example.org", {}) is None
        queuectl("logout", "https://ops.example.org", code=3)
        assert os.listdir(path.parent) == ["tokens.toml"]

    def test_on_a_terminal_the_typed_token_is_not_shown(self, queuectl: CommandLine) -> None:
        printed = queuectl.on_terminal("login", "https://h", typed=f"{TOKEN}\n".encode())
        assert "token: " in printed
        assert credentials.find("https://h", {}) is not None

    def test_ctrl_c_at_the_prompt_restores_the_echo(self) -> None:
        terminal = Terminal(
            [sys.executable, "-m", "queuectl", "login", "https://h"], PYTHONPATH=os.pathsep.join(sys.path)
        )
        try:
            before = terminal.modes
            eventually(lambda: "token: " in terminal.read() and terminal.modes != before, within=20)
            terminal.type("\x03")
            assert terminal.wait() == 130
            assert terminal.modes == before
            assert "Traceback" not in terminal.text
        finally:
            terminal.close()

    @pytest.mark.parametrize("text", ["", "secret", TOKEN[:-1], f"{TOKEN}x", f"Bearer {TOKEN}"])
    def test_text_that_is_not_a_token_is_refused_and_not_printed(
        self, queuectl: CommandLine, text: str
    ) -> None:
        queuectl("login", "https://h", input=text, code=2)
        assert not text or text not in queuectl.err
        assert not (queuectl.root / "config").exists()

    @pytest.mark.parametrize(
        "url",
        ["h", "ftp://h", "https://", "https://ada:pw@h", "https://ada@h", "http://h:99999", "http+unix:///s"],
    )
    def test_an_invalid_server_url_is_refused(self, queuectl: CommandLine, url: str) -> None:
        queuectl("login", url, input=TOKEN, code=2)
        assert "pw" not in queuectl.err


class TestFinding:
    """`credentials.find` returns the first token that exists."""

    def test_the_variables_win_over_the_file_and_the_file_over_the_local_server(
        self, queuectl: CommandLine
    ) -> None:
        url = "http://127.0.0.1:7733"
        local = local_token.create("http", ["127.0.0.1"], 7733)
        assert credentials.find(url, {}) == (local.secret, "the local server's file", "127.0.0.1")
        queuectl("login", url, input=OTHER)
        assert self.token(url) == OTHER
        file = queuectl.root / "secret"
        file.write_text(f"{TOKEN}\n")
        assert self.token(url, QUEUECTL_TOKEN_FILE=str(file)) == TOKEN
        assert self.token(url, QUEUECTL_TOKEN_FILE=str(file), QUEUECTL_TOKEN=OTHER) == OTHER

    def token(self, url: str, **environment: str) -> str | None:
        found = credentials.find(url, environment)
        return found and found.token

    def test_the_local_token_goes_only_to_the_address_of_the_server(self) -> None:
        local_token.create("http", ["127.0.0.1"], 7733)
        found = credentials.find("http://localhost:7733", {})
        assert found is not None
        assert found.address == "127.0.0.1"
        for url in (
            "http://[::1]:7733",
            "https://127.0.0.1:7733",
            "http://127.0.0.2:7733",
            "http://127.0.0.1:7734",
        ):
            assert credentials.find(url, {}) is None

    @pytest.mark.parametrize("url", ["http://h:7733", "http://127.example.org", "http://10.0.0.1"])
    def test_no_token_is_sent_over_the_network_unencrypted(self, url: str) -> None:
        with pytest.raises(InvalidInput, match="in clear"):
            credentials.find(url, {"QUEUECTL_TOKEN": TOKEN})
        assert credentials.find(url, {"QUEUECTL_TOKEN": TOKEN}, insecure_http=True)
        assert credentials.find(url, {}) is None

    def test_a_token_invalid_in_a_header_is_refused_and_not_printed(self, queuectl: CommandLine) -> None:
        for text in ("a b", "a\r\nX: 1", "ü"):
            with pytest.raises(InvalidInput) as raised:
                credentials.find("https://h", {"QUEUECTL_TOKEN": text})
            assert text not in raised.value.message
        with pytest.raises(InvalidInput, match="cannot read"):
            credentials.find("https://h", {"QUEUECTL_TOKEN_FILE": str(queuectl.root / "none")})

    def test_a_file_that_others_may_read_is_refused(self, queuectl: CommandLine) -> None:
        queuectl("login", "https://h", input=TOKEN)
        path = queuectl.root / "config" / "queuectl" / "tokens.toml"
        path.chmod(0o644)
        with pytest.raises(InvalidInput, match="not private"):
            credentials.find("https://h", {})
        path.chmod(0o600)
        path.write_text("x")
        with pytest.raises(InvalidInput, match="not TOML"):
            credentials.find("https://h", {})

    def test_a_unix_socket_needs_no_token(self) -> None:
        assert credentials.find("http+unix:///run/q.sock", {"QUEUECTL_TOKEN": TOKEN}) is None
