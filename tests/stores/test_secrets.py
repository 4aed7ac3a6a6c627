"""No command, no error and no worker prints a password."""

from pathlib import Path

import pytest

from cli.conftest import CommandLine
from cli.postgres import Database, secret_of
from stores.conftest import Site
from stores.rows import DRIVERS

SHOWING = (("status",), ("doctor",), ("config", "list", "--origin"), ("config", "get", "store"))
"""The commands that print the store."""


def named(site: Site, monkeypatch: pytest.MonkeyPatch, how: str) -> tuple[str, ...]:
    """The words with which a command line names the store in one of the ways that there are."""
    if how == "flag":
        return ("--store", site.url)
    if how == "variable":
        monkeypatch.setenv("QUEUECTL_STORE", site.url)
        return ()
    if how == "file":
        Path("queuectl.toml").write_text(f'store = "{site.url}"\n')
        return ()
    for variable, url in site.found.items():
        monkeypatch.setenv(variable, url)
    return ("--store", site.kind)


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("how", ["flag", "variable", "file", "word"])
@pytest.mark.parametrize("words", SHOWING, ids=" ".join)
def test_no_command_shows_the_password(
    queuectl: CommandLine, site: Site, monkeypatch: pytest.MonkeyPatch, how: str, words: tuple[str, ...]
) -> None:
    given = named(site, monkeypatch, how)
    for form in ((), ("--json",), ("-v",)):
        shown = queuectl(*given, *words, *form)
        assert secret_of(site.url, shown + queuectl.err, site) is None
        assert site.shown in shown


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("how", ["flag", "word"])
def test_config_and_status_show_the_same_store(
    queuectl: CommandLine, site: Site, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    given = named(site, monkeypatch, how)
    shown = queuectl.json(*given, "status")["store"]["url"]
    assert shown.startswith(site.shown)
    assert queuectl(*given, "config", "get", "store") == f"{shown}\n"
    assert queuectl.json(*given, "config", "get", "store")["setting"]["value"] == shown
    assert f"store = {shown}" in queuectl.lines(*given, "config", "list")


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_worker_and_its_commands_do_not_show_the_password(
    queuectl: CommandLine, site: Site, form: str
) -> None:
    queuectl("--store", site.url, "enqueue", "env; cat /proc/$PPID/cmdline")
    done = queuectl.process("--store", site.url, "worker", "start", "--drain", "--log-format", form)
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    assert f"queuectl: store {site.shown}" in said
    output = queuectl("--store", site.url, "logs", "1")
    assert "QUEUECTL_JOB_ID" in output
    assert [secret_of(site.url, text, site) for text in (said, output)] == [None, None]


def test_a_password_in_an_option_of_the_url_is_not_shown(queuectl: CommandLine, database: Database) -> None:
    url = f"postgresql://{database.server.host}:{database.server.port}/postgres?schema={database.schema}"
    url += "&user=postgres&password=open%2Fsesame&sslpassword=s3cret"
    assert queuectl("--store", url, "config", "get", "store") == f"{database.at()}\n"
    queuectl("--store", url.replace("sesame", "s3cret"), "-v", "status", code=5)
    assert "s3cret" not in queuectl.err
