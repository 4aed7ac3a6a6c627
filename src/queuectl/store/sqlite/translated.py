"""A block in which errors of SQLite become errors of ours. The table of them is loaded with the first error."""

from types import TracebackType

import apsw


class Translated:
    """Translates an error of SQLite in its block. After `committing()` the outcome may be unknown."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._committing = False

    def committing(self) -> None:
        """From now on a failing disk leaves it unknown whether the transaction was committed."""
        self._committing = True

    def __enter__(self) -> "Translated":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, apsw.Error):
            from queuectl.store.sqlite.faults import translation

            raise translation(self._path, error, committing=self._committing) from error
