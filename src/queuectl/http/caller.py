"""The client of a request as an identity: its name, its scopes, its queues."""

from msgspec import Struct

from queuectl.domain.token import Scope, grants


class Caller(Struct, frozen=True):
    """The sender of a request, with its rights.

    name      as it is stored with a change: `token:billing`, `local:ada`
    scopes    the given scopes; `may` also counts those that they contain
    queues    the queues in which the caller may enqueue and change jobs; None for all
    token_id  the id of the token's secret; None for a caller without a token, and for the local token
    """

    name: str
    scopes: frozenset[Scope] = frozenset()
    queues: frozenset[str] | None = None
    token_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller may call a route of this scope."""
        return grants(self.scopes, scope)

    def may_enqueue_in(self, queue: str) -> bool:
        """Whether the caller may enqueue jobs in this queue."""
        return self.may("enqueue") and (self.queues is None or queue in self.queues)


NOBODY = Caller("anonymous")
