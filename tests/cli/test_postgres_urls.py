"""Which PostgreSQL is meant: malformed URLs, the word, the missing extra; and never a password in what is printed."""

import os
import sys
from pathlib import Path

import pytest

from cli.conftest import CommandLine, Refused
from cli.postgres import Database, secret_of

URL_HINT = (
    "postgresql://user:password@host:5432/database; in a password, # is written %23, @ %40, / %2F, % %25"
)
LOOKING = (("status",), ("doctor",), ("config", "list", "--origin"), ("config", "get", "store"))

MALFORMED = [
    ("postgresql://ada:s3cret@h:port/jobs", "its port is no number from 1 to 65535"),
    ("postgresql://ada:s3cret@h:99999/jobs", "its port is no number from 1 to 65535"),
    ("postgresql://ada:s3cret@h/jobs?port=x", "its port is no number from 1 to 65535"),
    ("postgresql://ada:s3cret#x@h/jobs", "there is a # in it"),
    ("postgresql://ada:x@s3cret@h/jobs", "there is more than one @ in it"),
    ("postgresql://ada:s3cret/x@h/jobs", "there is a / before its @"),
    ("postgresql://ada:12/s3cret@h/jobs", "there is a / before its @"),
    ("postgresql://ada:12?s3cret=x@h/jobs", "there is a ? before its @"),
    ("postgresql://ada:x?s3cret@h/jobs", "a character in it has to be written as %XX"),
    ("postgresql://ada:s3cret%x@h/jobs", "a character in it has to be written as %XX"),
    ("postgresql://ada:s3cret%00@h/jobs", "a character in it has to be written as %XX"),
    ("postgresql://ada:s3cret[@h/jobs", "a character in it has to be written as %XX"),
    ("postgresql://ada:s3cret℀@h/jobs", "a character in it has to be written as %XX"),
    ("postgresql:/ada:s3cret@h/jobs", "// is missing after its scheme"),
    ("postgresql:ada:s3cret@h/jobs", "// is missing after its scheme"),
    ("postgresql:", "// is missing after its scheme"),
    ("postgresql://ada:s3cret@h/jobs?sslmood=require", 'invalid URI query parameter: "sslmood"'),
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

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("host=h user=ada password=s3cret", "the store is no URL: it begins with no scheme"),
            ("//ada:s3cret@h/jobs", "the store is no URL: it begins with no scheme"),
            ("ada:s3cret@h/jobs", "unknown store scheme 'ada'"),
            ("mysql://ada:s3cret@h/jobs", "unknown store scheme 'mysql'"),
            ("POSTGRESQL://ada:s3cret@h/jobs", "unknown store scheme 'POSTGRESQL'"),
        ],
    )
    def test_what_is_no_url_of_it_is_two_and_not_repeated(
        self, queuectl: CommandLine, url: str, message: str
    ) -> None:
        assert queuectl.json("--store", url, "-v", "status", code=2)["error"]["message"] == message
        assert "s3cret" not in queuectl.err

    @pytest.mark.parametrize("schema", ["a-b", "a b", "pg_mine", "1st", "", 'a"b', "s" * 51, "schéma"])
    def test_what_is_no_name_of_a_schema_is_two(
        self, database: Database, queuectl: CommandLine, schema: str
    ) -> None:
        queuectl("--store", database.url(schema=schema), "status", code=2)
        said = f"queuectl: {schema!r} is no name for a schema (letters, digits and _, at most 50)\n"
        assert queuectl.err == said

    @pytest.mark.parametrize(
        ("option", "said"),
        [
            ({"sslmode": "sure"}, 'invalid sslmode value: "sure"'),
            ({"connect_timeout": "soon"}, "bad value for connect_timeout: 'soon'"),
            ({"keepalives_idle": "x"}, 'invalid integer value "x" for connection option "keepalives_idle"'),
        ],
    )
    def test_an_option_with_a_value_that_is_none_is_two(
        self, database: Database, refused: Refused, option: dict[str, str], said: str
    ) -> None:
        refused(
            database.url(**option),
            code=2,
            kind="invalid_input",
            message=f"{database.at()}: {said}",
            hint="look at what stands after the ? of the URL",
        )


