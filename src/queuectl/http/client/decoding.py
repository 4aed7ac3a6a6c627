"""Reads documents of the server as values."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from queuectl.errors import StoreUnusable
from queuectl.http.client.channel import Channel


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
