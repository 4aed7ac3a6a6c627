"""Tokens: the form of a secret, the stored digest, scopes, expiry and rotation."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.domain import token as tokens
from queuectl.domain.token import SCOPES, Grant, Issued, Scope, grants
from queuectl.errors import InvalidInput

NOW = datetime(2026, 11, 30, 12, 34, 56, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def issue(*, expires: timedelta | None = 90 * DAY, random: bytes = bytes(37)) -> Issued:
    return tokens.issue(
        "deploy", Grant(("view",), None), expires=expires, by="ada@atlas", now=NOW, random=random
    )


@given(st.binary(min_size=tokens.RANDOM_BYTES, max_size=tokens.RANDOM_BYTES))
def test_a_secret_has_the_documented_form_and_shows_its_id(random: bytes) -> None:
    secret = tokens.make_secret(random)
    assert re.fullmatch(r"qctl_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", secret)
    assert tokens.secret_id(secret) == secret[5:13]


def test_different_random_bytes_make_different_secrets() -> None:
    made = {tokens.make_secret(bytes(n) + b"\1" + bytes(36 - n)) for n in range(37)}
    assert len(made) == 37


@pytest.mark.parametrize("text", ["", "qctl_", "qctl_abcdefgh_x", "Qctl_abcdefgh_" + "x" * 43, "x" * 57])
def test_text_in_another_form_has_no_token_id(text: str) -> None:
    assert tokens.secret_id(text) is None


def test_the_stored_entry_contains_only_the_digest_and_id_of_the_secret() -> None:
    token, secret = issue(random=bytes(range(37)))
    entry = str(tokens.entry(token))
    assert secret[14:] not in entry
    assert tokens.digest(secret) in entry
    assert tokens.token_of("deploy", tokens.entry(token)) == token


def test_only_the_secret_itself_is_recognized() -> None:
    token, secret = issue()
    assert token.secrets[0].is_of(secret)
    assert not token.secrets[0].is_of(secret[:-1] + "B")
    assert not token.secrets[0].is_of("\udcff")


@pytest.mark.parametrize("value", [{}, {"scopes": ["view"]}, {"scopes": ["root"]}, {"paused": True}])
def test_a_damaged_entry_is_not_decoded_as_a_token(value: dict[str, object]) -> None:
    assert tokens.token_of("x", value) is None


ALLOWED: dict[Scope, str] = {
    "view": "view",
    "operate": "view operate",
    "enqueue": "view enqueue",
    "admin": " ".join(SCOPES),
}


@pytest.mark.parametrize("given", SCOPES)
@pytest.mark.parametrize("wanted", SCOPES)
def test_a_scope_includes_the_scopes_of_the_table(given: Scope, wanted: Scope) -> None:
    assert grants([given], wanted) == (wanted in ALLOWED[given].split())


def test_scopes_add_up() -> None:
    assert grants(["operate", "enqueue"], "enqueue")
    assert not grants(["operate", "enqueue"], "admin")
    assert not grants([], "view")


def test_duplicate_scopes_and_queues_are_dropped_and_order_is_kept() -> None:
    assert tokens.grant(["enqueue", "view", "view"], ["b", "a", "b"]) == (("view", "enqueue"), ("b", "a"))
    assert tokens.grant(["admin"], None) == (("admin",), None)
    with pytest.raises(InvalidInput):
        tokens.grant(["enqueue"], [])  # a computed list that is empty must not open all queues


@pytest.mark.parametrize(
    ("scopes", "queues"),
    [
        ([], None),
        (["root"], None),
        ([""], None),
        (["admin"], ["a"]),
        (["view", "admin"], ["a"]),
        (["view"], ["a"]),
    ],
)
def test_invalid_scopes_and_queues_are_refused(scopes: list[str], queues: list[str] | None) -> None:
    with pytest.raises(InvalidInput):
        tokens.grant(scopes, queues)


def test_a_token_expires_at_its_time() -> None:
    token = issue(expires=DAY).token
    assert not token.has_expired(token.secrets[0], NOW + DAY - timedelta(microseconds=1))
    assert token.has_expired(token.secrets[0], NOW + DAY)
    token = issue(expires=None).token
    assert not token.has_expired(token.secrets[0], NOW + 36500 * DAY)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-x", "x" * 129])
def test_an_invalid_token_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        tokens.issue(name, Grant(("view",), None), expires=None, by="ada", now=NOW, random=bytes(37))


def test_a_token_that_expires_at_once_is_refused() -> None:
    with pytest.raises(InvalidInput):
        issue(expires=timedelta(0))


def test_a_rotated_token_has_both_secrets_until_the_old_one_ends() -> None:
    first = issue(expires=10 * DAY)
    later = NOW + 9 * DAY
    second = tokens.rotate(first.token, keep=HOUR, now=later, random=b"\1" * 37)
    new, old = second.token.secrets
    assert new.is_of(second.secret)
    assert old.is_of(first.secret)
    assert second.token.expires_at == later + 10 * DAY
    assert not second.token.has_expired(old, later + HOUR - timedelta(microseconds=1))
    assert second.token.has_expired(old, later + HOUR)


def test_the_old_secret_does_not_outlive_the_old_expiry() -> None:
    token = issue(expires=DAY).token
    rotated = tokens.rotate(token, keep=10 * DAY, now=NOW + HOUR, random=b"\1" * 37).token
    assert rotated.secrets[1].until == NOW + DAY


def test_a_second_rotation_does_not_lengthen_the_life_of_the_first_secret() -> None:
    first = issue().token
    second = tokens.rotate(first, keep=HOUR, now=NOW, random=b"\1" * 37).token
    third = tokens.rotate(second, keep=DAY, now=NOW, random=b"\2" * 37).token
    assert [each.until for each in third.secrets] == [None, NOW + DAY, NOW + HOUR]


def test_a_rotation_without_keep_leaves_only_the_new_secret() -> None:
    second = tokens.rotate(issue().token, keep=HOUR, now=NOW, random=b"\1" * 37).token
    third = tokens.rotate(second, keep=timedelta(0), now=NOW, random=b"\2" * 37).token
    assert len(third.secrets) == 1


def test_the_last_use_is_recorded_once_per_hour() -> None:
    token = tokens.used(issue().token, NOW)
    assert token.last_used == NOW.replace(minute=0, second=0)
    assert tokens.used(token, NOW + timedelta(minutes=25)) is token
    assert tokens.used(token, NOW + HOUR).last_used == NOW.replace(hour=13, minute=0, second=0)
    assert tokens.used(token, NOW - HOUR) is token
