"""Which addresses a server may listen at: beyond this machine, only with a token and without secrets in clear."""

from queuectl.errors import InvalidInput, StoreAbsent
from queuectl.http.listen import is_loopback
from queuectl.service.queue import Queue

ENCRYPT = "--tls-cert and --tls-key, or --public-url https://… of a proxy, or --insecure-http"


def has_token(queue: Queue) -> bool:
    """Whether somebody can use the server."""
    try:
        now = queue.now()
        return any(not token.has_expired(token.secrets[0], now) for token in queue.tokens())
    except StoreAbsent:  # a server that only reads creates no store
        return False


def check_bind(host: str, addresses: list[str], *, has_token: bool, is_encrypted: bool) -> None:
    """Raise InvalidInput for an address that other machines reach, and name all that is missing."""
    if all(is_loopback(address) for address in addresses):
        return
    missing, hints = list[str](), list[str]()
    if not has_token:
        missing.append("token")
        hints.append("for example: queuectl token create board --scope view")
    if not is_encrypted:
        missing.append("encryption")
        hints.append(ENCRYPT)
    if missing:
        raise InvalidInput(
            f"--host {host} is reached from other machines, and there is no {' and no '.join(missing)}",
            "; ".join(hints),
        )
