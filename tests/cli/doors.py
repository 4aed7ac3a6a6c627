"""Why a test of the command line runs with a store alone, and not also through a server.

Each reason is a property of the subject. A mark `direct` names one of them.
"""

import pytest

direct = pytest.mark.direct

WORKER = "its subject is a worker or a server of this host, which needs the store"
CHOICE = "its subject is which store is chosen: by files, by variables, by default"
ABSENT = "its subject is a store that does not exist yet; the store of a server exists"
OTHER_STORE = "it uses a store of another kind, or one of its own"
NO_STORE = "its subject asks no store: parsing, files of this user"
SQLITE = "its subject is a fault or a cost of SQLite inside this process, or what this process makes of it"
REASONS = frozenset((WORKER, CHOICE, ABSENT, OTHER_STORE, NO_STORE, SQLITE))
