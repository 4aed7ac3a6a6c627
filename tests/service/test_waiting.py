"""The obstacles that keep waiting jobs from their start."""

from typing import ClassVar

import msgspec

from factories import new_job
from queuectl.domain.job import Job
from queuectl.service.waiting import obstacles
from queuectl.store.memory import MemoryStore
from service.conftest import settings_of


class Compared(Job, frozen=True):
    """A job that counts how often it is compared to another."""

    times: ClassVar[list[object]] = []

    def __eq__(self, other: object) -> bool:
        self.times.append(other)
        return self is other

    __hash__ = Job.__hash__


def test_each_of_very_many_jobs_is_read_once(store: MemoryStore) -> None:
    jobs = [Compared(**msgspec.structs.asdict(new_job(f"j{n}"))) for n in range(50)]
    assert obstacles(store, settings_of(), jobs) == ["no worker serves queue default: queuectl worker start"]
    assert Compared.times == []
