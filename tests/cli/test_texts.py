"""Input from Windows editors, with comments and joined lines, too long, or with unusual names."""

import json
from pathlib import Path

import pytest

from cli.conftest import CommandLine
from cli.doors import CHOICE, direct

MARK = b"\xef\xbb\xbf"


def dry(queuectl: CommandLine, *words: str, input: bytes = b"") -> list[str]:
    """The commands that these lines would become."""
    shown = queuectl("enqueue", "--dry-run", *words, "-", input=input)
    return [json.loads(line)["command"] for line in shown.splitlines()]


class TestMarksAndLineEnds:
    def test_a_line_of_json_after_a_byte_order_mark_is_json(self, queuectl: CommandLine) -> None:
        assert dry(queuectl, input=MARK + b'{"command":"echo a"}\r\necho b\r\n') == ["echo a", "echo b"]

    def test_an_array_after_a_byte_order_mark_is_read(self, queuectl: CommandLine) -> None:
        assert dry(queuectl, input=MARK + b'["echo a",\r\n"echo b"]\r\n') == ["echo a", "echo b"]

    def test_an_argument_after_a_byte_order_mark_is_read(self, queuectl: CommandLine) -> None:
        assert queuectl.json("enqueue", "--dry-run", '\ufeff{"command":"x"}')["job"]["command"] == "x"

    def test_the_mark_and_line_ends_of_a_script_are_removed(self, queuectl: CommandLine) -> None:
        Path("s.sh").write_bytes(MARK + b"#!/bin/sh\r\necho a\r\n")
        job = queuectl.json("enqueue", "--dry-run", "--script", "s.sh")["job"]
        assert job["command"] == "#!/bin/sh\necho a\n"

    def test_the_mark_and_line_ends_of_an_environment_file_are_removed(self, queuectl: CommandLine) -> None:
        Path("e").write_bytes(MARK + b"A=1\r\nB=2\r\n")
        job = queuectl.json("enqueue", "--dry-run", "--env-file", "e", "x")["job"]
        assert job["env"] == {"A": "1", "B": "2"}

    def test_the_mark_of_a_configuration_file_is_removed(self, queuectl: CommandLine) -> None:
        Path("queuectl.toml").write_bytes(MARK + b"max_retries = 7\r\n")
        assert queuectl("config", "get", "max_retries") == "7\n"

    @direct(CHOICE)
    def test_the_mark_of_a_dotenv_is_removed(self, queuectl: CommandLine) -> None:
        Path(".env").write_bytes(MARK + b"QUEUECTL_STORE=sqlite:///here.db\r\n")
        assert queuectl("config", "get", "store") == f"sqlite:///{Path.cwd()}/here.db\n"

    def test_the_mark_before_ids_on_stdin_is_removed(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--id", "a", "x")
        queuectl("hold", "-", input=MARK + b"a\r\n")
        assert queuectl.job("a")["state"] == "held"

    def test_the_input_of_a_command_is_not_changed(self, queuectl: CommandLine) -> None:
        Path("data").write_bytes(MARK + b"a\r\n")
        queuectl("enqueue", "--id", "a", "--stdin", "data", "cat")
        assert queuectl.store().get(["a"])["a"].spec.stdin == MARK + b"a\r\n"


class TestLines:
    LINES = (
        b"# a comment\n\n  # another\necho a \\\n  b\necho c\\\\\n{ echo d; }\n"
        b'{ "command": "echo e" }\necho f \\\r\n\\\r\ng\necho h \\\n'
    )

    def test_comments_are_ignored_and_a_backslash_joins_lines(self, queuectl: CommandLine) -> None:
        found = dry(queuectl, input=self.LINES)
        assert found == ["echo a   b", "echo c\\\\", "{ echo d; }", "echo e", "echo f g", "echo h \\"]

    def test_plain_lines_are_read_unchanged(self, queuectl: CommandLine) -> None:
        found = dry(queuectl, "--plain-lines", input=b"# a\n\necho a \\\n  b\n")
        assert found == ["# a", "echo a \\", "b"]

    def test_a_bad_line_is_reported_with_its_number_in_the_file(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "-", code=2, input=b'# a\necho \\\nb\n\n{"command": 1}\n')
        assert "line 5: command: a text is expected" in queuectl.err


class TestWhatIsJson:
    @pytest.mark.parametrize("text", ["{ echo a; echo b; }", "{\techo a\n}", "{echo,a}", "{"])
    def test_text_that_does_not_begin_as_an_object_is_a_command(
        self, queuectl: CommandLine, text: str
    ) -> None:
        assert queuectl.json("enqueue", "--dry-run", text)["job"]["command"] == text

    @pytest.mark.parametrize("text", ['{"command":"x"}', ' { "command":"x"}', '\n{\n\t"command": "x"\n}'])
    def test_white_space_is_allowed_after_the_brace(self, queuectl: CommandLine, text: str) -> None:
        assert queuectl.json("enqueue", "--dry-run", text)["job"]["command"] == "x"

    def test_the_error_for_malformed_json_shows_how_to_give_a_command(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", '{"command": }', code=2)
        assert "malformed JSON" in queuectl.err
        assert "queuectl enqueue -- sh -c '{ ls; }'" in queuectl.err
        queuectl("enqueue", "{}", code=2)
        assert "there is no command" in queuectl.err


class TestBounds:
    @pytest.mark.parametrize("what", ["env-file", "script", "stdin"])
    def test_a_file_that_is_too_long_is_refused_and_not_cut(self, queuectl: CommandLine, what: str) -> None:
        Path("f").write_bytes(b"A" + b"=x" * (1 << 19))
        words = () if what == "script" else ("x",)
        queuectl("enqueue", f"--{what}", "f", *words, code=2)
        assert f"--{what}: f has more than 1048576 bytes" in queuectl.err

    def test_the_total_size_of_variables_is_limited(self, queuectl: CommandLine) -> None:
        Path("e").write_text("".join(f"V{n}={'x' * 100_000}\n" for n in range(6)))
        queuectl("enqueue", "--env-file", "e", "x", code=2)
        assert "the variables have" in queuectl.err
        assert "more than 524288" in queuectl.err

    @pytest.mark.parametrize("name", ["A\nB", "a.b", "a-b", "1A", " A", "Ä", "A B", ""], ids=ascii)
    def test_a_name_that_sh_would_drop_is_refused(self, queuectl: CommandLine, name: str) -> None:
        queuectl("enqueue", "--env", f"{name}=1", "x", code=2)
        assert "is not a variable's name" in queuectl.err
        queuectl("enqueue", json.dumps({"command": "x", "env": {name: "1"}}), code=2)
        assert "is not a variable's name" in queuectl.err

    @pytest.mark.parametrize("opening", ['{"a":', "["])
    def test_json_that_is_nested_deeply_is_refused(self, queuectl: CommandLine, opening: str) -> None:
        closing = "}" if opening[0] == "{" else "]"
        for depth, code in ((60, 0), (65, 2), (3000, 2), (100_000, 2)):
            value = opening * depth + "1" + closing * depth
            if depth < 20_000:
                queuectl("enqueue", "--dry-run", "--meta", f'{{"m":{value}}}', "x", code=code)
            queuectl(
                "enqueue", "--dry-run", "-", code=code, input=f'{{"command":"x","meta":{{"m":{value}}}}}\n'
            )
            if code:
                assert "nested" in queuectl.err

    def test_brackets_in_a_text_do_not_count_as_nesting(self, queuectl: CommandLine) -> None:
        command = "echo " + '[{"' * 200
        assert (
            queuectl.json("enqueue", "--dry-run", json.dumps({"command": command}))["job"]["command"]
            == command
        )


class TestTimes:
    def test_the_interpretation_of_a_time_is_printed(self, queuectl: CommandLine) -> None:
        for words in (("enqueue", "--id", "a", "--at", "23:59", "x"), ("edit", "a", "--at", "23:58")):
            queuectl(*words)
            assert "has no zone; taken as local time, that is " in queuectl.err
        queuectl("enqueue", '{"command":"x","run_at":"@1798761600"}')
        assert "has no zone" not in queuectl.err

    def test_the_error_for_an_invalid_time_lists_the_formats(self, queuectl: CommandLine) -> None:
        queuectl("enqueue", "--at", "tomorrow 02:00", "x", code=2)
        assert (
            "write 10:30 (the next time that the clock shows it), 2026-11-22T15:00:00Z, @1798761600 or now"
            in queuectl.err
        )
