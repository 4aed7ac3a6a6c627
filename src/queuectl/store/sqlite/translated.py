"""A context that translates errors of SQLite into ours. The table of errors is loaded with the first error."""

from types import TracebackType

import apsw


class Translated:
    """Translates an error of SQLite in its block. After a call of `committing` the outcome may be unknown."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._committing = False

    def committing(self) -> None:
        """Call this before the commit. An error after it leaves unknown whether the transaction was committed."""
        self._committing = True

    def __enter__(self) -> "Translated":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, apsw.Error):
            from queuectl.store.sqlite.faults import translation

            raise translation(self._path, error, committing=self._committing) from error
