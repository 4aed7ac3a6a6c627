"""What the holder of a worker and its HTTP server tell each other, over a pair of sockets.

The holder sends single bytes: first `BEGIN`, with the listening sockets attached. The end of the connection means that
the holder is dead. The server sends one line of JSON: `{"url": …}` when it accepts requests, or `{"fault": …}` when it
cannot.
"""

BEGIN, DRAIN, LEAVE = b"b", b"d", b"l"
"""Begin to serve; refuse new jobs; send the last replies and end."""

MOST_SOCKETS = 16
"""The most listening sockets that `BEGIN` carries. A host name has one per address."""
