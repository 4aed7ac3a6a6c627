"""The rule for names of queues, workers, tags and the like."""

import pytest

from queuectl.domain.names import check_name, is_name
from queuectl.errors import InvalidInput


@pytest.mark.parametrize("name", ["a", "7", "default", "mail.out", "gpu:0", "a_b-c", "x" * 128])
def test_a_name_consists_of_letters_digits_and_four_signs(name: str) -> None:
    assert check_name("queue", name) == name


@pytest.mark.parametrize(
    "name",
    ["", " a", "a ", "a b", "../../x", ".a", "-a", "a/b", "a,b", "a%b",
     "größe", "a\u200bb", "a\n", "a\0", "\udc80", "x" * 129],
    ids=ascii,
)  # fmt: skip
def test_text_that_does_not_fit_a_url_and_a_file_name_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InvalidInput, match=r"^tag .* is not allowed$") as error:
        check_name("tag", name)
    assert len(error.value.message) < 100
