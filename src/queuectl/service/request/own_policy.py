"""The policy that one client sets for its own requests, as fields of a request."""

from typing import Any

from queuectl.config import Settings


def own_policy(settings: Settings) -> dict[str, Any]:
    """The policy that this client's own flags, variables and file set, as fields of a request.

    The server knows only the shared settings. `max_losses` and `priority_boost` are no fields of a request: the
    server's count.
    """
    texts = {
        key: settings.text(key)
        for key in _FIELDS
        if settings.origins[key] not in ("default", "the store's settings")
    }
    numbers = {key: settings.value(key) for key in texts if key in ("max_retries", "backoff_base", "jitter")}
    fields: dict[str, Any] = {**texts, **numbers}
    if (factor := fields.pop("backoff_factor_ms", None)) is not None:
        fields["backoff_factor"] = f"{factor}ms"
    return fields


_FIELDS = (
    "max_retries", "backoff_base", "backoff_factor_ms", "backoff_max", "jitter", "timeout", "kill_grace",
    "output_limit",
)  # fmt: skip
