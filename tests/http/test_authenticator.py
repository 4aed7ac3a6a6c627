"""The authenticator of a server: tokens of the store, the local token, and what happens to wrong ones."""

import logging
from datetime import datetime, timedelta

import pytest
from starlette.requests import Request

from contract.grounds import SteppedClock
from queuectl.domain.token import SCOPES, make_secret
from queuectl.errors import StoreUnavailable, Unauthenticated
from queuectl.http.auth import TokenAuthenticator
from queuectl.http.problem import Refusal
from queuectl.service.local_queue import LocalQueue
from queuectl.service.settings import Sources
from queuectl.store.memory import MemoryStore

LOCAL = make_secret(b"\7" * 37)


class Scene:
    """A queue, an authenticator, and one clock for both."""

    def __init__(self, clock: SteppedClock, *, notes_uses: bool = True) -> None:
        self.clock, self.store = clock, MemoryStore(clock=clock)
        self.queue = LocalQueue(self.store, Sources({}, None, print))
        self.reads, self.notes, self.away = 0, 0, False
        self.authenticator = TokenAuthenticator(
            self, local=LOCAL, notes_uses=notes_uses, monotonic=lambda: clock.now().timestamp()
        )

    def now(self) -> datetime:
        return self.queue.now()

    def tokens(self) -> object:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("away")
        return self.queue.tokens()

    def note_token_use(self, name: str, at: datetime) -> None:
        self.notes += 1
        self.queue.note_token_use(name, at)

    def caller(self, *authorization: str, peer: str | None = "10.0.0.1") -> object:
        request = _request(*authorization, peer=peer)
        return self.authenticator.known_caller(request) or self.authenticator.caller(request)

    def name(self, secret: str, peer: str = "10.0.0.1") -> str:
        """The name of the caller with this secret, or the code of the refusal."""
        try:
            return self.caller(f"Bearer {secret}", peer=peer).name  # type: ignore[attr-defined, no-any-return]
        except (Unauthenticated, Refusal) as error:
            return error.code


def _request(*authorization: str, peer: str | None = "10.0.0.1") -> Request:
    headers = [(b"authorization", text.encode("latin-1")) for text in authorization]
    client = None if peer is None else (peer, 1)
    return Request({"type": "http", "headers": headers, "client": client})


@pytest.fixture
def scene() -> Scene:
    return Scene(SteppedClock())


def wrong(number: int) -> str:
    """A secret of the right form that no token has."""
    return make_secret(number.to_bytes(5) + bytes(32))


