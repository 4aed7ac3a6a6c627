"""What every worker does for all, where the store works but something behind it does not."""

import io
from pathlib import Path

import pytest

from queuectl import config
from queuectl.domain.query import Filter
from queuectl.errors import StoreUnavailable
from queuectl.store.memory import MemoryStore
from queuectl.worker import chores
from queuectl.worker.chores import Chores
from queuectl.worker.journal import Journal


class Troubled(MemoryStore):
    """A store that works, with something behind it that may not."""

    def __init__(self) -> None:
        super().__init__()
        self.away: str | None = None

    def trouble(self) -> str | None:
        return self.away

    def purge(self, wanted: Filter, limit: int) -> list[str]:
        if self.away is not None:
            raise StoreUnavailable(self.away)
        return super().purge(wanted, limit)


class Duty:
    """The chores of one agent, all due at each round."""

    def __init__(self, directory: Path) -> None:
        self.store, self._said = Troubled(), io.StringIO()
        self.journal = Journal(out=self._said)
        self.chores = Chores(self.store, lambda _: False, str(directory), self.journal)

    def round(self) -> list[str]:
        """Do all that there is; what was said, without the time."""
        self.chores._times = dict.fromkeys(self.chores._times, 0.0)
        self.chores.run(config.resolve({}, {}, {}, {"retain_dead": "1d"}), may_recover=True)
        self.journal.flush()
        lines = self._said.getvalue().splitlines()
        self._said.truncate(0)
        self._said.seek(0)
        return [line[9:] for line in lines]


@pytest.fixture
def duty(tmp_path: Path) -> Duty:
    return Duty(tmp_path)


def test_trouble_is_said_when_it_begins_and_when_it_is_over(duty: Duty) -> None:
    assert duty.round() == []
    duty.store.away = "mongodb://h/past cannot be reached"
    assert duty.round() == ["archive   mongodb://h/past cannot be reached; what has ended waits in the queue"]
    duty.store.away = "mongodb://h/past does not answer"
    assert duty.round() == []
    duty.store.away = None
    assert duty.round() == ["archive   the archive is back"]
    assert duty.round() == []


def test_a_store_that_is_away_itself_is_no_such_trouble(duty: Duty, monkeypatch: pytest.MonkeyPatch) -> None:
    def purge_expired(*_: object) -> int:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(chores.maintenance, "purge_expired", purge_expired)
    with pytest.raises(StoreUnavailable, match="the store is away"):
        duty.round()
