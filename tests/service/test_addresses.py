"""Addresses of stores: a secret in an address is detected, so that commands do not receive it."""

import pytest

from queuectl import bootstrap


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("sqlite:////home/ada/a:b@c.db", False),
        ("postgresql://db.example.com/jobs?sslmode=verify-full", False),
        ("postgresql://ada@db.example.com:5432/jobs", False),
        ("postgresql://ada:pw@db.example.com/jobs", True),
        ("postgresql://ada:p%40w@db.example.com/jobs", True),
        ("postgresql://ada@db/jobs?password=pw", True),
        ("postgresql://ada@db/jobs?sslpassword=pw", True),
        ("mongodb://a.example.com,b.example.com:27018/jobs", False),
        ("mongodb+srv://ada:pw@example.com/jobs", True),
        ("mongodb://ada@h/jobs?authMechanismProperties=AWS_SESSION_TOKEN%3Ax", True),
        ("redis://localhost:6379/0", False),
        ("redis://:pw@localhost:6379/0", True),
        ("redis://localhost/0?archive=mongodb%3A%2F%2Flocalhost%2Fjobs", False),
        ("redis://localhost/0?archive=mongodb%3A%2F%2Fada%40localhost%2Fjobs", False),
        ("redis://localhost/0?archive=mongodb%3A%2F%2Fada%3Ap%2540w%40localhost%2Fjobs", True),
    ],
)
def test_a_secret_in_an_address_is_detected(url: str, secret: bool) -> None:
    assert bootstrap.carries_secret(url) is secret
