"""Put on a holder's path by a test: a kernel without /proc/…/children."""

from queuectl.worker import kernel

_open = kernel._open_to_read
kernel._open_to_read = lambda path: None if path.endswith("/children") else _open(path)
