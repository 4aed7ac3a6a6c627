"""Ids: which of them we made, and by which short name people call a job."""

from msgspec.structs import replace

from factories import NOW, new_job
from queuectl.domain.ids import handle, is_made, make_id


def test_ids_that_we_made_are_told_from_those_that_a_person_gave() -> None:
    assert is_made(make_id(NOW, 12345))
    for given in ("job-1", "nightly", "a" * 25, "g" * 26, make_id(NOW, 1).upper().replace("0", "A")):
        assert not is_made(given)


def test_a_job_is_called_by_its_number_or_by_the_id_that_a_person_gave() -> None:
    assert handle(replace(new_job(make_id(NOW, 1)), number=42)) == "42"
    assert handle(replace(new_job("nightly"), number=42)) == "nightly"
