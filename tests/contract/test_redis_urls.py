"""What a `redis:` URL says, what is refused of it, and that nothing of a password is ever said again."""

import subprocess
import sys

import pytest

from queuectl.errors import InvalidInput
from queuectl.store.redis.address import identity, parse

SECRET = "open-sesame"


def test_the_shortest_url_names_the_usual_place() -> None:
    address = parse("redis://")
    assert (address.host, address.port, address.database, address.name) == ("localhost", 6379, 0, "queuectl")
    assert (address.user, address.password, address.tls) == (None, None, False)
    assert (address.listens, address.fast, address.archive) == (True, False, None)
    assert address.tag == "{queuectl}"


def test_all_that_can_be_said_is_understood() -> None:
    url = f"rediss://ada:{SECRET}@db.example:7000/3?name=nightly&listen=no&durability=fast&archive=mongodb%3A%2F%2Fh%2Fa"
    address = parse(url)
    assert (address.host, address.port, address.database, address.name) == ("db.example", 7000, 3, "nightly")
    assert (address.user, address.password, address.tls) == ("ada", SECRET, True)
    assert (address.listens, address.fast, address.archive) == (False, True, "mongodb://h/a")


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h/", "redis://h:6379/0", "redis://h/00", "redis://h/0?listen=auto"]
)
def test_what_is_usual_may_be_left_out(url: str) -> None:
    assert parse(url).shown == "redis://h/0"
    assert identity(url) == identity("redis://h")


def test_special_characters_are_written_as_numbers() -> None:
    address = parse("redis://a%40b:p%2F%40%3A%23%25%3F@h/0")
    assert (address.user, address.password) == ("a@b", "p/@:#%?")
    assert address.shown == "redis://a%40b@h/0"
    assert parse("redis://:a:b@h").password == "a:b"


@pytest.mark.parametrize(
    ("host", "meant"), [("[::1]", "::1"), ("[::1]:7000", "::1"), ("[fe80::1%25eth0]", "fe80::1%eth0")]
)
def test_an_address_with_colons_stands_in_brackets(host: str, meant: str) -> None:
    address = parse(f"redis://:{SECRET}@{host}/1")
    assert address.host == meant
    assert address.shown == f"redis://{host.replace('%25', '%')}/1"


SAME = [
    ("redis://h/0", "rediss://ada:word@H:6379?listen=no&durability=fast&archive=mongodb://m/a"),
    ("redis://[::1]/0", "redis://[::1]:6379"),
    ("redis://h/0?name=queuectl", "redis://h"),
]
OTHERS = ["redis://i/0", "redis://h/1", "redis://h:6380/0", "redis://h/0?name=nightly"]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_place_is_the_same(one: str, other: str) -> None:
    assert identity(one) == identity(other)


@pytest.mark.parametrize("other", OTHERS)
def test_another_place_is_another(other: str) -> None:
    assert identity("redis://h/0") != identity(other)


ARCHIVES = [
    ("mongodb://m/past", "mongodb://m/past"),
    ("mongodb://m", "mongodb://m/queuectl"),
    (f"mongodb://ada:{SECRET}@m:1,n:2/past?replicaSet=rs", "mongodb://ada@m:1,n:2/past"),
    (f"mongodb+srv://ada:{SECRET}@m/past", "mongodb+srv://ada@m/past"),
    (f"mongodb://ada:{SECRET}/x@m/past", "mongodb:…"),
    (f"mongodb://ada:x@{SECRET}@m/past", "mongodb:…"),
    (f"mongodb://ada:x?{SECRET}@m/past", "mongodb:…"),
    (f"mongodb://ada:x#{SECRET}@m/past", "mongodb:…"),
]


@pytest.mark.parametrize(("archive", "shown"), ARCHIVES)
def test_an_archive_is_shown_without_its_password(archive: str, shown: str) -> None:
    from urllib.parse import quote

    address = parse(f"redis://:{SECRET}@h/0?archive={quote(archive, safe='')}")
    assert address.archive == archive
    assert address.shown == f"redis://h/0?archive={shown}"
    assert SECRET not in address.shown


def test_an_archive_may_be_written_as_it_is_where_that_is_clear() -> None:
    assert parse("redis://h/0?archive=mongodb://ada:word@m/past").archive == "mongodb://ada:word@m/past"
    assert (
        parse("redis://h/2?name=n&archive=mongodb://m").shown
        == "redis://h/2?name=n&archive=mongodb://m/queuectl"
    )


