"""`queuectl logs` prints exact bytes, the last lines and the omitted middle, and never harms a terminal."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.acting import Actor
from cli.conftest import CommandLine
from queuectl.domain.output import COMBINED, STDERR, STDOUT, Piece, last_lines


@pytest.fixture
def id(queuectl: CommandLine) -> str:
    """A job that has not run yet."""
    return queuectl.enqueue("--id", "a", "x")


class TestNames:
    """Messages about a job with a generated id name it by its number."""

    def test_the_message_about_a_job_that_has_not_run_has_its_number(self, queuectl: CommandLine) -> None:
        made = queuectl.enqueue("x")
        queuectl("logs", made)
        assert queuectl.err == "queuectl: job 1 is pending; it has not run yet\n"

    def test_the_message_about_an_unknown_attempt_has_the_number(self, queuectl: CommandLine) -> None:
        queuectl("logs", queuectl.enqueue("x"), "--attempt", "7", code=3)
        assert "job 1 has no attempt 7" in queuectl.err

    def test_the_message_about_unseparated_streams_has_the_number(self, queuectl: CommandLine) -> None:
        queuectl("logs", queuectl.enqueue("x"), "--stderr", code=2)
        assert "job 1 were not stored separately" in queuectl.err

    def test_the_message_about_a_taken_unique_key_has_the_number(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--unique", "k", "x")
        queuectl("enqueue", "--unique", "k", "x", code=4)
        assert queuectl.err == "queuectl: unique key 'k' is taken by job 1 (pending) (queuectl show 1)\n"


class TestWhole:
    def test_the_whole_output_is_printed(self, queuectl: CommandLine, actor: Actor, id: str) -> None:
        actor.runs(id, b"one\ntw", b"o\n", b"three")
        assert queuectl("logs", id) == "one\ntwo\nthree"

    def test_the_output_so_far_of_a_running_job_is_printed(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.take(id)
        actor.prints(id, b"so far\n")
        assert queuectl("logs", id) == "so far\n"

    def test_for_a_job_that_has_not_run_a_message_is_printed(self, queuectl: CommandLine, id: str) -> None:
        assert queuectl("logs", id) == ""
        assert "it has not run yet" in queuectl.err

    def test_an_output_of_more_chunks_than_one_read_is_printed(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, *(b"%d\n" % n for n in range(600)))
        assert queuectl.lines("logs", id) == [str(n) for n in range(600)]

    def test_raw_output_is_exact_to_the_byte(self, queuectl: CommandLine, actor: Actor, id: str) -> None:
        every = bytes(range(256)) + b"\r\n\xc3"
        actor.runs(id, every[:200], every[200:])
        assert queuectl.process("logs", id, "--raw").stdout == every

    def test_a_character_that_is_cut_by_a_chunk_stays_whole(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"\xe2", b"\x82", b"\xac\n")
        assert queuectl("logs", id) == "€\n"

    @pytest.mark.parametrize("printed", [b"a\xff\xfeb\n", b"a\xffb\xc3"])
    def test_invalid_utf8_is_replaced_only_on_a_terminal_even_at_the_end(
        self, queuectl: CommandLine, actor: Actor, id: str, printed: bytes
    ) -> None:
        actor.runs(id, printed)
        assert queuectl("logs", id, "--color", "always") == printed.decode("utf-8", "replace")
        assert queuectl.process("logs", id).stdout == printed


class TestTail:
    @pytest.mark.parametrize(
        "pieces",
        [
            [b"1\n2\n3\n4\n"],
            [b"1\n", b"2\n", b"3\n", b"4\n"],
            [b"1", b"\n2", b"\n3", b"\n4", b"\n"],
            [b"1\n2\n3\n4"],
            [b"1\n2\n3", b"\n4"],
            [b"1\n2\n", b"3\n4"],
        ],
    )
    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    def test_the_last_lines_are_exact_for_all_chunks_and_line_ends(
        self, queuectl: CommandLine, actor: Actor, id: str, pieces: list[bytes], count: int
    ) -> None:
        actor.runs(id, *pieces)
        whole = b"".join(pieces).decode().splitlines(keepends=True)
        assert queuectl("logs", id, "--tail", str(count)) == "".join(whole[-count:])

    @given(st.lists(st.text("ab\n", min_size=1, max_size=6), max_size=8), st.integers(1, 9))
    def test_the_last_lines_are_those_of_the_program_tail(self, texts: list[str], count: int) -> None:
        pieces = [Piece(stream=COMBINED, data=text.encode()) for text in texts]
        shown = b"".join(piece.data for piece in last_lines(pieces, count)).decode()
        # splitlines would be wrong here: only a line feed ends a line.
        lines = "".join(texts).split("\n")
        last = [] if lines[-1] == "" else [lines[-1]]
        ended = [line + "\n" for line in lines[:-1]]
        assert shown == "".join([*ended, *last][-count:])

    @pytest.mark.parametrize(
        ("printed", "count", "shown"),
        [
            (b"".join(b"%d%%\r" % n for n in range(20_000)), "1", b"19999%\r"),
            (b"1%\r2%\r\nend\n", "1", b"end\n"),
            (b"1%\r2%\r\nend\n", "2", b"2%\r\nend\n"),
            (b"1%\r2%\r\nend\n", "3", b"1%\r2%\r\nend\n"),
            (b"a\r\nb\r\n", "1", b"b\r\n"),
            (b"1%\r2%", "1", b"2%"),
        ],
    )
    def test_a_rewritten_line_counts_each_time(
        self, queuectl: CommandLine, actor: Actor, id: str, printed: bytes, count: str, shown: bytes
    ) -> None:
        actor.runs(id, *(printed[at : at + 5] for at in range(0, min(len(printed), 50), 5)), printed[50:])
        assert queuectl.process("logs", id, "--tail", count).stdout == shown

    def test_blank_lines_are_lines(self, queuectl: CommandLine, actor: Actor, id: str) -> None:
        actor.runs(id, b"1\n\n\n\n")
        assert queuectl("logs", id, "--tail", "3") == "\n\n\n"

    def test_only_lines_of_the_chosen_stream_are_counted(self, queuectl: CommandLine, actor: Actor) -> None:
        id = queuectl.enqueue("--split", "x")
        actor.take(id)
        for n in range(3):
            actor.prints(id, b"out %d\n" % n, stream=STDOUT)
            actor.prints(id, b"err %d\n" % n, stream=STDERR)
        actor.ends(id)
        assert queuectl("logs", id, "--stdout", "--tail", "2") == "out 1\nout 2\n"
        assert queuectl("logs", id, "--stderr", "--tail", "1") == "err 2\n"

    def test_the_omitted_middle_is_marked_if_the_tail_reaches_it(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        id = queuectl.enqueue("--output-limit", "8", "x")
        actor.take(id)
        actor.prints(id, b"a\nb\n")
        actor.prints(id, b"y\nz\n", skip=100)
        actor.ends(id)
        assert "100 bytes were not kept" in queuectl("logs", id, "--tail", "5")
        assert queuectl("logs", id, "--tail", "1") == "z\n"

    @pytest.mark.parametrize("count", ["0", "-1", "x", "9" * 5000])
    def test_an_invalid_count_is_refused(self, queuectl: CommandLine, id: str, count: str) -> None:
        queuectl("logs", id, f"--tail={count}", code=2)

    def test_the_document_contains_only_the_last_lines(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"1\n2\n3\n")
        document = queuectl.json("logs", id, "--tail", "1")
        assert [piece["text"] for piece in document["pieces"]] == ["3\n"]
        assert document["bytes"] == 6


class TestMiddle:
    @pytest.fixture
    def cut(self, queuectl: CommandLine, actor: Actor) -> str:
        id = queuectl.enqueue("--output-limit", "8", "x")
        actor.take(id)
        actor.prints(id, b"abcd")
        actor.prints(id, b"wxyz", skip=1000)
        actor.ends(id)
        return id

    def test_the_omitted_middle_is_marked(self, queuectl: CommandLine, cut: str) -> None:
        assert queuectl("logs", cut) == "abcd\n[… 1000 bytes were not kept …]\nwxyz"

    def test_under_json_the_omitted_bytes_are_counted(self, queuectl: CommandLine, cut: str) -> None:
        document = queuectl.json("logs", cut)
        assert document["pieces"] == [
            {"stream": "combined", "text": "abcd"},
            {"omitted": 1000},
            {"stream": "combined", "text": "wxyz"},
        ]
        assert document["bytes"] == 1008

    def test_with_raw_the_omission_is_reported_on_stderr(self, queuectl: CommandLine, cut: str) -> None:
        done = queuectl.process("logs", cut, "--raw")
        assert done.stdout == b"abcdwxyz"
        assert b"1000 bytes in the middle were not kept" in done.stderr

    def test_exactly_head_and_tail_are_shown_if_the_store_has_more(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        id = queuectl.enqueue("--output-limit", "8", "x")
        actor.runs(id, b"abcdefgh", b"ijklmnop")
        assert queuectl("logs", id) == "abcd\n[… 8 bytes were not kept …]\nmnop"

    def test_halves_of_characters_are_not_joined_across_the_omission(
        self, queuectl: CommandLine, actor: Actor
    ) -> None:
        id = queuectl.enqueue("--output-limit", "8", "x")
        actor.take(id)
        actor.prints(id, b"abc\xc3")
        actor.prints(id, b"\xa9xyz", skip=10)
        actor.ends(id)
        shown = queuectl("logs", id, "--color", "always")
        assert shown == "abc\ufffd\n[… 10 bytes were not kept …]\n\ufffdxyz"

    def test_with_jsonl_the_omission_has_its_own_line(self, queuectl: CommandLine, cut: str) -> None:
        for words in ((), ("--follow",)):
            lines = [json.loads(line) for line in queuectl.lines("logs", cut, "--jsonl", *words)]
            assert [line.get("omitted") for line in lines] == [None, 1000, None]


class TestAttempts:
    @pytest.fixture
    def thrice(self, actor: Actor, id: str) -> str:
        actor.runs(id, b"first\n", exit_code=1)
        actor.runs(id, b"second\n", exit_code=1)
        actor.take(id)
        actor.prints(id, b"third\n")
        return id

    def test_the_newest_attempt_is_shown_by_default(self, queuectl: CommandLine, thrice: str) -> None:
        assert queuectl("logs", thrice) == "third\n"
        assert queuectl("logs", thrice, "--attempt", "1") == "first\n"
        assert queuectl("logs", thrice, "--attempt", "2") == "second\n"

    def test_the_document_names_the_attempt(self, queuectl: CommandLine, thrice: str) -> None:
        assert queuectl.json("logs", thrice)["attempt"] == 3
        document = queuectl.json("logs", thrice, "--attempt", "2")
        assert (document["attempt"], document["attempt_id"]) == (2, "a-2")
        assert document.keys() == {"schema", "job", "attempt", "attempt_id", "bytes", "pieces"}

    def test_an_unknown_attempt_is_not_found(self, queuectl: CommandLine, thrice: str) -> None:
        queuectl("logs", thrice, "--attempt", "4", code=3)
        assert "attempts: 1, 2, 3" in queuectl.err

    def test_output_is_readable_after_a_cancel(
        self, queuectl: CommandLine, actor: Actor, thrice: str
    ) -> None:
        queuectl("cancel", thrice)
        actor.ends(thrice, "cancelled", signal=15)
        assert queuectl("logs", thrice) == "third\n"


class TestStreams:
    @pytest.fixture
    def split(self, queuectl: CommandLine, actor: Actor) -> str:
        id = queuectl.enqueue("--split", "x")
        actor.take(id)
        actor.prints(id, b"out\n", stream=STDOUT)
        actor.prints(id, b"err\n", stream=STDERR)
        actor.ends(id)
        return id

    @pytest.mark.parametrize(("flag", "text"), [("--stdout", "out\n"), ("--stderr", "err\n")])
    def test_one_stream_can_be_selected(
        self, queuectl: CommandLine, split: str, flag: str, text: str
    ) -> None:
        assert queuectl("logs", split, flag) == text
        assert queuectl("logs", split, flag, "--follow") == text
        assert [piece["text"] for piece in queuectl.json("logs", split, flag)["pieces"]] == [text]
        assert [json.loads(line)["text"] for line in queuectl.lines("logs", split, flag, "--jsonl")] == [text]
        follow = queuectl.lines("logs", split, flag, "--jsonl", "--follow")
        assert [json.loads(line)["text"] for line in follow] == [text]

    def test_both_streams_are_printed_in_their_order(self, queuectl: CommandLine, split: str) -> None:
        assert queuectl("logs", split) == "out\nerr\n"
        assert [piece["stream"] for piece in queuectl.json("logs", split)["pieces"]] == ["stdout", "stderr"]

    def test_two_streams_and_streams_of_an_unsplit_job_are_refused(
        self, queuectl: CommandLine, split: str, id: str
    ) -> None:
        queuectl("logs", split, "--stdout", "--stderr", code=2)
        queuectl("logs", id, "--stderr", code=2)
        assert "--split" in queuectl.err


class TestJson:
    def test_bytes_that_are_not_text_are_base64(self, queuectl: CommandLine, actor: Actor, id: str) -> None:
        actor.runs(id, b"text\n", b"\xff\x00")
        pieces: list[dict[str, Any]] = queuectl.json("logs", id)["pieces"]
        assert pieces[0]["text"] == "text\n"
        assert base64.b64decode(pieces[1]["base64"]) == b"\xff\x00"

    def test_jsonl_contains_the_offset_of_each_chunk(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"one", b"two")
        lines = [json.loads(line) for line in queuectl.lines("logs", id, "--follow", "--jsonl")]
        assert [(line["n"], line["offset"], line["text"]) for line in lines] == [(1, 0, "one"), (2, 3, "two")]


class TestFollow:
    def test_following_an_ended_job_prints_the_whole_output_and_ends(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"one\n", b"two\xc3")
        assert queuectl("logs", "-f", id, "--color", "always") == "one\ntwo\ufffd"

    def test_following_a_deleted_job_ends_with_an_exit_code(
        self, queuectl: CommandLine, actor: Actor, id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from queuectl.store.driver.notifier import Subscription

        actor.take(id)
        actor.prints(id, b"one\n")

        def end_and_delete(_subscription: Subscription, _timeout: float) -> bool:
            actor.ends(id)
            queuectl_delete(actor, id)
            return True

        monkeypatch.setattr(Subscription, "wait", end_and_delete)
        assert queuectl("logs", "-f", id, code=1) == "one\n"
        assert "was deleted" in queuectl.err

    def test_the_output_of_a_retry_is_announced_and_printed(
        self, queuectl: CommandLine, actor: Actor, id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from queuectl.store.driver.notifier import Subscription

        actor.take(id)
        actor.prints(id, b"first\n")

        def fail_and_run_again() -> None:
            actor.ends(id, exit_code=1)
            actor.take(id)
            actor.prints(id, b"second\n")

        acts: Iterator[Callable[[], object]] = iter((fail_and_run_again, lambda: actor.ends(id)))
        monkeypatch.setattr(Subscription, "wait", lambda _subscription, _timeout: bool(next(acts)()))
        assert queuectl("logs", "-f", id) == "first\nsecond\n"
        assert "attempt 2" in queuectl.err

    @pytest.mark.parametrize("words", [("--tail", "1"), ("--json",)])
    def test_following_with_an_incompatible_option_is_refused(
        self, queuectl: CommandLine, id: str, words: tuple[str, ...]
    ) -> None:
        queuectl("logs", "-f", id, *words, code=2)


class TestTerminal:
    EVIL = b"\x1b]0;title\x07\x1b[2Jred\xe2\x80\xaeevil\ttab\n"

    def test_control_sequences_are_escaped_on_a_terminal_only(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, self.EVIL)
        assert queuectl("logs", id) == self.EVIL.decode()
        shown = queuectl("logs", id, "--color", "always")
        assert shown == "\\x1b]0;title\\x07\\x1b[2Jred\\u202eevil\ttab\n"

    def test_the_last_text_of_a_rewritten_line_is_shown(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"10%\r20%\r\ndone\r", b"\nend\r")
        assert queuectl("logs", id, "--color", "always") == "20%\ndone\nend"

    def test_colours_are_kept_on_a_terminal_and_reset_at_the_end(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"\x1b[1;31mred\x1b[0m \x1b[38;5;40mgreen\n\x1b[2J\x1b]0;t\x07\x1b[31")
        wanted = "\x1b[1;31mred\x1b[0m \x1b[38;5;40mgreen\n\\x1b[2J\\x1b]0;t\\x07\\x1b[31\x1b[0m"
        assert queuectl("logs", id, "--color", "always") == wanted
        assert queuectl.on_terminal("logs", id) == wanted
        assert queuectl.on_terminal("logs", "-f", id) == wanted

    def test_colours_are_removed_with_no_color(self, queuectl: CommandLine, actor: Actor, id: str) -> None:
        actor.runs(id, b"\x1b[1;31mred\x1b[0m\n")
        assert queuectl.on_terminal("logs", id, NO_COLOR="1") == "red\n"

    def test_plain_escapes_and_raw_keeps_control_sequences(
        self, queuectl: CommandLine, actor: Actor, id: str
    ) -> None:
        actor.runs(id, b"\x1b[31mred\x1b[2K\n")
        assert queuectl.on_terminal("logs", id, "--plain") == "\\x1b[31mred\\x1b[2K\n"
        assert queuectl.on_terminal("logs", id, "--raw") == "\x1b[31mred\x1b[2K\n"
        queuectl("logs", id, "--raw", "--plain", code=2)

    def test_a_followed_progress_bar_is_redrawn_in_its_line(self) -> None:
        from queuectl.cli.eyetext import EyeText

        text = EyeText("kept", live=True)
        assert [text.feed(piece) for piece in (b"10%", b"\r20%", b"\r30%\r40%", b"\r", b"\n", b"next\n")] == [
            "10%",
            "\r\x1b[K20%",
            "\r\x1b[K40%",
            "",
            "\n",
            "next\n",
        ]

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=4))
    def test_the_text_is_the_same_for_all_chunk_sizes(self, data: bytes, cuts: list[int]) -> None:
        from queuectl.cli.eyetext import EyeText

        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        text, whole = EyeText("kept"), EyeText("kept")
        pieces = [text.feed(data[low:high]) for low, high in pairwise(edges)]
        assert "".join(pieces) + text.feed(b"", final=True) == whole.feed(data, final=True)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(
        st.lists(st.sampled_from(["\r", "\n", "\x1b", "[", "31m", "m", "a", "2J", "\x9b", "\u202e", "\x07"]))
    )
    def test_only_colour_sequences_reach_the_terminal(self, words: list[str]) -> None:
        from queuectl.cli.eyetext import EyeText

        shown = EyeText("kept").feed("".join(words).encode(), final=True)
        assert re.sub(r"\x1b\[[0-9;:]*m", "", shown).replace("\n", "").isprintable()


def queuectl_delete(actor: Actor, id: str) -> None:
    from queuectl.service import commands

    commands.delete(actor.store, [id])
