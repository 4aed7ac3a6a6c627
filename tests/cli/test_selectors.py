"""References to several jobs: ranges of numbers, `@last:N` and `@batch:NAME`."""

import pytest

from cli.conftest import CommandLine


@pytest.fixture(autouse=True)
def some(queuectl: CommandLine) -> None:
    """Jobs 1 to 6 without number 3; 4 and 5 are in batch b."""
    for n in range(1, 7):
        queuectl("enqueue", "--id", f"j{n}", *(("--batch", "b") if n in (4, 5) else ()), "x")
    queuectl("cancel", "j3")
    queuectl("delete", "j3")


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (("1-5",), ["j1", "j2", "j4", "j5"]),
        (("1-2,5",), ["j1", "j2", "j5"]),
        (("5,1-2", "6"), ["j5", "j1", "j2", "j6"]),
        (("4-900",), ["j4", "j5", "j6"]),
        (("@last:2",), ["j5", "j6"]),
        (("@last:100",), ["j1", "j2", "j4", "j5", "j6"]),
        (("@batch:b",), ["j4", "j5"]),
        (("j2", "1-2", "@last"), ["j2", "j1", "j6"]),
    ],
    ids=str,
)
def test_the_jobs_are_changed_once_each(
    queuectl: CommandLine, words: tuple[str, ...], ids: list[str]
) -> None:
    assert queuectl.lines("hold", *words) == [f"{id} held" for id in ids]


@pytest.mark.parametrize(
    ("word", "code", "says"),
    [
        ("5-1", 2, "the range 5-1 is empty (write 1-5)"),
        ("1-2,9-8", 2, "the range 9-8 is empty"),
        ("1-", 3, "there is no job '1-'"),
        ("1,", 3, "there is no job '1,'"),
        ("01-5", 3, "there is no job"),
        ("3-3", 3, "there is no job with a number in 3-3"),
        ("900-901", 3, "there is no job with a number in 900-901"),
        ("@last:0", 2, "is not a number of jobs"),
        ("@last:x", 2, "is not a number of jobs"),
        ("@batch:none", 3, "there is no job in batch 'none'"),
    ],
)
def test_a_wrong_reference_changes_nothing(queuectl: CommandLine, word: str, code: int, says: str) -> None:
    queuectl("hold", "j1", word, code=code)
    assert says in queuectl.err
    assert queuectl.job("j1")["state"] == "pending"


def test_an_id_that_looks_like_a_range_is_an_id(queuectl: CommandLine) -> None:
    queuectl("enqueue", "--id", "1-5", "x")
    assert queuectl("hold", "1-5") == "1-5 held\n"
    assert queuectl.json("show", "1-5")["job"]["id"] == "1-5"
    assert queuectl.job("j1")["state"] == "pending"


def test_show_and_explain_print_several_jobs(queuectl: CommandLine) -> None:
    assert [job["id"] for job in queuectl.json("show", "1-2", "j6")["jobs"]] == ["j1", "j2", "j6"]
    assert queuectl.json("show", "1-1")["job"]["id"] == "j1"
    assert queuectl("show", "1", "2").count("command") == 2
    assert [each["job"] for each in queuectl.json("explain", "@batch:b")["jobs"]] == ["j4", "j5"]
    assert queuectl.json("explain", "1")["job"] == "j1"


def test_other_commands_take_ranges_and_one_job_where_one_is_expected(queuectl: CommandLine) -> None:
    queuectl("cancel", "1-2")
    assert queuectl.lines("wait", "1-2", code=1) == ["j1 cancelled", "j2 cancelled"]
    queuectl("logs", "4-5", code=2)
    assert "4-5 means 2 jobs, one is expected" in queuectl.err
    queuectl("enqueue", "--id", "child", "--after", "4-5", "x")
    assert [parent["job"] for parent in queuectl.job("child")["after"]] == ["j4", "j5"]
