"""Ids: generated ids are recognized, and a short name of a job is chosen for messages."""

from msgspec.structs import replace

from factories import NOW, new_job
from queuectl.domain.ids import handle, is_made, make_id


def test_generated_ids_are_distinguished_from_given_ids() -> None:
    assert is_made(make_id(NOW, 12345))
    for given in ("job-1", "nightly", "a" * 25, "g" * 26, make_id(NOW, 1).upper().replace("0", "A")):
        assert not is_made(given)


def test_a_job_is_named_by_its_given_id_or_else_by_its_number() -> None:
    assert handle(replace(new_job(make_id(NOW, 1)), number=42)) == "42"
    assert handle(replace(new_job("nightly"), number=42)) == "nightly"