class TestWord:
    def test_without_its_variable_it_is_two(self, queuectl: CommandLine) -> None:
        queuectl("--store", "postgres", "status", code=2)
        said = "the store is 'postgres', but DATABASE_URL is not set (set DATABASE_URL to its URL)"
        assert queuectl.err == f"queuectl: {said}\n"

    @pytest.mark.parametrize(
        "url", ["mysql://ada:s3cret@h/jobs", "sqlite:///s3cret.db", '"postgresql://ada:s3cret@h/jobs"']
    )
    def test_a_variable_that_holds_something_else_is_two(
        self, queuectl: CommandLine, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", url)
        queuectl("--store", "postgres", "status", code=2)
        said = "the store is 'postgres', but DATABASE_URL holds the URL of another"
        assert queuectl.err == f"queuectl: {said} (it has to begin with postgresql://)\n"
        assert not Path("s3cret.db").exists()

    def test_it_takes_the_url_from_there(
        self, queuectl: CommandLine, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", database.url())
        queuectl("--store", "postgres", "enqueue", "--id", "a", "true")
        assert queuectl.json("--store", database.url(), "show", "a")["job"]["id"] == "a"


WITHOUT = """
import sys
class Without:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "{library}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without)
"""


class TestExtra:
    @pytest.mark.parametrize(
        ("library", "why"),
        [
            ("psycopg", "No module named 'psycopg'"),
            ("psycopg_binary", "couldn't import requested psycopg 'binary' implementation: "
             "No module named 'psycopg_binary'"),
        ],
    )  # fmt: skip
    def test_it_is_named_where_it_is_missing(
        self, queuectl: CommandLine, tmp_path: Path, library: str, why: str
    ) -> None:
        (tmp_path / "sitecustomize.py").write_text(WITHOUT.format(library=library))
        path = os.pathsep.join((str(tmp_path), *sys.path))
        done = queuectl.process(
            "--store", "postgresql://h/d", "status", PYTHONPATH=path, PSYCOPG_IMPL="binary"
        )
        hint = f"run: {sys.executable} -m pip install 'psycopg[binary]>=3.2'"
        said = f"this store needs psycopg, which cannot be loaded: {why} ({hint})"
        assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (5, "", f"queuectl: {said}\n")


class TestSecrets:
    """A password is where it was given, and nowhere else."""

    @pytest.mark.parametrize("words", LOOKING, ids=[" ".join(words) for words in LOOKING])
    @pytest.mark.parametrize("how", ["flag", "variable", "file", "word"])
    def test_no_command_shows_it(
        self,
        queuectl: CommandLine,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
        how: str,
        words: tuple[str, ...],
    ) -> None:
        flag: tuple[str, ...] = ()
        if how == "flag":
            flag = ("--store", database.url())
        elif how == "variable":
            monkeypatch.setenv("QUEUECTL_STORE", database.url())
        elif how == "file":
            Path("queuectl.toml").write_text(f'store = "{database.url()}"\n')
        else:
            flag = ("--store", "postgres")
            monkeypatch.setenv("DATABASE_URL", database.url())
        for form in ((), ("--json",)):
            shown = queuectl(*flag, *words, *form)
            assert secret_of(database.url(), shown + queuectl.err, database) is None

    def test_config_shows_the_store_as_status_does(self, queuectl: CommandLine, database: Database) -> None:
        given = ("--store", database.url())
        at = database.at()
        assert queuectl(*given, "config", "get", "store") == f"{at}\n"
        assert queuectl.json(*given, "config", "get", "store")["setting"]["value"] == at
        assert f"store = {at}" in queuectl.lines(*given, "config", "list")
        assert queuectl.json(*given, "status")["store"]["url"] == at

    def test_a_password_in_another_place_of_the_url_is_one_too(
        self, queuectl: CommandLine, database: Database
    ) -> None:
        url = f"postgresql://{database.server.host}:{database.server.port}/postgres?schema={database.schema}"
        url += "&user=postgres&password=open%2Fsesame&sslpassword=s3cret"
        assert queuectl("--store", url, "config", "get", "store") == f"{database.at()}\n"
        queuectl("--store", url.replace("sesame", "s3cret"), "-v", "status", code=5)
        assert "s3cret" not in queuectl.err
