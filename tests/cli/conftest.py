"""The command line inside this process: quick, and with every part of it real but the terminal."""

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuectl.cli.main import main
from queuectl.store.sqlite import SqliteStore


class CommandLine:
    """Runs `queuectl` words in a home of its own."""

    def __init__(
        self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.root = root
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.err = ""

    def __call__(self, *words: str, code: int = 0, input: str | bytes | None = None) -> str:
        """One command line; its stdout, its stderr in `err`. Fails unless it ends with `code`."""
        data = input.encode() if isinstance(input, str) else input or b""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        self._capsys.readouterr()
        found = main(list(words))
        out, self.err = self._capsys.readouterr()
        assert found == code, f"{words} ended with {found}: {out!r} {self.err!r}"
        return out

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """One command with --json: exactly one document on stdout."""
        document = json.loads(self(*words, "--json", code=code))
        assert document["schema"] == 1
        return dict(document)

    def store(self) -> SqliteStore:
        """The store that the commands use."""
        return SqliteStore(str(self.root / "data" / "queuectl" / "queue.db"))

    def ids(self) -> set[str]:
        """The ids of all jobs."""
        return {job["id"] for job in self.json("list", "--all")["jobs"]}


@pytest.fixture
def queuectl(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommandLine]:
    """The command line, with nothing of the environment but what a test sets."""
    for name in list(os.environ):
        if name.startswith("QUEUECTL_") or name in ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "NO_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return CommandLine(tmp_path, capsys, monkeypatch)
