"""Reads documents of the server as values."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from queuectl.domain.job import Job
from queuectl.errors import StoreUnusable
from queuectl.http.client.channel import Channel
from queuectl.service import shapes


@contextmanager
def understood(channel: Channel) -> Iterator[None]:
    """Turn a document that lacks what this version needs into an error of ours."""
    try:
        yield
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise StoreUnusable(
            f"the answer of {channel.address.url} is not understood: {error}",
            "use the same version on both sides",
        ) from error


def job_of(shown: Mapping[str, Any]) -> Job:
    """A job. What the token does not allow to see has its default."""
    hidden = shown.get("redacted", ())
    return shapes.job_of(
        {name: value for name, value in shown.items() if name not in hidden} if hidden else shown
    )
