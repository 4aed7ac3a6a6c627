"""The part of `LocalQueue` for figures. `queue.py` documents the methods."""

from typing import TYPE_CHECKING

from queuectl.store.protocol import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queuectl.domain.figures import Tally
    from queuectl.service.stats import Question, Stats


class LocalFigures:
    """The figures in a store."""

    _store: Store

    def stats(self, asked: "Question") -> "Stats":
        from queuectl.service.stats import stats

        return stats(self._store, asked)

    def sums(self) -> "Sequence[tuple[str, Tally]]":
        """The figures since the beginning, per queue. Only a server calls it, so it is no method of `Queue`."""
        from queuectl.service.figures import since_ever

        return since_ever(self._store)
