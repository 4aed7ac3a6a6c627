"""Settings over HTTP."""

import pytest

from http_client import Client


def test_a_setting_is_written_read_and_reset(server: Client) -> None:
    answer = server("PUT", "/v1/config/backoff-max", {"value": "5m"})
    assert answer.status == 200
    assert answer.document["setting"]["key"] == "backoff_max"
    assert answer.document["setting"]["value"] == "5m"
    assert server("GET", "/v1/config/backoff_max").document == answer.document
    assert server("DELETE", "/v1/config/backoff_max").status == 204
    assert server("GET", "/v1/config/backoff_max").document["setting"]["origin"] == "default"


def test_numbers_are_taken_as_numbers(server: Client) -> None:
    assert server("PUT", "/v1/config/max_retries", {"value": 7}).document["setting"]["value"] == 7
    assert server("PUT", "/v1/config/jitter", {"value": 0.5}).document["setting"]["value"] == 0.5


def test_all_settings_are_listed_with_their_origins(server: Client) -> None:
    server("PUT", "/v1/config/max_retries", {"value": 7})
    found = {each["key"]: each for each in server("GET", "/v1/config").document["settings"]}
    assert found["max_retries"]["origin"] == "the store's settings"
    assert found["store"]["value"].startswith("sqlite")


@pytest.mark.parametrize("body", [{}, {"value": None}, {"value": True}, {"value": "many"}, {"value": -7}])
def test_a_value_that_is_none_is_refused(server: Client, body: object) -> None:
    answer = server("PUT", "/v1/config/max_retries", body)
    assert (answer.status, answer.document["code"]) == (400, "invalid_input")


def test_an_option_of_one_program_is_refused(server: Client) -> None:
    assert server("PUT", "/v1/config/color", {"value": "never"}).status == 400


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unknown_setting_is_not_found_with_the_nearest(server: Client, method: str) -> None:
    body = {"value": 1} if method == "PUT" else None
    answer = server(method, "/v1/config/max_retry", body)
    assert answer.status == 404
    assert "max_retries" in answer.document["hint"]


def test_a_setting_is_changed_only_in_the_version_of_if_match(server: Client) -> None:
    first = server("GET", "/v1/config/timeout").headers["etag"]
    assert first.startswith('"0-')
    written = server("PUT", "/v1/config/timeout", {"value": "5m"}, If_Match=first)
    assert written.status == 200
    assert written.headers["etag"] == server("GET", "/v1/config/timeout").headers["etag"]
    for refused in (
        server("PUT", "/v1/config/timeout", {"value": "6m"}, If_Match=first),
        server("DELETE", "/v1/config/timeout", If_Match=first),
    ):
        assert (refused.status, refused.document["code"]) == (412, "changed")
    assert server("GET", "/v1/config/timeout").document["setting"]["value"] == "5m"
    assert server("GET", "/v1/config/timeout", If_None_Match=written.headers["etag"]).status == 304
    assert server("DELETE", "/v1/config/timeout", If_Match=written.headers["etag"]).status == 204