class TestTokens:
    def test_a_token_gives_its_name_scopes_and_queues(self, scene: Scene) -> None:
        secret = scene.queue.create_token("mail", ["enqueue"], queues=["a", "b"]).secret
        caller = scene.caller(f"bearer  {secret} ")
        assert caller.name == "token:mail"  # type: ignore[attr-defined]
        assert caller.queues == {"a", "b"}  # type: ignore[attr-defined]
        assert caller.token_id == secret[5:13]  # type: ignore[attr-defined]

    def test_the_local_token_is_the_user_also_while_the_store_is_away(self, scene: Scene) -> None:
        scene.away = True
        caller = scene.caller(f"Bearer {LOCAL}")
        assert caller.name.startswith("local:")  # type: ignore[attr-defined]
        assert caller.scopes == set(SCOPES)  # type: ignore[attr-defined]
        assert scene.reads == 0

    def test_a_request_without_a_token_has_no_caller_and_is_no_failure(self, scene: Scene) -> None:
        assert scene.caller() is None
        assert scene.authenticator.guessing.failures == 0

    def test_the_tokens_are_read_once_a_second(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"]).secret
        for _ in range(100):
            assert scene.name(secret) == "token:a"
        assert scene.reads == 1
        scene.clock.step(seconds=1.5)
        scene.name(secret)
        assert scene.reads == 2

    def test_a_caller_is_known_without_the_store_for_a_second_after_a_reading(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"], expires=timedelta(seconds=10)).secret
        request, known = _request(f"Bearer {secret}"), scene.authenticator.known_caller
        assert known(request) is None
        caller = scene.caller(f"Bearer {secret}")
        scene.away = True
        assert known(request) == caller
        scene.clock.step(seconds=1.1)
        assert known(request) is None
        scene.away = False
        scene.clock.step(seconds=8.5)
        scene.name(secret)
        scene.clock.step(seconds=0.5)
        assert known(request) is None

    def test_a_caller_is_not_known_while_an_hour_of_use_has_to_be_stored(self, scene: Scene) -> None:
        [one, other] = [scene.queue.create_token(name, ["view"]).secret for name in "ab"]
        scene.name(one)
        assert scene.authenticator.known_caller(_request(f"Bearer {other}")) is None
        scene.name(other)
        assert scene.authenticator.known_caller(_request(f"Bearer {other}")) is not None
        assert scene.notes == 2

    @pytest.mark.parametrize("given", [(), ("Basic x",), ("Bearer x",), ("Bearer x", "Bearer x")])
    def test_a_caller_without_a_right_token_is_not_known(self, scene: Scene, given: tuple[str, ...]) -> None:
        scene.name(scene.queue.create_token("a", ["view"]).secret)
        assert scene.authenticator.known_caller(_request(*given)) is None

    def test_a_wrong_secret_of_a_known_token_is_not_known(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"]).secret
        scene.name(secret)
        assert scene.authenticator.known_caller(_request(f"Bearer {secret[:-1]}x")) is None

    def test_a_new_token_is_known_at_once(self, scene: Scene) -> None:
        scene.name(scene.queue.create_token("a", ["view"]).secret)
        scene.clock.step(seconds=0.01)
        assert scene.name(scene.queue.create_token("b", ["view"]).secret) == "token:b"

    def test_a_revoked_token_is_refused_within_two_seconds(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"]).secret
        caller = scene.caller(f"Bearer {secret}")
        scene.queue.revoke_token("a")
        scene.clock.step(seconds=1.1)
        assert not scene.authenticator.admits(caller)  # type: ignore[arg-type]
        assert scene.name(secret) == "unauthenticated"

    def test_a_token_expires_between_two_readings(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"], expires=timedelta(seconds=10)).secret
        scene.clock.step(seconds=9.5)
        caller = scene.caller(f"Bearer {secret}")
        scene.clock.step(seconds=0.6)
        assert not scene.authenticator.admits(caller)  # type: ignore[arg-type]
        with pytest.raises(Unauthenticated, match="expired"):
            scene.caller(f"Bearer {secret}")
        assert scene.reads == 1

    def test_an_old_secret_works_until_the_end_of_its_time(self, scene: Scene) -> None:
        old = scene.queue.create_token("a", ["view"]).secret
        new = scene.queue.rotate_token("a", keep=timedelta(hours=1)).secret
        assert [scene.name(old), scene.name(new)] == ["token:a", "token:a"]
        scene.clock.step(hours=1)
        assert [scene.name(old), scene.name(new)] == ["unauthenticated", "token:a"]

    def test_while_the_store_is_away_no_token_is_accepted_that_is_not_known(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"]).secret
        scene.name(secret)
        scene.away = True
        assert scene.name(secret) == "token:a"
        scene.clock.step(seconds=1.1)
        with pytest.raises(StoreUnavailable):
            scene.name(secret)

    @pytest.mark.parametrize(
        "header",
        ["", "Bearer", "Bearer ", "Basic YTpi", f"Token {LOCAL}", LOCAL, f"Bearer {LOCAL[:-1]}", f"Bearer {LOCAL}x",
         "Bearer \xff\xfe", f"Bearer {LOCAL} {LOCAL}", "Bearer qctl_"],
    )  # fmt: skip
    def test_another_header_is_refused(self, scene: Scene, header: str) -> None:
        with pytest.raises(Unauthenticated):
            scene.caller(header)
        assert scene.authenticator.guessing.failures == 1

    def test_two_headers_are_refused(self, scene: Scene) -> None:
        with pytest.raises(Unauthenticated):
            scene.caller(f"Bearer {LOCAL}", f"Bearer {LOCAL}")


class TestLastUse:
    def test_it_is_stored_once_an_hour(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"]).secret
        for _ in range(10):
            scene.name(secret)
            scene.clock.step(seconds=2)
        assert scene.store.read_table("tokens")["a"].version == 2
        scene.clock.step(hours=1)
        scene.name(secret)
        assert scene.store.read_table("tokens")["a"].version == 3
        assert scene.queue.tokens()[0].last_used == scene.clock.now().replace(
            minute=0, second=0, microsecond=0
        )

    def test_a_write_that_failed_is_not_tried_by_each_request(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"]).secret
        scene.queue.note_token_use = lambda name, at: None  # type: ignore[method-assign]
        for _ in range(10):
            scene.name(secret)
            scene.clock.step(seconds=2)
        assert scene.notes == 1

    def test_a_server_that_only_reads_stores_none(self) -> None:
        scene = Scene(SteppedClock(), notes_uses=False)
        scene.name(scene.queue.create_token("a", ["view"]).secret)
        assert scene.store.read_table("tokens")["a"].version == 1


class TestWrongTokens:
    def test_the_eleventh_of_an_address_in_a_minute_is_answered_with_429(self, scene: Scene) -> None:
        found = [scene.name(wrong(n)) for n in range(12)]
        assert found == ["unauthenticated"] * 10 + ["too_many"] * 2
        with pytest.raises(Refusal) as raised:
            scene.caller(f"Bearer {wrong(1)}")
        assert (raised.value.status, raised.value.headers) == (429, {"Retry-After": "61"})
        assert scene.name(wrong(1), peer="10.0.0.2") == "unauthenticated"

    def test_a_right_token_still_works_from_there_and_from_elsewhere(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"]).secret
        guess = secret[:-1] + ("A" if secret[-1] != "A" else "E")
        for n in range(20):
            scene.name(guess, peer=f"10.0.0.{n}")
            scene.name(guess)
        assert scene.name(guess, peer="10.1.1.1") == "too_many"  # by the id of the token
        assert scene.name(secret) == "token:a"
        assert scene.name(secret, peer="10.1.1.1") == "token:a"

    def test_a_bounded_address_costs_the_store_no_reading_for_each_guess(self, scene: Scene) -> None:
        for n in range(500):
            scene.name(wrong(n))
        assert scene.reads <= 11

    def test_an_expired_token_is_no_guess(self, scene: Scene) -> None:
        secret = scene.queue.create_token("a", ["view"], expires=timedelta(seconds=1)).secret
        scene.clock.step(seconds=2)
        assert {scene.name(secret) for _ in range(30)} == {"unauthenticated"}
        assert scene.authenticator.guessing.failures == 30

    def test_each_failure_is_a_line_with_address_and_id_and_without_the_secret(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        secret = scene.queue.create_token("a", ["view"]).secret
        guess = secret[:-1] + ("A" if secret[-1] != "A" else "E")
        with caplog.at_level(logging.WARNING, "queuectl.auth"):
            scene.name(guess, peer="10.9.8.7")
            scene.name("my password\nforged line")
        first, second = (record.getMessage() for record in caplog.records)
        assert "10.9.8.7" in first
        assert secret[5:13] in first
        assert guess[14:] not in first
        assert "password" not in second
