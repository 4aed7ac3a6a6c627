"""Tokens in the store, also when another process changes them at the same time."""

from datetime import timedelta
from typing import cast

import pytest

from contract.grounds import SteppedClock
from queuectl.domain.token import digest
from queuectl.errors import CommandFailed, Conflict, InvalidInput, NotFound, StoreUnavailable
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.memory import MemoryStore
from queuectl.store.protocol import Store, Swap
from service.conftest import Overtaken


@pytest.fixture
def busy(overtaken: Overtaken) -> LocalQueue:
    """A queue whose store others change between its calls."""
    return LocalQueue(cast(Store, overtaken), Sources({}, None, print))


def test_a_token_is_listed_with_the_given_fields(queue: LocalQueue) -> None:
    token, secret = queue.create_token("deploy", ["enqueue"], queues=["mail"], by="token:root")
    queue.create_token("all", ["admin"], expires=None)
    assert [each.name for each in queue.tokens()] == ["all", "deploy"]
    assert queue.tokens()[1] == token
    assert (token.scopes, token.queues, token.created_by) == (("enqueue",), ("mail",), "token:root")
    assert token.expires_at == queue.now() + timedelta(days=90)
    assert token.secrets[0].digest == digest(secret)


def test_the_creator_is_this_user_unless_one_is_named(queue: LocalQueue) -> None:
    assert "@" in queue.create_token("a", ["view"]).token.created_by


def test_two_tokens_cannot_have_the_same_name(queue: LocalQueue) -> None:
    first = queue.create_token("a", ["view"])
    with pytest.raises(Conflict):
        queue.create_token("a", ["admin"])
    assert queue.tokens() == [first.token]


def test_a_revoked_token_is_removed_and_its_name_is_free(queue: LocalQueue) -> None:
    queue.create_token("a", ["view"])
    queue.revoke_token("a")
    assert queue.tokens() == []
    with pytest.raises(NotFound):
        queue.revoke_token("a")
    assert queue.create_token("a", ["view"]).secret


def test_a_rotated_token_has_another_secret(queue: LocalQueue, clock: SteppedClock) -> None:
    first = queue.create_token("a", ["view"])
    clock.step(hours=1)
    second = queue.rotate_token("a")
    assert second.secret != first.secret
    assert [each.id for each in queue.tokens()[0].secrets] == [second.secret[5:13], first.secret[5:13]]
    with pytest.raises(NotFound):
        queue.rotate_token("b")


@pytest.mark.parametrize("queues", [["a,b"], [""], ["x" * 200], []])
def test_an_invalid_queue_is_refused(queue: LocalQueue, queues: list[str]) -> None:
    with pytest.raises(InvalidInput):
        queue.create_token("a", ["enqueue"], queues=queues)


def test_a_damaged_entry_grants_no_access_and_can_be_revoked(queue: LocalQueue, store: MemoryStore) -> None:
    store.swap([Swap("tokens", "a", {"scopes": "admin"}, 0)])
    assert queue.tokens() == []
    with pytest.raises(CommandFailed, match="damaged"):
        queue.rotate_token("a")
    queue.revoke_token("a")
    assert store.read_table("tokens") == {}


def test_the_use_of_a_token_is_stored_once_an_hour(
    queue: LocalQueue, clock: SteppedClock, store: MemoryStore
) -> None:
    queue.create_token("a", ["view"])
    for _ in range(3):
        queue.note_token_use("a", clock.now())
    assert store.read_table("tokens")["a"].version == 2
    clock.step(hours=1)
    queue.note_token_use("a", clock.now())
    assert store.read_table("tokens")["a"].version == 3


def test_recording_a_use_does_not_restore_a_revoked_token(
    queue: LocalQueue, overtaken: Overtaken, busy: LocalQueue
) -> None:
    queue.create_token("a", ["view"])
    overtaken.before("swap", lambda: queue.revoke_token("a"))
    busy.note_token_use("a", queue.now())
    assert queue.tokens() == []


def test_a_use_is_not_recorded_while_the_store_cannot_be_reached(
    overtaken: Overtaken, busy: LocalQueue
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    busy.create_token("a", ["view"])
    overtaken.replace("swap", away)
    busy.note_token_use("a", busy.now())
    assert busy.tokens()[0].last_used is None


def test_a_rotation_is_repeated_if_another_process_changes_the_token(
    queue: LocalQueue, overtaken: Overtaken, busy: LocalQueue
) -> None:
    queue.create_token("a", ["view"])
    overtaken.before("swap", lambda: queue.note_token_use("a", queue.now()))
    secret = busy.rotate_token("a").secret
    token = queue.tokens()[0]
    assert token.secrets[0].is_of(secret)
    assert token.last_used is not None
