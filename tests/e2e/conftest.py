"""Every end-to-end test gets a place of its own, and leaves no process behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Home, store, working directory; whatever was started there is ended."""
    place = Place(tmp_path)
    yield place
    place.close()
