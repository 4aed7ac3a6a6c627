"""Options: which source wins, which values are refused with which message, and formatted values can be parsed."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl import config
from queuectl.config import OPTIONS, Option, resolve
from queuectl.errors import InvalidInput, NotFound


def settings(*present: str) -> config.Settings:
    """`log_format` and `lease` as given by these sources."""
    own = {"flag": "json", "environment": "plain", "file": "json"}
    flags = {"log_format": own["flag"]} if "flag" in present else {}
    environment = {"QUEUECTL_LOG_FORMAT": own["environment"]} if "environment" in present else {}
    file = {"log_format": own["file"]} if "file" in present else {}
    return resolve(flags, environment, file, {}, "q.toml")


class TestPrecedence:
    @pytest.mark.parametrize(
        ("present", "value", "origin"),
        [
            (("flag", "environment", "file"), "json", "--log-format"),
            (("environment", "file"), "plain", "QUEUECTL_LOG_FORMAT"),
            (("file",), "json", "q.toml"),
            ((), "plain", "default"),
        ],
    )
    def test_a_flag_wins_over_the_environment_and_the_file(
        self, present: tuple[str, ...], value: str, origin: str
    ) -> None:
        found = settings(*present)
        assert (found.log_format, found.origins["log_format"]) == (value, origin)

    @pytest.mark.parametrize(
        ("environment", "file", "shared", "seconds", "origin"),
        [
            ({"QUEUECTL_LEASE": "40s"}, {"lease": "50s"}, {"lease": "60s"}, 40, "QUEUECTL_LEASE"),
            ({}, {"lease": "50s"}, {"lease": "60s"}, 50, "q.toml"),
            ({}, {}, {"lease": "60s"}, 60, "the store's settings"),
            ({}, {}, {}, 30, "default"),
            ({"QUEUECTL_LEASE": ""}, {}, {"lease": "60s"}, 60, "the store's settings"),
        ],
    )
    def test_the_environment_wins_over_the_file_and_the_file_over_the_store(
        self,
        environment: dict[str, str],
        file: dict[str, str],
        shared: dict[str, str],
        seconds: int,
        origin: str,
    ) -> None:
        found = resolve({}, environment, file, shared, "q.toml")
        assert (found.lease, found.origins["lease"]) == (timedelta(seconds=seconds), origin)

    def test_an_option_of_one_program_is_not_read_from_the_store(self) -> None:
        assert resolve({}, {}, {}, {"color": "always"}).color == "auto"

    def test_every_option_has_a_value_and_an_origin(self) -> None:
        found = resolve({}, {}, {}, {})
        assert (
            set(found.__struct_fields__) - {"origins", "versions"} == found.origins.keys() == OPTIONS.keys()
        )
        assert set(found.origins.values()) == {"default"}


class TestErrors:
    def test_all_errors_are_reported_together_each_with_its_source(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            resolve(
                {"color": "red"}, {"QUEUECTL_LEASE": "soon"}, {"jitter": "2"}, {"max_retries": "x"}, "q.toml"
            )
        for words in ("color: 'red'", "(from --color)", "lease: 'soon'", "(from QUEUECTL_LEASE)", "jitter: 2 is out",
                      "(from q.toml)", "max_retries: 'x'", "(from the store's settings)"):  # fmt: skip
            assert words in caught.value.message

    def test_values_that_contradict_each_other_are_refused(self) -> None:
        with pytest.raises(
            InvalidInput, match=r"heartbeat_interval \(5s\) must be at most a third of lease \(10s\)"
        ):
            resolve({}, {"QUEUECTL_LEASE": "10s"}, {}, {})
        resolve({}, {"QUEUECTL_LEASE": "15s"}, {}, {})

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("max_retries", "-2"), ("max_retries", "1.5"), ("max_retries", "9" * 19), ("backoff_base", "nan"),
            ("backoff_base", "inf"), ("backoff_base", "0.5"), ("jitter", "-0.1"), ("timeout", "0s"), ("lease", "none"),
            ("lease", "999ms"), ("output_limit", "1.5MiB"), ("output_limit", "2GiB"), ("durability", "slow"),
            ("kill_grace", "2d"), ("tick_interval_ms", "9"), ("max_losses", "none"),
        ],
    )  # fmt: skip
    def test_a_value_of_the_wrong_type_or_range_is_refused(self, key: str, text: str) -> None:
        with pytest.raises(InvalidInput, match=key):
            OPTIONS[key].parse(text)

    def test_the_error_for_an_unknown_option_names_the_nearest_option(self) -> None:
        with pytest.raises(NotFound) as caught:
            config.option("max-retry")
        assert caught.value.hint == "did you mean max_retries?"

    def test_an_option_name_may_have_dashes_or_underscores(self) -> None:
        assert config.option("max-retries") is OPTIONS["max_retries"]


class TestFile:
    @pytest.fixture
    def write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

        def write(text: str, name: str = "queuectl.toml") -> None:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

        return write

    def test_a_file_may_contain_texts_and_numbers(self, write: Any) -> None:
        write('lease = "1m"\nmax-retries = 5\njitter = 0.5\n')
        assert config.read_file(None, pytest.fail) == (
            {"lease": "1m", "max_retries": "5", "jitter": "0.5"},
            "queuectl.toml",
        )

    def test_the_file_in_the_current_directory_wins_over_the_file_of_the_user(self, write: Any) -> None:
        write("max_retries = 1", "config/queuectl/config.toml")
        assert config.read_file(None, pytest.fail)[0] == {"max_retries": "1"}
        write("max_retries = 2")
        assert config.read_file(None, pytest.fail)[0] == {"max_retries": "2"}

    @pytest.mark.usefixtures("write")
    def test_no_file_is_required_but_a_named_file_must_exist(self) -> None:
        assert config.read_file(None, pytest.fail)[0] == {}
        with pytest.raises(InvalidInput, match=r"cannot read missing\.toml"):
            config.read_file("missing.toml", pytest.fail)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("max_retry = 1", "there is no setting 'max_retry'"),
            ("[store]\nx = 1", "store must be a text or a number"),
            ("jitter = true", "jitter must be a text or a number"),
            ("lease = ", "is not TOML"),
        ],
    )
    def test_the_error_for_an_invalid_file_names_the_file(self, write: Any, text: str, words: str) -> None:
        write(text)
        with pytest.raises(InvalidInput, match=words) as caught:
            config.read_file(None, pytest.fail)
        assert "queuectl.toml" in caught.value.message

    def test_the_error_for_an_unknown_key_names_the_nearest_key(self, write: Any) -> None:
        write("max_retry = 1")
        with pytest.raises(InvalidInput) as caught:
            config.read_file(None, pytest.fail)
        assert caught.value.hint == "did you mean max_retries?"


def values(option: Option) -> st.SearchStrategy[Any]:
    """Values in the option's range, durations to the millisecond."""
    if option.choices:
        return st.sampled_from(option.choices)
    if option.kind == "duration":
        low, high = (bound // timedelta(milliseconds=1) for bound in (option.low, option.high))
        return st.integers(low, high).map(lambda ms: timedelta(milliseconds=ms))
    if option.kind in ("count", "size"):
        return st.integers(option.low, option.high)
    return st.floats(option.low, option.high)


@pytest.mark.parametrize("key", [key for key in OPTIONS if key != "store"])
@given(data=st.data())
def test_a_formatted_value_is_parsed_to_the_same_value(key: str, data: st.DataObject) -> None:
    option = OPTIONS[key]
    value = data.draw(values(option))
    assert option.parse(option.format(value)) == value


@pytest.mark.parametrize("key", [key for key, option in OPTIONS.items() if option.default is not None])
def test_every_default_is_in_its_own_range(key: str) -> None:
    option = OPTIONS[key]
    assert option.parse(option.format(option.default)) == option.default


@pytest.mark.parametrize("key", [key for key, option in OPTIONS.items() if "none" in option.help])
def test_options_whose_help_names_none_accept_none(key: str) -> None:
    assert OPTIONS[key].parse("none") is None


@pytest.mark.parametrize("key", ["timeout", "retain_dead"])
def test_the_text_none_is_parsed_as_no_value(key: str) -> None:
    assert OPTIONS[key].parse("None") is None
    assert OPTIONS[key].format(None) == "none"