WRONG = [
    ("redis:h", "// is missing after its scheme"),
    ("redis://:open#sesame@h", "there is a # in it"),
    ("redis://:open@sesame@h", "there is more than one @ in it"),
    ("redis://:open/sesame@h", "there is a / before its @"),
    ("redis://:open?sesame=x@h", "there is a ? before its @, or no / before its ?"),
    ("redis://:open?sesame@h", "a character in it has to be written as %XX"),
    ("redis://:open%sesame@h", "a character in it has to be written as %XX"),
    ("redis://:open sesame@h", "a character in it has to be written as %XX"),
    ("redis://:open\nsesame@h", "a character in it has to be written as %XX"),
    ("redis://:open[sesame@h", "a character in it has to be written as %XX"),
    ("redis://%2Ftmp%2Fsesame", "there is a % in its host"),
    ("redis://h:sesame", "its port is no number from 1 to 65535"),
    ("redis://h:0", "its port is no number from 1 to 65535"),
    ("redis://h:65536", "its port is no number from 1 to 65535"),
    ("redis://h/sesame", "its path is not the number of a database"),
    ("redis://h/-1", "its path is not the number of a database"),
    ("redis://h/0/1", "its path is not the number of a database"),
    (f"redis://h/{'9' * 5000}", "its path is not the number of a database"),
    ("redis://h/0?listen=no&listen=auto", "an option stands in it twice"),
    ("redis://h/0?name=a&name=a", "an option stands in it twice"),
]


@pytest.mark.parametrize(("url", "why"), WRONG, ids=[url[:30] for url, _ in WRONG])
def test_what_is_not_clear_is_refused_and_not_repeated(url: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(url)
    assert caught.value.message == f"the URL of the store is not understood: {why}"
    assert "sesame" not in f"{caught.value.message}{caught.value.hint}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


NO_NAME = "name in the store's URL is no name for a queue"
NAMES = "letters, digits, _, - and ., at most 63, the first a letter or a digit"
UNKNOWN = [
    ("redis://h/0?arhive=mongodb", "the option 'arhive' in the store's URL is not known", "archive?"),
    (f"redis://h/0?arhive=mongodb://u:{SECRET}@m", "an option in the store's URL is not known", "archive?"),
    (f"redis://u:1/2?{SECRET}=3@h", "an option in the store's URL is not known",
     "known: name, listen, durability, archive"),
    ("redis://:word@h/0?nome=x", "the option 'nome' in the store's URL is not known", "name?"),
    ("redis://h?db=3", "the option 'db' in the store's URL is not known",
     "the number of a database is the path: redis://host/3"),
    ("redis://h/0?Durability=fast", "the option 'Durability' in the store's URL is not known", "durability?"),
    ("redis://h/0?ssl_cert_reqs=none", "the option 'ssl_cert_reqs' in the store's URL is not known",
     "known: name, listen, durability, archive"),
    (f"redis://h/0?durability={SECRET}", "durability in the store's URL is not understood",
     "durability=power-safe or durability=fast"),
    (f"redis://h/0?listen={SECRET}", "listen in the store's URL is not understood", "listen=auto or listen=no"),
    (f"redis://h/0?archive=postgres://u:{SECRET}@m", "the archive in the store's URL is no MongoDB",
     "it has to begin with mongodb://"),
    ("redis://h/0?archive=", "the archive in the store's URL is no MongoDB", "it has to begin with mongodb://"),
    (f"redis://h/0?archive=mongodb://u:word&{SECRET}=rd%40h/a", "an option in the store's URL is not known",
     "known: name, listen, durability, archive"),
    (f"redis://h/0?{SECRET}=x&archive=mongodb://m", "an option in the store's URL is not known",
     "known: name, listen, durability, archive"),
    (f"redis://h/0?nome=a&{SECRET}=rd%40h", "an option in the store's URL is not known", "name?"),
    ("redis://h/0?name=a%20b", NO_NAME, NAMES),
    ("redis://h/0?name=", NO_NAME, NAMES),
    ("redis://h/0?name=-a", NO_NAME, NAMES),
    (f"redis://h/0?name={SECRET}@host", NO_NAME, NAMES),
    (f"redis://h/0?name={'n' * 64}", NO_NAME, NAMES),
]  # fmt: skip


@pytest.mark.parametrize(("url", "message", "hint"), UNKNOWN, ids=[url[:40] for url, _, _ in UNKNOWN])
def test_an_option_that_is_none_is_refused_without_its_value(url: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(url)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert SECRET not in f"{caught.value.message}{caught.value.hint}"


def test_an_archive_is_shown_without_loading_its_library() -> None:
    script = (
        "import sys; from queuectl.store.redis.address import parse;"
        "parse('redis://h/0?archive=mongodb://m').shown; assert 'pymongo' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
