"""Which peers are trusted proxies."""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from queuectl.errors import InvalidInput

IsProxy = Callable[[str], bool]


def proxies(given: Sequence[str]) -> IsProxy:
    """Whether an address is one of these addresses or in one of these networks. Raises InvalidInput."""
    networks = list[IPv4Network | IPv6Network]()
    for text in given:
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            raise InvalidInput(
                f"--trust-proxy: {text!r} is no address", "write 10.0.0.5 or 10.0.0.0/24"
            ) from None
    return lambda peer: any(_in(peer, network) for network in networks)


def _in(peer: str, network: IPv4Network | IPv6Network) -> bool:
    try:
        return ip_address(peer) in network
    except ValueError:
        return False
