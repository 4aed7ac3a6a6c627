"""The checks of a server, and those of the way to it: reachability, versions and clocks."""

from collections.abc import Sequence

from queuectl import __version__
from queuectl.clock import Clock, boottime
from queuectl.domain.instant import parse_instant
from queuectl.http.client.channel import Channel
from queuectl.http.client.decoding import understood
from queuectl.service.doctor import CLOCK_TOLERANCE, Check
from queuectl.service.shapes.diagnosis import checks_of


def checks(channel: Channel) -> Sequence[Check]:
    """The results of the client's own checks, then of the server's."""
    begun = boottime()
    answer = channel.call("GET", "/v1", changes=False)
    took = boottime() - begun
    own = Clock().now()
    theirs = answer.headers["queuectl-version"]
    with understood(channel):
        skew = abs((own - parse_instant(answer.document["now"])).total_seconds())
        found = checks_of(channel.read("/v1/doctor"))
    return [
        Check("server", True, f"{channel.address.url} answers within {took * 1000:.0f} ms"),
        Check(
            "versions",
            True,
            f"the server is queuectl {theirs}, this is {__version__}",
            None if theirs == __version__ else "use the same version on both sides",
        ),
        Check(
            "clock of the server",
            skew <= CLOCK_TOLERANCE + took,
            f"differs from this host's by {skew:.3f} s",
            None,
        ),
        *found,
    ]
