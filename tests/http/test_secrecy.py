"""A real server: the local token is found without a word, and no secret is seen where it does not belong."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from http_client import Answer, Client


class Place:
    """A home with a server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environment = kept | {
            "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(root), "XDG_RUNTIME_DIR": str(root / "run"),
        }  # fmt: skip
        (root / "run").mkdir(mode=0o700)
        self.log = (root / "log").open("wb")
        self.server = subprocess.Popen(
            self._command("serve", "--port", "0", "--access-log"),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        assert self.server.stdout is not None
        self.said = self.server.stdout.readline().decode()
        self.port = int(self.said.rpartition(":")[2])

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "queuectl", *words]

    def __call__(self, *words: str, code: int = 0) -> str:
        """The output of one command."""
        done = subprocess.run(
            self._command(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == code, done.stderr
        return done.stdout.strip()

    def end(self) -> None:
        """End the server and wait."""
        self.server.send_signal(signal.SIGTERM)
        self.server.communicate(timeout=20)
        self.log.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    if place.server.poll() is None:
        place.end()


def test_the_local_token_works_and_ends_with_the_server(place: Place) -> None:
    file = place.root / "run" / "queuectl" / f"serve-{place.port}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    client = Client(place.port, place("token", "local"))
    assert client("GET", "/v1").document["scopes"] == ["view", "operate", "enqueue", "admin"]
    assert client("GET", "/v1/tokens").document["tokens"] == []
    place.end()
    assert list(file.parent.iterdir()) == []
    place("token", "local", code=3)


def test_a_secret_is_in_no_log_store_answer_or_argument_list(place: Place) -> None:
    local = place("token", "local")
    kept = place("token", "create", "canary", "--scope", "admin")
    gone = place("token", "create", "gone", "--scope", "admin")
    place("token", "revoke", "gone")
    answers = list[Answer]()
    for secret in (local, kept, gone, kept[:-1] + "-"):
        client = Client(place.port, secret)
        answers += [
            client(method, path)
            for method in ("GET", "DELETE")
            for path in ("/v1", "/v1/tokens/none", "/v1/jobs/x")
        ]
        answers.append(client("GET", "/v1/jobs", Authorization=f"Basic {secret}"))
        answers.append(client("GET", f"/v1/jobs?token={secret}"))
        answers.append(Client(place.port, None)("GET", f"/v1/jobs?token={secret}"))
    assert {answer.status for answer in answers} == {200, 400, 401, 404, 405, 429}
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
    place.end()
    texts = {path: path.read_bytes() for path in place.root.rglob("*") if path.is_file()}
    assert len(texts) >= 2
    log = texts[place.root / "log"]
    for secret in (local, kept, gone):
        hidden = secret[14:-1].encode()
        assert not [path for path, text in texts.items() if hidden in text]
        assert not [answer for answer in answers if hidden in answer.body + str(answer.headers).encode()]
        assert hidden not in processes
    assert gone[5:13].encode() in log
    assert b'"by":"token:canary","via":"http"' in log
